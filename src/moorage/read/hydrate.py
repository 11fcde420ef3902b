"""How does a file of the repository become one plain local file, verified, and who does it when several want it?

`cache` says where the files lie and what keeps them whole; `assembly` writes one. Whoever finds that another process is
already writing the same file waits for it, or, as a mount does, reads on from chunks.
"""

from __future__ import annotations

from collections.abc import Callable

from moorage.errors import StorageError, StorageFullError
from moorage.model.progress import SILENT, Progress
from moorage.model.tree import Entry
from moorage.read.assembly import Assembly
from moorage.read.cache import FileCache, Part, Refusal
from moorage.read.cached_file import CachedFile
from moorage.read.file import FileReader
from moorage.repository.handle import RepositoryHandle
from moorage.storage.os_errors import translated


def hydrate(handle: RepositoryHandle, cache: FileCache, entry: Entry, progress: Progress = SILENT) -> CachedFile:
    """A verified local copy of `entry`, which is a file; held until it is closed.

    Raises `WrongKindError`, `DataError`, `StorageError`, `StorageFullError` (the disk is full, or the cache is, of
    files in use).
    """
    reader = FileReader(handle, entry)
    with translated("use the cache", str(cache.folder)):
        while True:
            found = cache.find(entry, verify=True)
            if found is not None:
                return found
            part = cache.reserve(entry)
            if isinstance(part, Part):
                made = _assemble(reader, cache, part, None, lambda: True, progress)
                assert made is not None  # nothing stops it
                return made
            if part is not Refusal.BUSY:
                raise _no_room(cache, entry, part)
            cache.wait(entry)


def try_hydrate(
    handle: RepositoryHandle,
    cache: FileCache,
    entry: Entry,
    *,
    begun: Callable[[Assembly], None],
    keep_going: Callable[[], bool],
) -> CachedFile | None:
    """As `hydrate`, but None where another process is at it, where there is no room, and when `keep_going` says no.

    `begun` is called with what can be read from while it is assembled. Raises as `hydrate`.
    """
    with translated("use the cache", str(cache.folder)):
        found = cache.find(entry, verify=True)
        if found is not None:
            return found
        part = cache.reserve(entry)
        if not isinstance(part, Part):
            return None
        return _assemble(FileReader(handle, entry), cache, part, begun, keep_going, SILENT)


def _assemble(
    reader: FileReader,
    cache: FileCache,
    part: Part,
    begun: Callable[[Assembly], None] | None,
    keep_going: Callable[[], bool],
    progress: Progress,
) -> CachedFile | None:
    """Assemble `part`, which this takes over; it is only read meanwhile by whom `begun` tells."""
    try:
        # Somebody may have finished it between the look into the cache and the claim; what stat said of it may not be
        # written yet, so it is hashed rather than assembled once more.
        found = cache.find(part.entry, verify=True)
        if found is None:
            assembly = Assembly(reader, part, is_read_meanwhile=begun is not None)
            if begun is not None:
                begun(assembly)
            if assembly.run(keep_going, progress):
                return part.publish()
    except BaseException:
        part.discard()
        raise
    part.discard()
    return found


def _no_room(cache: FileCache, entry: Entry, why: Refusal) -> StorageError:
    if why is Refusal.FULL:
        return StorageFullError(
            f"the cache in {cache.folder}, of {cache.limit_bytes} bytes, is full of files in use",
            hint="give it more room, or wait until they are closed",
        )
    return StorageError(
        f"{entry.size_bytes} bytes do not fit into the cache in {cache.folder}, which may hold {cache.limit_bytes}",
        hint="read it through repo.open or a mount, give the cache more room, or set XDG_CACHE_HOME to a larger disk",
    )
