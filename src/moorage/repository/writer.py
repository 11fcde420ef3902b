"""How do new objects get into the repository, durably, in the right order?

One `ObjectWriter` is one transaction: objects stream into packs, packs become durable in the background while more is
written, and `finish` makes the rest durable: data packs, then metadata packs, then the index segment. Only then may the
caller move a ref: that one record is the commit point, and a crash at any moment before it leaves garbage and no
change. (A transaction with more metadata than fits into one pack makes a metadata pack durable while data still comes
in. After a crash objects are then there whose references are not, which no ref leads to, and which a writer may still
refer to: it stores what they refer to, as it had to have it to name them.)

A commit of less than 1 MiB is one mixed pack and no segment: two fsyncs instead of six.

Memory is bounded whatever is written: what a transaction remembers of its own objects goes to the index and to a
segment each time 65,536 of them are durable. Objects in the index that no ref leads to are harmless.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from moorage.errors import AlreadyExistsError, ConflictError, KeyNotFoundError
from moorage.format.keys import pack_key, segment_key
from moorage.format.segment import encode_segment
from moorage.format.stored import RAW, ZSTD, Encoding, encode_stored
from moorage.model.config import RepositoryConfig
from moorage.model.digest import ChunkId, ObjectId, PackId, SegmentId
from moorage.model.objects import KIND_OF_ID, ObjectKind
from moorage.packs.writer import FinishedPack, PackWriter, StoredObject
from moorage.repository.locator import Locator
from moorage.storage.base import Storage

SMALL_COMMIT_BYTES = 1024 * 1024
_PUBLISH_OBJECTS = 65_536
_METADATA_LEVEL = 3
_ENCODING_OF_METADATA: dict[ObjectKind, Encoding] = {
    ObjectKind.RECIPE: RAW,  # hashes do not compress
    ObjectKind.TREE: ZSTD,
    ObjectKind.SNAPSHOT: ZSTD,
}


@dataclass(slots=True)
class WriteStats:
    """What a transaction has written so far."""

    new_bytes: int = 0
    """Raw bytes of chunks that were not there before."""
    new_chunks: int = 0
    stored_bytes: int = 0
    """Of all packs and segments written."""
    packs: int = 0


class ObjectWriter:
    """Writes objects. Thread-safe but for `finish` and `discard`, which the owner calls when all others are done."""

    def __init__(self, storage: Storage, locator: Locator, config: RepositoryConfig) -> None:
        """Brings the index up to date, once. Raises `StorageError`."""
        locator.refresh()
        self._storage = storage
        self._locator = locator
        self.config = config
        self.stats = WriteStats()
        self._lock = threading.RLock()
        self._pending: set[tuple[ObjectKind, bytes]] = set()
        self._reusable: dict[PackId, bool] = {}
        self._own: set[PackId] = set()
        self._data: PackWriter | None = None
        self._metadata: PackWriter | None = None
        self._waiting_metadata: list[StoredObject] = []
        self._waiting_bytes = 0
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix="moorage-pack")
        self._finishing: list[tuple[Future[FinishedPack], PackWriter]] = []
        self._finished: list[FinishedPack] = []

    # -- what is there already -------------------------------------------------------------------------

    def claim(self, ids: Sequence[ObjectId]) -> list[int]:
        """The positions of those `ids` that the caller must now store; nobody else will be told to.

        Anything else is in a pack that is still listed, or has been claimed before in this transaction. Raises
        `StorageError`.
        """
        with self._lock:
            unknown = []
            for position, id in enumerate(ids):
                key = (KIND_OF_ID[type(id)], bytes(id))
                if key not in self._pending:
                    self._pending.add(key)
                    unknown.append(position)
            if not unknown:
                return []
            places = self._locator.lookup([ids[position] for position in unknown])
            mine = []
            for position, place in zip(unknown, places, strict=True):
                if place is None or not self._may_reuse(place.pack):
                    mine.append(position)
                else:
                    self._pending.discard((KIND_OF_ID[type(ids[position])], bytes(ids[position])))
            return mine

    def has(self, ids: Sequence[ObjectId]) -> list[bool]:
        """Whether each object is in a pack that may be referred to; claims nothing. Raises `StorageError`."""
        with self._lock:
            places = self._locator.lookup(ids)
            return [place is not None and self._may_reuse(place.pack) for place in places]

    def _may_reuse(self, pack: PackId) -> bool:
        answer = self._reusable.get(pack)
        if answer is None:
            answer = self._reusable[pack] = self._locator.may_reuse(pack)
        return answer

    # -- adding ----------------------------------------------------------------------------------------

    def add_chunks(self, chunks: Sequence[StoredObject]) -> None:
        """Store chunks that `claim` told the caller to store. Raises `StorageError`, `CorruptDataError`."""
        with self._lock:
            for chunk in chunks:
                self.stats.new_bytes += chunk.raw_bytes
                self.stats.new_chunks += 1
                if self._data is None:
                    self._data = PackWriter(self._storage)
                self._data.add(chunk)
                if self._data.size_bytes >= self.config.pack_target_bytes or self._data.is_full:
                    self._close(self._data)
                    self._data = None

    def put(self, id: ObjectId, raw: bytes) -> None:
        """Store one object that is not a chunk, if it is not there. Raises `StorageError`, `CorruptDataError`."""
        if not self.claim([id]):
            return
        kind = KIND_OF_ID[type(id)]
        encoded = encode_stored(raw, kind, _ENCODING_OF_METADATA[kind], level=_METADATA_LEVEL)
        with self._lock:
            self._waiting_metadata.append(StoredObject(kind, id, encoded, len(raw)))
            self._waiting_bytes += len(encoded)
            if self._waiting_bytes >= SMALL_COMMIT_BYTES:
                self._flush_metadata()

    def put_chunk(self, raw: bytes) -> ChunkId:
        """Store one chunk, compressed by zstd where that pays, if it is not there. Raises as `put`."""
        id = ChunkId.of(raw)
        if self.claim([id]):
            encoded = encode_stored(raw, ObjectKind.CHUNK, ZSTD, level=self.config.compression_level)
            self.add_chunks([StoredObject(ObjectKind.CHUNK, id, encoded, len(raw))])
        return id

    def _flush_metadata(self) -> None:
        for stored in self._waiting_metadata:
            if self._metadata is None:
                self._metadata = PackWriter(self._storage)
            self._metadata.add(stored)
            if self._metadata.size_bytes >= self.config.pack_target_bytes or self._metadata.is_full:
                self._close(self._metadata)
                self._metadata = None
        self._waiting_metadata = []
        self._waiting_bytes = 0

    # -- becoming durable ------------------------------------------------------------------------------

    def _close(self, pack: PackWriter) -> None:
        """Let a full pack become durable in the background; at most one waits while another is synced."""
        self._finishing.append((self._finisher.submit(pack.finish), pack))
        while len(self._finishing) > 2:
            self._collect_oldest()

    def _collect_oldest(self) -> None:
        # Taken off the list only when it is durable: `discard` must find the others.
        pack = self._finishing[0][0].result()
        del self._finishing[0]
        self._finished.append(pack)
        self.stats.stored_bytes += pack.size_bytes
        self.stats.packs += 1
        if sum(len(finished.entries) for finished in self._finished) >= _PUBLISH_OBJECTS:
            self._publish_segment()

    def _publish_segment(self) -> None:
        """List the packs that are durable in one segment, and take them into the index."""
        data = encode_segment([pack.footer for pack in self._finished])
        segment = SegmentId.of(data)
        try:
            self._storage.create(segment_key(segment), data)
        except AlreadyExistsError:
            pass  # the same packs were listed by a writer of the same packs
        self.stats.stored_bytes += len(data)
        self._take_in([segment])

    def _take_in(self, segments: Sequence[SegmentId]) -> None:
        packs, self._finished = self._finished, []
        self._locator.add([(pack.pack, pack.entries) for pack in packs], segments)
        for pack in packs:
            self._own.add(pack.pack)
            self._reusable[pack.pack] = True
            self._pending.difference_update((entry.kind, bytes(entry.id)) for entry in pack.entries)

    def finish(self) -> WriteStats:
        """Make everything durable, in order: data, metadata, segment.

        Raises `StorageError`, `CorruptDataError`, and `ConflictError` where a pack that was there is gone.
        """
        with self._lock:
            small = self._waiting_bytes + (self._data.size_bytes if self._data else 0) < SMALL_COMMIT_BYTES
            small = small and not self._finishing and not self._finished and self._metadata is None
            if small:
                self._metadata, self._data = self._data, None
            elif self._data is not None:
                self._close(self._data)
                self._data = None
            # Metadata refers to data: it becomes durable after it.
            self._drain()
            self._flush_metadata()
            if self._metadata is not None:
                self._close(self._metadata)
                self._metadata = None
            self._drain()
            if small and self.stats.stored_bytes:
                self._take_in([])
            elif self._finished:
                self._publish_segment()
            self._confirm_what_is_referred_to()
            self._finisher.shutdown()
            return self.stats

    def _confirm_what_is_referred_to(self) -> None:
        """A pack of somebody else may be of a writer that has not synced its folder yet, or may have been collected
        meanwhile."""
        others = [pack for pack, usable in self._reusable.items() if usable and pack not in self._own]
        try:
            self._storage.confirm(map(pack_key, others))
        except KeyNotFoundError as error:
            raise ConflictError(
                "a pack that this transaction refers to was removed meanwhile",
                hint="do it again: what is missing will be stored anew",
            ) from error

    def _drain(self) -> None:
        while self._finishing:
            self._collect_oldest()

    def discard(self) -> None:
        """Forget what is not durable yet; what is, is garbage that no ref leads to."""
        self._finisher.shutdown(cancel_futures=True)
        for pack in (self._data, self._metadata, *(pack for _, pack in self._finishing)):
            if pack is not None:
                pack.discard()
        self._data = self._metadata = None
        self._finishing = []

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Discard unless finished."""
        self.discard()
