"""What would a merge do? Computed as a value: nothing is written here.

Three-way, by path, from the newest common ancestor (an empty tree where there is none). What one side changed is taken;
what both changed to the same thing is that thing; where both sides have a directory the question is asked again for
each name in it; everything else is a conflict. Content is never merged inside a file.

"Ours" is the branch that is merged into, "theirs" what is merged. Costs what changed, not what there is.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from moorage.errors import FormatError
from moorage.format.tree import encode_tree
from moorage.model.digest import SnapshotId, TreeId
from moorage.model.names import join_path
from moorage.model.tree import Entry, EntryKind, Tree
from moorage.repository.handle import RepositoryHandle
from moorage.repository.trees import MAX_DEPTH
from moorage.versioning.changes import Change, is_same
from moorage.versioning.diff import EMPTY_DIRECTORY, PlacedPair, changes_between, diff
from moorage.versioning.pairs import ReadTree, differing

Lookup = Callable[[TreeId, str], Entry | None]


class MergeKind(enum.StrEnum):
    """How two lines of history come together; the words that people and JSON see."""

    UP_TO_DATE = "up-to-date"
    """Everything of theirs is in ours already."""
    FAST_FORWARD = "fast-forward"
    """Ours has nothing that theirs has not: the branch only moves."""
    THREE_WAY = "three-way"
    """Both have something of their own: a new snapshot with two parents."""


class ConflictKind(enum.StrEnum):
    """Why a path cannot be merged; ours is named first."""

    BOTH_MODIFIED = "both-modified"
    BOTH_ADDED = "both-added"
    MODIFIED_DELETED = "modified-deleted"
    DELETED_MODIFIED = "deleted-modified"
    FILE_DIRECTORY = "file-directory"
    """One side has a directory there, the other something else."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """One path that both sides changed, in different ways."""

    path: str
    kind: ConflictKind
    base: Entry | None
    """In the common ancestor; None where it had no such path."""
    ours: Entry | None
    theirs: Entry | None

    def __str__(self) -> str:
        """As a list of conflicts shows it."""
        return f"{self.path} ({self.kind.value})"

    def as_fields(self) -> dict[str, str | None]:
        """As JSON shows it; sides are named by digest, None where a side has no such path."""
        return {
            "path": self.path,
            "kind": self.kind.value,
            "ours": self.ours.digest.hex() if self.ours else None,
            "theirs": self.theirs.digest.hex() if self.theirs else None,
        }


@dataclass(frozen=True, slots=True)
class MergedDirectory:
    """A directory that neither side has as it will be: ours, with some entries taken from theirs."""

    path: str
    """Empty for the root."""
    ours: TreeId
    taken: Mapping[str, Entry | None]
    """By name; None is a name that goes. Directories that are themselves merged have a line of their own instead."""


@dataclass(frozen=True, slots=True)
class MergePlan:
    """What a merge would do."""

    kind: MergeKind
    into: SnapshotId
    source: SnapshotId
    base: SnapshotId | None
    """The newest common ancestor; None where the two have none."""
    changes: tuple[Change, ...] = ()
    """What `into` gains; with conflicts, those changes that do not conflict."""
    conflicts: tuple[Conflict, ...] = ()
    """Sorted by path; where there are any, the merge is refused."""
    directories: tuple[MergedDirectory, ...] = field(default=(), repr=False)
    """Of a three-way merge: what is to be written, parents before children, the root first."""

    def __str__(self) -> str:
        """Several lines, for people."""
        lines = [f"{self.kind.value}: {self.source.short} into {self.into.short}"]
        lines += [f"conflict {conflict}" for conflict in self.conflicts]
        lines += [str(change) for change in self.changes]
        return "\n".join(lines)


def plan_merge(handle: RepositoryHandle, into: SnapshotId, source: SnapshotId) -> MergePlan:
    """What merging `source` into `into` would do. Raises `DataError`, `FormatError`, `StorageError`."""
    base = handle.history.merge_base(into, source)
    if base == source:
        return MergePlan(MergeKind.UP_TO_DATE, into, source, base)
    ours, theirs = handle.objects.snapshot(into), handle.objects.snapshot(source)
    if base == into:
        changes = tuple(diff(handle, ours, theirs))
        return MergePlan(MergeKind.FAST_FORWARD, into, source, base, changes)
    ancestor = handle.objects.snapshot(base).tree if base is not None else None
    planner = _Planner(handle.objects.tree, handle.trees.lookup)
    planner.merge(ancestor, ours.tree, theirs.tree)
    return MergePlan(
        MergeKind.THREE_WAY,
        into,
        source,
        base,
        tuple(changes_between(handle.objects.tree, planner.pairs)),
        tuple(sorted(planner.conflicts, key=lambda conflict: conflict.path.encode("utf-8"))),
        tuple(planner.directories),
    )


class _Planner:
    """Walks three trees side by side, where more than one of them changed."""

    def __init__(self, read: ReadTree, lookup: Lookup) -> None:
        self._read = read
        self._lookup = lookup
        self._pending: list[tuple[str, TreeId | None, Entry | None, TreeId, TreeId]] = []
        self.pairs: list[PlacedPair] = []
        """What each path is in ours, and what it will be."""
        self.conflicts: list[Conflict] = []
        self.directories: list[MergedDirectory] = []

    def merge(self, base: TreeId | None, ours: TreeId, theirs: TreeId) -> None:
        """Start at the roots."""
        self._pending.append(("", base, None, ours, theirs))
        while self._pending:
            self._merge_directory(*self._pending.pop())

    def _merge_directory(
        self, path: str, base: TreeId | None, entry: Entry | None, ours: TreeId, theirs: TreeId
    ) -> None:
        """`entry` is the directory's own in ours; None for the root."""
        if path.count("/") >= MAX_DEPTH:
            raise FormatError(f"the tree is nested more than {MAX_DEPTH} deep at {path[:80]}")
        taken: dict[str, Entry | None] = {}
        for before, their in differing(self._read, base, theirs):
            name = _name(before, their)
            our = self._lookup(ours, name)
            if is_same(our, their):
                continue
            place = join_path(path, name)
            if is_same(our, before):
                taken[name] = their
                self.pairs.append((place, our, their))
            elif our is not None and their is not None and _both_directories(our, their):
                self._pending.append((place, _tree(before), our, _directory(our), _directory(their)))
            else:
                self.conflicts.append(Conflict(place, _conflict_kind(before, our, their), before, our, their))
        self.directories.append(MergedDirectory(path, ours, taken))
        self._note_emptiness(path, entry, ours, taken)

    def _note_emptiness(self, path: str, entry: Entry | None, ours: TreeId, taken: Mapping[str, Entry | None]) -> None:
        """A directory that becomes empty, or stops being so, shows as a change of its own; see `diff`."""
        if entry is None or not taken:
            return
        if entry.digest == EMPTY_DIRECTORY:
            self.pairs.append((path, entry, None))
        elif all(their is None for their in taken.values()) and _is_all(self._read, ours, len(taken)):
            self.pairs.append((path, None, _empty_directory(entry)))


def _is_all(read: ReadTree, tree: TreeId, count: int) -> bool:
    """Whether a directory has just so many entries."""
    node = read(tree)
    return len(node) == count if isinstance(node, Tree) else sum(span.entries for span in node.spans) == count


def _empty_directory(entry: Entry) -> Entry:
    empty = TreeId.of(encode_tree(Tree(())))
    return Entry(entry.name, EntryKind.DIRECTORY, EMPTY_DIRECTORY, empty, 0, entry.first_stored_ns)


def _name(before: Entry | None, their: Entry | None) -> str:
    entry = before or their
    assert entry is not None
    return entry.name


def _tree(entry: Entry | None) -> TreeId | None:
    return entry.object if entry is not None and isinstance(entry.object, TreeId) else None


def _directory(entry: Entry) -> TreeId:
    assert isinstance(entry.object, TreeId)
    return entry.object


def _both_directories(our: Entry, their: Entry) -> bool:
    return our.kind is EntryKind.DIRECTORY and their.kind is EntryKind.DIRECTORY


def _conflict_kind(before: Entry | None, our: Entry | None, their: Entry | None) -> ConflictKind:
    if our is None:
        return ConflictKind.DELETED_MODIFIED
    if their is None:
        return ConflictKind.MODIFIED_DELETED
    if EntryKind.DIRECTORY in (our.kind, their.kind):
        return ConflictKind.FILE_DIRECTORY
    return ConflictKind.BOTH_ADDED if before is None else ConflictKind.BOTH_MODIFIED
