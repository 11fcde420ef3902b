"""How are ranges of one file copied into another without leaving the kernel?

By splice(2), through a pipe: pages go into it by reference, and are copied once, into the other file's page cache. Many
ranges are gathered in the pipe and written together, up to a multiple of `LARGE_WRITE_BYTES`: what is written so lies
in large folios, which are read and mapped faster (a map of 1 GiB in half the time). copy_file_range(2) does the same
with a pipe of its own, of 64 KiB, a range at a time: it takes nearly twice as long, and refuses other file systems.

Linux only. Source: `iter_file_splice_write` in `fs/splice.c`, and pipe(7).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from moorage.model.ranges import ByteRange
from moorage.storage.writing import LARGE_WRITE_BYTES

_PIPE_BYTES = 1024 * 1024
"""The most that an ordinary user may have unasked (`fs.pipe-max-size`); with less, writes are smaller."""


def can_splice() -> bool:
    """Whether this system can do it at all."""
    return hasattr(os, "splice")


def splice_ranges(source: int, ranges: Sequence[tuple[ByteRange, int]], target: int) -> bool:
    """Copy each range of an open file to its place (an offset) in another; False where the source ends before a range
    does. Raises `OSError`; what is then in the target does not count."""
    with _Pipe(target) as pipe:
        for wanted, place in ranges:
            pipe.go_to(place)
            start = wanted.start
            while start < wanted.stop:
                count = pipe.fill(source, start, wanted.stop - start)
                if count == 0:
                    return False
                start += count
        pipe.empty()
    return True


class _Pipe:
    """What is on its way to the target."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._place = 0
        """Where in the target that goes which is in the pipe."""
        self._held_bytes = 0

    def __enter__(self) -> Self:
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC)
        try:
            fcntl.fcntl(self._writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except OSError:
            pass  # this user has too many large ones: a small one will do
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._reading)
        os.close(self._writing)

    def go_to(self, place: int) -> None:
        """What comes next goes there."""
        if place != self._place + self._held_bytes:
            self.empty()
            self._place = place

    def fill(self, source: int, start: int, size: int) -> int:
        """Put in some of so many bytes, and make room first if there is none; how many, 0 at the end of the source."""
        while True:
            try:
                count = os.splice(source, self._writing, size, offset_src=start, flags=os.SPLICE_F_NONBLOCK)
            except BlockingIOError:
                if not self._held_bytes:
                    raise
                self._write_some()
                continue
            self._held_bytes += count
            return count

    def empty(self) -> None:
        """Write all that is in it."""
        self._write(self._held_bytes)

    def _write_some(self) -> None:
        """Write what ends where a large write should, or else all."""
        end = (self._place + self._held_bytes) // LARGE_WRITE_BYTES * LARGE_WRITE_BYTES
        self._write(end - self._place if end > self._place else self._held_bytes)

    def _write(self, size: int) -> None:
        while size:
            count = os.splice(self._reading, self._target, size, offset_dst=self._place)
            size -= count
            self._place += count
            self._held_bytes -= count
