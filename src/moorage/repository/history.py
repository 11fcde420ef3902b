"""What came before this snapshot, and where do two lines of history meet?"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from moorage.model.digest import SnapshotId
from moorage.model.objects import ObjectKind
from moorage.model.snapshot import Snapshot
from moorage.repository.objects import ObjectStore

MIN_PREFIX = 4
"""Fewer hexadecimal digits than this are never taken for a snapshot id."""

_FROM_A, _FROM_B, _STALE = 1, 2, 4


class History:
    """Walks snapshots. Thread-safe. Every method raises `DataError`, `FormatError`, `StorageError`."""

    def __init__(self, objects: ObjectStore) -> None:
        """Snapshots come from `objects`, which keeps recent ones decoded."""
        self._objects = objects

    def log(self, start: SnapshotId, *, first_parent: bool = False) -> Iterator[tuple[SnapshotId, Snapshot]]:
        """`start` and everything before it, newest first; never a snapshot before all of its known children."""
        seen = {start}
        queue = [(-self._objects.snapshot(start).time_ns, start)]
        while queue:
            _, id = heapq.heappop(queue)
            snapshot = self._objects.snapshot(id)
            yield id, snapshot
            for parent in snapshot.parents[:1] if first_parent else snapshot.parents:
                if parent not in seen:
                    seen.add(parent)
                    heapq.heappush(queue, (-self._objects.snapshot(parent).time_ns, parent))

    def ancestor(self, start: SnapshotId, steps: int) -> SnapshotId | None:
        """The snapshot `steps` first parents before `start`; None where history is shorter."""
        id = start
        for _ in range(steps):
            parents = self._objects.snapshot(id).parents
            if not parents:
                return None
            id = parents[0]
        return id

    def is_ancestor(self, old: SnapshotId, new: SnapshotId) -> bool:
        """Whether `new` came from `old`, or is it."""
        return any(id == old for id, _ in self.log(new))

    def merge_base(self, a: SnapshotId, b: SnapshotId) -> SnapshotId | None:
        """The newest snapshot that both came from, and that no other such snapshot came from; None where there is none.

        The algorithm is git's `paint_down_to_common`: walk back from both, newest first, painting each snapshot by
        where it was reached from; what has both colours is common, and what lies before it is stale.
        """
        colours = {a: _FROM_A}
        colours[b] = colours.get(b, 0) | _FROM_B
        queue = [(-self._objects.snapshot(id).time_ns, id) for id in colours]
        heapq.heapify(queue)
        common: list[SnapshotId] = []
        while any(not colours[id] & _STALE for _, id in queue):
            _, id = heapq.heappop(queue)
            colour = colours[id]
            if colour & (_FROM_A | _FROM_B) == _FROM_A | _FROM_B:
                if not colour & _STALE:
                    common.append(id)
                colour |= _STALE
            for parent in self._objects.snapshot(id).parents:
                before = colours.get(parent, 0)
                if before | colour != before:
                    colours[parent] = before | colour
                    heapq.heappush(queue, (-self._objects.snapshot(parent).time_ns, parent))
        best = [id for id in common if not colours[id] & _STALE] or common
        return best[0] if best else None

    def find(self, prefix: str) -> list[SnapshotId]:
        """Up to 8 snapshots whose ids start with these hexadecimal digits, after a look at what is new."""
        found = self._objects.locator.with_prefix(ObjectKind.SNAPSHOT, prefix)
        if not found:
            self._objects.locator.refresh()
            found = self._objects.locator.with_prefix(ObjectKind.SNAPSHOT, prefix)
        return [SnapshotId(raw) for raw in found]
