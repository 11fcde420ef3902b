"""A mount with a supervisor, and programs that read it while those behind it die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorage.mount import registry, serve
from moorage.mount.registry import MountRecord
from moorage.repository.handle import RepositoryHandle
from tests.mount import build
from tests.mount.build import Content
from tests.mount.conftest import clean_up, kill, kill_later
from tests.needs import needs_fuse, require
from tests.unit.read.caches import MIB, noise

READING = Path(__file__).with_name("reading.py")
SOAK = bool(os.environ.get("MOORAGE_SOAK"))
FILES: dict[str, Content] = {
    "models": {f"{number:02}": noise(150_000 + 7001 * number, number) for number in range(30)},
    "deep": {"er": {"file": noise(99_999, 50), "other": noise(70_000, 51)}},
    **{f"top{number}": noise(3000 * number + 1, 60 + number) for number in range(6)},
}


def resend_missing() -> str | None:
    """A kernel that sends requests again."""
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    return None if release >= (6, 9) else f"kernel {os.uname().release} cannot send requests again"


LIMITS = [needs_fuse, pytest.mark.timeout(3600 if SOAK else 280)]
"""Marks of the tests that use this."""


class Supervised:
    """A mount, and those behind it."""

    def __init__(self, record: MountRecord, handle: RepositoryHandle, plain: Path) -> None:
        self.handle = handle
        self.path = Path(record.mountpoint)
        self.plain = plain
        self._device = record.device

    @property
    def record(self) -> MountRecord:
        """What the registry says now."""
        found = registry.find(self._device)
        assert found is not None
        return found

    @property
    def log(self) -> str:
        return self.log_of(self.record)

    @staticmethod
    def log_of(record: MountRecord) -> str:
        return Path(record.log).read_text()

    def kill_server(self) -> int:
        """Kill it, and wait until the supervisor has started another."""
        before = self.record
        kill(before.server_pid)
        wait_until(lambda: self.record.server_pid != before.server_pid)
        return before.server_pid

    @contextlib.contextmanager
    def readers(self, count: int, below: str = "") -> Iterator[list[dict[str, Any]]]:
        """So many programs that read all the time, the mount or what is `below` it; afterwards what each found."""
        found: list[dict[str, Any]] = []
        command = [sys.executable, str(READING), str(self.path / below), str(self.plain)]
        processes = [
            subprocess.Popen([*command, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for seed in range(count)
        ]
        watchdog = kill_later(*(process.pid for process in processes)) if not SOAK else None
        try:
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            yield found
            for process in processes:
                out, _ = process.communicate("", timeout=100)
                found.append(json.loads(out) if out else died(process.returncode))
        finally:
            for process in processes:
                kill(process.pid)
                process.communicate()
            if watchdog is not None:
                watchdog.cancel()


def stop(pid: int) -> None:
    """Let a process hang: none of its threads runs any more when this returns."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(
        lambda: all("\nState:\tT" in (task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir())
    )


def died(code: int) -> dict[str, Any]:
    """What a reader found that came to no end: who reads a map that cannot be read gets SIGBUS."""
    return {"operations": 0, "wrong": 0, "errors": [signal.Signals(-code).name], "longest_s": 0.0}


def wait_until(condition: Any) -> None:
    """Ask until it is so, within the test's own time."""
    while not condition():
        time.sleep(0.01)


def summary(found: list[dict[str, Any]]) -> tuple[list[str], int]:
    """All errors, and how many wrong answers."""
    print(sum(each["operations"] for each in found), "operations, longest", max(each["longest_s"] for each in found))
    return [error for each in found for error in each["errors"]], sum(each["wrong"] for each in found)


@contextlib.contextmanager
def supervised(
    folder: Path, monkeypatch: pytest.MonkeyPatch, revision: str = "prod", **options: Any
) -> Iterator[Supervised]:
    """A mount of `FILES` on a branch, with a cache of its own."""
    require(resend_missing)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    handle = build.create(folder / "repository")
    build.branch(handle, "prod", FILES)
    build.write_out(FILES, folder / "plain")
    (folder / "mnt").mkdir()
    record = serve.mount(folder / "repository", revision, folder / "mnt", cache_bytes=64 * MIB, **options)
    watchdog = kill_later(record.pid, record.server_pid) if not SOAK else None
    try:
        yield Supervised(record, handle, folder / "plain")
    finally:
        clean_up(record)
        if watchdog is not None:
            watchdog.cancel()
        handle.close()


def stuck(path: Path) -> list[str]:
    """Processes that wait in the kernel and have anything to do with `path`."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            text = status.read_text()
            command = status.with_name("cmdline").read_text()
            if "\nState:\tD" in text and str(path) in command:
                found.append(command.replace("\0", " "))
    return found
