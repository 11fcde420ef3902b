"""How is a whole file read as fast as all cores decode it, in bounded memory? In pieces, a few ahead of the reader."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from moorage.errors import DataError
from moorage.read.file import FileReader

PIECE_BYTES = 4 * 1024 * 1024
_MOST_THREADS = 16


def pieces(reader: FileReader, piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
    """All bytes of a file, in order, verified; of a damaged one, those before the damage.

    At most twice as many pieces as there are threads, and one, are in memory. Raises `DataError`, `StorageError`.
    """
    done = 0
    try:
        for piece in _pieces(reader, piece_bytes):
            done += len(piece)
            yield piece
    except DataError:
        yield from _before_damage(reader, done, min(done + piece_bytes, reader.size_bytes))
        raise


def _before_damage(reader: FileReader, start: int, stop: int) -> Iterator[bytes]:
    """What of a piece can be read, chunk by chunk: the whole of it fails with its first damaged chunk."""
    with contextlib.suppress(DataError):
        for end in reader.chunk_ends(start, stop):
            yield reader.read_at(start, end - start)
            start = end


def _pieces(reader: FileReader, piece_bytes: int) -> Iterator[bytes]:
    if reader.size_bytes <= piece_bytes:
        if reader.size_bytes:
            yield reader.read_at(0, reader.size_bytes)
        return
    workers = min(os.cpu_count() or 1, _MOST_THREADS)
    with ThreadPoolExecutor(workers, thread_name_prefix="moorage-read") as pool:
        ahead: deque[Future[bytes]] = deque()
        try:
            for start in range(0, reader.size_bytes, piece_bytes):
                ahead.append(pool.submit(reader.read_at, start, piece_bytes))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
