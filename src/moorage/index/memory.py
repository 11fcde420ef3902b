"""An index in memory, for repositories beside which nothing can be written, and for tests."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from moorage.index.base import Index, PackContents
from moorage.model.digest import ObjectId, PackId, SegmentId
from moorage.model.objects import KIND_OF_ID, ObjectKind, PackLocation


class MemoryIndex(Index):
    """A dictionary; about 300 bytes an object."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = threading.Lock()
        self._places: dict[tuple[ObjectKind, bytes], PackLocation] = {}
        self._packs: set[PackId] = set()
        self._segments: set[SegmentId] = set()
        self._retired: set[PackId] = set()

    def find(self, ids: Sequence[ObjectId]) -> list[PackLocation | None]:
        """See `Index.find`."""
        with self._lock:
            return [self._places.get((KIND_OF_ID[type(id)], id)) for id in ids]

    def add(
        self, packs: Iterable[PackContents], segments: Iterable[SegmentId] = (), retired: Iterable[PackId] = ()
    ) -> None:
        """See `Index.add`."""
        with self._lock:
            for pack, entries in packs:
                self._packs.add(pack)
                for entry in entries:
                    self._places.setdefault(
                        (entry.kind, entry.id),
                        PackLocation(pack, entry.offset_bytes, entry.stored_bytes, entry.raw_bytes, entry.codec),
                    )
            self._segments.update(segments)
            self._retired.update(retired)

    def packs(self) -> set[PackId]:
        """See `Index.packs`."""
        with self._lock:
            return set(self._packs)

    def segments(self) -> set[SegmentId]:
        """See `Index.segments`."""
        with self._lock:
            return set(self._segments)

    def retired(self) -> set[PackId]:
        """See `Index.retired`."""
        with self._lock:
            return set(self._retired)

    def with_prefix(self, kind: ObjectKind, hex_prefix: str, limit: int) -> list[bytes]:
        """See `Index.with_prefix`."""
        ids = list(self.ids(kind))
        start = bisect_left(ids, hex_prefix, key=bytes.hex)
        return [raw for raw in ids[start : start + limit] if raw.hex().startswith(hex_prefix)]

    def ids(self, kind: ObjectKind) -> Iterator[bytes]:
        """See `Index.ids`."""
        with self._lock:
            found = sorted(raw for found_kind, raw in self._places if found_kind is kind)
        yield from found

    def clear(self) -> None:
        """See `Index.clear`."""
        with self._lock:
            self._places.clear()
            self._packs.clear()
            self._segments.clear()
            self._retired.clear()

    def close(self) -> None:
        """See `Index.close`."""
