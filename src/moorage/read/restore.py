"""How do many files get their bytes at once, as fast as the disk takes them, in bounded memory?

The work is cut into jobs of about 4 MiB: a span of one large file, or a batch of small ones whose chunks lie side by
side in a pack. Reading, decoding, hashing and writing release the GIL, so a pool of threads uses all cores. The thread
that plans runs only a few jobs ahead; a file of any size is never more than a few spans in memory.

A chunk of zeros is known by its id: it is not read, and becomes a hole.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Self

from moorage.errors import CorruptDataError
from moorage.format.recipe import decode_recipe
from moorage.format.stored import Bytes
from moorage.model.digest import ChunkId, RecipeId
from moorage.model.objects import PackLocation
from moorage.model.progress import Progress
from moorage.read.checkout_plan import Planned
from moorage.read.file import FileReader
from moorage.read.target import NewFile, TargetTree
from moorage.repository.handle import RepositoryHandle

SPAN_BYTES = 4 * 1024 * 1024
"""Raw bytes of one job, if no single chunk is longer."""
_BATCH_CHUNKS = 1_024
_BATCH_FILES = 256
_MEMORY_BYTES = 256 * 1024 * 1024
_MAX_WORKERS = 16

Chunks = list[tuple[ChunkId, int]]
"""(chunk, raw bytes), in order."""


@dataclass(frozen=True, slots=True)
class _SmallFile:
    planned: Planned
    chunks: Chunks


@dataclass(slots=True)
class _LargeFile:
    """A file that several jobs write."""

    output: NewFile
    left_bytes: int
    """Not written yet; whoever brings it to 0 publishes the file."""


class Restorer:
    """Writes files into a target. A context manager: leaving it before `finish` stops the work and discards halves."""

    def __init__(self, handle: RepositoryHandle, target: TargetTree, progress: Progress) -> None:
        """Starts threads as they are needed."""
        self._handle = handle
        self._target = target
        self._progress = progress
        chunking = handle.config.chunking
        # A job holds its bytes stored, decoded and on their way out.
        held = 3 * max(SPAN_BYTES, chunking.max_bytes)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = max(1, min(cores, _MAX_WORKERS, _MEMORY_BYTES // held))
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="moorage-checkout")
        self._ahead = 2 * workers
        self._jobs: deque[Future[None]] = deque()
        self._lock = threading.Lock()
        self._large: set[NewFile] = set()
        self._zeros = ChunkId.of(bytes(chunking.max_bytes))

    # -- planning --------------------------------------------------------------------------------------

    def restore(self, files: Sequence[Planned]) -> None:
        """Write these files; their directories exist. Returns when the last of them are under way."""
        small = [planned for planned in files if planned.entry.size_bytes <= SPAN_BYTES]
        for batch in self._batches(small):
            self._submit(partial(self._write_small, batch))
        for planned in files:
            if planned.entry.size_bytes > SPAN_BYTES:
                self._restore_large(planned)

    def _restore_large(self, planned: Planned) -> None:
        output = self._target.create(planned.folder, planned.entry)
        file = _LargeFile(output, planned.entry.size_bytes)
        with self._lock:
            self._large.add(output)
        for offset, chunks in _spans(FileReader(self._handle, planned.entry).chunks()):
            self._submit(partial(self._write_span, file, offset, chunks))

    def _batches(self, files: Sequence[Planned]) -> Iterator[list[_SmallFile]]:
        """Small files in the order in which their bytes lie in packs, in jobs."""
        listed = self._in_pack_order([_SmallFile(planned, chunks) for planned, chunks in self._chunks_of(files)])
        batch: list[_SmallFile] = []
        size = chunks = 0
        for file in listed:
            file_bytes = file.planned.entry.size_bytes
            full = size + file_bytes > SPAN_BYTES or chunks + len(file.chunks) > _BATCH_CHUNKS
            if batch and (full or len(batch) >= _BATCH_FILES):
                yield batch
                batch, size, chunks = [], 0, 0
            batch.append(file)
            size += file_bytes
            chunks += len(file.chunks)
        if batch:
            yield batch

    def _chunks_of(self, files: Sequence[Planned]) -> Iterator[tuple[Planned, Chunks]]:
        """Each file with its chunks; recipes are read many at a time."""
        for start in range(0, len(files), _BATCH_FILES):
            batch = files[start : start + _BATCH_FILES]
            ids = [planned.entry.object for planned in batch if isinstance(planned.entry.object, RecipeId)]
            raws = self._handle.objects.get_many(ids)
            recipes = {id: decode_recipe(bytes(raw)) for id, raw in zip(ids, raws, strict=True)}
            for planned in batch:
                entry = planned.entry
                recipe = recipes.get(entry.object) if isinstance(entry.object, RecipeId) else None
                if recipe is None:
                    yield planned, [(ChunkId(entry.digest), entry.size_bytes)] if entry.size_bytes else []
                elif recipe.level == 0 and recipe.size_bytes == entry.size_bytes:
                    yield planned, list(recipe.chunks())
                else:
                    yield planned, list(FileReader(self._handle, entry).chunks())

    def _in_pack_order(self, files: Sequence[_SmallFile]) -> list[_SmallFile]:
        filled = [file for file in files if file.chunks]
        places = self._handle.locator.find([file.chunks[0][0] for file in filled])
        order = sorted(range(len(filled)), key=lambda number: _place(places[number]))
        return [file for file in files if not file.chunks] + [filled[number] for number in order]

    # -- running ---------------------------------------------------------------------------------------

    def _submit(self, job: Callable[[], None]) -> None:
        while len(self._jobs) >= self._ahead:
            self._jobs.popleft().result()
        self._jobs.append(self._pool.submit(job))

    def finish(self) -> None:
        """Wait for everything. Raises what a job raised."""
        while self._jobs:
            self._jobs.popleft().result()

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; discard what is not whole."""
        self._pool.shutdown(cancel_futures=True)
        for output in self._large:
            output.discard()

    # -- jobs ------------------------------------------------------------------------------------------

    def _write_small(self, files: Sequence[_SmallFile]) -> None:
        data = self._fetch([chunk for file in files for chunk in file.chunks])
        for file in files:
            parts = [data[id] for id, _ in file.chunks]
            self._target.write_file(file.planned.folder, file.planned.entry, parts)
        self._progress.advance(size_bytes=sum(file.planned.entry.size_bytes for file in files), files=len(files))

    def _write_span(self, file: _LargeFile, offset: int, chunks: Chunks) -> None:
        data = self._fetch([chunk for chunk in chunks if chunk[0] != self._zeros])
        run: list[Bytes] = []
        start = position = offset
        for id, size in chunks:
            if id == self._zeros:
                file.output.write(start, run)
                run, start = [], position + size
            else:
                run.append(data[id])
            position += size
        file.output.write(start, run)
        with self._lock:
            file.left_bytes -= position - offset
            is_whole = not file.left_bytes
        if is_whole:
            file.output.publish()
            with self._lock:
                self._large.discard(file.output)
        self._progress.advance(size_bytes=position - offset, files=int(is_whole))

    def _fetch(self, chunks: Chunks) -> dict[ChunkId, Bytes]:
        """The verified bytes of each chunk, once."""
        sizes = dict(chunks)
        ids = list(sizes)
        data = dict(zip(ids, self._handle.objects.get_many(ids), strict=True))
        for id, size in sizes.items():
            if len(data[id]) != size:
                raise CorruptDataError(f"chunk {id.hex()} is not as long as its recipe says", id=id.hex())
        return data


def _place(location: PackLocation) -> tuple[bytes, int]:
    return location.pack, location.offset_bytes


def _spans(chunks: Iterator[tuple[ChunkId, int]]) -> Iterator[tuple[int, Chunks]]:
    """(offset, chunks) of about `SPAN_BYTES` each."""
    offset = size = 0
    span: Chunks = []
    for chunk in chunks:
        if span and (size + chunk[1] > SPAN_BYTES or len(span) >= _BATCH_CHUNKS):
            yield offset, span
            offset, size, span = offset + size, 0, []
        span.append(chunk)
        size += chunk[1]
    if span:
        yield offset, span
