"""How is a whole file read as fast as all cores decode it, in bounded memory? In pieces, a few ahead of the reader."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from moorage.read.file import FileReader

PIECE_BYTES = 4 * 1024 * 1024
_MOST_THREADS = 16


def pieces(reader: FileReader, piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
    """All bytes of a file, in order, verified.

    At most twice as many pieces as there are threads, and one, are in memory. Raises `DataError`, `StorageError`.
    """
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
