"""How an index segment is kept: the footers of some packs in one file, so that a reader never fetches every footer.

    offset   size          field
    0        8             magic "MOORSEGM"
    8        4             version, 1
    12       4             s, how many segments this one supersedes
    16       4             r, how many packs are retired
    20       4             p, how many packs are listed
    24       32*s          ids of superseded segments, ascending, each once
    ...      32*r          ids of retired packs, ascending, each once: readers may use them, writers never deduplicate
                           against them
    ...      each          u32 length, then the footer of one pack; in ascending order of pack id, each once

A segment's id is BLAKE3 of its bytes; the id of each listed pack is BLAKE3 of its footer. Derived: everything in it can
be had from the packs, but for `supersedes` and `retired`, which are decisions.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from moorage.errors import CorruptDataError, FormatError, NewerFormatError
from moorage.format.pack import MAX_FOOTER_BYTES, decode_footer
from moorage.model.digest import DIGEST_BYTES, PackId, SegmentId
from moorage.model.objects import PackEntry

_MAGIC = b"MOORSEGM"
_HEAD = struct.Struct("<8sIIII")
_LENGTH = struct.Struct("<I")
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Segment:
    """A decoded index segment."""

    packs: tuple[tuple[PackId, bytes], ...]
    """(pack, its footer), ascending by pack."""
    supersedes: tuple[SegmentId, ...] = ()
    retired: tuple[PackId, ...] = ()

    def entries(self, position: int) -> list[PackEntry]:
        """What the pack at `position` holds. Raises `FormatError`."""
        pack, footer = self.packs[position]
        return decode_footer(footer, pack=pack)


def encode_segment(
    footers: Sequence[bytes], supersedes: Sequence[SegmentId] = (), retired: Sequence[PackId] = ()
) -> bytes:
    """The canonical bytes of a segment that lists the packs with these footers; what is given twice is listed once."""
    packs = sorted({PackId.of(footer): footer for footer in footers}.items())
    old_segments, old_packs = sorted(set(supersedes)), sorted(set(retired))
    parts = [_HEAD.pack(_MAGIC, _VERSION, len(old_segments), len(old_packs), len(packs)), *old_segments, *old_packs]
    for _, footer in packs:
        parts += (_LENGTH.pack(len(footer)), footer)
    return b"".join(parts)


def decode_segment(data: bytes, *, segment: SegmentId) -> Segment:
    """Read a segment back and prove that it is `segment`. Raises `CorruptDataError`, `FormatError`,
    `NewerFormatError`."""
    if SegmentId.of(data) != segment:
        raise CorruptDataError(
            f"index segment {segment.hex()} is damaged", hint="run `moorage check`", segment=segment.hex()
        )
    if len(data) < _HEAD.size:
        raise FormatError(f"index segment {segment.hex()} is too short")
    magic, version, n_supersedes, n_retired, n_packs = _HEAD.unpack_from(data)
    if magic == _MAGIC and version > _VERSION:
        raise NewerFormatError(f"index segment {segment.hex()} has version {version}", hint="upgrade moorage")
    if magic != _MAGIC or version != _VERSION:
        raise FormatError(f"index segment {segment.hex()} is not one")
    position = _HEAD.size
    ids_end = position + (n_supersedes + n_retired) * DIGEST_BYTES
    if ids_end > len(data):
        raise FormatError(f"index segment {segment.hex()} is too short")
    raw_ids = [data[i : i + DIGEST_BYTES] for i in range(position, ids_end, DIGEST_BYTES)]
    footers, position = _split_footers(data, ids_end, n_packs, segment)
    decoded = Segment(
        packs=tuple((PackId.of(footer), footer) for footer in footers),
        supersedes=tuple(SegmentId(raw) for raw in raw_ids[:n_supersedes]),
        retired=tuple(PackId(raw) for raw in raw_ids[n_supersedes:]),
    )
    if encode_segment(footers, decoded.supersedes, decoded.retired) != data:
        raise FormatError(f"index segment {segment.hex()} is not canonical")
    return decoded


def _split_footers(data: bytes, position: int, count: int, segment: SegmentId) -> tuple[list[bytes], int]:
    footers: list[bytes] = []
    for _ in range(count):
        if position + _LENGTH.size > len(data):
            raise FormatError(f"index segment {segment.hex()} is too short")
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        if length > MAX_FOOTER_BYTES or position + length > len(data):
            raise FormatError(f"index segment {segment.hex()} is too short")
        footers.append(data[position : position + length])
        position += length
    return footers, position
