"""What if this very call to the storage had failed, or had succeeded and nobody had heard of it?

    storage = FaultyStorage(MemoryStorage(), fail_at=7, after=True)

passes everything on, but for its seventh call, which is done and then fails. `calls` tells what was called, so that a
test may run once to count and then once for each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from moorage.errors import MoorageError, OutcomeUnknownError, StorageError
from moorage.model.ranges import ByteRange
from moorage.storage.base import Buffer, KeyInfo, Storage, Upload

T = TypeVar("T")


class FaultyStorage(Storage):
    """Another storage, of which one call fails. Thread-safe where that is."""

    def __init__(self, inner: Storage, fail_at: int | None = None, *, after: bool = False) -> None:
        """`fail_at` counts from 1, over all methods and uploads; None never fails.

        With `after` the call is done before it fails: a `create` or `publish` then raises `OutcomeUnknownError`. Other
        calls, and all without `after`, raise `StorageError`.
        """
        self.inner = inner
        self.calls: list[str] = []
        """What was called so far: the method and the key or prefix."""
        self._fail_at = fail_at
        self._after = after
        self._lock = threading.Lock()

    def call(self, what: str, key: str, do: Callable[[], T]) -> T:
        """Do it and count it, unless its turn to fail has come."""
        with self._lock:
            self.calls.append(f"{what} {key}".strip())
            fails = len(self.calls) == self._fail_at
        if fails and not self._after:
            raise StorageError(f"cannot {what} {key}: made to fail", key=key)
        done = do()
        if fails:
            raise _unheard(what, key)
        return done

    def get(self, key: str) -> bytes:
        """See `Storage.get`."""
        return self.call("get", key, lambda: self.inner.get(key))

    def get_ranges(self, key: str, ranges: Sequence[ByteRange]) -> list[bytes]:
        """See `Storage.get_ranges`."""
        return self.call("get_ranges", key, lambda: self.inner.get_ranges(key, ranges))

    def size(self, key: str) -> int:
        """See `Storage.size`."""
        return self.call("size", key, lambda: self.inner.size(key))

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        return self.call("exists", key, lambda: self.inner.exists(key))

    def list_keys(self, prefix: str) -> Iterator[KeyInfo]:
        """See `Storage.list_keys`."""
        yield from self.call("list_keys", prefix, lambda: list(self.inner.list_keys(prefix)))

    def list_folders(self, prefix: str) -> list[str]:
        """See `Storage.list_folders`."""
        return self.call("list_folders", prefix, lambda: self.inner.list_folders(prefix))

    def create(self, key: str, data: Buffer) -> None:
        """See `Storage.create`."""
        self.call("create", key, lambda: self.inner.create(key, data))

    def upload(self) -> Upload:
        """See `Storage.upload`."""
        return _FaultyUpload(self, self.call("upload", "", self.inner.upload))

    def confirm(self, keys: Iterable[str]) -> None:
        """See `Storage.confirm`."""
        wanted = list(keys)
        self.call("confirm", " ".join(wanted), lambda: self.inner.confirm(wanted))

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        self.call("delete", key, lambda: self.inner.delete(key))

    def close(self) -> None:
        """See `Storage.close`; never fails."""
        self.inner.close()


def _unheard(what: str, key: str) -> MoorageError:
    if what in ("create", "publish"):
        return OutcomeUnknownError(f"{key} may have been written: made to fail", key=key)
    return StorageError(f"{what} {key} was done: made to fail", key=key)


class _FaultyUpload(Upload):
    def __init__(self, storage: FaultyStorage, inner: Upload) -> None:
        self._storage = storage
        self._inner = inner

    def write(self, parts: Sequence[Buffer]) -> None:
        self._storage.call("write", "", lambda: self._inner.write(parts))

    def publish(self, key: str) -> None:
        self._storage.call("publish", key, lambda: self._inner.publish(key))

    def discard(self) -> None:
        self._inner.discard()
