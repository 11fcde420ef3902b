"""How are files brought into the cache before anybody asks for them?

Each content once, whatever its names. What is there already is marked as just used, so that it is not what goes when
room is needed; what is still missing follows, small files several at a time, a large one on all cores. Of more than the
cache holds, the first ones named are taken and the others left out: bringing in one by throwing out another of the same
list would help nobody.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from moorage.model.progress import SILENT, Progress
from moorage.model.tree import Entry, EntryKind
from moorage.read.cache import FileCache, charge
from moorage.read.cached_file import PIECE_BYTES
from moorage.read.hydrate import hydrate
from moorage.read.resolve import Located
from moorage.repository.handle import RepositoryHandle
from moorage.storage.os_errors import translated

_MOST_THREADS = 16


@dataclass(frozen=True, slots=True)
class WarmResult:
    """What is in the cache now."""

    files: int
    """Different ones that were asked for."""
    size_bytes: int
    hydrated_files: int
    """Those that were not there before."""
    hydrated_bytes: int
    left_out: tuple[str, ...]
    """Paths of files for which there was no room, and which were not there before."""


def warm(
    handle: RepositoryHandle, cache: FileCache, places: Iterable[Located], progress: Progress = SILENT
) -> WarmResult:
    """Bring every file at or below `places` into `cache`.

    Raises `DataError`, `StorageError`, and `StorageFullError` where the disk is full, or the cache is, of files in use.
    """
    wanted = _distinct(handle, places)
    chosen, left_out = _fitting(cache, wanted)
    with translated("use the cache", str(cache.folder)):
        missing = [entry for entry in chosen if not _is_there(cache, entry)]
    progress.begin("hydrating", total_bytes=sum(entry.size_bytes for entry in missing), total_files=len(missing))

    def bring(entry: Entry) -> None:
        hydrate(handle, cache, entry, progress).close()
        progress.advance(files=1)

    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS), thread_name_prefix="moorage-warm") as pool:
        jobs = [pool.submit(bring, entry) for entry in missing if entry.size_bytes <= PIECE_BYTES]
        try:
            for job in jobs:
                job.result()
        finally:
            pool.shutdown(cancel_futures=True)
    for entry in missing:
        if entry.size_bytes > PIECE_BYTES:
            bring(entry)
    progress.finish()
    return WarmResult(
        files=len(wanted),
        size_bytes=sum(entry.size_bytes for _, entry in wanted),
        hydrated_files=len(missing),
        hydrated_bytes=sum(entry.size_bytes for entry in missing),
        left_out=tuple(path for path, entry in left_out if not _is_there(cache, entry)),
    )


def _distinct(handle: RepositoryHandle, places: Iterable[Located]) -> list[tuple[str, Entry]]:
    """Every file with a path of it, each content once, in the order in which they were named."""
    found: dict[tuple[bytes, bool], tuple[str, Entry]] = {}
    for place in places:
        for path, entry in _files(handle, place):
            if entry.size_bytes:
                found.setdefault((entry.digest, entry.executable), (path, entry))
    return list(found.values())


def _files(handle: RepositoryHandle, place: Located) -> Iterator[tuple[str, Entry]]:
    if place.entry is not None and place.entry.kind is not EntryKind.DIRECTORY:
        yield place.path, place.file
        return
    for path, entry in handle.trees.walk(place.tree, place.path):
        if entry.kind is EntryKind.FILE:
            yield path, entry


def _fitting(cache: FileCache, wanted: list[tuple[str, Entry]]) -> tuple[list[Entry], list[tuple[str, Entry]]]:
    """Those that fit together, and the others."""
    chosen: list[Entry] = []
    left_out: list[tuple[str, Entry]] = []
    room = cache.usable_bytes
    for path, entry in wanted:
        taken = charge(entry.size_bytes)
        if taken <= room:
            room -= taken
            chosen.append(entry)
        else:
            left_out.append((path, entry))
    return chosen, left_out


def _is_there(cache: FileCache, entry: Entry) -> bool:
    found = cache.find(entry, verify=True)
    if found is not None:
        found.close()
    return found is not None
