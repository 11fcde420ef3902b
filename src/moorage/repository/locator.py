"""Which pack holds this object, right now? The index, brought up to date when it does not know.

Reading, a miss leads to: take in segments and packs not seen yet, then build the index anew, and only then to an error.
Writing, a miss stores again: a writer brings the index up to date once, when it starts, and believes it from then on,
but counts a hit only if its pack is still listed and not retired.

Segments spare a reader from fetching footers; packs that no segment lists (small commits) are read by footer. A segment
that is damaged is passed over, since the packs tell the same; `moorage check` reports it.

The index is derived and can never make work fail: where it cannot be written (a full disk), one in memory takes its
place for the rest of the process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from moorage.errors import DataError, FormatError, KeyNotFoundError, MissingObjectError, NewerFormatError
from moorage.format.keys import INDEX_PREFIX, PACKS_PREFIX, pack_key, parse_pack_key, parse_segment_key, segment_key
from moorage.format.segment import Segment, decode_segment
from moorage.index.base import Index, IndexDamaged, IndexUnwritable, PackContents
from moorage.index.memory import MemoryIndex
from moorage.model.digest import ObjectId, PackId, SegmentId
from moorage.model.objects import KIND_OF_ID, ObjectKind, PackEntry, PackLocation
from moorage.packs.reader import read_entries
from moorage.storage.base import Storage

_log = logging.getLogger(__name__)
_BATCH_OBJECTS = 200_000
"""Taken in by one transaction of the index: bounds memory while a large index is built."""


class Locator:
    """Finds objects. Thread-safe."""

    def __init__(self, storage: Storage, index: Index) -> None:
        """`index` is trusted only as far as its packs are still listed."""
        self._storage = storage
        self._index = index
        self._lock = threading.Lock()
        self._built_from: tuple[set[PackId], set[SegmentId]] | None = None
        self._retired: set[PackId] = set()

    # -- reading ---------------------------------------------------------------------------------------

    def find(self, ids: Sequence[ObjectId]) -> list[PackLocation]:
        """Where each object lies. Raises `MissingObjectError`, `StorageError`."""
        found = self._lookup(ids)
        if None in found:
            self.refresh()
            found = self._lookup(ids)
        if None in found:
            self.doubt()
            found = self._lookup(ids)
        for id, location in zip(ids, found, strict=True):
            if location is None:
                kind = KIND_OF_ID[type(id)].name.lower()
                raise MissingObjectError(
                    f"{kind} {id.hex()} is in no pack",
                    hint="run `moorage check` to see what is affected",
                    id=id.hex(),
                    object_kind=kind,
                )
        return [location for location in found if location is not None]

    def lookup(self, ids: Sequence[ObjectId]) -> list[PackLocation | None]:
        """What the index knows now, without bringing it up to date."""
        return self._lookup(ids)

    def _lookup(self, ids: Sequence[ObjectId]) -> list[PackLocation | None]:
        try:
            return self._index.find(ids)
        except IndexDamaged:
            self.rebuild()
            return self._index.find(ids)

    def confirms(self, id: ObjectId, location: PackLocation) -> bool:
        """Whether the pack itself says that `id` lies at `location`; False also when the pack cannot be read."""
        try:
            entries = read_entries(self._storage, location.pack)
        except (DataError, FormatError):
            return False
        kind = KIND_OF_ID[type(id)]
        return any(entry.kind is kind and entry.id == id and _same(entry, location) for entry in entries)

    # -- bringing the index up to date -----------------------------------------------------------------

    def refresh(self) -> None:
        """Take in what has been written since; build anew when something taken in is no longer listed."""
        with self._lock:
            try:
                current = self._take_in_new()
            except (IndexDamaged, IndexUnwritable):
                current = False
            if not current:
                self._rebuild()

    def rebuild(self) -> None:
        """Forget the index and build it from segments and packs."""
        with self._lock:
            self._rebuild()

    def doubt(self) -> None:
        """Build the index anew, unless this process has built it from just what is listed now.

        So that an object that is really gone costs one rebuilding, not one each time somebody asks for it.
        """
        with self._lock:
            if self._built_from != (self._listed_packs(), self._listed_segments()):
                self._rebuild()

    def _rebuild(self) -> None:
        _log.info("building the index anew")
        listed = (self._listed_packs(), self._listed_segments())
        try:
            self._index.clear()
            self._take_in_new()
        except (IndexDamaged, IndexUnwritable) as error:
            self._go_on_in_memory(error)
            self._take_in_new()
        self._built_from = listed

    def _go_on_in_memory(self, error: Exception) -> None:
        _log.warning("the index is kept in memory from now on: %s", error)
        self._index.close()
        self._index = MemoryIndex()

    def _take_in_new(self) -> bool:
        """False where the index holds a segment or a pack that is gone (a restored backup, a collection)."""
        listed_segments = self._listed_segments()
        listed_packs = self._listed_packs()
        known_segments, known_packs = self._index.segments(), self._index.packs()
        if not known_segments <= listed_segments or not known_packs <= listed_packs:
            return False
        batch: list[PackContents] = []
        taken: list[SegmentId] = []
        objects = 0
        for id in sorted(listed_segments - known_segments):
            segment = self._read_segment(id)
            if segment is None:
                continue
            self._retired.update(segment.retired)
            for position, (pack, _) in enumerate(segment.packs):
                if pack in listed_packs and pack not in known_packs:
                    entries = segment.entries(position)
                    batch.append((pack, entries))
                    known_packs.add(pack)
                    objects += len(entries)
            taken.append(id)
            if objects >= _BATCH_OBJECTS:
                self._index.add(batch, taken)
                batch, taken, objects = [], [], 0
        for pack in sorted(listed_packs - known_packs):
            loose = self._read_loose(pack)
            if loose is not None:
                batch.append((pack, loose))
        if batch or taken:
            self._index.add(batch, taken)
        return True

    def _listed_segments(self) -> set[SegmentId]:
        found = set()
        for info in self._storage.list_keys(INDEX_PREFIX):
            try:
                found.add(parse_segment_key(info.key))
            except FormatError:
                _log.warning("ignored: %s is not an index segment", info.key)
        return found

    def _listed_packs(self) -> set[PackId]:
        found = set()
        for info in self._storage.list_keys(PACKS_PREFIX):
            try:
                found.add(parse_pack_key(info.key))
            except FormatError:
                _log.warning("ignored: %s is not a pack", info.key)
        return found

    def _read_segment(self, id: SegmentId) -> Segment | None:
        try:
            return decode_segment(self._storage.get(segment_key(id)), segment=id)
        except NewerFormatError:
            raise
        except (DataError, FormatError, KeyNotFoundError) as error:
            _log.warning("passed over: %s", error)
            return None

    def _read_loose(self, pack: PackId) -> list[PackEntry] | None:
        try:
            return read_entries(self._storage, pack)
        except NewerFormatError:
            raise
        except (DataError, FormatError) as error:
            _log.warning("passed over: %s", error)
            return None

    # -- writing ---------------------------------------------------------------------------------------

    def may_reuse(self, pack: PackId) -> bool:
        """Whether a writer may refer to objects in `pack`: it is still there, and not about to go."""
        return pack not in self._retired and self._storage.exists(pack_key(pack))

    def add(self, packs: Sequence[tuple[PackId, Sequence[PackEntry]]], segments: Sequence[SegmentId] = ()) -> None:
        """Take in packs that this process has just made durable."""
        with self._lock:
            try:
                self._index.add(packs, segments)
            except (IndexDamaged, IndexUnwritable):
                self._rebuild()

    # -- searching -------------------------------------------------------------------------------------

    def with_prefix(self, kind: ObjectKind, hex_prefix: str, limit: int = 8) -> list[bytes]:
        """Up to `limit` ids of objects of `kind` that start so."""
        return self._index.with_prefix(kind, hex_prefix, limit)

    def close(self) -> None:
        """Give the index back."""
        self._index.close()


def _same(entry: PackEntry, location: PackLocation) -> bool:
    return (entry.offset_bytes, entry.stored_bytes, entry.raw_bytes) == (
        location.offset_bytes,
        location.stored_bytes,
        location.raw_bytes,
    )
