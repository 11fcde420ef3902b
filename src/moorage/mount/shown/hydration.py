"""Which files that a mount shows become plain files of the cache, and when; and where does a read get its bytes?

A file that is in the cache is read from there. Of any other the first reader gets his bytes from chunks at once; once
he has read enough to look like somebody who wants the whole, it is assembled in the background, ahead of him, and he is
served from what is assembled.

Enough is 16 MiB in a row, or a quarter of the file, whichever is less: what a page fault in a map, or a look at a
header, makes the kernel read ahead is below that, so who only jumps about in a huge file has nothing assembled. Files
below 1 MiB stay as they are: the kernel keeps their pages, and assembling one takes longer than reading it. When the
last reader leaves before half of a file is assembled, it is dropped.

Nothing here makes a read fail: a full disk, a damaged cache, another process that is at the same file, all mean chunks.
So does a cache that does not answer, after a moment (`patience`).
A chunk that is damaged itself is the business of whoever reads that part.

Threads: any; one more assembles, a file at a time, with helpers on all cores.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from moorage.errors import MoorageError, StorageError
from moorage.format.stored import Bytes
from moorage.model.tree import Entry
from moorage.mount.shown.patience import Patience
from moorage.read.assembly import Assembly
from moorage.read.cache import FileCache
from moorage.read.cached_file import CachedFile
from moorage.read.file import FileReader
from moorage.read.hydrate import try_hydrate
from moorage.repository.handle import RepositoryHandle
from moorage.repository.lru import LruCache

_log = logging.getLogger(__name__)
T = TypeVar("T")

SMALLEST_BYTES = 1024 * 1024
ENOUGH_BYTES = 16 * 1024 * 1024
ENOUGH_PART = 4
"""A quarter."""
NEIGHBOUR_BYTES = 4 * 1024 * 1024
"""Reads of one reader arrive out of order, by as much as the kernel reads ahead."""
RETRY_S = 60.0
"""What could not be assembled is not tried again before."""
BUSY_RETRY_S = 1.0
END_TIMEOUT_S = 2.0
"""How long the end waits for what is being assembled to be put away; else the next one who makes room does it."""
MOST_WAITING = 64
"""Files that wait to be assembled; more are read from chunks until somebody asks again."""


@dataclass(slots=True)
class Figures:
    """What was done so far. Counted without a lock: nobody decides anything by it."""

    opens_from_chunks: int = 0
    opens_from_cache: int = 0
    files: int = 0
    """That were assembled."""
    size_bytes: int = 0
    """Of these."""


class _Content:
    """One content that is open, however often and under whatever names."""

    def __init__(self, reader: FileReader) -> None:
        self.reader = reader
        self.opens = 0
        self.file: CachedFile | None = None
        self.assembly: Assembly | None = None
        self.is_wanted = False
        """It is being assembled, or waits for it."""
        self._read_bytes = 0
        self._row_bytes = 0
        self._row_stop = 0

    def begin(self, assembly: Assembly) -> None:
        """It can be read from while it is assembled."""
        self.assembly = assembly

    def note(self, offset: int, size: int) -> bool:
        """Somebody read this from chunks; True when that is enough to want the whole. Exactness matters to nobody, so
        there is no lock."""
        self._read_bytes += size
        if abs(offset - self._row_stop) <= NEIGHBOUR_BYTES:
            self._row_bytes += size
            self._row_stop = max(self._row_stop, offset + size)
        else:
            self._row_bytes, self._row_stop = size, offset + size
        part = self.reader.size_bytes // ENOUGH_PART
        return self._row_bytes >= min(ENOUGH_BYTES, part) or self._read_bytes >= part


class HydratingReader:
    """An open file of a mount. Thread-safe but for `close`, which is called once, when nobody reads any more."""

    def __init__(self, hydration: Hydration, content: _Content) -> None:
        """Made by `Hydration.open`."""
        self._hydration = hydration
        self._content = content

    def read_at(self, offset: int, size: int) -> bytes:
        """As `FileReader.read_at`."""
        return b"".join(self.parts_at(offset, size))

    def parts_at(self, offset: int, size: int) -> list[Bytes]:
        """As `FileReader.parts_at`, from wherever the bytes are nearest."""
        content = self._content
        if content.file is not None:
            data = self._hydration.from_cache(lambda: self._cached(offset, size))
            if data is not None:
                return [data]
        assembly = content.assembly
        if assembly is not None:
            parts = assembly.parts_at(offset, size)
            if parts is not None:
                return parts
        parts = content.reader.parts_at(offset, size)
        if not content.is_wanted and content.note(offset, sum(map(len, parts))):
            self._hydration.want(content)
        return parts

    def hydrated(self) -> CachedFile | None:
        """The same bytes as a plain file, if there is one that is still what was verified."""
        return None if self._content.file is None else self._hydration.from_cache(self._intact)

    def _intact(self) -> CachedFile | None:
        file = self._content.file
        if file is None or file.is_intact():
            return file
        self._content.file = None  # closed when the last thread that reads it is done
        _log.warning("%s is no longer what was verified: reading on from chunks", file.path)
        return None

    def _cached(self, offset: int, size: int) -> bytes | None:
        file = self._intact()
        return None if file is None else _read_cached(file, offset, size, self._content.reader.size_bytes)

    def close(self) -> None:
        """Let go of the content."""
        self._hydration.release(self._content)


def _read_cached(file: CachedFile, offset: int, size: int, file_bytes: int) -> bytes | None:
    try:
        data = file.read_at(offset, size)
    except OSError as error:
        _log.warning("%s cannot be read, reading on from chunks: %s", file.path, error)
        return None
    return data if len(data) == max(0, min(size, file_bytes - offset)) else None


class Hydration:
    """Opens the files of a repository, and assembles those that are worth it."""

    def __init__(self, handle: RepositoryHandle, cache: FileCache | None, patience: Patience | None = None) -> None:
        """Without a cache everything is read from chunks; with `patience` also while the cache does not answer."""
        self._handle = handle
        self._patience = patience
        self.cache = cache
        self._contents: dict[tuple[bytes, bool], _Content] = {}
        self._lock = threading.Lock()
        self._refused: LruCache[tuple[bytes, bool], float] = LruCache(1024)
        """Until when a content is not tried again."""
        self._waiting: queue.Queue[_Content | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._complaint = ""
        self._refusal = ""
        """Why the last file that was tried could not be assembled; empty when one could be."""
        self.figures = Figures()

    def open(self, entry: Entry) -> HydratingReader:
        """A reader of `entry`; the caller closes it. Raises `WrongKindError`."""
        key = (entry.digest, entry.executable)
        with self._lock:
            content = self._contents.get(key)
            if content is None:
                content = self._contents[key] = _Content(FileReader(self._handle, entry))
            content.opens += 1
        if self.cache is not None and not content.is_wanted and entry.size_bytes:
            cache = self.cache
            self.from_cache(lambda: self._look(cache, content))
        if content.file is None:
            self.figures.opens_from_chunks += 1
        else:
            self.figures.opens_from_cache += 1
        return HydratingReader(self, content)

    def release(self, content: _Content) -> None:
        """One open less."""
        with self._lock:
            content.opens -= 1
            assembly = None if content.opens else content.assembly
            unused = self._forget_unused(content)
        if assembly is not None:
            assembly.reader_left()
        del unused  # which closes it, and that may take its time

    def from_cache(self, do: Callable[[], T]) -> T | None:
        """What `do` finds in the cache; None also where the cache does not answer."""
        if self.cache is None or self._patience is None:
            return do()
        try:
            return self._patience.wait_for_cache(str(self.cache.folder), do)
        except StorageError as error:
            self._complain(error)
            return None

    def want(self, content: _Content) -> None:
        """Have a content assembled, if it can be."""
        entry = content.reader.entry
        if self.cache is None or self._is_closing or not SMALLEST_BYTES <= entry.size_bytes <= self.cache.limit_bytes:
            return
        if (self._refused.get((entry.digest, entry.executable)) or 0.0) > time.monotonic():
            return
        with self._lock:
            if content.is_wanted or content.file is not None:
                return
            try:
                self._waiting.put_nowait(content)
            except queue.Full:
                return
            content.is_wanted = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="hydration", daemon=True)
                self._thread.start()

    @property
    def waiting(self) -> int:
        """How many files wait to be assembled."""
        return self._waiting.qsize()

    def close(self) -> None:
        """Assemble no more, and leave nothing half done."""
        self._is_closing = True
        with self._lock:
            thread = self._thread
        if thread is not None:
            try:
                self._waiting.put_nowait(None)
            except queue.Full:
                pass  # it looks at `_is_closing` after each
            thread.join(END_TIMEOUT_S)

    def _look(self, cache: FileCache, content: _Content) -> None:
        """Look for the file in the cache; what is there but unverified in this boot is verified in the background."""
        file = content.file
        if file is not None and file.is_intact():
            return
        entry = content.reader.entry
        try:
            content.file = cache.find(entry, verify=False)
            if content.file is None and cache.has(entry):
                self.want(content)
        except (MoorageError, OSError) as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        if self._complaint != str(error):
            self._complaint = str(error)
            _log.warning("the cache cannot be read: %s", error)

    def _forget_unused(self, content: _Content) -> CachedFile | None:
        """Under the lock; the file that nobody needs any more, which the caller drops outside of it."""
        if content.opens or content.is_wanted:
            return None
        file, content.file = content.file, None
        entry = content.reader.entry
        self._contents.pop((entry.digest, entry.executable), None)
        return file

    # -- in the background -------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._is_closing:
            content = self._waiting.get()
            if content is None:
                return
            try:
                self._hydrate(content)
            except Exception:  # noqa: BLE001 - the next one may go well
                _log.exception("a file was not hydrated")
            with self._lock:
                content.assembly = None
                content.is_wanted = False
                unused = self._forget_unused(content)
            del unused

    def _hydrate(self, content: _Content) -> None:
        assert self.cache is not None
        entry = content.reader.entry
        refused_s = BUSY_RETRY_S
        begun = time.monotonic()
        if content.opens:
            try:
                content.file = try_hydrate(
                    self._handle,
                    self.cache,
                    entry,
                    begun=content.begin,
                    keep_going=self._keeps_going(content),
                )
            except (MoorageError, OSError) as error:
                if str(error) != self._refusal:  # a full disk says the same of each file
                    self._refusal = str(error)
                    _log.warning("%s is not hydrated, reads go on from chunks: %s", entry.name, error)
                refused_s = RETRY_S
            if content.file is not None:
                self._refusal = ""
                self.figures.files += 1
                self.figures.size_bytes += entry.size_bytes
                _log.info("%s is hydrated: %d bytes in %.1f s", entry.name, entry.size_bytes, time.monotonic() - begun)
                return
        self._refused.put((entry.digest, entry.executable), time.monotonic() + refused_s)

    def _keeps_going(self, content: _Content) -> Callable[[], bool]:
        """Whether to go on: while somebody has it open, or when more than half is done."""

        def keeps_going() -> bool:
            if self._is_closing:
                return False
            if content.opens:
                return True
            assembly = content.assembly
            return assembly is not None and assembly.left_bytes <= content.reader.size_bytes // 2

        return keeps_going
