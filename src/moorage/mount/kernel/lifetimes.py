"""How long may the kernel keep a name that may mean something else a moment later?

Names of the first level of a mount that follows a branch, and names that mean a branch where everything is mounted, are
where a move is noticed. The kernel asks again at each walk, so a moved branch is seen by the first one after the move.

A program that walks through such a name thousands of times a second (`ls -lR`, a loader of many small files) pays a
round trip to the server for each, ten times what the walk costs on a disk. So while walks come that quickly, and only
then, the kernel may keep the answer for the shortest time that it can measure: one tick of its clock. What that costs
is bounded by the clock, not by anything that would have to arrive: a move is seen at most two ticks late (8 ms at the
usual 250 ticks a second, 20 ms at 100), whatever happens to the server or to storage. All else is asked each time.

`ls -l` walks to each name once. In a burst a listing hands names out for that time too, so that the walks to them do
not come here at all, and the burst goes on.

Threads: any; an append to a bounded deque is one step under the interpreter's lock, and an error of one in the count
moves nothing but where a burst begins.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

TICK_NS = 4_000_000
"""The kernel rounds up to its ticks, and keeps a name through the tick in which that ends."""
_WALKS = 16
_WITHIN_NS = 4_000_000
_LASTS_NS = 30_000_000
"""While the kernel keeps the name it does not say how often it is walked through: then it has to be shown anew."""


class Bursts:
    """Notices when walks come quickly."""

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """No walk has come yet."""
        self._clock_ns = clock_ns
        self._walks: deque[int] = deque([-_WITHIN_NS] * _WALKS, maxlen=_WALKS)
        self._until_ns = 0

    def walked(self) -> int:
        """Count a walk through a name that may move; for how many nanoseconds its answer may be kept."""
        now_ns = self._clock_ns()
        if now_ns - self._walks[0] < _WITHIN_NS:
            self._until_ns = now_ns + _LASTS_NS
        self._walks.append(now_ns)
        return TICK_NS if now_ns < self._until_ns else 0

    def listed(self) -> int:
        """A page of a listing is asked for, with lookups; for how many nanoseconds its names may be kept. In a burst
        they stand for so many walks."""
        now_ns = self._clock_ns()
        if now_ns >= self._until_ns:
            return 0
        self._until_ns = now_ns + _LASTS_NS
        return TICK_NS
