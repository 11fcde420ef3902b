"""What names a piece of content: 32 bytes of BLAKE3, typed by what they name.

Each id is a subclass of `bytes` whose length is checked when it is made, so an id of the wrong length cannot exist,
hashing and comparing cost what they cost for bytes, and a type checker tells a `ChunkId` from a `SnapshotId`. The
hexadecimal form is `.hex()`; `parse` reads it back.

Source: BLAKE3 (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020), default output length.
"""

from __future__ import annotations

from typing import Self

from blake3 import blake3

from moorage.errors import InvalidInputError

DIGEST_BYTES = 32
_make = bytes.__new__
"""Trees are made of millions of ids; asking for it by `super()` takes as long again."""
SHORT_HEX_LENGTH = 12
"""Hexadecimal digits shown to people; a prefix this long is unique in any repository that fits on a disk."""


class Digest(bytes):
    """BLAKE3 of some bytes: always 32 bytes."""

    __slots__ = ()

    def __new__(cls, raw: bytes) -> Self:
        """Check the length. Raises `InvalidInputError`."""
        if len(raw) != DIGEST_BYTES:
            raise InvalidInputError(f"a {cls.__name__} is {DIGEST_BYTES} bytes, not {len(raw)}")
        return _make(cls, raw)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Self:
        """Hash `data`; releases the GIL for all but the smallest inputs."""
        return cls(blake3(data).digest())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read 64 hexadecimal digits, of either case. Raises `InvalidInputError`."""
        try:
            # The length is asked of the text, since fromhex() passes over white space.
            raw = bytes.fromhex(text) if len(text) == 2 * DIGEST_BYTES else b""
        except ValueError:
            raw = b""
        if len(raw) != DIGEST_BYTES:
            raise InvalidInputError(f"not a {cls.__name__}: {text[:80]!r}; expected 64 hexadecimal digits")
        return cls(raw)

    @property
    def short(self) -> str:
        """The first digits, for people."""
        return self.hex()[:SHORT_HEX_LENGTH]

    def __repr__(self) -> str:
        """Show the kind and the first digits."""
        return f"{type(self).__name__}({self.short})"

    __str__ = bytes.hex


class ContentDigest(Digest):
    """What an entry of a tree *is*: of a file, BLAKE3 of its content (what `b3sum` prints); see `format.tree` for
    directories."""

    __slots__ = ()


class ObjectId(Digest):
    """What names an object inside packs: BLAKE3 of its canonical bytes (for chunks: of the raw bytes)."""

    __slots__ = ()


class ChunkId(ObjectId):
    """Names a chunk: BLAKE3 of its raw bytes."""

    __slots__ = ()


class RecipeId(ObjectId):
    """Names a recipe object."""

    __slots__ = ()


class TreeId(ObjectId):
    """Names a tree object."""

    __slots__ = ()


class SnapshotId(ObjectId):
    """Names a snapshot object."""

    __slots__ = ()


class PackId(Digest):
    """Names a pack: BLAKE3 of its footer, which commits to every stored byte by checksum and every raw byte by id."""

    __slots__ = ()


class SegmentId(Digest):
    """Names an index segment: BLAKE3 of its bytes."""

    __slots__ = ()
