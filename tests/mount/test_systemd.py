"""Does a service of `Type=notify` become active when the mount answers, and is it well as long as it does?"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.mount import registry, serve
from moorage.mount.host import mountinfo, notify
from moorage.repository.handle import RepositoryHandle
from tests.mount import build
from tests.mount.conftest import clean_up, kill_later
from tests.needs import needs_fuse, needs_libfuse

pytestmark = needs_fuse

DRIVERS = ["kernel", pytest.param("libfuse", marks=needs_libfuse)]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    with build.create(tmp_path / "repository") as handle:
        build.branch(handle, "prod", {"d": {"f": b"data"}})
    (tmp_path / "mnt").mkdir()
    return tmp_path / "repository"


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of a systemd that waits."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(60)
        yield heard


def service(repository: Path, driver: str, *words: str) -> subprocess.Popen[str]:
    """`moorage mount` as systemd starts it."""
    here = repository.parent
    command = [sys.executable, "-m", "moorage", "-r", str(repository), "mount", "prod", str(here / "mnt")]
    return subprocess.Popen(
        [*command, "--driver", driver, *words],
        env={**os.environ, notify.SOCKET: str(here / "notify"), notify.WATCHDOG: "400000"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def heard(systemd: socket.socket) -> list[str]:
    return systemd.recv(65536).decode().split("\n")


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_service(repository: Path, systemd: socket.socket, driver: str) -> None:
    with service(repository, driver, "--foreground") as process:
        watchdog = kill_later(process.pid)
        ready, status, main = heard(systemd)
        assert (repository.parent / "mnt/d/f").read_bytes() == b"data"
        assert ready == "READY=1"
        assert status.startswith(f"STATUS=serving prod of {repository} (snapshot ")
        assert status.endswith(f") at {repository.parent}/mnt")
        assert main == f"MAINPID={process.pid}"
        for _ in range(3):
            assert heard(systemd) == ["WATCHDOG=1"]
        with RepositoryHandle.open(repository) as handle:
            build.branch(handle, "prod", {"d": {"f": b"other"}})
            assert (repository.parent / "mnt/d/f").read_bytes() == b"other"
            while (said := heard(systemd)) == ["WATCHDOG=1"]:
                pass
        assert said[0].startswith("STATUS=serving prod of ")
        assert said != [status]
        process.send_signal(signal.SIGTERM)
        while (said := heard(systemd)) == ["WATCHDOG=1"]:
            pass
        assert said[0] == "STOPPING=1"
        out, err = process.communicate()
        watchdog.cancel()
    assert (process.returncode, out) == (0, ""), err
    assert mountinfo.top_at(str(repository.parent / "mnt")) is None


def test_a_service_that_cannot_mount_is_never_ready(repository: Path, systemd: socket.socket) -> None:
    (repository.parent / "mnt").rmdir()
    with service(repository, "kernel", "--foreground") as process:
        _, err = process.communicate()
    assert process.returncode == 2
    assert "there is no directory" in err
    assert heard(systemd) == [f"STATUS=failed: there is no directory {repository.parent}/mnt"]
    systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.recv(65536)


def test_a_mount_in_the_background_says_nothing_in_the_name_of_whoever_made_it(
    repository: Path, systemd: socket.socket
) -> None:
    with service(repository, "kernel") as process:
        _, err = process.communicate()
    assert process.returncode == 0, err
    [record] = [record for record in registry.own() if record.mountpoint == str(repository.parent / "mnt")]
    try:
        environment = Path(f"/proc/{record.pid}/environ").read_bytes().split(b"\0")
        assert not [one for one in environment if one.startswith((b"NOTIFY_", b"WATCHDOG_"))]
        serve.umount(repository.parent / "mnt")
        systemd.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.recv(65536)
    finally:
        clean_up(record)
