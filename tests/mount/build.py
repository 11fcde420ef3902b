"""How do the mount tests make a repository? From plain bytes, through the writer, with chunks of a fixed size.

Not by ingest: a test of the mount should fail when the mount is wrong, and chunks of a known size let a test damage one
and say which bytes are affected.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path, PurePosixPath

from blake3 import blake3

from moorage.format.stored import RAW as RAW_ENCODING
from moorage.format.stored import encode_stored
from moorage.model.digest import ChunkId, ContentDigest, RecipeId, SnapshotId
from moorage.model.objects import ObjectKind
from moorage.model.refs import RefKind, RefName, RefRecord
from moorage.model.snapshot import Snapshot
from moorage.model.tree import Entry, EntryKind
from moorage.packs.writer import StoredObject
from moorage.repository.handle import RepositoryHandle
from moorage.repository.tree_writer import RecipeWriter, WrittenTree, write_snapshot, write_tree
from moorage.repository.writer import ObjectWriter

CHUNK_BYTES = 64 * 1024
MOMENT_NS = 1_700_000_000_123_456_789
"""When everything was first stored."""


@dataclass(frozen=True, slots=True)
class Link:
    """A symlink."""

    target: str


@dataclass(frozen=True, slots=True)
class Program:
    """An executable file."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Repeated:
    """A file too large to hold: one chunk, again and again, and an end."""

    chunk: bytes
    times: int
    end: bytes

    @property
    def size_bytes(self) -> int:
        """How long the file is."""
        return len(self.chunk) * self.times + len(self.end)

    def at(self, offset: int, size: int) -> bytes:
        """The bytes there."""
        first, stop = offset // len(self.chunk), min(offset + size, self.size_bytes)
        pieces = [self.chunk if n < self.times else self.end for n in range(first, -(-stop // len(self.chunk)))]
        return b"".join(pieces)[offset - first * len(self.chunk) :][: stop - offset]


Content = bytes | Link | Program | Repeated | Mapping[str, "Content"]
"""What one name stands for."""


def create(path: Path) -> RepositoryHandle:
    """An empty repository."""
    return RepositoryHandle.create(path)


def snapshot(handle: RepositoryHandle, files: Mapping[str, Content], moment_ns: int = MOMENT_NS) -> SnapshotId:
    """Store a tree, given as nested names, or as paths with slashes."""
    with handle.writer() as writer:
        tree = _tree(writer, _nested(files), moment_ns)
        made = Snapshot(tree.id, tree.digest, tree.size_bytes, (), "tester", moment_ns, "made by a test")
        id = write_snapshot(writer, made)
        writer.finish()
    return id


def branch(handle: RepositoryHandle, name: str, files: Mapping[str, Content]) -> RefRecord:
    """Let a branch stand at a new snapshot of `files`."""
    return move(handle, name, snapshot(handle, files))


def move(handle: RepositoryHandle, name: str, id: SnapshotId) -> RefRecord:
    """Let a branch stand at a snapshot, whether it exists or not."""
    ref = RefName(RefKind.BRANCH, name)
    if not handle.refs.exists(ref):
        return handle.refs.create(ref, id, actor="tester", reason="test")
    return handle.refs.move(ref, id, expected=head(handle, name), actor="tester", reason="test")


def head(handle: RepositoryHandle, name: str) -> SnapshotId:
    """Where a branch stands."""
    return handle.refs.head(RefName(RefKind.BRANCH, name)).snapshot


def tag(handle: RepositoryHandle, name: str, id: SnapshotId) -> RefRecord:
    """Make a tag."""
    return handle.refs.create(RefName(RefKind.TAG, name), id, actor="tester", reason="test")


def flat(files: Mapping[str, Content], above: str = "") -> dict[str, Content]:
    """Every file and symlink by its path."""
    found: dict[str, Content] = {}
    for name, content in files.items():
        path = f"{above}{name}"
        found.update(flat(content, path + "/") if isinstance(content, Mapping) else {path: content})
    return found


def logical_bytes(files: Mapping[str, Content]) -> int:
    """The sum of all lengths."""
    total = 0
    for content in flat(files).values():
        if isinstance(content, bytes):
            total += len(content)
        elif isinstance(content, Program):
            total += len(content.data)
        elif isinstance(content, Link):
            total += len(content.target)
    return total


def write_out(files: Mapping[str, Content], directory: Path) -> None:
    """The same tree as plain files, for comparison."""
    for path, content in flat(files).items():
        place = directory / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            os.symlink(content.target, place)
        else:
            assert isinstance(content, bytes | Program)
            place.write_bytes(content.data if isinstance(content, Program) else content)
            place.chmod(0o555 if isinstance(content, Program) else 0o444)


def _nested(files: Mapping[str, Content]) -> dict[str, Content]:
    root: dict[str, Content] = {}
    for path, content in files.items():
        *above, name = PurePosixPath(path).parts
        place: dict[str, Content] = root
        for part in above:
            below = place.setdefault(part, {})
            assert isinstance(below, dict)
            place = below
        place[name] = _nested(content) if isinstance(content, Mapping) else content
    return root


def _tree(writer: ObjectWriter, files: Mapping[str, Content], moment_ns: int) -> WrittenTree:
    return write_tree(writer, [_entry(writer, name, content, moment_ns) for name, content in files.items()])


def _entry(writer: ObjectWriter, name: str, content: Content, moment_ns: int) -> Entry:
    if isinstance(content, Mapping):
        tree = _tree(writer, content, moment_ns)
        return Entry(name, EntryKind.DIRECTORY, tree.digest, tree.id, tree.size_bytes, moment_ns)
    if isinstance(content, Link):
        raw = content.target.encode()
        return Entry(name, EntryKind.SYMLINK, ContentDigest.of(raw), None, len(raw), moment_ns, target=content.target)
    recipe, digest, size = RecipeWriter(writer), blake3(), 0
    for piece in _pieces(content):
        id = ChunkId.of(piece)
        if writer.claim([id]):
            encoded = encode_stored(piece, ObjectKind.CHUNK, RAW_ENCODING, level=1)
            writer.add_chunks([StoredObject(ObjectKind.CHUNK, id, encoded, len(piece))])
        recipe.add(id, len(piece))
        digest.update(piece)
        size += len(piece)
    made = recipe.finish()
    return Entry(
        name,
        EntryKind.FILE,
        ContentDigest(digest.digest()),
        made if isinstance(made, RecipeId) else None,
        size,
        moment_ns,
        executable=isinstance(content, Program),
    )


def _pieces(content: bytes | Program | Repeated) -> Iterator[bytes]:
    if isinstance(content, Repeated):
        yield from repeat(content.chunk, content.times)
        yield content.end
        return
    data = content.data if isinstance(content, Program) else content
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]
