"""A storage in memory: for tests, and to show how little the contract asks."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence

from moorage.errors import AlreadyExistsError, CorruptDataError, KeyNotFoundError
from moorage.model.ranges import ByteRange
from moorage.storage.base import Buffer, KeyInfo, Storage, Upload


class MemoryStorage(Storage):
    """A dictionary and a lock. Durable for as long as the process lives."""

    def __init__(self) -> None:
        """Start empty."""
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes:
        """See `Storage.get`."""
        try:
            return self._objects[key]
        except KeyError as error:
            raise KeyNotFoundError(f"cannot read {key}: no such key", key=key) from error

    def get_ranges(self, key: str, ranges: Sequence[ByteRange]) -> list[bytes]:
        """See `Storage.get_ranges`."""
        data = self.get(key)
        if any(wanted.stop > len(data) for wanted in ranges):
            raise CorruptDataError(f"{key} is cut short", key=key)
        return [data[wanted.start : wanted.stop] for wanted in ranges]

    def size(self, key: str) -> int:
        """See `Storage.size`."""
        return len(self.get(key))

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        return key in self._objects

    def list_keys(self, prefix: str) -> Iterator[KeyInfo]:
        """See `Storage.list_keys`."""
        with self._lock:
            found = [KeyInfo(key, len(data)) for key, data in self._objects.items() if key.startswith(prefix)]
        yield from found

    def list_folders(self, prefix: str) -> list[str]:
        """See `Storage.list_folders`."""
        rests = (info.key.removeprefix(prefix) for info in self.list_keys(prefix))
        return sorted({rest.split("/", 1)[0] for rest in rests if "/" in rest})

    def create(self, key: str, data: Buffer) -> None:
        """See `Storage.create`."""
        with self._lock:
            if key in self._objects:
                raise AlreadyExistsError(f"{key} exists already", key=key)
            self._objects[key] = bytes(data)

    def upload(self) -> Upload:
        """See `Storage.upload`."""
        return _MemoryUpload(self)

    def confirm(self, keys: Iterable[str]) -> None:
        """See `Storage.confirm`."""
        for key in keys:
            self.size(key)

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        with self._lock:
            if self._objects.pop(key, None) is None:
                raise KeyNotFoundError(f"cannot delete {key}: no such key", key=key)


class _MemoryUpload(Upload):
    def __init__(self, storage: MemoryStorage) -> None:
        self._storage = storage
        self._data = bytearray()

    def write(self, parts: Sequence[Buffer]) -> None:
        for part in parts:
            self._data += part

    def publish(self, key: str) -> None:
        self._storage.create(key, self._data)

    def discard(self) -> None:
        self._data = bytearray()
