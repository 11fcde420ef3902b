"""Packs for index tests: made up, since an index never looks into one."""

from __future__ import annotations

from collections.abc import Sequence

from moorage.index.base import PackContents
from moorage.model.digest import ChunkId, ObjectId, PackId, RecipeId, SegmentId, SnapshotId, TreeId
from moorage.model.objects import Codec, ObjectKind, PackEntry, PackLocation

ID_TYPES: dict[ObjectKind, type[ObjectId]] = {
    ObjectKind.CHUNK: ChunkId,
    ObjectKind.RECIPE: RecipeId,
    ObjectKind.TREE: TreeId,
    ObjectKind.SNAPSHOT: SnapshotId,
}


def object_id(name: str | int, kind: ObjectKind = ObjectKind.CHUNK) -> ObjectId:
    return ID_TYPES[kind].of(str(name).encode())


def pack_id(name: str | int) -> PackId:
    return PackId.of(f"pack {name}".encode())


def segment_id(name: str | int) -> SegmentId:
    return SegmentId.of(f"segment {name}".encode())


def entries(ids: Sequence[ObjectId]) -> list[PackEntry]:
    """Entries of different lengths and codecs, back to back."""
    kinds = {type_: kind for kind, type_ in ID_TYPES.items()}
    found, offset = [], 8
    for number, id in enumerate(ids):
        codec = list(Codec)[number % len(Codec)]
        found.append(PackEntry(kinds[type(id)], id, offset, 20 + number, 30 + number, codec, number))
        offset += 20 + number
    return found


def pack(name: str | int, ids: Sequence[ObjectId]) -> PackContents:
    return pack_id(name), entries(ids)


def location(pack: PackId, entry: PackEntry) -> PackLocation:
    return PackLocation(pack, entry.offset_bytes, entry.stored_bytes, entry.raw_bytes, entry.codec)
