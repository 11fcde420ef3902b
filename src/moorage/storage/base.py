"""What must a storage promise?

1. What was created is never changed: there is no overwrite, only `create`, which fails when the key is taken.
2. When `create` or `publish` returns, the bytes and their key survive a power cut.
3. A key appears with all of its bytes or not at all, for every reader, at every moment.
4. When `create` or `publish` raises `AlreadyExistsError`, the key was durable before it raised.
5. `OutcomeUnknownError` means what it says: the key may or may not be there, now or after a power cut. Only reading it
   back tells. Nothing was undone.
6. Every method may be called from several threads and several processes at once.

Keys are relative paths with `/`, made by `moorage.format.keys`; a storage treats them as opaque but for prefixes.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from moorage.model.ranges import ByteRange

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """One key of a listing."""

    key: str
    size_bytes: int


class Upload(abc.ABC):
    """An object being written whose key is not known yet. A context manager: leaving it unpublished discards it."""

    @abc.abstractmethod
    def write(self, parts: Sequence[Buffer]) -> None:
        """Append `parts`. Raises `StorageError`, `StorageFullError`."""

    @abc.abstractmethod
    def publish(self, key: str) -> None:
        """Make what was written appear, durably, under `key`.

        Raises `AlreadyExistsError`, `OutcomeUnknownError`, `StorageError`.
        """

    @abc.abstractmethod
    def discard(self) -> None:
        """Forget what was written; does nothing after `publish`."""

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Discard unless published."""
        self.discard()


class Storage(abc.ABC):
    """Keys to bytes; see the promises at the top of this module."""

    @abc.abstractmethod
    def get(self, key: str) -> bytes:
        """All bytes of `key`. Raises `KeyNotFoundError`, `StorageError`."""

    @abc.abstractmethod
    def get_ranges(self, key: str, ranges: Sequence[ByteRange]) -> list[bytes]:
        """The bytes of each range, in order.

        Raises `KeyNotFoundError`, `StorageError`, and `CorruptDataError` where the object ends before a range does.
        """

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`; raises as `get_ranges`."""
        return self.get_ranges(key, [ByteRange(start, stop)])[0]

    def prefetch(self, key: str, wanted: ByteRange) -> None:
        """Bytes that somebody will soon ask for: who can get them nearer does so now, and waits for them. A hint:
        nothing depends on it, and there need not be such an object. Raises `StorageError` where it is not even tried.
        """

    def copy_ranges(self, key: str, ranges: Sequence[tuple[ByteRange, int]], fd: int) -> bool:
        """Copy each range of an object to its place (an offset) in an open file, without leaving the kernel.

        False where that cannot be done: no such object, another file system, a full disk, or not at all, as here. What
        is then in the file does not count, and whoever reads and writes instead is told why. Raises `StorageError`
        where it is not even tried.
        """
        return False

    @abc.abstractmethod
    def size(self, key: str) -> int:
        """How long the object is. Raises `KeyNotFoundError`, `StorageError`."""

    @abc.abstractmethod
    def exists(self, key: str) -> bool:
        """Whether something lies under `key`. Raises `StorageError`."""

    @abc.abstractmethod
    def list_keys(self, prefix: str) -> Iterator[KeyInfo]:
        """All keys that start with `prefix` (which is empty or ends in `/`), in no particular order.

        Raises `StorageError`; an absent prefix is an empty listing.
        """

    def list_names(self, prefix: str) -> list[str]:
        """What follows `prefix` (which ends in `/`) in the keys directly below it, in no particular order.

        For who needs no sizes: a directory gives names at a twentieth of the cost. Raises `StorageError`.
        """
        rests = (info.key.removeprefix(prefix) for info in self.list_keys(prefix))
        return [rest for rest in rests if "/" not in rest]

    @abc.abstractmethod
    def list_folders(self, prefix: str) -> list[str]:
        """The distinct parts between `prefix` (which ends in `/`) and the next `/`, sorted. Raises `StorageError`."""

    @abc.abstractmethod
    def create(self, key: str, data: Buffer) -> None:
        """Store `data` under `key`, durably. Raises `AlreadyExistsError`, `OutcomeUnknownError`, `StorageError`."""

    @abc.abstractmethod
    def upload(self) -> Upload:
        """Start an object whose key comes later. Raises `ReadOnlyError`, `StorageError`."""

    @abc.abstractmethod
    def confirm(self, keys: Iterable[str]) -> None:
        """Make sure that keys which another writer created are there, and survive a power cut, as that writer may not
        have got so far.

        Raises `KeyNotFoundError`, `StorageError`.
        """

    @abc.abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; only garbage collection may. Raises `KeyNotFoundError`, `StorageError`."""

    def close(self) -> None:
        """Give back what this storage holds; it is not used afterwards."""
