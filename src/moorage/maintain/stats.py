"""How much is in a repository, and what do deduplication and compression save?

Of the whole repository, or of one revision. `du` of a repository says neither how much data it stands for nor what a
branch costs; this does.

    logical bytes     what all versions would take as plain files
    unique bytes      what is left of that when each chunk is counted once
    stored bytes      what that takes on disk, compressed, in packs

Every chunk in the packs counts, also one that no ref leads to any more and that only a collection would remove.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from moorage.errors import DataError, FormatError
from moorage.format.keys import INDEX_PREFIX, PACKS_PREFIX, REFS_PREFIX, parse_pack_key
from moorage.maintain.distinct import DistinctIds
from moorage.model.digest import ChunkId, RecipeId, SnapshotId, TreeId
from moorage.model.objects import ObjectKind
from moorage.model.refs import RefKind
from moorage.model.snapshot import Snapshot
from moorage.model.tree import Entry, EntryKind
from moorage.packs.reader import read_entries
from moorage.repository.handle import RepositoryHandle

_BATCH = 4096


class Revision(Protocol):
    """A revision that has been resolved; `moorage.read.resolve.Resolved` is one."""

    @property
    def revision(self) -> str:
        """As it was asked for."""

    @property
    def snapshot(self) -> Snapshot:
        """What it names."""


@dataclass(frozen=True, slots=True)
class TreeStats:
    """What one tree costs."""

    logical_bytes: int
    """The sizes of its files together."""
    files: int
    """Paths of files, symlinks not counted."""
    chunks: int
    """Distinct ones that its files are made of."""
    unique_bytes: int
    """Their raw bytes."""
    stored_bytes: int
    """Their bytes on disk. What other trees share with this one is counted here too."""
    packs: int
    """In which those chunks lie."""


@dataclass(frozen=True, slots=True)
class BranchStats:
    """What the newest tree of one branch costs."""

    name: str
    snapshot: SnapshotId
    snapshots: int
    """In its history."""
    tree: TreeStats


@dataclass(frozen=True, slots=True)
class StoreStats:
    """How much there is. Of a revision, fields that only a repository has are None."""

    revision: str | None
    """As it was asked for; None for the whole repository."""
    logical_bytes: int
    """Of a revision, the size of its tree. Of the repository, the sizes of all distinct snapshots that a living branch
    or tag leads to, history included: what keeping each of them as a folder would take."""
    files: int
    """Paths of files in the same trees."""
    chunks: int
    """Distinct chunks: of a revision, those of its files; of the repository, those in its packs."""
    unique_bytes: int
    """Raw bytes of those chunks."""
    stored_chunk_bytes: int
    """Bytes of those chunks on disk; a chunk that lies in two packs counts once."""
    stored_bytes: int
    """Of the repository, the length of all packs: chunks, trees, recipes and snapshots, and the packs' own footers. Of
    a revision the same as `stored_chunk_bytes`."""
    packs: int
    snapshots: int
    """Of a revision 1; of the repository, those that count in `logical_bytes`."""
    index_bytes: int | None
    """Of index segments; the local index, which is derived, is not counted."""
    refs_bytes: int | None
    """Of all ref records."""
    branches: int | None
    tags: int | None
    by_branch: tuple[BranchStats, ...] = ()
    """Sorted by name; empty unless asked for."""

    @property
    def dedup_ratio(self) -> float:
        """How many times smaller counting each chunk once makes it; 1.0 where there is nothing."""
        return self.logical_bytes / self.unique_bytes if self.unique_bytes else 1.0

    @property
    def compression_ratio(self) -> float:
        """How many times smaller chunks are on disk; 1.0 where there is nothing."""
        return self.unique_bytes / self.stored_chunk_bytes if self.stored_chunk_bytes else 1.0

    @property
    def total_ratio(self) -> float:
        """Logical bytes for each byte of packs; 1.0 where there is nothing."""
        return self.logical_bytes / self.stored_bytes if self.stored_bytes else 1.0


def collect_stats(handle: RepositoryHandle, resolved: Revision | None = None, *, by_branch: bool = False) -> StoreStats:
    """Count the whole repository, or one revision.

    Reads every tree once, and for a revision or `by_branch` also recipes, but no chunk. Takes 32 to 64 bytes of memory
    a distinct chunk. Raises `DataError`, `FormatError`, `StorageError`.
    """
    if resolved is not None:
        tree = _tree_stats(handle, resolved.snapshot)
        return StoreStats(
            revision=resolved.revision,
            logical_bytes=tree.logical_bytes,
            files=tree.files,
            chunks=tree.chunks,
            unique_bytes=tree.unique_bytes,
            stored_chunk_bytes=tree.stored_bytes,
            stored_bytes=tree.stored_bytes,
            packs=tree.packs,
            snapshots=1,
            index_bytes=None,
            refs_bytes=None,
            branches=None,
            tags=None,
        )
    return _repository_stats(handle, by_branch=by_branch)


def _repository_stats(handle: RepositoryHandle, *, by_branch: bool) -> StoreStats:
    branches, tags = handle.refs.heads(RefKind.BRANCH), handle.refs.heads(RefKind.TAG)
    snapshots = _reachable(handle, (record.snapshot for record in branches + tags))
    counter = _FileCounter(handle)
    packs, pack_bytes, ids = _chunks_of_packs(handle)
    measured = _measure(handle, ids)
    return StoreStats(
        revision=None,
        logical_bytes=sum(snapshot.size_bytes for snapshot in snapshots.values()),
        files=sum(counter.count(snapshot.tree) for snapshot in snapshots.values()),
        chunks=measured.chunks,
        unique_bytes=measured.unique_bytes,
        stored_chunk_bytes=measured.stored_bytes,
        stored_bytes=pack_bytes,
        packs=packs,
        snapshots=len(snapshots),
        index_bytes=_total_bytes(handle, INDEX_PREFIX),
        refs_bytes=_total_bytes(handle, REFS_PREFIX),
        branches=len(branches),
        tags=len(tags),
        by_branch=tuple(
            BranchStats(
                record.ref.name,
                record.snapshot,
                len(_reachable(handle, [record.snapshot])),
                _tree_stats(handle, handle.objects.snapshot(record.snapshot)),
            )
            for record in (branches if by_branch else ())
        ),
    )


def _reachable(handle: RepositoryHandle, heads: Iterable[SnapshotId]) -> dict[SnapshotId, Snapshot]:
    """Every snapshot that a head leads to, once."""
    found: dict[SnapshotId, Snapshot] = {}
    pending = list(heads)
    while pending:
        id = pending.pop()
        if id not in found:
            found[id] = handle.objects.snapshot(id)
            pending += found[id].parents
    return found


def _total_bytes(handle: RepositoryHandle, prefix: str) -> int:
    return sum(info.size_bytes for info in handle.storage.list_keys(prefix))


class _FileCounter:
    """Counts files below trees; each distinct tree is read once, however many snapshots share it."""

    def __init__(self, handle: RepositoryHandle) -> None:
        self._handle = handle
        self._known: dict[TreeId, int] = {}

    def count(self, root: TreeId) -> int:
        """Without recursion, since a tree may be deeper than Python's stack: it waits until its children are known."""
        pending = [root]
        while pending:
            tree = pending[-1]
            if tree in self._known:
                pending.pop()
                continue
            files, unknown = self._look(tree)
            if unknown:
                pending += unknown
            else:
                self._known[tree] = files
        return self._known[root]

    def _look(self, tree: TreeId) -> tuple[int, list[TreeId]]:
        files = 0
        unknown: list[TreeId] = []
        for entry in self._handle.trees.entries(tree):
            if isinstance(entry.object, TreeId):
                below = self._known.get(entry.object)
                files += below or 0
                if below is None:
                    unknown.append(entry.object)
            else:
                files += entry.kind is EntryKind.FILE
        return files, unknown


def _chunks_of_packs(handle: RepositoryHandle) -> tuple[int, int, DistinctIds]:
    """(packs, their length, the chunks that their footers list); a pack that cannot be read has no chunks."""
    packs = pack_bytes = 0
    ids = DistinctIds()
    for info in handle.storage.list_keys(PACKS_PREFIX):
        try:
            pack = parse_pack_key(info.key)
        except FormatError:
            continue  # not ours
        packs += 1
        pack_bytes += info.size_bytes
        try:
            entries = read_entries(handle.storage, pack)
        except (DataError, FormatError):
            continue  # `moorage check` says what is wrong with it
        ids.add(b"".join(entry.id for entry in entries if entry.kind is ObjectKind.CHUNK))
    return packs, pack_bytes, ids


def _tree_stats(handle: RepositoryHandle, snapshot: Snapshot) -> TreeStats:
    """Each distinct directory and recipe is read once, however many paths lead to it."""
    ids = DistinctIds()
    recipes: set[RecipeId] = set()
    trees = {snapshot.tree}
    pending = [snapshot.tree]
    while pending:
        for entry in handle.trees.entries(pending.pop()):
            if entry.kind is EntryKind.FILE:
                _add_chunks(handle, entry, ids, recipes)
            elif isinstance(entry.object, TreeId) and entry.object not in trees:
                trees.add(entry.object)
                pending.append(entry.object)
    measured = _measure(handle, ids)
    files = _FileCounter(handle).count(snapshot.tree)
    return TreeStats(
        snapshot.size_bytes, files, measured.chunks, measured.unique_bytes, measured.stored_bytes, measured.packs
    )


def _add_chunks(handle: RepositoryHandle, entry: Entry, ids: DistinctIds, seen: set[RecipeId]) -> None:
    if not isinstance(entry.object, RecipeId):
        ids.add(entry.digest if entry.size_bytes else b"")
        return
    pending = [entry.object]
    while pending:
        id = pending.pop()
        if id in seen:
            continue
        seen.add(id)
        recipe = handle.objects.recipe(id)
        if recipe.level:
            pending += [recipe.child(position) for position in range(len(recipe))]
        else:
            ids.add(recipe.ids)


@dataclass(frozen=True, slots=True)
class _Measured:
    chunks: int
    unique_bytes: int
    stored_bytes: int
    packs: int


def _measure(handle: RepositoryHandle, ids: DistinctIds) -> _Measured:
    """Ask the index where each chunk lies, and how long it is there."""
    chunks = unique = stored = 0
    packs = set()
    for batch in _batches(iter(ids)):
        for location in handle.locator.find([ChunkId(raw) for raw in batch]):
            chunks += 1
            unique += location.raw_bytes
            stored += location.stored_bytes
            packs.add(location.pack)
    return _Measured(chunks, unique, stored, len(packs))


def _batches(ids: Iterator[bytes]) -> Iterator[list[bytes]]:
    while batch := list(islice(ids, _BATCH)):
        yield batch
