"""How many different ids are among these, without a Python object for each?

A set of a million ids takes a hundred megabytes; here an id takes 32 to 64 bytes. Derived, in memory only. Not
thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterator

from moorage.model.digest import DIGEST_BYTES

_FIRST_LIMIT_BYTES = 1024 * DIGEST_BYTES


class DistinctIds:
    """Takes ids in, repeated as they come, and gives each out once."""

    def __init__(self) -> None:
        """Start empty."""
        self._buckets = [bytearray() for _ in range(256)]
        self._limits = [_FIRST_LIMIT_BYTES] * 256
        """A bucket that is longer is freed of repetitions, and then may double: each id is looked at a few times."""

    def add(self, ids: bytes) -> None:
        """Take in ids, 32 bytes each, back to back."""
        for start in range(0, len(ids), DIGEST_BYTES):
            first = ids[start]
            bucket = self._buckets[first]
            bucket += ids[start : start + DIGEST_BYTES]
            if len(bucket) > self._limits[first]:
                self._compact(first)

    def _compact(self, first: int) -> None:
        kept = bytearray().join(_split(self._buckets[first]))
        self._buckets[first] = kept
        self._limits[first] = max(_FIRST_LIMIT_BYTES, 2 * len(kept))

    def __iter__(self) -> Iterator[bytes]:
        """Each id once, in no particular order."""
        for bucket in self._buckets:
            yield from _split(bucket)


def _split(bucket: bytearray) -> set[bytes]:
    data = bytes(bucket)
    return {data[start : start + DIGEST_BYTES] for start in range(0, len(data), DIGEST_BYTES)}
