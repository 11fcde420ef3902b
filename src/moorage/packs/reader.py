"""What does a pack hold, and what are its objects' bytes? Every object is verified against its id on the way out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from blake3 import blake3

from moorage.errors import CorruptDataError, KeyNotFoundError, MissingObjectError, MoorageError, NewerFormatError
from moorage.format.keys import pack_key
from moorage.format.many import decode_many
from moorage.format.pack import MIN_PACK_BYTES, PACK_MAGIC, TRAILER_BYTES, data_end, decode_footer, decode_trailer
from moorage.format.stored import HEADER_BYTES, MAX_RAW_BYTES, Bytes, decode_stored, raw_header
from moorage.model.digest import ObjectId, PackId
from moorage.model.objects import KIND_OF_ID, ObjectKind, PackEntry, PackLocation
from moorage.model.ranges import ByteRange
from moorage.storage.base import Storage

_GAP_BYTES = 64 * 1024
"""Ranges nearer than this are read as one: fetching a gap is cheaper than asking twice."""
_MAX_READ_BYTES = 8 * 1024 * 1024
_MAX_DECODED_BYTES = 4 * 1024 * 1024


def read_footer(storage: Storage, pack: PackId) -> bytes:
    """The footer of a pack, proven to be its own.

    Raises `MissingObjectError`, `CorruptDataError`, `FormatError`, `NewerFormatError`, `StorageError`.
    """
    return _read_footer(storage, pack)[0]


def read_entries(storage: Storage, pack: PackId) -> list[PackEntry]:
    """What a pack holds; raises as `read_footer`."""
    return _read_footer(storage, pack)[1]


def _read_footer(storage: Storage, pack: PackId) -> tuple[bytes, list[PackEntry]]:
    key = pack_key(pack)
    try:
        size = storage.size(key)
        if size < MIN_PACK_BYTES:
            raise CorruptDataError(f"pack {pack.hex()} is cut short", hint="run `moorage check`", pack=pack.hex())
        length = decode_trailer(storage.get_range(key, size - TRAILER_BYTES, size), pack=pack)
        if len(PACK_MAGIC) + length + TRAILER_BYTES > size:
            raise CorruptDataError(f"pack {pack.hex()} is cut short", hint="run `moorage check`", pack=pack.hex())
        footer = storage.get_range(key, size - TRAILER_BYTES - length, size - TRAILER_BYTES)
    except KeyNotFoundError as error:
        raise MissingObjectError(f"pack {pack.hex()} is gone", hint="run `moorage check`", pack=pack.hex()) from error
    entries = decode_footer(footer, pack=pack)
    if data_end(entries) != size - TRAILER_BYTES - length:
        raise CorruptDataError(f"pack {pack.hex()} is not as long as its footer says", pack=pack.hex())
    return footer, entries


def decode_object(stored: bytes | memoryview, id: ObjectId, kind: ObjectKind, raw_bytes: int, pack: PackId) -> bytes:
    """Decode one stored object and verify it. Raises `CorruptDataError` naming the object and the pack."""
    try:
        raw = decode_stored(stored, kind=kind, raw_bytes=raw_bytes)
    except (CorruptDataError, NewerFormatError) as error:
        # A codec that is really newer is refused where the footer names it: here it is a flipped bit.
        raise _damaged(id, kind, pack, error.message) from error
    verify(raw, id, kind, pack)
    return raw


def verify(raw: bytes | memoryview, id: ObjectId, kind: ObjectKind, pack: PackId) -> None:
    """Compare an object's bytes with its id. Raises `CorruptDataError` naming the object and the pack."""
    if not _is_right(raw, id):
        raise _damaged(id, kind, pack, "its bytes are not what its id says")


def _is_right(raw: bytes | memoryview, id: ObjectId) -> bool:
    """Whether an object's bytes are what its id says: nothing comes out of a pack but through here."""
    return blake3(raw).digest() == id  # not an id made of it: there are 14,000 chunks in a gigabyte


def _damaged(id: ObjectId, kind: ObjectKind, pack: PackId, why: str) -> CorruptDataError:
    return CorruptDataError(
        f"{kind.name.lower()} {id.hex()} in pack {pack.hex()} is damaged: {why}",
        hint="run `moorage check --data` to see what else is",
        id=id.hex(),
        object_kind=kind.name.lower(),
        pack=pack.hex(),
    )


def read_object(storage: Storage, id: ObjectId, location: PackLocation) -> bytes:
    """The verified bytes of one object. Raises `DataError`, `StorageError`."""
    return bytes(read_objects(storage, [(id, location)])[0])


def read_objects(storage: Storage, wanted: Sequence[tuple[ObjectId, PackLocation]]) -> list[Bytes]:
    """The verified bytes of several objects, in the order asked; neighbours in a pack are fetched together.

    Views keep alive what was fetched and decoded with them: who keeps an object copies it. Raises
    `MissingObjectError`, `CorruptDataError`, `StorageError`.
    """
    found: dict[int, Bytes] = {}
    by_pack: dict[PackId, list[int]] = {}
    for number, (_, location) in enumerate(wanted):
        by_pack.setdefault(location.pack, []).append(number)
    for pack, numbers in by_pack.items():
        numbers.sort(key=lambda number: wanted[number][1].offset_bytes)
        for group, span in _coalesce(numbers, wanted):
            data = memoryview(_fetch(storage, pack, span))
            encoded = _take_raw(data, span.start, group, wanted, found)
            for batch in _batches(encoded, wanted):
                decoded = _decode_objects(data, span.start, [wanted[number] for number in batch], pack)
                found.update(zip(batch, decoded, strict=True))
    return [found[number] for number in range(len(wanted))]


def span_of(first: PackLocation, last: PackLocation, most_bytes: int) -> tuple[str, ByteRange] | None:
    """Where, in which key, the objects from `first` to `last` lie; None where the one is not before the other in one
    pack, within `most_bytes`. What is between them is not looked at."""
    if first.pack != last.pack or not 0 < last.stop_bytes - first.offset_bytes <= most_bytes:
        return None
    return pack_key(first.pack), ByteRange(first.offset_bytes, last.stop_bytes)


def is_raw(place: PackLocation) -> bool:
    """Whether an object is stored as it is. Whatever is encoded is shorter; should it ever not be, who copies it finds
    that the copy is not what its hash says."""
    return place.stored_bytes == HEADER_BYTES + place.raw_bytes


def copy_raw(storage: Storage, wanted: Sequence[tuple[PackLocation, ByteRange, int]], fd: int) -> bool:
    """Copy parts of objects that are stored raw to their places (offsets) in an open file, within the kernel.

    **Nothing is verified.** False where an object is not stored raw, or where that cannot be done: what is then in the
    file does not count.
    """
    if not all(is_raw(place) for place, _, _ in wanted):
        return False
    by_pack: dict[PackId, list[tuple[ByteRange, int]]] = {}
    for place, part, at in wanted:
        start = place.offset_bytes + HEADER_BYTES
        by_pack.setdefault(place.pack, []).append((ByteRange(start + part.start, start + part.stop), at))
    return all(storage.copy_ranges(pack_key(pack), ranges, fd) for pack, ranges in by_pack.items())


def _take_raw(
    data: memoryview,
    offset: int,
    numbers: Sequence[int],
    wanted: Sequence[tuple[ObjectId, PackLocation]],
    found: dict[int, Bytes],
) -> list[int]:
    """Put what is stored raw, and is what its id says, into `found`; returns the numbers of all else.

    Also of what is damaged: decoding it says how.
    """
    left: list[int] = []
    for number in numbers:
        id, place = wanted[number]
        if is_raw(place) and 1 <= place.raw_bytes <= MAX_RAW_BYTES:
            start = place.offset_bytes - offset
            begin = start + HEADER_BYTES
            raw = data[begin : begin + place.raw_bytes]
            if data[start:begin] == raw_header(KIND_OF_ID[type(id)], place.raw_bytes) and _is_right(raw, id):
                found[number] = raw
                continue
        left.append(number)
    return left


def _batches(numbers: Sequence[int], wanted: Sequence[tuple[ObjectId, PackLocation]]) -> Iterator[list[int]]:
    """Objects that are decoded by few calls: not so many that their planes take much memory beside them."""
    batch: list[int] = []
    raw_bytes = 0
    for number in numbers:
        raw_bytes += wanted[number][1].raw_bytes
        if batch and raw_bytes > _MAX_DECODED_BYTES:
            yield batch
            batch, raw_bytes = [], wanted[number][1].raw_bytes
        batch.append(number)
    if batch:
        yield batch


def _decode_objects(
    data: memoryview, offset: int, wanted: Sequence[tuple[ObjectId, PackLocation]], pack: PackId
) -> list[memoryview] | list[bytes]:
    """Decode and verify objects from `data`, which starts at `offset` of `pack`; raises as `decode_object`."""
    stored = [
        (data[place.offset_bytes - offset : place.stop_bytes - offset], KIND_OF_ID[type(id)], place.raw_bytes)
        for id, place in wanted
    ]
    try:
        decoded = decode_many(stored)
    except (CorruptDataError, NewerFormatError):
        # One by one, to know which of them it is.
        return [
            decode_object(each, id, kind, raw_bytes, pack)
            for (id, _), (each, kind, raw_bytes) in zip(wanted, stored, strict=True)
        ]
    for (id, _), (_, kind, _), raw in zip(wanted, stored, decoded, strict=True):
        verify(raw, id, kind, pack)
    return decoded


def _coalesce(
    numbers: Sequence[int], wanted: Sequence[tuple[ObjectId, PackLocation]]
) -> list[tuple[list[int], ByteRange]]:
    """Group objects of one pack, sorted by offset, into reads that leave no large gap and do not grow without bound."""
    groups: list[tuple[list[int], ByteRange]] = []
    group: list[int] = []
    start = stop = 0
    for number in numbers:
        location = wanted[number][1]
        offset, end = location.offset_bytes, max(stop, location.stop_bytes)
        if group and (offset - stop > _GAP_BYTES or end - start > _MAX_READ_BYTES):
            groups.append((group, ByteRange(start, stop)))
            group = []
        if not group:
            start, end = offset, location.stop_bytes
        group.append(number)
        stop = end
    if group:
        groups.append((group, ByteRange(start, stop)))
    return groups


def _fetch(storage: Storage, pack: PackId, span: ByteRange) -> bytes:
    try:
        return storage.get_range(pack_key(pack), span.start, span.stop)
    except KeyNotFoundError as error:
        raise MissingObjectError(f"pack {pack.hex()} is gone", hint="run `moorage check`", pack=pack.hex()) from error
    except MoorageError as error:
        error.fields.setdefault("pack", pack.hex())
        raise
