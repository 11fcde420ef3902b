"""A mount that hands out bytes which it has in memory, read from nowhere and verified by nobody.

    python benchmarks/from_memory.py REPOSITORY REVISION DIR

It shows the revision's tree, served by the same threads as any mount; only what is in its files is made up. So it tells
what the kernel, the reader and the way between them cost, whatever the bytes cost. Used by bench_limit.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from moorage.format.stored import Bytes
from moorage.mount.driver import Place
from moorage.mount.kernel.serve import serve
from moorage.mount.shown.following import Fixed, Standing
from moorage.mount.shown.view import View
from moorage.read.cached_file import CachedFile
from moorage.read.resolve import resolve
from moorage.repository.handle import RepositoryHandle

_MOST_BYTES = 1024 * 1024
"""Of one request."""
_BLOCK = memoryview(os.urandom(16 * 1024 * 1024 + _MOST_BYTES))
"""As much as lies about, just decoded, while a mount serves: more than a core's own cache holds."""


class MadeUp:
    """An open file; see `shown.view.Reader`."""

    def __init__(self, size_bytes: int) -> None:
        """So long."""
        self._size_bytes = size_bytes

    def read_at(self, offset: int, size: int) -> bytes:
        """Anything, of the right length."""
        return b"".join(self.parts_at(offset, size))

    def parts_at(self, offset: int, size: int) -> list[Bytes]:
        """Anything, of the right length."""
        at = offset % (len(_BLOCK) - _MOST_BYTES)
        return [_BLOCK[at : at + max(0, min(size, self._size_bytes - offset))]]

    def hydrated(self) -> CachedFile | None:
        """It is not."""
        return None

    def close(self) -> None:
        """Nothing is held."""


def main(repository: str, revision: str, mountpoint: str) -> None:
    """Serve until it is unmounted."""
    handle = RepositoryHandle.open(Path(repository))
    resolved = resolve(handle, revision)
    root = Fixed(Standing.at(resolved.id, resolved.snapshot))
    view = View(handle.trees, lambda entry: MadeUp(entry.size_bytes), root)
    serve(view, Place(os.path.realpath(mountpoint), f"{repository}#{revision}"), lambda _: None)


if __name__ == "__main__":
    main(*sys.argv[1:])
