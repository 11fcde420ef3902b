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
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

from moorage.errors import DataError, FormatError, KeyNotFoundError, MissingObjectError, NewerFormatError
from moorage.format.keys import INDEX_PREFIX, PACKS_PREFIX, pack_key, parse_pack_key, parse_segment_key, segment_key
from moorage.format.segment import Segment, decode_segment
from moorage.index.base import Index, IndexDamaged, IndexUnwritable, PackContents
from moorage.index.memory import MemoryIndex
from moorage.model.digest import ObjectId, PackId, SegmentId
from moorage.model.objects import KIND_OF_ID, ObjectKind, PackEntry, PackLocation
from moorage.packs.reader import read_entries
from moorage.repository.lru import LruCache
from moorage.storage.base import Storage

_log = logging.getLogger(__name__)
T = TypeVar("T")
_BATCH_OBJECTS = 200_000
"""Taken in by one transaction of the index: bounds memory while a large index is built."""
_MOST_CONFIRMED = 4096
"""Places of objects that are known to be right although what lies there is damaged."""


class Locator:
    """Finds objects. Thread-safe."""

    def __init__(self, storage: Storage, index: Index) -> None:
        """`index` is trusted only as far as its packs are still listed."""
        self._storage = storage
        self._index = index
        self._lock = threading.Lock()
        self._built_from: tuple[set[PackId], set[SegmentId]] | None = None
        self._retired: set[PackId] = set()
        self._confirmed: LruCache[tuple[ObjectKind, ObjectId], PackLocation] = LruCache(_MOST_CONFIRMED)

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
        return self._ask(lambda index: index.find(ids))

    def _ask(self, question: Callable[[Index], T]) -> T:
        """What the index answers, built anew where it is damaged; one that is damaged again is left alone."""
        try:
            return question(self._index)
        except IndexDamaged:
            self.rebuild()
        try:
            return question(self._index)
        except IndexDamaged as error:
            with self._lock:
                self._go_on_in_memory(error)
                self._take_in_new()
        return question(self._index)

    def confirms(self, wanted: Iterable[tuple[ObjectId, PackLocation]]) -> bool:
        """Whether the packs themselves say that each object lies where it was looked for; False also when one of them
        cannot be read. A footer of thousands of lines is read once for all, and what it said is remembered: who reads
        around a damaged chunk asks again for each page."""
        entries: dict[PackId, dict[tuple[ObjectKind, ObjectId], PackEntry]] = {}
        for id, location in wanted:
            kind = KIND_OF_ID[type(id)]
            if self._confirmed.get((kind, id)) == location and self._storage.exists(pack_key(location.pack)):
                continue
            if location.pack not in entries:
                try:
                    found = read_entries(self._storage, location.pack)
                except (DataError, FormatError):
                    return False
                entries[location.pack] = {(entry.kind, entry.id): entry for entry in found}
            entry = entries[location.pack].get((kind, id))
            if entry is None or not _same(entry, location):
                return False
            self._confirmed.put((kind, id), location)
        return True

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
        listed = (self._listed_packs(), self._listed_segments())
        if not listed[0] and self._knows_packs():
            # Not what damage or a collection leave, but a disk that is not mounted, or a directory that was renamed.
            _log.warning("not one pack is there any more: the index stays as it is")
            return
        _log.info("building the index anew")
        try:
            self._index.clear()
            self._take_in_new()
        except (IndexDamaged, IndexUnwritable) as error:
            self._go_on_in_memory(error)
            self._take_in_new()
        self._built_from = listed

    def _knows_packs(self) -> bool:
        try:
            return bool(self._index.packs())
        except IndexDamaged:
            return False

    def _go_on_in_memory(self, error: Exception) -> None:
        _log.warning("the index is kept in memory from now on: %s", error)
        self._index.close()
        self._index = MemoryIndex()

    def _take_in_new(self) -> bool:
        """False where the index holds a segment or a pack that is gone (a restored backup, a collection)."""
        # What the index knows is asked before what is listed: in between another process may publish a pack and add it
        # to the index that it shares with us, and that must not look like a pack which is gone.
        known_segments, known_packs = self._index.segments(), self._index.packs()
        # And segments before packs, since a segment is published after the packs that it lists.
        listed_segments, listed_packs = self._listed_segments(), self._listed_packs()
        if not known_segments <= listed_segments or not known_packs <= listed_packs:
            return False
        batch = _Batch(self._index)
        for id in sorted(listed_segments - known_segments):
            segment = self._read_segment(id)
            if segment is None:
                continue
            for position, (pack, _) in enumerate(segment.packs):
                if pack in listed_packs and pack not in known_packs:
                    self._take(batch, pack, partial(segment.entries, position), known_packs)
            batch.end_segment(id, segment.retired)
        for pack in sorted(listed_packs - known_packs):
            self._take(batch, pack, partial(read_entries, self._storage, pack), known_packs)
        batch.flush()
        self._retired = self._index.retired()
        return True

    def _take(
        self, batch: _Batch, pack: PackId, entries: Callable[[], Sequence[PackEntry]], known_packs: set[PackId]
    ) -> None:
        try:
            batch.add(pack, entries())
        except NewerFormatError:
            raise
        except (DataError, FormatError) as error:
            _log.warning("passed over: %s", error)
        else:
            known_packs.add(pack)

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
        return self._ask(lambda index: index.with_prefix(kind, hex_prefix, limit))

    def close(self) -> None:
        """Give the index back."""
        self._index.close()


class _Batch:
    """What is on its way into the index, a bounded number of objects at a time."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._forget()

    def _forget(self) -> None:
        self._packs: list[PackContents] = []
        self._segments: list[SegmentId] = []
        self._retired: list[PackId] = []
        self._objects = 0

    def add(self, pack: PackId, entries: Sequence[PackEntry]) -> None:
        self._packs.append((pack, entries))
        self._objects += len(entries)
        if self._objects >= _BATCH_OBJECTS:
            self.flush()

    def end_segment(self, id: SegmentId, retired: Sequence[PackId]) -> None:
        """All packs of the segment have been added: in the index it counts as taken in no sooner than they do."""
        self._segments.append(id)
        self._retired += retired

    def flush(self) -> None:
        if self._packs or self._segments:
            self._index.add(self._packs, self._segments, self._retired)
            self._forget()


def _same(entry: PackEntry, location: PackLocation) -> bool:
    return (entry.offset_bytes, entry.stored_bytes, entry.raw_bytes) == (
        location.offset_bytes,
        location.stored_bytes,
        location.raw_bytes,
    )
