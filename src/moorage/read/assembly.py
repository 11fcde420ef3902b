"""How does a file become whole on the disk on all cores, while somebody already reads it?

The file is divided into pieces. Several threads each take the next piece that nobody has, decode it (every chunk is
verified) and write it where it belongs. Whoever reads meanwhile has a piece as soon as it is decoded, without a copy,
and waits for one that is just being made; so who reads on decodes nothing himself. `pieces` has the rules.

One more thread has what they will come to read from the disk, so that they do not wait for it.

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

import contextlib
import logging
import os
import threading
from collections.abc import Callable

from moorage.errors import CorruptDataError
from moorage.format.stored import Bytes
from moorage.model.progress import SILENT, Progress
from moorage.read.cache import Part
from moorage.read.cached_file import PIECE_BYTES, OpenFile, hash_of
from moorage.read.file import FileReader, part_of
from moorage.read.pieces import Pieces, State
from moorage.read.threads import Helpers
from moorage.storage.writing import LARGE_WRITE_BYTES, write_all_at

_log = logging.getLogger(__name__)
_MOST_THREADS = 16
LEAST_LATER_BYTES = 64 * 1024 * 1024
"""A smaller file is written at once: the next one should not have to wait until this one's reader has been quiet."""
_LATER_PART = 8
"""About an eighth of the machine's memory may be copied later: it is copied fast because it has just been read."""


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
        self._writing = threading.Lock()
        """Writes to one file exclude each other in the kernel, where those who wait for it spin."""
        self._looking_up = threading.Lock()
        """Held by who looks up what to prefetch: when `run` returns, the index may be closed."""
        self._start()

    def _start(self) -> None:
        count = -(-self._reader.size_bytes // self._piece_bytes)
        self._pieces = Pieces(count, is_read_meanwhile=self._is_read_meanwhile)
        self._has_copied = False

    @property
    def left_bytes(self) -> int:
        """About how much has not been read from the packs yet."""
        pieces = self._pieces
        return (pieces.count(State.EMPTY) + pieces.count(State.BUSY)) * self._piece_bytes

    def parts_at(self, offset: int, size: int) -> list[Bytes] | None:
        """As `FileReader.parts_at`; None for bytes that nobody is about to make, where that failed, and for those that
        are neither in memory nor written."""
        stop = min(offset + size, self._reader.size_bytes)
        if offset >= stop:
            return []
        first, last = offset // self._piece_bytes, (stop - 1) // self._piece_bytes + 1
        found = self._pieces.find(first, last)
        if found is None:
            return None
        parts: list[Bytes] = []
        for piece, (state, made) in enumerate(found, first):
            start = piece * self._piece_bytes
            begin, end = max(offset, start), min(stop, start + self._piece_bytes)
            if made is not None:
                parts += part_of(made, begin - start, end - start)
            elif state == State.DONE and (data := self._written(begin, end - begin)) is not None:
                parts.append(data)
            else:
                return None
        return parts

    def reader_left(self) -> None:
        """Nobody reads any more, and nobody is waited for. Whoever reads again is."""
        self._pieces.reader_left()

    def _written(self, offset: int, size: int) -> bytes | None:
        """What is in the file, all of it: less than was asked for would be taken for the end of the file."""
        try:
            data = os.pread(self._file.fd, size, offset)
        except OSError:
            return None
        return data if len(data) == size else None

    def run(self, keep_going: Callable[[], bool] = lambda: True, progress: Progress = SILENT) -> bool:
        """Write all of it, and verify the whole; False when `keep_going` said no.

        Raises `CorruptDataError`, `DataError`, `StorageError`, `OSError`.
        """
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = min(cores, _MOST_THREADS, len(self._pieces))
        self._pieces.work_with(threads)
        try:
            if threads < len(self._pieces):  # else there is nothing ahead of them
                self._begin_to_fetch()
            with Helpers(lambda: self._fill(keep_going, progress), threads - 1):
                self._fill(keep_going, progress)
        finally:
            self._pieces.end()
            with self._looking_up:
                pass  # from here on nobody uses the index any more
        if any(self._pieces.count(state) for state in State if state < State.COPIED):
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

    def _begin_to_fetch(self) -> None:
        """Nobody waits for the thread to end: it may hang where nothing that this file needs does."""
        thread = threading.Thread(target=self._fetch, args=[self._pieces], name="moorage-prefetch", daemon=True)
        with contextlib.suppress(RuntimeError):  # no more threads are to be had: then without
            thread.start()

    def _fetch(self, pieces: Pieces) -> None:
        """Have what the threads will come to read from the disk, ahead of them."""
        try:
            while (some := pieces.take_fetch()) is not None:
                with self._looking_up:
                    if pieces.is_over():
                        return
                    spans = self._reader.spans(some.start * self._piece_bytes, len(some) * self._piece_bytes)
                for span in spans:
                    if pieces.is_over():
                        return
                    self._reader.prefetch(span)
        except Exception as error:  # noqa: BLE001 - a hint: who makes the piece will be told
            _log.debug("%s is not prefetched any further: %s", self._reader.entry.name, error)

    def _fill(self, keep_going: Callable[[], bool], progress: Progress) -> None:
        """Make pieces as long as there are any, then copy those that were left for later."""
        try:
            self._each(self._pieces.take, self._make, keep_going, progress)
            self._pieces.wait_for_quiet(keep_going)
            self._each(self._pieces.take_later, self._copy, keep_going, progress)
        except BaseException:
            self._pieces.end()
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
        pieces = self._pieces
        if self._may_copy and pieces.is_left_behind(piece) and self._copied(piece, start, size):
            return True
        made, is_raw = self._reader.parts_and_form_at(start, size)
        # Only near a reader it stays in memory until he comes for it.
        is_later = is_raw and self._may_copy and pieces.is_near(piece) and pieces.count(State.LATER) < self._most_later
        if is_later and self._has_copied:
            pieces.becomes(piece, State.LATER, made)
            return False
        pieces.becomes(piece, State.MADE, made)
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
        self._pieces.becomes(piece, State.COPIED)
        return True

    def _write(self, piece: int, made: list[Bytes], start: int) -> None:
        with self._writing:
            write_all_at(self._part.fd, made, start, LARGE_WRITE_BYTES)
        self._pieces.becomes(piece, State.DONE)


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
