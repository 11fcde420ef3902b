"""How does a file become whole on the disk on all cores, while somebody already reads it?

The file is divided into pieces. Several threads each take the next piece that nobody has, decode it (every chunk is
verified) and write it where it belongs. Whoever reads meanwhile waits for a piece that is just being made, and is told
to look elsewhere for one that nobody has begun, from where the threads then go on: so they are ahead of a reader
wherever he starts, and who reads on decodes nothing himself. One that they are about to come to he waits for, too, and
it is the next one, wherever they have been told to go on meanwhile.

The last few pieces stay in memory. A reader who keeps up has his bytes from there, as soon as they are decoded and
without a copy; one who does not, from the file. Nobody gets far ahead of a reader who keeps up, since what is ahead of
him takes the processors that he waits for; but nobody waits for one who takes his time.

What is stored raw is in its pack as it is, so of a large file it is not written while its reader waits for what comes
next: he gets it, verified, and when he is done it is copied from pack to file within the kernel, as is what nobody is
near to. Copying verifies nothing: nobody reads what was copied from the file before the hash of the whole is right.
Where that is another, everything is made once more, chunk by chunk, so that whatever is damaged is named. Who comes
back meanwhile to what is not written finds it in the chunks; the kernel keeps what it has been given once, so few do.

What a reader gets before the whole has been hashed was verified by chunk a moment ago, by this process, which has it in
memory, or wrote it into a file that has no name yet that anybody would look for.

A piece that does not come (a disk that hangs) is not waited for longer than a moment: the reader looks for his bytes in
the chunks himself.

Threads: everything here may be called from any thread.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from moorage.errors import CorruptDataError
from moorage.format.stored import Bytes
from moorage.model.progress import SILENT, Progress
from moorage.read.cache import Part
from moorage.read.cached_file import PIECE_BYTES, OpenFile, hash_of
from moorage.read.file import FileReader, part_of
from moorage.read.threads import Helpers
from moorage.storage.writing import LARGE_WRITE_BYTES, write_all_at

_MOST_THREADS = 16
AHEAD = 6
"""Pieces that are kept in memory, beside those just being written; and the most that are made for a reader who keeps
up, from where he is."""
PACE_S = 0.004
"""How long a thread that is ahead waits for the reader before it makes a piece all the same: so files are assembled at
some 300 MB/s a thread, whatever their readers do."""
PATIENCE_S = 2.0
"""A piece takes a few milliseconds. If it takes this long, something hangs, and perhaps not where the reader looks."""
QUIET_S = 0.05
"""A reader who asks for nothing for so long is done, or takes his time."""
MOST_QUIET_WAIT_S = 1.0
"""After the last piece was made what is left is copied, whoever still reads."""
LEAST_LATER_BYTES = 64 * 1024 * 1024
"""A smaller file is written at once: the next one should not have to wait until this one's reader has been quiet."""
_LATER_PART = 8
"""About an eighth of the machine's memory may be copied later: it is copied fast because it has just been read."""
_EMPTY, _BUSY, _MADE, _LATER, _COPIED, _DONE = range(6)
"""States of a piece: nobody has begun; it is being decoded; it was decoded, and is being written; it was decoded, and
is copied later; it is being copied, or was, and nobody may read it from the file; it was decoded, and is in the file.
From the third on it may be in memory."""


class Assembly:
    """One file of the cache, being assembled."""

    def __init__(
        self, reader: FileReader, part: Part, piece_bytes: int = PIECE_BYTES, *, is_read_meanwhile: bool = True
    ) -> None:
        """Nothing is done before `run`. Unless it `is_read_meanwhile`, nobody calls `parts_at`. Raises `OSError`."""
        self._reader = reader
        self._part = part
        self._piece_bytes = piece_bytes
        # A descriptor of its own: the other is closed when the file has its name, while somebody may still read.
        self._file = OpenFile(os.open(part.path, os.O_RDONLY | os.O_CLOEXEC))
        self._is_read_meanwhile = is_read_meanwhile
        self._may_copy = True
        is_large = reader.size_bytes >= LEAST_LATER_BYTES
        self._most_later = _memory_bytes() // _LATER_PART // piece_bytes if is_large else 0
        self._lock = threading.Lock()
        self._awaited: dict[int, threading.Condition] = {}
        """By piece: it can be read, or no more will come. Each its own, so that nobody is woken for another's."""
        self._has_moved = threading.Condition(self._lock)
        """A reader has got to another piece, or all is over."""
        self._is_quiet = threading.Condition(self._lock)
        """Nobody reads any more, or all is over."""
        self._writing = threading.Lock()
        """Writes to one file exclude each other in the kernel, where those who wait for it spin."""
        self._start()

    def _start(self) -> None:
        self._states = bytearray(-(-self._reader.size_bytes // self._piece_bytes))
        self._made: dict[int, list[Bytes]] = {}
        """Those in memory, oldest first."""
        self._next = 0
        self._reached = 0 if self._is_read_meanwhile else len(self._states) + AHEAD
        """The piece in which a reader was last; far behind all of them where there is none."""
        self._read_s = time.monotonic() if self._is_read_meanwhile else 0.0
        """When that was."""
        self._threads = 0
        """That take the next pieces as soon as they are done with theirs."""
        self._has_copied = False
        self._has_ended = False

    @property
    def left_bytes(self) -> int:
        """About how much has not been read from the packs yet."""
        return (self._states.count(_EMPTY) + self._states.count(_BUSY)) * self._piece_bytes

    def parts_at(self, offset: int, size: int) -> list[Bytes] | None:
        """As `FileReader.parts_at`; None for bytes that nobody is about to make, where that failed, and for those that
        are neither in memory nor written."""
        stop = min(offset + size, self._reader.size_bytes)
        if offset >= stop:
            return []
        first, last = offset // self._piece_bytes, (stop - 1) // self._piece_bytes + 1
        with self._lock:
            self._read_s = time.monotonic()
            if self._reached != first:
                self._reached = first
                self._has_moved.notify_all()
            while (missing := self._missing(first, last)) >= 0:
                if self._states[missing] == _EMPTY and not 0 <= missing - self._next < self._threads:
                    self._next = missing
                    return None
                if self._has_ended or not self._wait_for(missing):
                    return None
            found = [(self._states[piece], self._made.get(piece)) for piece in range(first, last)]
        parts: list[Bytes] = []
        for piece, (state, made) in enumerate(found, first):
            start = piece * self._piece_bytes
            begin, end = max(offset, start), min(stop, start + self._piece_bytes)
            if made is not None:
                parts += part_of(made, begin - start, end - start)
            elif state == _DONE and (data := self._written(begin, end - begin)) is not None:
                parts.append(data)
            else:
                return None
        return parts

    def reader_left(self) -> None:
        """Nobody reads any more, and nobody is waited for. Whoever reads again is."""
        with self._lock:
            self._reached, self._read_s = len(self._states) + AHEAD, 0.0
            self._has_moved.notify_all()
            self._is_quiet.notify_all()

    def _wait_for(self, piece: int) -> bool:
        """Under the lock, which is let go meanwhile: until it can be read, or is known not to come; False where nothing
        happens to it for too long."""
        state = self._states[piece]
        awaited = self._awaited.setdefault(piece, threading.Condition(self._lock))
        return awaited.wait(PATIENCE_S) or self._states[piece] != state

    def _written(self, offset: int, size: int) -> bytes | None:
        """What is in the file, all of it: less than was asked for would be taken for the end of the file."""
        try:
            data = os.pread(self._file.fd, size, offset)
        except OSError:
            return None
        return data if len(data) == size else None

    def _missing(self, first: int, last: int) -> int:
        """Under the lock: the first of these pieces that is not there; -1 where all are."""
        return next((piece for piece in range(first, last) if self._states[piece] < _MADE), -1)

    def run(self, keep_going: Callable[[], bool] = lambda: True, progress: Progress = SILENT) -> bool:
        """Write all of it, and verify the whole; False when `keep_going` said no.

        Raises `CorruptDataError`, `DataError`, `StorageError`, `OSError`.
        """
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._threads = min(cores, _MOST_THREADS, len(self._states))
        try:
            with Helpers(lambda: self._fill(keep_going, progress), self._threads - 1):
                self._fill(keep_going, progress)
        finally:
            self._end()
        if any(state < _COPIED for state in self._states):
            return False
        found = hash_of(self._file.fd, self._reader.size_bytes, keep_going)
        if found is not None and found != self._reader.entry.digest:
            return self._run_again(keep_going)
        return found is not None

    def _run_again(self, keep_going: Callable[[], bool]) -> bool:
        """After what was copied has turned out wrong: chunk by chunk, which says what is damaged, or does better."""
        if self._has_copied:
            self._may_copy = False
            self._start()
            return self.run(keep_going)
        entry = self._reader.entry
        raise CorruptDataError(
            f"the chunks of {entry.name} do not make the file they should",
            hint="run `moorage check`",
            digest=entry.digest.hex(),
        )

    def _fill(self, keep_going: Callable[[], bool], progress: Progress) -> None:
        """Make pieces as long as there are any, then copy those that were left for later."""
        try:
            self._each(self._take, self._make, keep_going, progress)
            self._wait_for_quiet(keep_going)
            self._each(self._take_later, self._copy, keep_going, progress)
        except BaseException:
            self._end()
            raise

    def _each(
        self,
        take: Callable[[], int | None],
        do: Callable[[int, int, int], bool],
        keep_going: Callable[[], bool],
        progress: Progress,
    ) -> None:
        while keep_going() and (piece := take()) is not None:
            start = piece * self._piece_bytes
            size = min(self._piece_bytes, self._reader.size_bytes - start)
            if do(piece, start, size):
                progress.advance(size_bytes=size)

    def _make(self, piece: int, start: int, size: int) -> bool:
        """Make one; whether it is in the file then."""
        is_wanted = self._is_near(piece) or piece in self._awaited
        if self._may_copy and piece < self._reached and not is_wanted and self._copied(piece, start, size):
            return True
        made, is_raw = self._reader.parts_and_form_at(start, size)
        # Only near a reader it stays in memory until he comes for it.
        is_later = is_raw and self._may_copy and self._is_near(piece) and self._states.count(_LATER) < self._most_later
        if is_later and self._has_copied:
            self._becomes(piece, _LATER, made)
            return False
        self._becomes(piece, _MADE, made)
        if is_later:  # the first: whether it can be copied at all is better known before much is left to be
            if self._copied(piece, start, size):
                return True
            self._may_copy = False
        self._write(piece, made, start)
        return True

    def _copy(self, piece: int, start: int, size: int) -> bool:
        """Get one into the file that was left for later."""
        if not self._copied(piece, start, size):
            self._write(piece, self._reader.parts_at(start, size), start)
        return True

    def _copied(self, piece: int, start: int, size: int) -> bool:
        """Copy what is stored raw; whether it could be."""
        with self._writing:
            if not self._reader.copy_to(self._part.fd, start, size):
                return False
        self._has_copied = True
        self._becomes(piece, _COPIED)
        return True

    def _write(self, piece: int, made: list[Bytes], start: int) -> None:
        with self._writing:
            write_all_at(self._part.fd, made, start, LARGE_WRITE_BYTES)
        self._becomes(piece, _DONE)

    def _becomes(self, piece: int, state: int, made: list[Bytes] | None = None) -> None:
        with self._lock:
            if made is not None:
                self._made[piece] = made
            awaited = self._awaited.pop(piece, None)
            if awaited is not None:
                awaited.notify_all()
            self._states[piece] = state
            self._drop()

    def _drop(self) -> None:
        """Under the lock: keep few pieces in memory, and those that a reader who comes to them finds nowhere else."""
        unneeded = [
            piece
            for piece in self._made
            if self._states[piece] == _DONE or (self._states[piece] != _MADE and not self._is_ahead(piece))
        ]
        for piece in unneeded[: max(0, len(self._made) - AHEAD)]:
            del self._made[piece]

    def _is_ahead(self, piece: int) -> bool:
        """Whether a reader is there, or about to come there."""
        return 0 <= piece - self._reached < AHEAD

    def _is_near(self, piece: int) -> bool:
        """Whether it is made for the reader who moved last, who may have got further while he waits for it."""
        return -AHEAD < piece - self._reached < AHEAD

    def _take(self) -> int | None:
        """The next piece that nobody has: one that somebody waits for, or from where a reader last looked for one."""
        with self._lock:
            patient_until = time.monotonic() + PACE_S
            while not self._has_ended:
                piece = awaited = next((piece for piece in self._awaited if self._states[piece] == _EMPTY), -1)
                if piece < 0:
                    piece = self._empty_from(self._next)
                if piece == len(self._states):
                    piece = self._empty_from(0)
                if piece == len(self._states):
                    return None
                left_s = patient_until - time.monotonic()
                if piece == awaited or piece < self._reached + AHEAD or left_s <= 0:
                    self._states[piece] = _BUSY
                    if awaited < 0:
                        self._next = piece + 1
                    self._next = self._empty_from(self._next)
                    return piece
                self._has_moved.wait(left_s)
            return None

    def _empty_from(self, piece: int) -> int:
        """Under the lock: the first from there that nobody has begun; the number of all where there is none."""
        found = self._states.find(_EMPTY, piece)
        return len(self._states) if found < 0 else found

    def _wait_for_quiet(self, keep_going: Callable[[], bool]) -> None:
        """Until the reader is done, or has had time enough."""
        with self._lock:
            patient_until = time.monotonic() + MOST_QUIET_WAIT_S
            while _LATER in self._states and not self._has_ended and keep_going():
                wait_s = min(self._read_s + QUIET_S, patient_until) - time.monotonic()
                if wait_s <= 0:
                    return
                self._is_quiet.wait(wait_s)

    def _take_later(self) -> int | None:
        """The next piece that was left for later."""
        with self._lock:
            piece = -1 if self._has_ended else self._states.find(_LATER)
            if piece < 0:
                return None
            self._states[piece] = _COPIED
            return piece

    def _end(self) -> None:
        with self._lock:
            self._has_ended = True
            for awaited in self._awaited.values():
                awaited.notify_all()
            self._has_moved.notify_all()
            self._is_quiet.notify_all()


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
