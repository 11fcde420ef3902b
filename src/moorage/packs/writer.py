"""How does a pack come to be? Stored objects are streamed out as they come; the footer follows; then the pack appears.

What has come together is written by a thread of the pack's own, so that whoever adds objects, usually with a lock that
others wait for, is not held up by the copy into the page cache.

Not thread-safe: one owner at a time. Nothing is visible, and nothing durable, before `finish` returns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from moorage.errors import AlreadyExistsError, CorruptDataError
from moorage.format.keys import pack_key
from moorage.format.pack import MAX_PACK_OBJECTS, PACK_MAGIC, encode_footer, encode_trailer
from moorage.format.stored import checksum, decode_stored
from moorage.model.digest import ObjectId, PackId
from moorage.model.objects import Codec, ObjectKind, PackEntry
from moorage.storage.base import Storage

_FLUSH_BYTES = 4 * 1024 * 1024
_WRITES_AHEAD = 2
"""Writes that may wait for the disk; more would be memory without a bound."""
SAMPLE_EVERY = 256
"""One in so many stored objects is decoded and hashed before its pack is published: an encoder that is wrong (a bad
library, bad memory) is found while the source is still there. The first object of a pack is always tried."""


class StoredObject:
    """One encoded object on its way into a pack."""

    __slots__ = ("checksum", "codec", "id", "kind", "raw_bytes", "stored")

    def __init__(self, kind: ObjectKind, id: ObjectId, stored: bytes, raw_bytes: int) -> None:
        """`stored` is header and payload, as `format.stored.encode_stored` makes them."""
        self.kind = kind
        self.id = id
        self.stored = stored
        self.raw_bytes = raw_bytes
        self.codec = Codec(stored[0])
        self.checksum = checksum(stored)

    def verify(self) -> None:
        """Decode and hash what was encoded. Raises `CorruptDataError`."""
        raw = decode_stored(self.stored, kind=self.kind, raw_bytes=self.raw_bytes)
        if ObjectId.of(raw) != self.id:
            raise CorruptDataError(
                f"a {self.kind.name.lower()} did not survive its own encoding; nothing was written",
                hint="test this machine's memory",
                id=self.id.hex(),
            )


class PackWriter:
    """Writes one pack. A context manager: leaving it unfinished discards the pack."""

    def __init__(self, storage: Storage) -> None:
        """Start an upload. Raises `ReadOnlyError`, `StorageError`."""
        self._upload = storage.upload()
        self._entries: list[PackEntry] = []
        self._waiting: list[bytes] = [PACK_MAGIC]
        self._waiting_bytes = len(PACK_MAGIC)
        self.size_bytes = len(PACK_MAGIC)
        self._thread: ThreadPoolExecutor | None = None
        self._writes: deque[Future[None]] = deque()

    def __len__(self) -> int:
        """How many objects it holds."""
        return len(self._entries)

    @property
    def is_full(self) -> bool:
        """Whether no more objects fit into one footer."""
        return len(self._entries) >= MAX_PACK_OBJECTS

    def add(self, stored: StoredObject) -> None:
        """Append one object. Raises `StorageError`, `CorruptDataError`."""
        if len(self._entries) % SAMPLE_EVERY == 0:
            stored.verify()
        length = len(stored.stored)
        self._entries.append(
            PackEntry(stored.kind, stored.id, self.size_bytes, length, stored.raw_bytes, stored.codec, stored.checksum)
        )
        self._waiting.append(stored.stored)
        self._waiting_bytes += length
        self.size_bytes += length
        if self._waiting_bytes >= _FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Let what has come together be written, after all that was before; raises what an earlier write raised."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="moorage-pack-write")
        while len(self._writes) >= _WRITES_AHEAD:
            self._writes.popleft().result()
        self._writes.append(self._thread.submit(self._upload.write, self._waiting))
        self._waiting = []
        self._waiting_bytes = 0

    def _stop_writing(self) -> None:
        """What has not been begun is not written any more; what has been is."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
            self._thread = None

    def finish(self) -> FinishedPack:
        """Write the footer and publish, durably. The pack must hold something. Raises `StorageError`."""
        footer = encode_footer(self._entries)
        pack = PackId.of(footer)
        trailer = encode_trailer(footer)
        while self._writes:
            self._writes.popleft().result()
        self._stop_writing()
        self._upload.write([*self._waiting, footer, trailer])
        self._waiting = []
        try:
            self._upload.publish(pack_key(pack))
        except AlreadyExistsError:
            # The same objects in the same order, stored the same way: whoever was first wrote our pack.
            self._upload.discard()
        return FinishedPack(pack, footer, tuple(self._entries), self.size_bytes + len(footer) + len(trailer))

    def discard(self) -> None:
        """Forget the pack."""
        self._stop_writing()
        self._upload.discard()

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Discard unless finished."""
        self.discard()


class FinishedPack:
    """A pack that is durable: its id, its footer, and what it holds."""

    __slots__ = ("entries", "footer", "pack", "size_bytes")

    def __init__(self, pack: PackId, footer: bytes, entries: Sequence[PackEntry], size_bytes: int) -> None:
        """See the fields."""
        self.pack = pack
        self.footer = footer
        self.entries = entries
        self.size_bytes = size_bytes
