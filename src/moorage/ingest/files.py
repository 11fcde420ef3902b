"""How do files become entries, on all cores, in bounded memory?

One thread (the caller's) reads large files span by span and cuts them, in order; one more hashes them whole; spans
then go to a pool that stores their chunks. Small files go, in batches, to a thread of their own. What was handed out is
taken back in order, so that recipes are written as they grow, and a fixed number of spans is in memory.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import BinaryIO, Self

from blake3 import blake3

from moorage.chunking import Chunker, chunker_for
from moorage.format.choose import Chooser
from moorage.index.stat_cache import FileIdentity
from moorage.ingest.buffers import BufferPool
from moorage.ingest.reading import TRIES, fill, opened, read_into, unchanged, unreadable, unsteady
from moorage.ingest.scan import FoundFile, identity_of
from moorage.ingest.small import HEAD_BYTES, SmallFiles, StoredFile, recipe_of
from moorage.ingest.spans import store_span
from moorage.model.digest import ContentDigest
from moorage.model.progress import Progress
from moorage.repository.tree_writer import RecipeWriter
from moorage.repository.writer import ObjectWriter

SPAN_BYTES = 4 * 1024 * 1024
LARGE_BYTES = 1024 * 1024
"""Files from this size are read by the calling thread, span by span."""
_BATCH_FILES = 128
_BUFFERS_BYTES = 128 * 1024 * 1024
"""In all spans together, however many cores there are."""


class FileStorer:
    """Stores files through one transaction. A context manager; one thread calls its methods."""

    def __init__(self, writer: ObjectWriter, progress: Progress) -> None:
        """The pool has one thread a core that this process may use."""
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        chunking = writer.config.chunking
        span = max(SPAN_BYTES, 2 * chunking.max_bytes)
        self._writer = writer
        self._progress = progress
        self._in_flight_limit = min(2 * workers + 2, max(3, _BUFFERS_BYTES // span - 2))
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="moorage-ingest")
        # One thread: of a small file Python does most of the work, and two threads that pass the GIL to and fro for
        # every system call are slower than one (20,000 files: 2.7 s against 1.7 s).
        self._small_pool = ThreadPoolExecutor(1, thread_name_prefix="moorage-ingest-small")
        self._small_files = SmallFiles(writer)
        # One thread, so that spans are hashed in order. It need not be the one that reads and cuts, which is what all
        # others wait for.
        self._hash_pool = ThreadPoolExecutor(1, thread_name_prefix="moorage-ingest-hash")
        self._buffers = BufferPool(self._in_flight_limit + 2, span)
        self._in_flight: deque[tuple[Future[object], Callable[[object], None]]] = deque()

    def store(self, files: Iterable[FoundFile], done: Callable[[FoundFile, StoredFile], None]) -> None:
        """Store files; `done` is called in this thread, in order, as each is stored.

        Raises `SourceChangedError`, `UnreadableSourceError`, `StorageError`.
        """
        batch: list[FoundFile] = []
        batch_bytes = 0
        for file in files:
            if file.identity.size_bytes >= LARGE_BYTES:
                self._submit_batch(batch, done)
                batch, batch_bytes = [], 0
                self._large(file, done)
                continue
            batch.append(file)
            batch_bytes += file.identity.size_bytes
            if batch_bytes >= SPAN_BYTES or len(batch) >= _BATCH_FILES:
                self._submit_batch(batch, done)
                batch, batch_bytes = [], 0
        self._submit_batch(batch, done)
        self._settle(0)

    def store_stream(self, stream: BinaryIO, name: str) -> StoredFile:
        """Store what a stream still holds. Raises `StorageError`, and whatever reading the stream raises."""
        result: list[StoredFile] = []
        self._spans(partial(read_into, stream), name, None, result.append)
        self._settle(0)
        return result[0]

    # -- small files -----------------------------------------------------------------------------------

    def _submit_batch(self, batch: Sequence[FoundFile], done: Callable[[FoundFile, StoredFile], None]) -> None:
        if not batch:
            return

        def deliver(stored: object) -> None:
            assert isinstance(stored, list)
            self._progress.advance(size_bytes=sum(result.size_bytes for result in stored), files=len(batch))
            for file, result in zip(batch, stored, strict=True):
                done(file, result)

        self._submit(self._small_pool.submit(self._small_files.store, batch), deliver)

    # -- large files and streams -----------------------------------------------------------------------

    def _large(self, file: FoundFile, done: Callable[[FoundFile, StoredFile], None]) -> None:
        for _ in range(TRIES):
            with opened(file) as source:
                before = identity_of(os.fstat(source.fileno()))
                check = partial(unchanged, source.fileno(), before)
                try:
                    finished = self._spans(source.readinto, file.name, check, partial(done, file))
                except OSError as error:
                    raise unreadable(file, error) from error
            if finished:
                self._progress.advance(files=1)
                return
        raise unsteady(file)

    def _spans(
        self,
        readinto: Callable[[memoryview], int],
        name: str,
        check: Callable[[int], FileIdentity | None] | None,
        deliver: Callable[[StoredFile], None],
    ) -> bool:
        """Read to the end, handing spans to the pool; `deliver` is called when the last is stored.

        False, and `deliver` is never called, when `check`, at the end, does not vouch for what was read.
        """
        hasher = blake3()
        recipe = RecipeWriter(self._writer)
        chooser = Chooser(self._writer.config.compression_level)
        chunker: Chunker | None = None
        buffer = self._buffers.take()
        held = total = 0
        while True:
            got, final = fill(readinto, memoryview(buffer)[held:])
            hashed = self._hash_pool.submit(hasher.update, memoryview(buffer)[held : held + got])
            total += got
            stop = held + got
            chunker = chunker or chunker_for(self._writer.config.chunking, name, bytes(buffer[: min(stop, HEAD_BYTES)]))
            ends = chunker.cut(memoryview(buffer)[:stop], final=final)
            spent = ends[-1] if ends else 0
            following = None if final else self._buffers.take()
            held = stop - spent
            if following is not None:
                following[:held] = memoryview(buffer)[spent:stop]
            self._submit_span(buffer, ends, total - stop, chooser, recipe, hashed)
            self._progress.advance(size_bytes=got)
            if following is None:
                break
            buffer = following
        identity = check(total) if check is not None else None
        if check is not None and identity is None:
            self._settle(0)
            self._progress.advance(size_bytes=-total)
            return False
        hashed.result()
        digest = ContentDigest(hasher.digest())
        self._after_in_flight(lambda: deliver(StoredFile(digest, recipe_of(recipe), total, identity)))
        return True

    def _submit_span(
        self,
        buffer: bytearray,
        ends: Sequence[int],
        offset: int,
        chooser: Chooser,
        recipe: RecipeWriter,
        hashed: Future[blake3],
    ) -> None:
        def work() -> object:
            try:
                return store_span(memoryview(buffer), ends, offset, self._writer, chooser) if ends else []
            finally:
                hashed.result()  # by now it nearly always has been
                self._buffers.give_back(buffer)

        def deliver(chunks: object) -> None:
            assert isinstance(chunks, list)
            for id, size in chunks:
                recipe.add(id, size)

        self._submit(self._pool.submit(work), deliver)

    # -- order -----------------------------------------------------------------------------------------

    def _submit(self, future: Future[object], deliver: Callable[[object], None]) -> None:
        self._in_flight.append((future, deliver))
        self._settle(self._in_flight_limit - 1)

    def _after_in_flight(self, call: Callable[[], None]) -> None:
        """Call `call` when all that is in flight now has been delivered."""
        marker: Future[object] = Future()
        marker.set_result(None)
        self._in_flight.append((marker, lambda _: call()))

    def _settle(self, left: int) -> None:
        """Deliver what was handed out, in order, until at most `left` are in flight."""
        while len(self._in_flight) > left:
            future, deliver = self._in_flight.popleft()
            deliver(future.result())

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what runs; what has not started never does."""
        for pool in (self._pool, self._hash_pool, self._small_pool):
            pool.shutdown(wait=True, cancel_futures=True)
