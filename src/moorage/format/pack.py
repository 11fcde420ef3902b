"""What does a pack look like, byte by byte?

    offset   size      field
    0        8         magic "MOORPACK"
    8        ...       stored objects, back to back (see `stored`)
    f        16+64*n   footer
    f+...    48        trailer

    footer   size      field
    0        8         magic "MOORFOOT"
    8        4         version, 1
    12       4         n, the number of objects, at least 1
    16       64 each   entries, in order of offset:

    entry    size      field
    0        32        id
    32       8         offset of the stored object, from the start of the pack
    40       8         XXH3-64 of the stored object
    48       4         stored bytes, header included
    52       4         raw bytes
    56       1         kind (1 chunk, 2 recipe, 3 tree, 4 snapshot)
    57       1         codec (see `stored`)
    58       6         zero

    trailer  size      field
    0        8         length of the footer
    8        32        BLAKE3 of the footer: the pack's id
    40       8         magic "MOORTAIL"

The footer comes last so that a writer can stream. The pack's id is the hash of the footer, which commits to every
object by id and to every stored byte by checksum: a footer found anywhere (in a pack, in an index segment) proves
itself. Truth, not derived: the index is rebuilt from these footers.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from moorage.errors import CorruptDataError, FormatError, InvalidInputError, NewerFormatError
from moorage.model.digest import ChunkId, ObjectId, PackId, RecipeId, SnapshotId, TreeId
from moorage.model.objects import Codec, ObjectKind, PackEntry

PACK_MAGIC = b"MOORPACK"
_FOOTER_MAGIC = b"MOORFOOT"
_TRAILER_MAGIC = b"MOORTAIL"
_FOOTER_HEAD = struct.Struct("<8sII")
_ENTRY = struct.Struct("<32sQQIIBB6x")
_TRAILER = struct.Struct("<Q32s8s")
TRAILER_BYTES = _TRAILER.size
FOOTER_VERSION = 1
MAX_PACK_OBJECTS = 65_536
"""So that a footer is at most 4 MiB."""
MAX_FOOTER_BYTES = _FOOTER_HEAD.size + MAX_PACK_OBJECTS * _ENTRY.size
MIN_PACK_BYTES = len(PACK_MAGIC) + _FOOTER_HEAD.size + _ENTRY.size + TRAILER_BYTES

_ID_TYPES: dict[int, type[ObjectId]] = {
    ObjectKind.CHUNK: ChunkId,
    ObjectKind.RECIPE: RecipeId,
    ObjectKind.TREE: TreeId,
    ObjectKind.SNAPSHOT: SnapshotId,
}


def encode_footer(entries: Sequence[PackEntry]) -> bytes:
    """The footer of a pack that holds `entries`, in order of offset.

    Raises `InvalidInputError` for none, or for more than fit into one footer.
    """
    if not 1 <= len(entries) <= MAX_PACK_OBJECTS:
        raise InvalidInputError(f"a pack holds 1 to {MAX_PACK_OBJECTS} objects, not {len(entries)}")
    parts = [_FOOTER_HEAD.pack(_FOOTER_MAGIC, FOOTER_VERSION, len(entries))]
    parts += [
        _ENTRY.pack(e.id, e.offset_bytes, e.checksum, e.stored_bytes, e.raw_bytes, e.kind, e.codec) for e in entries
    ]
    return b"".join(parts)


def encode_trailer(footer: bytes) -> bytes:
    """What follows a footer and ends a pack."""
    return _TRAILER.pack(len(footer), PackId.of(footer), _TRAILER_MAGIC)


def decode_trailer(data: bytes, *, pack: PackId) -> int:
    """The length of the footer, from the last 48 bytes of `pack`. Raises `CorruptDataError`."""
    length, digest, magic = _TRAILER.unpack(data)
    if magic != _TRAILER_MAGIC or digest != pack or not _FOOTER_HEAD.size < length <= MAX_FOOTER_BYTES:
        raise CorruptDataError(
            f"pack {pack.hex()} does not end as a pack does", hint="run `moorage check`", pack=pack.hex()
        )
    return int(length)


def decode_footer(data: bytes, *, pack: PackId) -> list[PackEntry]:
    """Read a footer back and prove that it is `pack`'s. Raises `CorruptDataError`, `FormatError`,
    `NewerFormatError`."""
    if PackId.of(data) != pack:
        raise CorruptDataError(
            f"the footer of pack {pack.hex()} is damaged", hint="run `moorage check`", pack=pack.hex()
        )
    if len(data) < _FOOTER_HEAD.size:
        raise FormatError(f"the footer of pack {pack.hex()} is too short")
    magic, version, count = _FOOTER_HEAD.unpack_from(data)
    if magic == _FOOTER_MAGIC and version > FOOTER_VERSION:
        raise NewerFormatError(f"pack {pack.hex()} has footer version {version}", hint="upgrade moorage")
    length = _FOOTER_HEAD.size + count * _ENTRY.size
    if magic != _FOOTER_MAGIC or version != FOOTER_VERSION or len(data) != length or not 1 <= count <= MAX_PACK_OBJECTS:
        raise FormatError(f"pack {pack.hex()} has no footer of this format")
    try:
        entries = [
            PackEntry(ObjectKind(kind), _ID_TYPES[kind](raw_id), offset, stored, raw, Codec(codec), checksum)
            for raw_id, offset, checksum, stored, raw, kind, codec in _ENTRY.iter_unpack(data[_FOOTER_HEAD.size :])
        ]
    except (ValueError, KeyError) as error:
        if isinstance(error, InvalidInputError):
            raise FormatError(f"pack {pack.hex()}: {error.message}") from error
        raise NewerFormatError(f"pack {pack.hex()} holds an unknown kind or codec", hint="upgrade moorage") from error
    if encode_footer(entries) != data:
        raise FormatError(f"the footer of pack {pack.hex()} is not canonical")
    _check_layout(entries, pack)
    return entries


def _check_layout(entries: Sequence[PackEntry], pack: PackId) -> None:
    expected = len(PACK_MAGIC)
    for entry in entries:
        if entry.offset_bytes != expected:
            raise FormatError(f"pack {pack.hex()}: objects do not lie back to back")
        expected += entry.stored_bytes


def data_end(entries: Sequence[PackEntry]) -> int:
    """Where the last stored object ends, which is where the footer starts."""
    last = entries[-1]
    return last.offset_bytes + last.stored_bytes
