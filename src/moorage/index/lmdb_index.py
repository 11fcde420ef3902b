"""The index in LMDB: how is a location kept, and how is rot in it noticed?

    key                                       value
    kind of object (1), id (32)               pack key (8), offset (8), stored (4), raw (4), codec (1), CRC-32 (4)
    16 (1), pack key (8)                      pack id (32), CRC-32 (4)            packs taken in
    17 (1), segment id (32)                   CRC-32 (4)                          segments taken in
    18 (1), pack id (32)                      CRC-32 (4)                          packs that are retired

The pack key is the first 8 bytes of the pack's id: it means the same before and after another process has built the
index anew, so it may be remembered.

CRC-32 is over key and value without it. A value that fails it, or a pack key that is not there, raises `IndexDamaged`,
upon which the repository clears the index and builds it anew. Derived: nothing here is ever the only copy.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import lmdb

from moorage.index.base import Index, IndexDamaged, PackContents
from moorage.index.environment import acquire, release
from moorage.model.digest import DIGEST_BYTES, ObjectId, PackId, SegmentId
from moorage.model.objects import KIND_OF_ID, Codec, ObjectKind, PackEntry, PackLocation

_PACKS, _SEGMENTS, _RETIRED = b"\x10", b"\x11", b"\x12"
"""How keys begin; those of places with the number of a kind, which is smaller."""
_PLACE = struct.Struct("<8sQIIB")
_CRC = struct.Struct("<I")
_PACK_KEY_BYTES = 8
_CODECS = {int(codec): codec for codec in Codec}
_KIND_BYTE = {of_id: bytes([kind]) for of_id, kind in KIND_OF_ID.items()}


Bytes: TypeAlias = bytes | memoryview
"""What py-lmdb's stubs say of keys and values; without `buffers` they are bytes."""


def _sealed(key: bytes, value: bytes) -> bytes:
    return value + _CRC.pack(zlib.crc32(value, zlib.crc32(key)))


def _opened(key: Bytes, found: Bytes) -> bytes:
    sealed = bytes(found)
    value = sealed[: -_CRC.size]
    if len(sealed) < _CRC.size or _CRC.unpack_from(sealed, len(value))[0] != zlib.crc32(value, zlib.crc32(key)):
        raise IndexDamaged("a value of the index fails its checksum")
    return value


def _items(pack_key: bytes, entries: Sequence[PackEntry]) -> list[tuple[bytes, bytes]]:
    items = []
    for entry in entries:
        key = bytes([entry.kind]) + entry.id
        place = _PLACE.pack(pack_key, entry.offset_bytes, entry.stored_bytes, entry.raw_bytes, entry.codec)
        items.append((key, _sealed(key, place)))
    return items


class LmdbIndex(Index):
    """See the module. Several indexes of one folder in a process share one environment."""

    def __init__(self, folder: Path) -> None:
        """Open or make the index in `folder`. Raises `OSError`, `lmdb.Error`."""
        self._folder = folder
        self._environment = acquire(folder)
        self._pack_of_key: dict[bytes, PackId] = {}

    def find(self, ids: Sequence[ObjectId]) -> list[PackLocation | None]:
        """See `Index.find`. Raises `IndexDamaged`."""
        return self._environment.read(lambda transaction: self._find(transaction, ids))

    def _find(self, transaction: lmdb.Transaction, ids: Sequence[ObjectId]) -> list[PackLocation | None]:
        found: list[PackLocation | None] = []
        get, packs = transaction.get, self._pack_of_key
        for id in ids:
            key = _KIND_BYTE[type(id)] + id
            sealed = get(key)
            if sealed is None:
                found.append(None)
                continue
            value = _opened(key, sealed)
            if len(value) != _PLACE.size:
                raise IndexDamaged("a value of the index has the wrong length")
            pack_key, offset, stored, raw, codec = _PLACE.unpack(value)
            if codec not in _CODECS:
                raise IndexDamaged("the index was built by a newer version")
            pack = packs.get(pack_key) or self._pack(transaction, pack_key)
            found.append(PackLocation(pack, offset, stored, raw, _CODECS[codec]))
        return found

    def _pack(self, transaction: lmdb.Transaction, key: bytes) -> PackId:
        pack = self._pack_of_key.get(key)
        if pack is None:
            sealed = transaction.get(_PACKS + key)
            if sealed is None:
                raise IndexDamaged("the index refers to a pack that it does not list")
            pack = self._pack_of_key[key] = PackId(_opened(_PACKS + key, sealed))
        return pack

    def add(
        self, packs: Iterable[PackContents], segments: Iterable[SegmentId] = (), retired: Iterable[PackId] = ()
    ) -> None:
        """See `Index.add`. Raises `IndexDamaged`, `IndexUnwritable`."""
        contents = list(packs)
        names = [_SEGMENTS + id for id in segments] + [_RETIRED + id for id in retired]

        def work(transaction: lmdb.Transaction) -> None:
            for pack, entries in contents:
                pack_key = pack[:_PACK_KEY_BYTES]
                key = _PACKS + pack_key
                if transaction.put(key, _sealed(key, pack), overwrite=False):
                    transaction.cursor().putmulti(_items(pack_key, entries), overwrite=False)
            for name in names:
                transaction.put(name, _sealed(name, b""))

        self._environment.write(work)

    def packs(self) -> set[PackId]:
        """See `Index.packs`. Raises `IndexDamaged`."""
        return {PackId(value) for _, value in self._all(_PACKS)}

    def segments(self) -> set[SegmentId]:
        """See `Index.segments`. Raises `IndexDamaged`."""
        return {SegmentId(id) for id, _ in self._all(_SEGMENTS)}

    def retired(self) -> set[PackId]:
        """See `Index.retired`. Raises `IndexDamaged`."""
        return {PackId(id) for id, _ in self._all(_RETIRED)}

    def _all(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """What follows `prefix` in each key that begins so, and the value."""

        def work(transaction: lmdb.Transaction) -> list[tuple[bytes, bytes]]:
            cursor = transaction.cursor()
            found: list[tuple[bytes, bytes]] = []
            if not cursor.set_range(prefix):
                return found
            for key, value in cursor:
                if key[:1] != prefix:
                    break
                found.append((bytes(key[1:]), _opened(key, value)))
            return found

        return self._environment.read(work)

    def with_prefix(self, kind: ObjectKind, hex_prefix: str, limit: int) -> list[bytes]:
        """See `Index.with_prefix`."""
        lowest = bytes([kind]) + bytes.fromhex(hex_prefix + "0" * (-len(hex_prefix) % 2))

        def work(transaction: lmdb.Transaction) -> list[bytes]:
            found: list[bytes] = []
            cursor = transaction.cursor()
            if not cursor.set_range(lowest):
                return found
            for key in cursor.iternext(keys=True, values=False):
                if key[0] != kind or not bytes(key[1:]).hex().startswith(hex_prefix) or len(found) >= limit:
                    break
                found.append(bytes(key[1:]))
            return found

        return self._environment.read(work)

    def ids(self, kind: ObjectKind) -> Iterator[bytes]:
        """See `Index.ids`; read in batches, so that no transaction stays open while the caller works."""
        last = bytes([kind])
        while True:
            batch = self._environment.read(partial(self._batch, start=last, kind=kind))
            if not batch:
                return
            yield from batch
            last = bytes([kind]) + batch[-1] + b"\0"

    def _batch(self, transaction: lmdb.Transaction, start: bytes, kind: ObjectKind) -> list[bytes]:
        cursor = transaction.cursor()
        found: list[bytes] = []
        if not cursor.set_range(start):
            return found
        for key in cursor.iternext(keys=True, values=False):
            if key[0] != kind or len(key) != 1 + DIGEST_BYTES or len(found) >= 4096:
                break
            found.append(bytes(key[1:]))
        return found

    def clear(self) -> None:
        """See `Index.clear`."""
        self._environment.clear()

    def close(self) -> None:
        """See `Index.close`."""
        release(self._environment)
