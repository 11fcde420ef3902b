"""What does a mount wait for, and what does it no longer wait for because waiting was in vain?

A disk that fails, or a file system whose server is gone, does not say no: calls to it stay in the kernel until it comes
back, if it does. Each such call costs a thread, so they must not pile up:

* What was waited for as long as a request may take, and is being waited for still, is *in vain*: whoever wants the same
  bytes of the same file gets a `StorageError` at once, until the first call has come back.
* For refs that is so much earlier. Where a branch stands is asked in each walk, and whoever gets no answer stays on the
  snapshot it had (`following`), so what is cached goes on being served.
* For the cache of hydrated files, too: what does not come from there comes from chunks.
* When too many calls never came back (`is_exhausted`), everything that would touch the repository fails at once.

Every call of a mount to its repository passes through `WatchedStorage` and `WatchedIndex`, which write down in one
dictionary, under the thread's number, what it is about to wait for (but not copies and hints, which nobody else waits
for). They look at no clock; `look`, which somebody calls
every so often, sees what has been there how long. Where nobody looks, nothing is ever in vain.

Threads: any; `look` and `give_up` by one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import get_ident
from typing import NamedTuple, TypeVar

from moorage.errors import StorageError
from moorage.format.keys import REFS_PREFIX
from moorage.index.base import Index, PackContents
from moorage.model.digest import ObjectId, PackId, SegmentId
from moorage.model.objects import KIND_OF_ID, ObjectKind, PackLocation
from moorage.model.ranges import ByteRange
from moorage.storage.base import Buffer, KeyInfo, Storage, Upload

T = TypeVar("T")

PART_WHERE_ONE_CAN_DO_WITHOUT = 4
LONGEST_WHERE_ONE_CAN_DO_WITHOUT_S = 2.0
"""A ref, and the cache, are waited for for a quarter of the time that a request has, and not longer than this."""


class Call(NamedTuple):
    """What a thread waits for."""

    what: str
    key: str
    ranges: Sequence[ByteRange] = ()
    """Of the object; empty for all of it."""
    is_of_cache: bool = False
    """Not of the repository."""

    def is_the_same(self, key: str, ranges: Sequence[ByteRange]) -> bool:
        """Whether a call for this would wait for what this one waits for."""
        if key != self.key:
            return False
        if not ranges or not self.ranges:
            return True
        return any(one.start < other.stop and other.start < one.stop for one in ranges for other in self.ranges)

    def __str__(self) -> str:
        """In words."""
        part = f" from {self.ranges[0].start} to {self.ranges[-1].stop}" if self.ranges else ""
        return f"{self.what} {self.key}{part}"


class Patience:
    """What all threads of a mount wait for."""

    def __init__(self, timeout_s: float) -> None:
        """Nothing is waited for longer than `timeout_s`."""
        self.timeout_s = timeout_s
        self.calls: dict[int, Call] = {}
        """By thread."""
        self.asked: dict[int, Sequence[ObjectId]] = {}
        """The objects that a thread has last asked the index for."""
        self.in_vain: tuple[Call, ...] = ()
        self.given_up = 0
        """How many requests were answered before it came back."""
        self.is_exhausted = False
        """Whether everything fails at once."""
        self._since: dict[int, tuple[Call, float]] = {}
        self._given_up: list[Call] = []
        self._hasty = 0

    def through(self, storage: Storage, index: Index) -> tuple[Storage, Index]:
        """The same, waited for with this patience."""
        return WatchedStorage(storage, self), WatchedIndex(index, self)

    def wait_for_cache(self, folder: str, do: Callable[[], T]) -> T:
        """As `wait`, for something in the cache; one that hangs is taken for all of it hanging."""
        return self.wait(Call("looking into", folder, is_of_cache=True), do)

    # -- for those who wait ------------------------------------------------------------------------

    def wait(self, call: Call, do: Callable[[], T]) -> T:
        """Do it, and have it known. Raises `StorageError` at once where that would be in vain."""
        if self.is_exhausted or self.in_vain:
            self.refuse(call)
        me = get_ident()
        self.calls[me] = call
        try:
            return do()
        finally:
            del self.calls[me]
            if self.in_vain:
                self.came_back(call)

    def came_back(self, call: Call) -> None:
        """What was waited for in vain has come after all."""
        self.in_vain = tuple(other for other in self.in_vain if other is not call)

    def refuse(self, call: Call) -> None:
        """Raise `StorageError` where `call` would be in vain."""
        if self.is_exhausted and not call.is_of_cache:
            raise StorageError(
                "too many reads of the repository were never answered", hint="look at the disk it lies on", key=call.key
            )
        for other in self.in_vain:
            if other.is_the_same(call.key, call.ranges):
                raise StorageError(
                    f"the {'cache' if call.is_of_cache else 'repository'} does not answer: still {other}",
                    hint="look at the disk it lies on",
                    key=call.key,
                )
        if get_ident() == self._hasty:
            raise StorageError("there is no time to ask the repository", key=call.key)

    # -- for the one who looks ---------------------------------------------------------------------

    def look(self, now: float) -> None:
        """See what has been waited for too long."""
        try:
            calls = list(self.calls.items())
        except RuntimeError:
            return  # it changed meanwhile; there is another look soon
        since = {}
        for thread, call in calls:
            before = self._since.get(thread)
            since[thread] = before if before is not None and before[0] is call else (call, now)
        self._since = since
        self._given_up = [call for call in self._given_up if any(call is other for _, other in calls)]
        too_long = [call for call, then in since.values() if now - then >= self._patience_with(call)]
        self.in_vain = tuple(too_long + [call for call in self._given_up if call not in too_long])

    def _patience_with(self, call: Call) -> float:
        if call.is_of_cache or call.key.startswith(REFS_PREFIX):
            return min(LONGEST_WHERE_ONE_CAN_DO_WITHOUT_S, self.timeout_s / PART_WHERE_ONE_CAN_DO_WITHOUT)
        return self.timeout_s

    def is_in_vain(self, thread: int) -> bool:
        """Whether what a thread waits for is in vain."""
        call = self.calls.get(thread)
        return call is not None and any(call is other for other in self.in_vain)

    @contextlib.contextmanager
    def hasty(self) -> Iterator[None]:
        """Wait for nothing at all in the block, as long as something is in vain: what is at hand has to do."""
        self._hasty = get_ident()
        try:
            yield
        finally:
            self._hasty = 0

    def give_up(self, thread: int) -> str:
        """What a thread, whose request is overdue, waits for; empty where that is not the repository. It is in vain
        from now on."""
        self.given_up += 1
        call = self.calls.get(thread)
        if call is None:
            return ""
        self._given_up.append(call)
        self.in_vain = (*self.in_vain, call)
        objects = self.asked.get(thread, ())
        if not objects or not call.ranges:
            return str(call)
        more = f" and {len(objects) - 1} more" if len(objects) > 1 else ""
        return f"{call} ({KIND_OF_ID[type(objects[0])].name.lower()} {objects[0].hex()}{more})"


class WatchedStorage(Storage):
    """A storage that is waited for with patience."""

    def __init__(self, inner: Storage, patience: Patience) -> None:
        """Pass everything on to `inner`."""
        self._inner = inner
        self._wait = patience.wait
        self._patience = patience

    def get(self, key: str) -> bytes:
        """See `Storage.get`."""
        # Asked in each walk, so this is `Patience.wait` with fewer steps: half a microsecond of eight.
        call, patience, me = tuple.__new__(Call, ("reading", key, (), False)), self._patience, get_ident()
        if patience.is_exhausted or patience.in_vain:
            patience.refuse(call)
        calls = patience.calls
        calls[me] = call
        try:
            return self._inner.get(key)
        finally:
            del calls[me]
            if patience.in_vain:
                patience.came_back(call)

    def get_ranges(self, key: str, ranges: Sequence[ByteRange]) -> list[bytes]:
        """See `Storage.get_ranges`."""
        return self._wait(Call("reading", key, ranges), lambda: self._inner.get_ranges(key, ranges))

    def prefetch(self, key: str, wanted: ByteRange) -> None:
        """See `Storage.prefetch`. Not written down: where it hangs, who reads the same bytes may still have those that
        he needs."""
        self._patience.refuse(Call("prefetching", key, [wanted]))
        self._inner.prefetch(key, wanted)

    def copy_ranges(self, key: str, ranges: Sequence[tuple[ByteRange, int]], fd: int) -> bool:
        """See `Storage.copy_ranges`. Not waited for: where it hangs, that may be by the disk that is copied to, and
        then reading the same bytes is not in vain."""
        self._patience.refuse(Call("copying", key, [wanted for wanted, _ in ranges]))
        return self._inner.copy_ranges(key, ranges, fd)

    def size(self, key: str) -> int:
        """See `Storage.size`."""
        return self._wait(Call("looking at", key), lambda: self._inner.size(key))

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        return self._wait(Call("looking at", key), lambda: self._inner.exists(key))

    def list_keys(self, prefix: str) -> Iterator[KeyInfo]:
        """See `Storage.list_keys`."""
        yield from self._wait(Call("listing", prefix), lambda: list(self._inner.list_keys(prefix)))

    def list_names(self, prefix: str) -> list[str]:
        """See `Storage.list_names`."""
        return self._wait(Call("listing", prefix), lambda: self._inner.list_names(prefix))

    def list_folders(self, prefix: str) -> list[str]:
        """See `Storage.list_folders`."""
        return self._wait(Call("listing", prefix), lambda: self._inner.list_folders(prefix))

    def create(self, key: str, data: Buffer) -> None:
        """See `Storage.create`."""
        self._inner.create(key, data)

    def upload(self) -> Upload:
        """See `Storage.upload`."""
        return self._inner.upload()

    def confirm(self, keys: Iterable[str]) -> None:
        """See `Storage.confirm`."""
        self._inner.confirm(keys)

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        self._inner.delete(key)

    def close(self) -> None:
        """See `Storage.close`."""
        self._inner.close()


class WatchedIndex(Index):
    """An index that is waited for with patience: it may lie on the same disk."""

    def __init__(self, inner: Index, patience: Patience) -> None:
        """Pass everything on to `inner`."""
        self._inner = inner
        self._patience = patience

    def find(self, ids: Sequence[ObjectId]) -> list[PackLocation | None]:
        """See `Index.find`."""
        self._patience.asked[get_ident()] = ids
        return self._patience.wait(Call("looking into", "the index"), lambda: self._inner.find(ids))

    def add(
        self, packs: Iterable[PackContents], segments: Iterable[SegmentId] = (), retired: Iterable[PackId] = ()
    ) -> None:
        """See `Index.add`."""
        self._inner.add(packs, segments, retired)

    def packs(self) -> set[PackId]:
        """See `Index.packs`."""
        return self._inner.packs()

    def segments(self) -> set[SegmentId]:
        """See `Index.segments`."""
        return self._inner.segments()

    def retired(self) -> set[PackId]:
        """See `Index.retired`."""
        return self._inner.retired()

    def with_prefix(self, kind: ObjectKind, hex_prefix: str, limit: int) -> list[bytes]:
        """See `Index.with_prefix`."""
        return self._patience.wait(
            Call("looking into", "the index"), lambda: self._inner.with_prefix(kind, hex_prefix, limit)
        )

    def ids(self, kind: ObjectKind) -> Iterator[bytes]:
        """See `Index.ids`."""
        return self._inner.ids(kind)

    def clear(self) -> None:
        """See `Index.clear`."""
        self._inner.clear()

    def close(self) -> None:
        """See `Index.close`."""
        self._inner.close()
