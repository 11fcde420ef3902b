"""Is systemd told what it asks for, at the socket that it names, and is nothing done where it asks for nothing?"""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moorage.mount import mountpoint
from moorage.mount.host import notify
from moorage.mount.watchdog import Watchdog
from tests.needs import needs_linux

pytestmark = needs_linux


class Systemd:
    """A socket that is told."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(30)

    def heard(self) -> list[str]:
        """The next datagram."""
        return self._socket.recv(65536).decode().split("\n")

    def is_silent(self) -> bool:
        self._socket.setblocking(False)
        try:
            self._socket.recv(65536)
        except BlockingIOError:
            return True
        finally:
            self._socket.settimeout(30)
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@moorage-test-{os.getpid()}"
    heard = Systemd(address)
    monkeypatch.setenv(notify.SOCKET, address)
    yield heard
    heard.close()


def test_each_message(systemd: Systemd) -> None:
    notify.ready("serving prod\nof /srv/größe")
    assert systemd.heard() == ["READY=1", "STATUS=serving prod of /srv/größe", f"MAINPID={os.getpid()}"]
    notify.status("moved")
    assert systemd.heard() == ["STATUS=moved"]
    notify.alive()
    assert systemd.heard() == ["WATCHDOG=1"]
    notify.stopping()
    assert systemd.heard() == ["STOPPING=1", "STATUS=unmounting"]
    assert systemd.is_silent()


@pytest.mark.parametrize("address", [None, "", "relative", "vsock:1:2", "/nowhere/socket", "@nobody-listens-here"])
def test_where_nobody_listens(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    if address is None:
        monkeypatch.delenv(notify.SOCKET, raising=False)
    else:
        monkeypatch.setenv(notify.SOCKET, address)
    notify.ready("x")
    notify.alive()


@pytest.mark.parametrize(
    ("usec", "pid", "interval_s"),
    [
        (None, None, None),
        ("0", None, None),
        ("soon", None, None),
        ("30000000", None, 15.0),
        ("30000000", "own", 15.0),
        ("30000000", "1", None),
    ],
)
def test_how_often(
    monkeypatch: pytest.MonkeyPatch, usec: str | None, pid: str | None, interval_s: float | None
) -> None:
    for name, value in ((notify.WATCHDOG, usec), (notify.WATCHDOG_PID, pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, str(os.getpid()) if value == "own" else value)
    assert notify.interval_s() == interval_s


def test_a_process_that_is_no_longer_the_service() -> None:
    environment = {notify.SOCKET: "/x", notify.WATCHDOG: "1", notify.WATCHDOG_PID: "2", "PATH": "/bin"}
    assert notify.without_service(environment) == {"PATH": "/bin"}


# -- the watchdog ----------------------------------------------------------------------------------


def asking(monkeypatch: pytest.MonkeyPatch, program: Callable[[], str]) -> queue.Queue[subprocess.Popen[bytes]]:
    """Have the mount answer as a program does; the questions that were asked."""
    asked: queue.Queue[subprocess.Popen[bytes]] = queue.Queue()

    def question(_path: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen([sys.executable, "-I", "-S", "-c", program()])
        asked.put(child)
        return child

    monkeypatch.setattr(mountpoint, "question", question)
    return asked


def test_it_is_said_as_long_as_the_mount_answers(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    asking(monkeypatch, lambda: "")
    watchdog = Watchdog("/srv/models", 0.01)
    watchdog.start()
    for _ in range(3):
        assert systemd.heard() == ["WATCHDOG=1"]
    watchdog.stop()


def test_a_mount_that_nobody_serves_says_nothing(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asking(monkeypatch, lambda: "import errno, sys; sys.exit(errno.ENOTCONN)")
    watchdog = Watchdog("/srv/models", 30)
    assert not watchdog._answers()
    assert asked.qsize() == 1
    assert systemd.is_silent()


def test_a_mount_that_hangs_is_asked_once_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asking(monkeypatch, lambda: "import signal; signal.pause()")
    watchdog = Watchdog("/srv/models", 0.01)
    assert not watchdog._answers()
    assert not watchdog._answers()
    assert asked.qsize() == 1
    child = asked.get()
    child.terminate()
    child.wait()
    assert watchdog._answers()
    monkeypatch.setattr(mountpoint, "question", lambda _: (_ for _ in ()).throw(OSError("no more processes")))
    assert not watchdog._answers()
