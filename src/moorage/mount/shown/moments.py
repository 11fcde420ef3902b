"""Which number stands for which standing of a root?

What is remembered of a name has the number of the standing at which it was looked up, and so has the handle of a root
that is open. A number means the same for good, and is not used again. It is given up when nothing has it any more,
which is found out when all that is remembered is gone through, in parts (`InodeTable.renew`).

Threads: any; whoever asks for the number of a standing in order to remember something with it holds the lock of the
table until he has.
"""

from __future__ import annotations

import threading
from collections.abc import Container, Mapping, Sequence

from moorage.mount.shown.following import Standing
from moorage.mount.shown.slots import NOWHERE, standing_of

MOST_STANDINGS = 1024
"""Moments that are kept for who has the root itself open, the last ones that somebody opened; those of nodeids are kept
as long as these."""


class Moments:
    """Standings by number."""

    def __init__(self, standings: Mapping[int, Standing] | None = None) -> None:
        """Those that another process has numbered."""
        self._standings = {} if standings is None else dict(standings)
        self._numbers = {standing: number for number, standing in self._standings.items()}
        """Last is what was opened last."""
        self._next = max(self._standings, default=NOWHERE) + 1

    def __len__(self) -> int:
        """How many."""
        return len(self._numbers)

    def known(self, standing: Standing) -> int | None:
        """The number that it has, if it has one."""
        return self._numbers.get(standing)

    def add(self, standing: Standing) -> int:
        """A number for one that has none."""
        number = self._next
        self._next += 1
        self._standings[number] = standing
        self._numbers[standing] = number
        return number

    def opened(self, standing: Standing) -> None:
        """Somebody has opened the root there: of those with no other use it goes last."""
        self._numbers[standing] = self._numbers.pop(standing)

    def standing(self, number: int) -> Standing | None:
        """What a number means; None for `NOWHERE`."""
        return self._standings.get(number)

    def last(self) -> list[int]:
        """Of those that were opened last, and were numbered last, in order."""
        return list(self._numbers.values())[-MOST_STANDINGS:]

    def keep(self, used: Container[int]) -> None:
        """Give up those that are not used, and are not the last ones."""
        kept = set(self.last())
        self._numbers = {
            standing: number for standing, number in self._numbers.items() if number in used or number in kept
        }
        self._standings = {number: standing for standing, number in self._numbers.items()}


class Journal:
    """Where a table of nodeids tells what changes, before anybody hears of it. This one writes nothing down, for a
    server that no other one will follow; see `ledger.Ledger`."""

    def __init__(self, moments: Moments | None = None) -> None:
        """Go on with `moments`."""
        self._moments = Moments() if moments is None else moments
        self._lock = threading.Lock()
        self._used: set[int] | None = None
        """While all that is remembered is gone through: the numbers that were found, or given out, meanwhile."""
        self._kept = len(self._moments)
        self._latest: tuple[Standing | None, int] = (None, NOWHERE)
        """The one that was asked for last, which is mostly asked for again: to compare one takes two microseconds."""

    def number(self, standing: Standing | None) -> int:
        """The number of a standing; the same one for the same standing, as long as it is known."""
        if standing is None:
            return NOWHERE
        latest, number = self._latest
        if standing is latest:
            return number
        with self._lock:
            number = self._number(standing)
            self._latest = (standing, number)
            return number

    def moment(self, standing: Standing) -> int:
        """The same for somebody who opens the root, greater than 0."""
        with self._lock:
            number = self._number(standing)
            self._moments.opened(standing)
            return number

    def standing(self, number: int) -> Standing | None:
        """What a number means."""
        return self._moments.standing(number)

    def _number(self, standing: Standing) -> int:
        """Under the lock."""
        number = self._moments.known(standing)
        if number is None:
            number = self._moments.add(standing)
        if self._used is not None:
            self._used.add(number)
        return number

    # -- told by a table, under its lock ---------------------------------------------------------------

    def remembered(self, nodeids: Sequence[int], lookups: Sequence[int], places: Sequence[bytes]) -> None:
        """Slots that are new, or other than before."""

    def looked_up(self, nodeids: Sequence[int], lookups: Sequence[int]) -> None:
        """So often; 0 times: they are gone."""

    def retired(self, nodeids: Sequence[int]) -> None:
        """No further lookup finds these slots."""

    def is_long(self, live_bytes: int) -> bool:
        """Whether so much of it is dead that it should be made anew; `live_bytes` are remembered."""
        return len(self._moments) > 2 * max(MOST_STANDINGS, self._kept)

    def begin_anew(self, next_nodeid: int) -> None:
        """All that is remembered comes again, in parts, while other things change."""
        with self._lock:
            self._used, self._latest = set(), (None, NOWHERE)

    def renewed(
        self, nodeids: Sequence[int], lookups: Sequence[int], places: Sequence[bytes], retired: Sequence[int]
    ) -> None:
        """A part of it, with those nodeids of it that are retired."""
        with self._lock:
            if self._used is not None:
                self._used.update(map(standing_of, places))

    def end_anew(self) -> bool:
        """That was all. False if it must be called once more, with the next request."""
        with self._lock:
            if self._used is not None:
                self._moments.keep(self._used)
                self._used, self._kept = None, len(self._moments)
                self._latest = (None, NOWHERE)
        return True
