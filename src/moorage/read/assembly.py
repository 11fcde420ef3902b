"""How does a file become whole on the disk on all cores, while somebody already reads it?

The file is divided into pieces. Several threads each take the next piece that nobody has, decode it (every chunk is
verified) and write it where it belongs. Whoever reads meanwhile gets what is written from the file itself, waits for a
piece that is just being made, and is told to look elsewhere for one that nobody has begun, from where the threads then
go on: so they are ahead of a reader wherever he starts, and no byte is decoded twice for the two of them.

What a reader gets before the whole has been hashed was verified by chunk a moment ago, by this process, which wrote it
into a file that has no name yet that anybody would look for.

Threads: everything here may be called from any thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from moorage.errors import CorruptDataError
from moorage.model.progress import SILENT, Progress
from moorage.read.cache import Part
from moorage.read.cached_file import PIECE_BYTES, OpenFile, hash_of
from moorage.read.file import FileReader
from moorage.storage.writing import write_all_at

_MOST_THREADS = 16
_EMPTY, _BUSY, _DONE = 0, 1, 2


class Assembly:
    """One file of the cache, being assembled."""

    def __init__(self, reader: FileReader, part: Part, piece_bytes: int = PIECE_BYTES) -> None:
        """Nothing is done before `run`. Raises `OSError`."""
        self._reader = reader
        self._part = part
        self._piece_bytes = piece_bytes
        # A descriptor of its own: the other is closed when the file has its name, while somebody may still read.
        self._file = OpenFile(os.open(part.path, os.O_RDONLY | os.O_CLOEXEC))
        self._states = bytearray(-(-reader.size_bytes // piece_bytes))
        self._changed = threading.Condition()
        self._next = 0
        self._left = len(self._states)
        self._has_ended = False

    @property
    def left_bytes(self) -> int:
        """About how much is still to be done."""
        return self._left * self._piece_bytes

    def read_at(self, offset: int, size: int) -> bytes | None:
        """As `FileReader.read_at`; None for bytes that nobody is about to write, or where writing them failed."""
        stop = min(offset + size, self._reader.size_bytes)
        if offset >= stop:
            return b""
        first, last = offset // self._piece_bytes, (stop - 1) // self._piece_bytes + 1
        with self._changed:
            empty = self._states.find(_EMPTY, first, last)
            if empty >= 0:
                self._next = empty
                return None
            while self._states.count(_DONE, first, last) < last - first:
                if self._has_ended:
                    return None
                self._changed.wait()
        return os.pread(self._file.fd, stop - offset, offset)

    def run(self, keep_going: Callable[[], bool] = lambda: True, progress: Progress = SILENT) -> bool:
        """Write all of it, and verify the whole; False when `keep_going` said no.

        Raises `CorruptDataError`, `DataError`, `StorageError`, `OSError`.
        """
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = min(cores, _MOST_THREADS, len(self._states))
        try:
            if workers <= 1:
                self._fill(keep_going, progress)
            else:
                with ThreadPoolExecutor(workers, thread_name_prefix="moorage-hydrate") as pool:
                    for done in [pool.submit(self._fill, keep_going, progress) for _ in range(workers)]:
                        done.result()
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()
        return not self._left and self._verify(keep_going)

    def _fill(self, keep_going: Callable[[], bool], progress: Progress) -> None:
        while keep_going() and (piece := self._take()) is not None:
            start = piece * self._piece_bytes
            size = min(self._piece_bytes, self._reader.size_bytes - start)
            try:
                write_all_at(self._part.fd, self._reader.parts_at(start, size), start)
            except BaseException:
                self._end()
                raise
            with self._changed:
                self._states[piece] = _DONE
                self._left -= 1
                self._changed.notify_all()
            progress.advance(size_bytes=size)

    def _take(self) -> int | None:
        """The next piece that nobody has, from where a reader last looked for one."""
        with self._changed:
            if self._has_ended:
                return None
            piece = self._states.find(_EMPTY, self._next)
            if piece < 0:
                piece = self._states.find(_EMPTY)
            if piece < 0:
                return None
            self._states[piece] = _BUSY
            self._next = piece + 1
            return piece

    def _end(self) -> None:
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def _verify(self, keep_going: Callable[[], bool]) -> bool:
        entry = self._reader.entry
        found = hash_of(self._file.fd, entry.size_bytes, keep_going)
        if found is not None and found != entry.digest:
            raise CorruptDataError(
                f"the chunks of {entry.name} do not make the file they should",
                hint="run `moorage check`",
                digest=entry.digest.hex(),
            )
        return found is not None
