"""Small repositories for tests: a tree written down as a dictionary, and the snapshot that holds it.

    {"a/b.txt": b"text", "run.sh": Exe(b"#!"), "link": Link("a/b.txt"), "empty": None}

None is an empty directory. Files longer than `CHUNK_BYTES` are cut every so many bytes, so that recipes have levels
without megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moorage.model.digest import ChunkId, ContentDigest, RecipeId, SnapshotId
from moorage.model.refs import RefKind, RefName
from moorage.model.snapshot import Snapshot
from moorage.model.tree import Entry, EntryKind
from moorage.repository.handle import RepositoryHandle
from moorage.repository.tree_writer import RecipeWriter, WrittenTree, write_snapshot, write_tree
from moorage.repository.writer import ObjectWriter
from moorage.versioning.diff import EMPTY_DIRECTORY

CHUNK_BYTES = 1024
FIRST_STORED_NS = 1_700_000_000_000_000_000


@dataclass(frozen=True)
class Exe:
    """An executable file."""

    data: bytes


@dataclass(frozen=True)
class Link:
    """A symlink."""

    target: str


Leaf = bytes | Exe | Link | None
Files = Mapping[str, Leaf]


def make_snapshot(
    handle: RepositoryHandle,
    files: Files,
    *parents: SnapshotId,
    message: str = "",
    time_ns: int | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> SnapshotId:
    """Write a tree and a snapshot of it, newer than its parents."""
    newest = max((handle.objects.snapshot(parent).time_ns for parent in parents), default=FIRST_STORED_NS)
    with handle.writer() as writer:
        root = write_files(writer, files, chunk_bytes)
        snapshot = Snapshot(
            root.id, root.digest, root.size_bytes, tuple(parents), "tester", time_ns or newest + 1, message
        )
        id = write_snapshot(writer, snapshot)
        writer.finish()
    return id


def write_files(writer: ObjectWriter, files: Files, chunk_bytes: int = CHUNK_BYTES) -> WrittenTree:
    """Write a tree; what its directories are follows from the paths."""
    here: dict[str, Leaf] = {}
    below: dict[str, dict[str, Leaf]] = {}
    for path, leaf in files.items():
        name, slash, rest = path.partition("/")
        if slash:
            below.setdefault(name, {})[rest] = leaf
        else:
            here[name] = leaf
    entries = [leaf_entry(writer, name, leaf, chunk_bytes) for name, leaf in here.items()]
    entries += [_directory(name, write_files(writer, inside, chunk_bytes)) for name, inside in below.items()]
    return write_tree(writer, entries)


def leaf_entry(writer: ObjectWriter, name: str, leaf: Leaf, chunk_bytes: int = CHUNK_BYTES) -> Entry:
    """The entry of a file, a symlink or an empty directory, whose chunks and recipes are written."""
    if leaf is None:
        return _directory(name, write_tree(writer, []))
    if isinstance(leaf, Link):
        target = leaf.target.encode()
        digest = ContentDigest.of(target)
        return Entry(name, EntryKind.SYMLINK, digest, None, len(target), FIRST_STORED_NS, target=leaf.target)
    data = leaf.data if isinstance(leaf, Exe) else leaf
    recipe = RecipeWriter(writer)
    for start in range(0, len(data), chunk_bytes):
        piece = data[start : start + chunk_bytes]
        recipe.add(writer.put_chunk(piece), len(piece))
    made = recipe.finish()
    return Entry(
        name,
        EntryKind.FILE,
        ContentDigest.of(data),
        None if isinstance(made, ChunkId) else made,
        len(data),
        FIRST_STORED_NS,
        executable=isinstance(leaf, Exe),
    )


def _directory(name: str, tree: WrittenTree) -> Entry:
    return Entry(name, EntryKind.DIRECTORY, tree.digest, tree.id, tree.size_bytes, FIRST_STORED_NS)


def set_branch(handle: RepositoryHandle, name: str, snapshot: SnapshotId) -> RefName:
    """Let a branch stand there, whether it exists or not."""
    ref = RefName(RefKind.BRANCH, name)
    if handle.refs.exists(ref):
        stands = handle.refs.head(ref).snapshot
        handle.refs.move(ref, snapshot, expected=stands, actor="tester", reason="test")
    else:
        handle.refs.create(ref, snapshot, actor="tester", reason="test")
    return ref


def read_back(handle: RepositoryHandle, snapshot: SnapshotId) -> dict[str, Leaf]:
    """The tree of a snapshot, written down as it was given to `make_snapshot`."""
    found: dict[str, Leaf] = {}
    for path, entry in handle.trees.walk(handle.objects.snapshot(snapshot).tree):
        if entry.kind is EntryKind.SYMLINK:
            found[path] = Link(entry.target)
        elif entry.kind is EntryKind.FILE:
            data = b"".join(handle.objects.get_many(chunks_of(handle, entry)))
            found[path] = Exe(data) if entry.executable else data
        elif entry.digest == EMPTY_DIRECTORY:
            found[path] = None
    return found


def chunks_of(handle: RepositoryHandle, entry: Entry) -> Sequence[ChunkId]:
    """The chunks of a file, in order, by recursion over its recipes."""
    if entry.object is None:
        return [ChunkId(entry.digest)] if entry.size_bytes else []
    assert isinstance(entry.object, RecipeId)
    pending = [entry.object]
    found: list[ChunkId] = []
    while pending:
        recipe = handle.objects.recipe(pending.pop())
        if recipe.level:
            pending += [recipe.child(position) for position in reversed(range(len(recipe)))]
        else:
            found += [recipe.chunk(position) for position in range(len(recipe))]
    return found
