"""A storage that tells what is done to it, and lets a test step in before or after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from moorage.model.ranges import ByteRange
from moorage.storage.base import Buffer, KeyInfo, Storage, Upload

Step = Callable[[str, str], None]
"""(what is done: "create", "publish", "get", ...; the key)."""


def _nothing(what: str, key: str) -> None:
    pass


class Wrapped(Storage):
    """Passes everything on to another storage; `before` and `after` may raise, or do something of their own."""

    def __init__(self, inner: Storage, before: Step = _nothing, after: Step = _nothing) -> None:
        self.inner = inner
        self.before = before
        self.after = after
        self.done: list[tuple[str, str]] = []

    def _step(self, what: str, key: str) -> _Around:
        return _Around(self, what, key)

    def keys_of(self, *whats: str) -> list[str]:
        """The keys to which one of these was done, in order."""
        return [key for what, key in self.done if what in whats]

    def get(self, key: str) -> bytes:
        with self._step("get", key):
            return self.inner.get(key)

    def get_ranges(self, key: str, ranges: Sequence[ByteRange]) -> list[bytes]:
        with self._step("get_ranges", key):
            return self.inner.get_ranges(key, ranges)

    def size(self, key: str) -> int:
        with self._step("size", key):
            return self.inner.size(key)

    def exists(self, key: str) -> bool:
        with self._step("exists", key):
            return self.inner.exists(key)

    def list_keys(self, prefix: str) -> Iterator[KeyInfo]:
        with self._step("list", prefix):
            found = list(self.inner.list_keys(prefix))
        yield from found

    def list_folders(self, prefix: str) -> list[str]:
        with self._step("list", prefix):
            return self.inner.list_folders(prefix)

    def create(self, key: str, data: Buffer) -> None:
        with self._step("create", key):
            self.inner.create(key, data)

    def upload(self) -> Upload:
        with self._step("upload", ""):
            return _WrappedUpload(self, self.inner.upload())

    def confirm(self, keys: Iterable[str]) -> None:
        listed = list(keys)
        for key in listed:
            self.done.append(("confirm", key))
        self.inner.confirm(listed)

    def delete(self, key: str) -> None:
        with self._step("delete", key):
            self.inner.delete(key)


class _Around:
    def __init__(self, storage: Wrapped, what: str, key: str) -> None:
        self._storage, self._what, self._key = storage, what, key

    def __enter__(self) -> None:
        self._storage.before(self._what, self._key)
        self._storage.done.append((self._what, self._key))

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self._storage.after(self._what, self._key)


class _WrappedUpload(Upload):
    def __init__(self, storage: Wrapped, inner: Upload) -> None:
        self._storage, self._inner = storage, inner

    def write(self, parts: Sequence[Buffer]) -> None:
        with self._storage._step("write", ""):
            self._inner.write(parts)

    def publish(self, key: str) -> None:
        with self._storage._step("publish", key):
            self._inner.publish(key)

    def discard(self) -> None:
        with self._storage._step("discard", ""):
            self._inner.discard()
