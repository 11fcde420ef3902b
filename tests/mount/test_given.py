"""Is a mount that somebody else has made served through the descriptor that he hands over?"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.cli.main import run
from moorage.errors import InvalidInputError, MountError, MountNotFoundError
from moorage.mount import registry, serve
from moorage.mount.host import mountinfo
from moorage.mount.registry import MountRecord, MountState
from tests.mount import build
from tests.mount.conftest import kill, kill_later
from tests.needs import needs_fuse, needs_libfuse, needs_root

pytestmark = [needs_fuse, needs_root]

NUMBER = 900
"""Of a descriptor; higher than any that these tests have open."""
READ_ONLY_NO_SUID_NO_DEVICES = 1 | 2 | 4
DRIVERS = ["kernel", pytest.param("libfuse", marks=needs_libfuse)]


@pytest.fixture(autouse=True)
def own_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of other tests is unmounted here."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    with build.create(tmp_path / "repository") as handle:
        build.branch(handle, "prod", {"d": {"f": b"data"}})
    return tmp_path / "repository"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where the runtime mounts; nothing is left there."""
    (tmp_path / "mnt").mkdir()
    yield tmp_path / "mnt"
    while mountinfo.top_at(str(tmp_path / "mnt")) is not None:
        subprocess.run(["umount", "-l", tmp_path / "mnt"], check=True)


def mounted_by_a_runtime(place: Path) -> int:
    """Open the device and mount with it, as a container runtime does; the descriptor, which a child may inherit."""
    fd = os.open("/dev/fuse", os.O_RDWR)
    os.set_inheritable(fd, True)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other,max_read=1048576"
    libc = ctypes.CDLL(None, use_errno=True)
    at = os.fsencode(place)
    done = libc.mount(b"models", at, b"fuse.moorage", READ_ONLY_NO_SUID_NO_DEVICES, options.encode())
    assert done == 0, os.strerror(ctypes.get_errno())
    return fd


def hand_over(repository: Path, fd: int, driver: str = "kernel") -> MountRecord:
    """Have it served in the background."""
    try:
        return serve.mount(repository, "prod", Path(f"/dev/fd/{fd}"), driver=driver)
    finally:
        os.close(fd)


def take_away(place: Path) -> None:
    """As the runtime does. Whoever has just closed a file there keeps it busy for a moment."""
    while subprocess.run(["umount", place], check=False, capture_output=True).returncode:
        os.sched_yield()


def wait_for_end(pid: int) -> None:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    watchdog = kill_later(pid)
    select.select([process], [], [])
    os.close(process)
    watchdog.cancel()


@pytest.mark.parametrize("driver", DRIVERS)
def test_in_the_background(repository: Path, place: Path, driver: str) -> None:
    fd = mounted_by_a_runtime(place)
    record = hand_over(repository, fd, driver)
    assert record.mountpoint == f"/dev/fd/{fd}"
    assert (place / "d/f").read_bytes() == b"data"
    [listed] = [one for one in registry.own() if one.pid == record.pid]
    assert (listed.mountpoint, listed.state) == (f"/dev/fd/{fd}", MountState.SERVING)
    with pytest.raises(MountNotFoundError, match="is no place"):
        serve.umount(Path(record.mountpoint))
    assert record.pid not in [one.pid for one, _ in serve.umount_all(lazy=True)]
    assert (place / "d/f").read_bytes() == b"data"
    take_away(place)
    wait_for_end(record.pid)
    assert record.pid not in [one.pid for one in registry.own()]


def test_two_of_the_same_number(repository: Path, place: Path, tmp_path: Path) -> None:
    """Which says nothing: a descriptor is a process's own."""
    (tmp_path / "second").mkdir()
    records = []
    for at in (place, tmp_path / "second"):
        fd = mounted_by_a_runtime(at)
        os.dup2(fd, NUMBER, inheritable=True)
        os.close(fd)
        records.append(hand_over(repository, NUMBER))
    try:
        listed = [one.pid for one in registry.own() if one.mountpoint == f"/dev/fd/{NUMBER}"]
        assert sorted(listed) == sorted(record.pid for record in records)
        for at in (place, tmp_path / "second"):
            assert (at / "d/f").read_bytes() == b"data"
        with pytest.raises(MountError, match="2 mounts were given as") as caught:
            serve.upgrade(Path(f"/dev/fd/{NUMBER}"))
        assert caught.value.hint
    finally:
        for at in (place, tmp_path / "second"):
            subprocess.run(["umount", "-l", at], check=True)
    for record in records:
        wait_for_end(record.pid)


def test_an_upgrade(repository: Path, place: Path, tmp_path: Path) -> None:
    """By what `mounts` calls it, and by where it is."""
    record = hand_over(repository, mounted_by_a_runtime(place))
    with pytest.raises(MountNotFoundError, match="no mount was given as /dev/fd/999"):
        serve.upgrade(Path("/dev/fd/999"))
    with (place / "d/f").open("rb", buffering=0) as file:
        servers = {record.server_pid, serve.upgrade(Path(record.mountpoint)).server_pid}
        assert len(servers) == 2
        if record.device:  # the kernel tells which of the mounts that can be seen it is
            assert serve.upgrade(place).server_pid not in servers
        assert file.read() == b"data"
    take_away(place)
    wait_for_end(record.pid)


def test_it_survives_the_death_of_its_server(repository: Path, place: Path) -> None:
    record = hand_over(repository, mounted_by_a_runtime(place))
    with (place / "d/f").open("rb", buffering=0) as file:
        kill(record.server_pid)
        assert file.read() == b"data"
    take_away(place)
    wait_for_end(record.pid)


@pytest.mark.parametrize("driver", DRIVERS)
def test_in_the_foreground(repository: Path, place: Path, driver: str) -> None:
    fd = mounted_by_a_runtime(place)
    words = ["-m", "moorage", "-r", str(repository), "mount", "prod", f"/dev/fd/{fd}", "--foreground"]
    with subprocess.Popen(
        [sys.executable, *words, "--driver", driver], pass_fds=[fd], stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(fd)
        watchdog = kill_later(process.pid)
        assert (place / "d/f").read_bytes() == b"data"  # who is early waits
        take_away(place)
        _, err = process.communicate()
        watchdog.cancel()
    assert process.returncode == 0, err
    assert "Traceback" not in err


def test_a_signal_ends_it_though_it_stays_mounted(repository: Path, place: Path) -> None:
    record = hand_over(repository, mounted_by_a_runtime(place))
    assert (place / "d/f").read_bytes() == b"data"
    os.kill(record.pid, signal.SIGTERM)
    os.kill(record.pid, signal.SIGINT)  # the second one does not wait
    wait_for_end(record.pid)
    with pytest.raises(OSError, match="not connected"):
        os.listdir(place)


def test_what_is_no_device(repository: Path, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(InvalidInputError, match="is not an open /dev/fuse"):
        serve.mount(repository, "prod", Path(f"/dev/fd/{file.fileno()}"))
    with pytest.raises(InvalidInputError, match="/dev/fd/999 is not an open /dev/fuse"):
        serve.mount(repository, "prod", Path("/dev/fd/999"))
    for no_number in ("x", "3/4"):
        with pytest.raises(InvalidInputError, match=f"/dev/fd/{no_number} is no descriptor"):
            serve.mount(repository, "prod", Path(f"/dev/fd/{no_number}"))


def test_the_command_does_not_say_how_moorage_would_unmount_it(
    repository: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fd = mounted_by_a_runtime(place)
    assert run(["-r", str(repository), "mount", "prod", f"/dev/fd/{fd}"]) == 0
    os.close(fd)
    told = capsys.readouterr().out
    assert "unmount it with: umount(8), by whoever has mounted it" in told
    [record] = registry.own()
    serve.umount(place)  # where it can be seen it is a mount like any other
    wait_for_end(record.pid)


def test_a_device_that_nothing_is_mounted_with(repository: Path) -> None:
    fd = os.open("/dev/fuse", os.O_RDWR)
    os.set_inheritable(fd, True)
    with pytest.raises(MountError, match="nothing is mounted with this device yet"):
        hand_over(repository, fd)
