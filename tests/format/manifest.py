"""What is in a repository, all of it, as plain JSON? For golden repositories: written once, compared for ever."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from blake3 import blake3

from moorage.format.keys import INDEX_PREFIX, PACKS_PREFIX, parse_pack_key, parse_segment_key
from moorage.format.segment import Segment, decode_segment
from moorage.index.memory import MemoryIndex
from moorage.model.digest import SnapshotId
from moorage.model.objects import ObjectKind, PackEntry
from moorage.model.refs import RefKind, RefRecord
from moorage.model.snapshot import Snapshot
from moorage.model.tree import Entry, EntryKind
from moorage.packs.reader import read_entries
from moorage.read.file import FileReader
from moorage.repository.handle import RepositoryHandle, read_config
from moorage.storage.base import Storage
from moorage.storage.local import LocalStorage

Manifest = dict[str, Any]
"""JSON; `Any`, since nobody looks into it but by comparing."""

MOST_FILES = 200
"""Of larger trees only a digest of the list is kept."""


def open_untouched(root: Path) -> RepositoryHandle:
    """The repository in `root`, opened so that nothing at all is written."""
    storage = LocalStorage(root)
    return RepositoryHandle(storage, read_config(storage, str(root)), MemoryIndex())


def manifest_of(root: Path) -> Manifest:
    """Everything that can be read from a repository, every file's content included."""
    with open_untouched(root) as handle:
        storage = handle.storage
        segments = all_segments(storage)
        objects = all_objects(storage)
        snapshots = sorted({entry.id for entry in objects if entry.kind is ObjectKind.SNAPSHOT})
        return {
            "config": _config(handle),
            "keys": {info.key: info.size_bytes for info in storage.list_keys("")},
            "objects": _counts(objects),
            "superseded": sorted(id.hex() for segment in segments for id in segment.supersedes),
            "retired": sorted(pack.hex() for segment in segments for pack in segment.retired),
            "branches": _heads(handle, RefKind.BRANCH),
            "tags": _heads(handle, RefKind.TAG),
            "logs": {
                f"{kind.value} {ref.name}": [_record(record) for record in handle.refs.verify_chain(ref)]
                for kind in RefKind
                for ref in handle.refs.all_names(kind)
            },
            "snapshots": {id.hex(): _snapshot(handle, SnapshotId(id)) for id in snapshots},
        }


def all_objects(storage: Storage) -> list[PackEntry]:
    """What the footers of all packs list."""
    packs = sorted(parse_pack_key(info.key) for info in storage.list_keys(PACKS_PREFIX))
    return [entry for pack in packs for entry in read_entries(storage, pack)]


def all_segments(storage: Storage) -> list[Segment]:
    """All index segments."""
    keys = sorted(info.key for info in storage.list_keys(INDEX_PREFIX))
    return [decode_segment(storage.get(key), segment=parse_segment_key(key)) for key in keys]


def _counts(objects: list[PackEntry]) -> dict[str, int]:
    return dict(sorted(Counter(f"{entry.kind.name} {entry.codec.name}".lower() for entry in objects).items()))


def _config(handle: RepositoryHandle) -> Manifest:
    config = handle.config
    return {
        "number": config.number,
        "repository": config.repository_id,
        "created_ns": config.created_ns,
        "chunking": [config.chunking.min_bytes, config.chunking.target_bytes, config.chunking.max_bytes],
        "compression_level": config.compression_level,
        "pack_target_bytes": config.pack_target_bytes,
        "features": list(config.features),
    }


def _heads(handle: RepositoryHandle, kind: RefKind) -> dict[str, str]:
    return {record.ref.name: record.snapshot.hex() for record in handle.refs.heads(kind)}


def _record(record: RefRecord) -> Manifest:
    return {
        "number": record.number,
        "action": record.action.value,
        "snapshot": record.snapshot.hex(),
        "transaction": record.transaction,
        "previous": record.previous,
        "time_ns": record.time_ns,
        "actor": record.actor,
        "reason": record.reason,
        "other": record.other,
    }


def _snapshot(handle: RepositoryHandle, id: SnapshotId) -> Manifest:
    snapshot = handle.objects.snapshot(id)
    return {
        "tree": snapshot.tree.hex(),
        "digest": snapshot.digest.hex(),
        "size_bytes": snapshot.size_bytes,
        "parents": [parent.hex() for parent in snapshot.parents],
        "author": snapshot.author,
        "time_ns": snapshot.time_ns,
        "message": snapshot.message,
        "metadata": dict(snapshot.metadata),
        "files": _files(handle, snapshot),
    }


def _files(handle: RepositoryHandle, snapshot: Snapshot) -> object:
    lines = [_line(handle, path, entry) for path, entry in handle.trees.walk(snapshot.tree)]
    if len(lines) <= MOST_FILES:
        return lines
    hasher = blake3()
    for line in lines:
        hasher.update(json.dumps(line).encode())
    return {"count": len(lines), "blake3": hasher.hexdigest()}


def _line(handle: RepositoryHandle, path: str, entry: Entry) -> list[object]:
    content = ""
    if entry.kind is EntryKind.FILE:
        content = blake3(FileReader(handle, entry).read_at(0, entry.size_bytes)).hexdigest()
    return [
        path,
        entry.kind.word,
        entry.digest.hex(),
        content,
        entry.object.hex() if entry.object is not None else "",
        entry.size_bytes,
        entry.first_stored_ns,
        entry.executable,
        entry.target,
    ]
