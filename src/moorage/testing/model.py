"""What should a repository do? The same in plain dictionaries, with nothing stored, to compare the real one with.

A directory is a dictionary of names. The model knows no chunks, packs, trees or digests; snapshots are known by the ids
that the real repository gave them, and what cannot be done raises the class of error that the real one should raise.
Kept so simple that its being right can be seen.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from moorage.api import Repository
from moorage.errors import AlreadyExistsError, InvalidInputError, MergeConflictError, RefNotFoundError
from moorage.model.names import join_path, split_path
from moorage.model.refs import RefAction, RefKind
from moorage.model.tree import EntryKind

_SHOWN_BYTES = 40


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file."""

    data: bytes
    executable: bool = False

    def __repr__(self) -> str:
        """As Python would write it, but for the middle of what is long."""
        data = repr(self.data) if len(self.data) <= _SHOWN_BYTES else f"<{len(self.data)} bytes: {self.data[:8]!r}...>"
        return f"ModelFile({data}{', executable=True' * self.executable})"


@dataclass(frozen=True, slots=True)
class ModelLink:
    """A symlink."""

    target: str


Directory: TypeAlias = "Mapping[str, Node]"
Node: TypeAlias = "ModelFile | ModelLink | Directory"
"""What a name stands for. Never changed once it is part of a snapshot."""
SnapshotKey: TypeAlias = Hashable
"""However the caller names a snapshot."""


@dataclass(frozen=True, slots=True)
class ModelSnapshot:
    """One state of the tree."""

    tree: Directory
    parents: tuple[SnapshotKey, ...]
    message: str


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One line of a ref's log."""

    action: RefAction
    snapshot: SnapshotKey
    other: str = ""


Ref: TypeAlias = tuple[RefKind, str]


@dataclass
class ModelRepository:
    """Snapshots, and the logs of branches and tags. A log is never emptied; the last record says where a ref stands."""

    snapshots: dict[SnapshotKey, ModelSnapshot] = field(default_factory=dict)
    logs: dict[Ref, list[ModelRecord]] = field(default_factory=dict)

    # -- looking -----------------------------------------------------------------------------------

    def head(self, ref: Ref) -> SnapshotKey:
        """Where a ref stands. Raises `RefNotFoundError`."""
        log = self.logs.get(ref)
        if not log or not log[-1].action.is_alive:
            raise RefNotFoundError(f"there is no {ref}")
        return log[-1].snapshot

    def heads(self, kind: RefKind) -> dict[str, SnapshotKey]:
        """Every living ref of a kind, and where it stands."""
        return {
            name: log[-1].snapshot
            for (found, name), log in sorted(self.logs.items())
            if found is kind and log[-1].action.is_alive
        }

    def history(self, start: SnapshotKey) -> set[SnapshotKey]:
        """A snapshot and all before it."""
        found: set[SnapshotKey] = set()
        pending = [start]
        while pending:
            id = pending.pop()
            if id not in found:
                found.add(id)
                pending += self.snapshots[id].parents
        return found

    # -- commits -----------------------------------------------------------------------------------

    def tree_with(self, branch: str, path: str, node: Node, *, create: bool) -> Directory:
        """What a commit of `node` at `path` would make of a branch's tree.

        Raises `RefNotFoundError`, `AlreadyExistsError` where the branch is to be made and a tag has its name, and
        `InvalidInputError` where a file stands in the way or a file would be the root.
        """
        try:
            tree = self.snapshots[self.head((RefKind.BRANCH, branch))].tree
        except RefNotFoundError:
            if not create:
                raise
            self._refuse_taken(branch)
            tree = {}
        names = split_path(path)
        if not names and not isinstance(node, Mapping):
            raise InvalidInputError("a single file needs a path")
        return _with(tree, names, node)

    def commit(self, branch: str, id: SnapshotKey, tree: Directory, message: str) -> None:
        """A snapshot of `tree` on top of the branch, which is made if there is none."""
        ref = (RefKind.BRANCH, branch)
        parents = (self.head(ref),) if branch in self.heads(RefKind.BRANCH) else ()
        self.snapshots[id] = ModelSnapshot(tree, parents, message)
        self._append(ref, ModelRecord(RefAction.SET, id))

    # -- refs --------------------------------------------------------------------------------------

    def _append(self, ref: Ref, record: ModelRecord) -> None:
        self.logs.setdefault(ref, []).append(record)

    def _refuse_taken(self, name: str) -> None:
        if any(name in self.heads(kind) for kind in RefKind):
            raise AlreadyExistsError(f"{name} exists already")

    def create(self, ref: Ref, id: SnapshotKey) -> None:
        """Raises `AlreadyExistsError`."""
        self._refuse_taken(ref[1])
        self._append(ref, ModelRecord(RefAction.SET, id))

    def move(self, ref: Ref, id: SnapshotKey) -> None:
        """Raises `RefNotFoundError`."""
        self.head(ref)
        self._append(ref, ModelRecord(RefAction.SET, id))

    def delete(self, ref: Ref) -> None:
        """Raises `RefNotFoundError`."""
        self._append(ref, ModelRecord(RefAction.DELETE, self.head(ref)))

    def rename(self, old: str, new: str) -> None:
        """Of a branch. Raises `RefNotFoundError`, `AlreadyExistsError`."""
        id = self.head((RefKind.BRANCH, old))
        self._refuse_taken(new)
        self._append((RefKind.BRANCH, new), ModelRecord(RefAction.RENAMED_FROM, id, old))
        self._append((RefKind.BRANCH, old), ModelRecord(RefAction.RENAMED_TO, id, new))

    # -- merges ------------------------------------------------------------------------------------

    def merge_bases(self, a: SnapshotKey, b: SnapshotKey) -> list[SnapshotKey]:
        """The common ancestors that no other common ancestor came from."""
        common = self.history(a) & self.history(b)
        return [id for id in common if not any(id in self.history(other) - {other} for other in common)]

    def merged(self, ours: SnapshotKey, theirs: SnapshotKey, base: SnapshotKey | None) -> Directory:
        """The tree of a three-way merge. Raises `MergeConflictError`."""
        before: Directory = {} if base is None else self.snapshots[base].tree
        tree = _merged(before, self.snapshots[ours].tree, self.snapshots[theirs].tree, "")
        assert isinstance(tree, Mapping)
        return tree


def _with(tree: Directory, names: tuple[str, ...], node: Node) -> Directory:
    if not names:
        assert isinstance(node, Mapping)
        return node
    if len(names) == 1:
        return {**tree, names[0]: node}
    below = tree.get(names[0], {})
    if not isinstance(below, Mapping):
        raise InvalidInputError(f"{names[0]} is no directory")
    return {**tree, names[0]: _with(below, names[1:], node)}


def _merged(base: Node | None, ours: Node | None, theirs: Node | None, path: str) -> Node | None:
    """What one side changed is taken, what both changed alike stays, and directories are asked name by name."""
    if theirs in (ours, base):
        return ours
    if ours == base:
        return theirs
    if not isinstance(ours, Mapping) or not isinstance(theirs, Mapping):
        raise MergeConflictError(f"both changed {path}")
    before: Directory = base if isinstance(base, Mapping) else {}
    merged: dict[str, Node] = {}
    for name in {**ours, **theirs}:
        node = _merged(before.get(name), ours.get(name), theirs.get(name), join_path(path, name))
        if node is not None:
            merged[name] = node
    return merged


# -- between the model and the world ----------------------------------------------------------------


def leaves(directory: Directory, path: str = "") -> Iterator[tuple[str, Node]]:
    """Every file, symlink and empty directory, with its path: what a diff compares."""
    for name, node in directory.items():
        here = join_path(path, name)
        if isinstance(node, Mapping) and node:
            yield from leaves(node, here)
        else:
            yield here, node


def write_directory(directory: Directory, folder: Path) -> None:
    """Write it to disk, as `folder`, which does not exist yet."""
    folder.mkdir(parents=True)
    for name, node in directory.items():
        place = folder / name
        if isinstance(node, Mapping):
            write_directory(node, place)
        elif isinstance(node, ModelLink):
            place.symlink_to(node.target)
        else:
            place.write_bytes(node.data)
            os.chmod(place, 0o755 if node.executable else 0o644)


def read_directory(repo: Repository, revision: str) -> Directory:
    """The whole tree of a revision of the real repository, with every byte read."""
    root: dict[str, Node] = {}
    directories: dict[str, dict[str, Node]] = {"": root}
    for path, entry in repo.ls(revision, recursive=True):
        parent = directories[path.rpartition("/")[0]]
        if entry.kind is EntryKind.DIRECTORY:
            parent[entry.name] = directories[path] = {}
        elif entry.kind is EntryKind.SYMLINK:
            parent[entry.name] = ModelLink(entry.target)
        else:
            parent[entry.name] = ModelFile(repo.read(f"{revision}:{path}"), entry.executable)
    return root
