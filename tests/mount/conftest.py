"""Real mounts for tests, which are gone afterwards whatever happened.

Each mount is served by a process of its own, as for a user. A server that hangs would hang whoever reads from it, so a
watchdog kills it after a while: then reads fail instead of waiting, and the test fails instead of hanging.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from moorage.mount import registry, serve
from moorage.mount.host import mountinfo
from moorage.mount.registry import MountRecord
from moorage.repository.handle import RepositoryHandle
from tests.crash.ground import IS_SOAK
from tests.mount import build
from tests.mount.build import Content

WATCHDOG_S = 3600 if IS_SOAK else 120


class Child:
    """A program that a test talks with."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Talk over its standard input and output."""
        self._process = process

    def read(self) -> str:
        """Its next line."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def write(self, line: str) -> None:
        """Say a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


@dataclass
class Mount:
    """One mount of a test."""

    record: MountRecord
    handle: RepositoryHandle
    """To move branches with."""
    watchdog: threading.Timer
    again: Callable[..., Mount]
    """(revision, driver=..., and other options of `serve.mount`) -> another mount of the same repository."""

    @property
    def path(self) -> Path:
        """Where it is mounted."""
        return Path(self.record.mountpoint)

    @property
    def log(self) -> str:
        """What the server has logged."""
        return Path(self.record.log).read_text(encoding="utf-8")

    def move(self, files: Mapping[str, Content]) -> None:
        """Move the branch to a new snapshot."""
        build.branch(self.handle, self.record.revision, files)

    @contextlib.contextmanager
    def talk(self, program: str, *arguments: str | Path) -> Iterator[Child]:
        """Run a plain Python program, and talk with it in lines."""
        with subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            watchdog = kill_later(process.pid)
            try:
                yield Child(process)
            finally:
                watchdog.cancel()
                kill(process.pid)

    def command(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command, whether it succeeds or not."""
        return subprocess.run(
            [str(word) for word in words],
            check=False,
            capture_output=True,
            text=True,
            timeout=WATCHDOG_S,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )

    def run(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a plain Python program that knows nothing of moorage."""
        return subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            check=True,
            capture_output=True,
            text=True,
            timeout=WATCHDOG_S,
        )


MountIt = Callable[..., Mount]
"""(files, revision="prod", driver="kernel", pin=False, allow_other=False) -> a mount."""


@pytest.fixture(scope="module")
def mount_it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MountIt]:
    """Mount a new repository with these files on its branch; everything is unmounted at the end of the module."""
    made: list[Mount] = []
    base = tmp_path_factory.mktemp("mounts")

    def mount(
        files: Mapping[str, Content],
        *,
        revision: str = "prod",
        driver: str = "kernel",
        pin: bool = False,
        allow_other: bool = False,
    ) -> Mount:
        place = base / str(len(made))
        place.mkdir()
        handle = build.create(place / "repository")
        build.branch(handle, "prod", files)
        return on(handle, revision, driver=driver, pin=pin, allow_other=allow_other)

    def on(handle: RepositoryHandle, revision: str, **options: Any) -> Mount:
        assert handle.root is not None
        directory = handle.root.parent / f"mnt{len(made)}"
        directory.mkdir()
        record = serve.mount(handle.root, revision, directory, **options)
        made.append(Mount(record, handle, kill_later(record.pid, record.server_pid), functools.partial(on, handle)))
        return made[-1]

    yield mount
    for mounted in made:
        clean_up(mounted.record)
        mounted.watchdog.cancel()
        mounted.handle.close()


def eventually(is_so: Callable[[], bool]) -> None:
    """Wait for it, without a pause between two looks."""
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to be so"


def kill_later(*pids: int, bound_s: float = 0) -> threading.Timer:
    """Kill processes that are still there after a while, or after that and `bound_s`; cancel it when all went well."""
    timer = threading.Timer(WATCHDOG_S + bound_s, lambda: kill(*pids))
    timer.daemon = True
    timer.start()
    return timer


def kill(*pids: int) -> None:
    """Kill processes, those that are there; of a supervised mount the supervisor is named first."""
    for pid in pids:
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def wait_for_end(*pids: int) -> None:
    """Wait until processes that are not our children are gone."""
    for pid in pids:
        try:
            process = os.pidfd_open(pid or 2**22)
        except OSError:
            continue
        watchdog = kill_later(pid)
        select.select([process], [], [])
        os.close(process)
        watchdog.cancel()


def end_of(record: MountRecord) -> None:
    """Kill all processes behind a mount, and wait until they are gone."""
    kill(record.pid, record.server_pid)
    wait_for_end(record.pid, record.server_pid)


def clean_up(record: MountRecord) -> None:
    """Take a mount away, by all means."""
    while mountinfo.top_at(record.mountpoint) is not None:
        subprocess.run(["umount", "-l", record.mountpoint], check=True, timeout=30)
    now = next((found for found in registry.mounts() if found.device == record.device), record)
    for known in (record, now):
        if registry.has_main_process(known):
            kill(known.pid)
        if registry.has_server(known):
            kill(known.server_pid)
