"""What every index can do, whether it lies in LMDB or in memory.

An index is filled from whole packs. It remembers which packs and which segments it has taken in, so that it can be
brought up to date by looking at what is new.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Sequence

from moorage.model.digest import ObjectId, PackId, SegmentId
from moorage.model.objects import ObjectKind, PackEntry, PackLocation


class IndexDamaged(Exception):
    """The index holds what was not put there: it must be cleared and built anew. Never leaves the repository layer."""


class IndexUnwritable(Exception):
    """The index cannot be changed (a full disk, a broken one). Never leaves the repository layer."""


PackContents = tuple[PackId, Sequence[PackEntry]]


class Index(abc.ABC):
    """Object -> pack location. All methods may be called from several threads."""

    @abc.abstractmethod
    def find(self, ids: Sequence[ObjectId]) -> list[PackLocation | None]:
        """Where each object lies, None where the index does not know; one consistent view for the whole call."""

    @abc.abstractmethod
    def add(
        self, packs: Iterable[PackContents], segments: Iterable[SegmentId] = (), retired: Iterable[PackId] = ()
    ) -> None:
        """Take in packs, and remember that `segments` have been taken in and say that `retired` packs are. All or
        nothing."""

    @abc.abstractmethod
    def packs(self) -> set[PackId]:
        """The packs taken in so far."""

    @abc.abstractmethod
    def segments(self) -> set[SegmentId]:
        """The segments taken in so far."""

    @abc.abstractmethod
    def retired(self) -> set[PackId]:
        """The packs that a segment taken in so far says are retired: not to be referred to by new objects."""

    @abc.abstractmethod
    def with_prefix(self, kind: ObjectKind, hex_prefix: str, limit: int) -> list[bytes]:
        """Up to `limit` ids of objects of `kind` that start with these hexadecimal digits."""

    @abc.abstractmethod
    def ids(self, kind: ObjectKind) -> Iterator[bytes]:
        """All ids of one kind, ascending."""

    @abc.abstractmethod
    def clear(self) -> None:
        """Forget everything."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give back what the index holds."""
