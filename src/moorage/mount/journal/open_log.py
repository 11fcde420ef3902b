"""Which process opened what? One line of JSON an open, written off the way of whoever opens.

    {"time": ISO 8601 UTC, "pid", "uid", "executable": path or null, "path": in the file system, "snapshot": id or null,
     "blake3": digest}
    {"time": ISO 8601 UTC, "dropped": n}      n opens before this line were not written down

A process is asked who it is while it waits for its open, the only moment at which it is certainly there; that is two
small reads in `/proc`. All else is done by a thread of its own, behind a queue of bounded length: when the disk is slow
or full, lines are dropped and counted, and nobody waits.

A file grows to `FILE_BYTES` and is then renamed to `.1`, that to `.2`, and the oldest is removed. Whoever else appends
to the same file (the server of an earlier mount at the same place that still has readers) notices by its inode.

Threads: `note` any; one writes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, NamedTuple

_log = logging.getLogger(__name__)

FILE_BYTES = 16 * 1024 * 1024
GENERATIONS = 4
"""Older files that are kept beside the one that is written."""
MOST_WAITING = 10_000
END_TIMEOUT_S = 5.0
_BATCH = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Caller(NamedTuple):
    """Who asks."""

    pid: int
    uid: int
    executable: str | None
    """None where it cannot be told: a process of another user, or of another pid namespace."""


class Opened(NamedTuple):
    """One open."""

    time_ns: int
    caller: Caller
    path: str
    """Absolute, in the file system."""
    snapshot: str | None
    """None where it cannot be told."""
    blake3: str


def caller_of(thread: int, uid: int) -> Caller:
    """The process that a thread belongs to, which the kernel names by the thread."""
    pid = thread
    executable = None
    if thread:
        with contextlib.suppress(OSError):
            executable = os.readlink(f"/proc/{thread}/exe")
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{thread}/status", "rb") as file:
            pid = int(file.read().partition(b"\nTgid:")[2].split(maxsplit=1)[0])
    return Caller(pid, uid, executable)


class OpenLog:
    """Writes down what is opened."""

    def __init__(
        self, path: Path, *, file_bytes: int = FILE_BYTES, generations: int = GENERATIONS, waiting: int = MOST_WAITING
    ) -> None:
        """Append to `path`. Raises `OSError` where that cannot be done."""
        self._path = path
        self._file_bytes = file_bytes
        self._generations = generations
        self._queue: queue.Queue[Opened | None] = queue.Queue(waiting)
        self._dropped = 0
        self._counting = threading.Lock()
        self._trouble = ""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._fd = self._open()
        self._thread = threading.Thread(target=self._run, name="open-log", daemon=True)
        self._thread.start()

    def note(self, opened: Opened) -> None:
        """Write it down later, or count it as dropped. Never blocks, never raises."""
        try:
            self._queue.put_nowait(opened)
        except queue.Full:
            self._drop(1)

    def close(self) -> None:
        """Write down what is still waiting, if the disk lets us."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=END_TIMEOUT_S)
        self._thread.join(END_TIMEOUT_S)

    def _drop(self, number: int) -> None:
        with self._counting:
            self._dropped += number

    # -- in the thread that writes -----------------------------------------------------------------

    def _run(self) -> None:
        is_ending = False
        while not is_ending:
            batch, is_ending = self._next()
            try:
                self._write(batch)
            except OSError as error:
                self._drop(len(batch))
                self._complain(f"opens are not written down: {error}")
            except Exception:  # noqa: BLE001 - the next ones may go well
                self._drop(len(batch))
                _log.exception("opens are not written down")
        os.close(self._fd)

    def _next(self) -> tuple[list[Opened], bool]:
        """What waits, at least one; and whether it is the last."""
        batch: list[Opened] = []
        item = self._queue.get()
        while item is not None:
            batch.append(item)
            if len(batch) == _BATCH:
                return batch, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _write(self, batch: list[Opened]) -> None:
        data = b"".join(_line(opened) for opened in batch)
        with self._counting:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            data += _json({"time": iso(time.time_ns()), "dropped": dropped})
        try:
            self._append(data)
        except OSError:
            self._drop(dropped)
            raise
        self._trouble = ""

    def _append(self, data: bytes) -> None:
        """All of `data`, in one write. Raises `OSError`."""
        if not data:
            return
        self._rotate(len(data))
        written = os.write(self._fd, data)
        if written < len(data):
            os.write(self._fd, b"\n")  # a full disk: what was cut off is no line, and must not spoil the next
            raise OSError(f"only {written} of {len(data)} bytes were written")

    def _rotate(self, more_bytes: int) -> None:
        """Begin a new file where this one would grow too long, or is no longer the one at the path."""
        found = os.fstat(self._fd)
        if found.st_size and found.st_size + more_bytes > self._file_bytes and self._is_at_path(found):
            for number in range(self._generations, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(generation(self._path, number - 1), generation(self._path, number))
        if not self._is_at_path(found):
            fd = self._open()
            os.close(self._fd)
            self._fd = fd

    def _is_at_path(self, found: os.stat_result) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), found)
        except FileNotFoundError:
            return False

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            _log.error("%s", trouble)


def generation(path: Path, number: int) -> Path:
    """The file that is `number` renames old."""
    return path.with_name(f"{path.name}.{number}") if number else path


def _line(opened: Opened) -> bytes:
    return _json(
        {
            "time": iso(opened.time_ns),
            "pid": opened.caller.pid,
            "uid": opened.caller.uid,
            "executable": opened.caller.executable,
            "path": opened.path,
            "snapshot": opened.snapshot,
            "blake3": opened.blake3,
        }
    )


def _json(fields: dict[str, object]) -> bytes:
    # Escapes, so that names that are no UTF-8 survive.
    return json.dumps(fields, ensure_ascii=True).encode("ascii") + b"\n"


def iso(time_ns: int) -> str:
    """A time to the microsecond in UTC, which sorts as text."""
    moment = _EPOCH + timedelta(microseconds=time_ns // 1_000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def lines_of(path: Path, generations: int = GENERATIONS) -> Iterator[dict[str, object]]:
    """What was written down at `path`, oldest first. What is no line (a full disk, a crash) is passed over. Raises
    `OSError`."""
    with contextlib.ExitStack() as stack:
        files: list[IO[bytes]] = []
        for number in range(generations + 1):  # the newest is opened first, so that a rename meanwhile hides nothing
            with contextlib.suppress(FileNotFoundError):
                files.append(stack.enter_context(open(generation(path, number), "rb")))
        seen: dict[tuple[int, int], IO[bytes]] = {}
        for file in files:
            found = os.fstat(file.fileno())
            seen.setdefault((found.st_dev, found.st_ino), file)
        for file in reversed(seen.values()):
            for raw in file:
                try:
                    fields = json.loads(raw)
                except ValueError:
                    continue
                if isinstance(fields, dict) and "time" in fields:
                    yield fields
