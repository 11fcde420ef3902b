"""What kinds of objects lie in packs, and where one of them lies.

Objects are keyed by (kind, id): a chunk whose bytes happen to spell a tree is still a chunk.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import msgspec

from moorage.errors import InvalidInputError
from moorage.model.digest import ChunkId, ObjectId, PackId, RecipeId, SnapshotId, TreeId


class ObjectKind(enum.IntEnum):
    """The numbers are those on disk; they are never given a new meaning."""

    CHUNK = 1
    RECIPE = 2
    TREE = 3
    SNAPSHOT = 4

    @property
    def is_metadata(self) -> bool:
        """Whether objects of this kind go to metadata packs."""
        return self is not ObjectKind.CHUNK


KIND_OF_ID: dict[type[ObjectId], ObjectKind] = {
    ChunkId: ObjectKind.CHUNK,
    RecipeId: ObjectKind.RECIPE,
    TreeId: ObjectKind.TREE,
    SnapshotId: ObjectKind.SNAPSHOT,
}
"""The kind that each type of id names; a plain `ObjectId` names none."""


class Codec(enum.IntEnum):
    """How an object's bytes are stored. Numbers are those on disk; an unknown one is `NewerFormatError`."""

    RAW = 0
    ZSTD = 1
    PLANES_2 = 2
    """Byte planes of 2-byte elements (bf16, fp16), each stored raw or as zstd."""
    PLANES_4 = 3
    PLANES_8 = 4
    # 5 is reserved for OpenZL, 16 to 31 for deltas against another chunk.


@dataclass(frozen=True, slots=True)
class PackEntry:
    """One line of a pack's footer: an object, where it lies, and how it is stored."""

    kind: ObjectKind
    id: ObjectId
    offset_bytes: int
    """Of the stored object's header, from the start of the pack."""
    stored_bytes: int
    """Header and payload together; never 0."""
    raw_bytes: int
    """After decoding; at least 1."""
    codec: Codec
    checksum: int
    """XXH3-64 of the stored bytes, header included: finds rot without decoding."""

    def __post_init__(self) -> None:
        """Refuse lengths that no pack can hold."""
        if self.offset_bytes < 0 or self.stored_bytes <= 0 or self.raw_bytes <= 0:
            raise InvalidInputError(f"impossible place in a pack: {self}")


class PackLocation(msgspec.Struct, frozen=True, gc=False):
    """Where one stored object lies: which pack, and which bytes of it.

    A struct of msgspec: one is made for each chunk that is read, and a frozen dataclass takes ten times as long.
    """

    pack: PackId
    offset_bytes: int
    stored_bytes: int
    raw_bytes: int
    codec: Codec

    @property
    def stop_bytes(self) -> int:
        """The first byte after it."""
        return self.offset_bytes + self.stored_bytes
