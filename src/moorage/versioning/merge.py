"""How does what was done on one branch come into another? Planned first (`merge_plan`), then done.

With conflicts nothing at all is written. Otherwise the merged tree and a snapshot with two parents are made durable,
and then the branch moves, if it still stands where the plan found it: one record, the only thing anybody sees.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from moorage.errors import InvalidInputError, MergeConflictError
from moorage.model.digest import SnapshotId
from moorage.model.refs import RefKind, RefName, RefRecord
from moorage.model.snapshot import Json, Snapshot
from moorage.model.tree import Entry, EntryKind
from moorage.repository.handle import RepositoryHandle
from moorage.repository.refs import reason_of
from moorage.repository.tree_writer import WrittenTree, write_snapshot, write_tree
from moorage.repository.writer import ObjectWriter
from moorage.versioning.changes import Change
from moorage.versioning.merge_plan import (
    Conflict,
    ConflictKind,
    MergedDirectory,
    MergeKind,
    MergePlan,
    plan_merge,
)

__all__ = ["Conflict", "ConflictKind", "MergeKind", "MergePlan", "MergeResult", "Revision", "merge", "plan_merge"]

_CONFLICTS_SHOWN = 5


class Revision(Protocol):
    """A revision that has been resolved; `moorage.read.resolve.Resolved` is one."""

    @property
    def revision(self) -> str:
        """As it was asked for."""

    @property
    def id(self) -> SnapshotId:
        """The snapshot that it names."""


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What a merge did, or would do."""

    kind: MergeKind
    into: RefName
    before: SnapshotId
    """Where the branch stood."""
    snapshot: SnapshotId | None
    """Where it stands now; where it would stand after a dry run, None where that snapshot is not made yet."""
    base: SnapshotId | None
    """The common ancestor; None where there is none."""
    changes: tuple[Change, ...]
    """What the branch gained, sorted by path."""
    record: RefRecord | None
    """The line of the ref log; None where the branch did not move."""


def merge(
    handle: RepositoryHandle,
    source: Revision,
    into: RefName,
    *,
    author: str,
    message: str = "",
    metadata: Mapping[str, Json] | None = None,
    dry_run: bool = False,
) -> MergeResult:
    """Bring what `source` changed into branch `into`.

    A fast-forward moves the branch to the source's own snapshot, which keeps its message and metadata; `message` and
    `metadata` are of the new snapshot that a three-way merge makes. The first line of `message` is in the ref log in
    both cases. A dry run writes nothing and raises the same.

    Raises `MergeConflictError` (its `conflicts` lists all of them; nothing was written), `RefMovedError` where somebody
    moved the branch meanwhile, `RefNotFoundError`, `InvalidInputError`, `DataError`, `StorageError`.
    """
    if into.kind is not RefKind.BRANCH:
        raise InvalidInputError(f"{into} never moves", hint="merge into a branch", ref=into.name)
    before = handle.refs.head(into).snapshot
    plan, given = plan_merge(handle, before, source.id), message
    if plan.conflicts:
        raise _refused(plan, source.revision, into)
    snapshot: SnapshotId | None = before
    record: RefRecord | None = None
    reason = f"merge {source.revision}"
    if plan.kind is MergeKind.FAST_FORWARD:
        snapshot, reason = plan.source, f"{reason}: fast-forward"
    elif plan.kind is MergeKind.THREE_WAY:
        message = message or f"merge {source.revision} into {into.name}"
        snapshot = None if dry_run else _write(handle, plan, author, message, metadata or {})
    if snapshot is not None and snapshot != before and not dry_run:
        reason = reason_of(reason, given)
        record = handle.refs.move(into, snapshot, expected=before, actor=author, reason=reason)
    return MergeResult(plan.kind, into, before, snapshot, plan.base, plan.changes, record)


def _refused(plan: MergePlan, source: str, into: RefName) -> MergeConflictError:
    count = len(plan.conflicts)
    shown = ", ".join(str(conflict) for conflict in plan.conflicts[:_CONFLICTS_SHOWN])
    more = f", and {count - _CONFLICTS_SHOWN} more" if count > _CONFLICTS_SHOWN else ""
    return MergeConflictError(
        f"{source} and {into} changed {'the same path' if count == 1 else f'{count} paths'} differently: {shown}{more}",
        hint=f"commit to one of them what {'it' if count == 1 else 'each'} should be on both, and merge again",
        conflicts=[conflict.as_fields() for conflict in plan.conflicts],
        source=source,
        into=into.name,
        base=plan.base.hex() if plan.base else None,
    )


def _write(
    handle: RepositoryHandle, plan: MergePlan, author: str, message: str, metadata: Mapping[str, Json]
) -> SnapshotId:
    """The merged tree and its snapshot, durable when this returns."""
    parents = (plan.into, plan.source)
    newest = max(handle.objects.snapshot(parent).time_ns for parent in parents)
    time_ns = max(time.time_ns(), newest + 1)
    with handle.writer() as writer:
        root = _write_directories(handle, writer, plan.directories, time_ns)
        snapshot = Snapshot(
            tree=root.id,
            digest=root.digest,
            size_bytes=root.size_bytes,
            parents=parents,
            author=author,
            time_ns=time_ns,
            message=message,
            metadata=metadata,
        )
        id = write_snapshot(writer, snapshot)
        writer.finish()
    return id


def _write_directories(
    handle: RepositoryHandle, writer: ObjectWriter, directories: Sequence[MergedDirectory], time_ns: int
) -> WrittenTree:
    """Children before parents, since a directory is named by what is in it; the root comes last."""
    merged: dict[str, dict[str, Entry]] = defaultdict(dict)
    for directory in reversed(directories[1:]):
        parent, _, name = directory.path.rpartition("/")
        tree = write_tree(writer, _entries(handle, directory, merged.pop(directory.path, {})))
        merged[parent][name] = Entry(name, EntryKind.DIRECTORY, tree.digest, tree.id, tree.size_bytes, time_ns)
    return write_tree(writer, _entries(handle, directories[0], merged.pop("", {})))


def _entries(handle: RepositoryHandle, directory: MergedDirectory, merged: Mapping[str, Entry]) -> Iterator[Entry]:
    """What the directory will hold: ours, but for what is taken from theirs and what is merged below."""
    replaced = directory.taken.keys() | merged.keys()
    for entry in handle.trees.entries(directory.ours):
        if entry.name not in replaced:
            yield entry
    yield from merged.values()
    yield from (entry for entry in directory.taken.values() if entry is not None)
