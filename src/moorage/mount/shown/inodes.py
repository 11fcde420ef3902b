"""What does each number that the kernel remembers stand for?

A *nodeid* is a slot of this table, not an inode number: slots count up from 2, are never used again, and never change
what they mean, so a hash collision can never serve wrong bytes, and pages that the kernel keeps under a nodeid are
right for good. The same file in two directories, or in two snapshots, is one slot and so one page cache. A directory's
slot also depends on its parent's slot and its name, because the kernel lets a directory have only one path.

A file has a second slot, a twin, where somebody has the first one open in a way that the next one cannot share (see
`kernel.passthrough`).

The kernel counts: each name that a reply hands out is one lookup, and FORGET gives lookups back. A slot without any is
dropped, so the table is as large as what the kernel remembers. If an answer is lost the count is too high, never too
low: a slot that stays too long is memory, one that goes too soon is an error for a reader.

In memory, as bytes (see `slots`); what changes is told to a journal before the kernel is told of it, so that another
process can go on (see `ledger`). Threads: any; one lock, held for a few dictionary operations.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import length_hint
from typing import NamedTuple

from moorage.mount.shown.following import Standing
from moorage.mount.shown.keys import Keys
from moorage.mount.shown.moments import Journal
from moorage.mount.shown.slots import Slot, again, key_of, name_of, packed, parent_of, slot_of, standing_of
from moorage.mount.shown.view import Folder, Node

ROOT = 1
"""The nodeid of the root."""
_MOST_MADE = 1024
RENEWED_AT_ONCE = 1000
"""Slots that are written down again by one request, when the journal has become long: a third of a millisecond."""


class Remembered(NamedTuple):
    """What a table holds, as another process may have left it."""

    places: dict[int, bytes]
    """By nodeid."""
    lookups: dict[int, int]
    """By nodeid; of those that were looked up more than once."""
    retired: set[int]
    """Nodeids that no further lookup finds."""
    next_nodeid: int


class InodeTable:
    """All nodeids that the kernel may ask about."""

    def __init__(self, folder: Callable[[str], Folder], journal: Journal | None = None) -> None:
        """Only the root, which is not in the table: it is looked up anew each time. `folder` finds by its word what is
        in no tree."""
        self._folder = folder
        self._journal = Journal() if journal is None else journal
        self._places: dict[int, bytes] = {}
        self._lookups: dict[int, int] = {}
        """Only of those that are not 1: of most names there is one for as long as the kernel knows them."""
        self._retired: set[int] = set()
        self._keys = Keys(self._places)
        """Of those that are not retired."""
        self._bytes = 0
        """Of all places."""
        self._made: dict[int, tuple[bytes, Slot]] = {}
        """Of what was asked about last; a slot is what its place says, so it is as good as that."""
        self._next = ROOT + 1
        self._lock = threading.Lock()
        self._renewing: Iterator[int] | None = None

    def restore(self, remembered: Remembered) -> None:
        """Go on where another table was; before anything else is asked."""
        self._places, self._lookups, self._retired, self._next = remembered
        self._bytes = sum(map(len, self._places.values()))
        self._keys = Keys(self._places)
        for nodeid, place in self._places.items():
            if nodeid not in self._retired:
                self._keys.claim(key_of(place), place, nodeid)

    def __len__(self) -> int:
        """How many slots."""
        return len(self._places)

    def remember(self, parent: int, name: str, node: Node) -> int:
        """The nodeid of `node`, found as `name` in `parent`; counts one lookup."""
        return self.remember_all(node.standing, lambda number: [packed(parent, name, node, number)])[0]

    def remember_all(self, standing: Standing | None, pack: Callable[[int], Sequence[bytes]]) -> list[int]:
        """The nodeids of many nodes of one standing, in one step; counts one lookup of each. `pack` packs them as
        `slots` does, with the number of the standing, which is given up where nothing remembered has it."""
        nodeids: list[int] = []
        told: list[int] = []
        counted: list[int] = []
        with self._lock:
            keys, known = self._keys, self._places
            for place in pack(self._journal.number(standing)):
                key = key_of(place)
                nodeid = keys.claim(key, place, self._next)
                if nodeid == self._next:
                    known[nodeid] = place
                    self._next += 1
                    self._bytes += len(place)
                    told.append(nodeid)
                else:
                    self._lookups[nodeid] = self._lookups.get(nodeid, 1) + 1
                    (told if self._replace(nodeid, place) else counted).append(nodeid)
                nodeids.append(nodeid)
            self._tell(told, counted)
        return nodeids

    def _replace(self, nodeid: int, place: bytes) -> bool:
        """Whether it is another than before."""
        old = self._places[nodeid]
        if place == old:
            return False
        place = again(old, place)
        self._places[nodeid] = place
        self._bytes += len(place) - len(old)
        return place != old

    def _tell(self, told: Sequence[int], counted: Sequence[int]) -> None:
        """Under the lock: write down slots that are new or other than before, and counts of others."""
        places, lookups = self._places, self._lookups
        if told:
            counts = [lookups.get(nodeid, 1) for nodeid in told]
            self._journal.remembered(told, counts, [places[nodeid] for nodeid in told])
        if counted:
            self._journal.looked_up(counted, [lookups.get(nodeid, 1) for nodeid in counted])
        self._renew()

    def get(self, nodeid: int) -> Slot | None:
        """The slot of `nodeid`, or None when the kernel has given it back (or for the root)."""
        place = self._places.get(nodeid)
        if place is None:
            return None
        made = self._made.get(nodeid)
        if made is not None and made[0] is place:
            return made[1]
        slot = slot_of(nodeid, place, self._journal.standing(standing_of(place)), self._folder)
        if len(self._made) >= _MOST_MADE:
            self._made.clear()
        self._made[nodeid] = (place, slot)
        return slot

    def lookups(self, nodeid: int) -> int:
        """How often the kernel was told of `nodeid` and has not given it back."""
        return self._lookups.get(nodeid, 1) if nodeid in self._places else 0

    def forget(self, forgotten: Iterable[tuple[int, int]]) -> list[int]:
        """Give back (nodeid, lookups); the nodeids that are gone now."""
        gone: list[int] = []
        left: dict[int, int] = {}
        with self._lock:
            for nodeid, lookups in forgotten:
                place = self._places.get(nodeid)
                if place is None:
                    continue
                left[nodeid] = count = max(self._lookups.pop(nodeid, 1) - lookups, 0)
                if count > 1:
                    self._lookups[nodeid] = count
                elif count == 0:
                    gone.append(nodeid)
                    self._drop(nodeid, place)
            if left:
                self._journal.looked_up(list(left), list(left.values()))
            self._renew()
        return gone

    def _drop(self, nodeid: int, place: bytes) -> None:
        if nodeid in self._retired:
            self._retired.remove(nodeid)
        else:
            self._keys.remove(key_of(place), nodeid)
        del self._places[nodeid]
        self._bytes -= len(place)

    def retire(self, nodeid: int) -> None:
        """Let no further lookup find this slot: the next one gives what it stands for another nodeid, a twin with the
        same inode number. Whoever has the old one open goes on with it."""
        with self._lock:
            place = self._places.get(nodeid)
            if place is not None and nodeid not in self._retired:
                self._retired.add(nodeid)
                self._keys.remove(key_of(place), nodeid)
                self._journal.retired([nodeid])

    def is_retired(self, nodeid: int) -> bool:
        """Whether no further lookup finds it."""
        return nodeid in self._retired

    def current(self, nodeid: int) -> int:
        """The nodeid that a lookup gives for what `nodeid` stands for: itself, or a twin; 0 for a new one."""
        with self._lock:
            place = self._places.get(nodeid)
            return 0 if place is None else self._keys.find(key_of(place), place)

    def moment(self, standing: Standing) -> int:
        """A number, greater than 0, for where the root stands: the same one as long as it stands there."""
        return self._journal.moment(standing)

    def standing_above(self, nodeid: int) -> Standing | None:
        """That of the first-level slot above `nodeid` (or of itself), which is the newest known for all below it; None
        when the way up is forgotten in part."""
        place = self._places.get(nodeid)
        while place is not None and (parent := parent_of(place)) != ROOT:
            place = self._places.get(parent)
        return None if place is None else self._journal.standing(standing_of(place))

    def path(self, nodeid: int) -> str:
        """A path of `nodeid` from the root, for people: the last one by which it was looked up."""
        names: list[str] = []
        while nodeid != ROOT:
            place = self._places.get(nodeid)
            if place is None:
                names.append("...")
                break
            names.append(name_of(place))
            nodeid = parent_of(place)
        return "/" + "/".join(reversed(names))

    # -- a journal that has become long --------------------------------------------------------------

    def renew(self) -> None:
        """Write down a part of what still holds again, if the journal is long; for those who make it longer without
        asking the table for anything."""
        with self._lock:
            self._renew()

    def _renew(self) -> None:
        """Under the lock. In parts, since nobody is served meanwhile."""
        renewing, self._renewing = self._renewing, None  # with a part that cannot be written all of it begins again
        if renewing is None:
            if not self._journal.is_long(self._bytes):
                return
            self._journal.begin_anew(self._next)
            renewing = iter(list(self._places))
        part = [nodeid for nodeid in islice(renewing, RENEWED_AT_ONCE) if nodeid in self._places]
        places, lookups = self._places, self._lookups
        self._journal.renewed(
            part,
            [lookups.get(nodeid, 1) for nodeid in part],
            [places[nodeid] for nodeid in part],
            [nodeid for nodeid in part if nodeid in self._retired],
        )
        if length_hint(renewing) or not self._journal.end_anew():
            self._renewing = renewing
