"""Repositories in memory, or of tiny packs, for tests of what joins storage and index."""

from __future__ import annotations

from collections.abc import Sequence

from moorage.format.config import encode_config
from moorage.format.keys import config_key
from moorage.format.stored import RAW, encode_stored
from moorage.index.base import Index
from moorage.index.memory import MemoryIndex
from moorage.model.config import ChunkingParams, RepositoryConfig
from moorage.model.digest import ChunkId, ContentDigest, SnapshotId, TreeId
from moorage.model.objects import ObjectKind
from moorage.model.snapshot import Snapshot
from moorage.packs.writer import StoredObject
from moorage.repository.handle import RepositoryHandle
from moorage.repository.tree_writer import write_snapshot, write_tree
from moorage.repository.writer import ObjectWriter
from moorage.storage.base import Storage
from moorage.storage.memory import MemoryStorage
from tests.unit.wrapped import Wrapped

TINY = RepositoryConfig("0" * 32, 0, chunking=ChunkingParams(64, 256, 1_024), pack_target_bytes=4_096)


def in_memory(config: RepositoryConfig = TINY, index: Index | None = None) -> tuple[Wrapped, RepositoryHandle]:
    """A repository of tiny packs, and the storage that it lies in."""
    storage = Wrapped(MemoryStorage())
    storage.inner.create(config_key(1), encode_config(config))
    return storage, opened(storage, config, index)


def opened(storage: Storage, config: RepositoryConfig = TINY, index: Index | None = None) -> RepositoryHandle:
    """Another process's handle on a repository in memory."""
    return RepositoryHandle(storage, config, index if index is not None else MemoryIndex())


def stored_chunk(raw: bytes) -> StoredObject:
    """A chunk, stored raw."""
    stored = encode_stored(raw, ObjectKind.CHUNK, RAW, level=1)
    return StoredObject(ObjectKind.CHUNK, ChunkId.of(raw), stored, len(raw))


def put_chunks(writer: ObjectWriter, raws: Sequence[bytes]) -> list[ChunkId]:
    """Claim chunks and store what is asked for."""
    ids = [ChunkId.of(raw) for raw in raws]
    writer.add_chunks([stored_chunk(raws[position]) for position in writer.claim(ids)])
    return ids


def empty_tree() -> tuple[TreeId, ContentDigest]:
    """What `write_tree` makes of nothing."""
    _, handle = in_memory()
    with handle.writer() as writer:
        tree = write_tree(writer, [])
        writer.finish()
    return tree.id, tree.digest


def line_of_snapshots(handle: RepositoryHandle, *parents: SnapshotId, time_ns: int, message: str = "") -> SnapshotId:
    """One more snapshot, of an empty tree."""
    with handle.writer() as writer:
        tree = write_tree(writer, [])
        id = write_snapshot(writer, Snapshot(tree.id, tree.digest, 0, parents, "tester", time_ns, message))
        writer.finish()
    return id
