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

In memory; what changes is told to a journal before the kernel is told of it, so that another process can go on (see
`ledger`). Threads: any; one lock, held for a few dictionary operations.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Protocol

from moorage.mount.shown.following import Standing
from moorage.mount.shown.view import Node

ROOT = 1
"""The nodeid of the root."""


class Slot:
    """What one nodeid stands for."""

    __slots__ = ("is_retired", "is_shared", "key", "lookups", "name", "node", "nodeid", "parent")

    def __init__(self, nodeid: int, key: tuple[object, ...], parent: int, name: str, node: Node) -> None:
        """A slot nobody has looked up yet; `key` is its `key_of`."""
        self.nodeid = nodeid
        self.key = key
        self.parent = parent
        """Nodeid of the directory in which it was last looked up."""
        self.name = name
        """By which it was last looked up."""
        self.node = node
        """As it was last looked up: same content, but perhaps in a newer snapshot, or by a newer recipe."""
        self.lookups = 0
        self.is_shared = False
        """Whether it was looked up in more than one snapshot: nothing special where a branch is followed."""
        self.is_retired = False
        """Whether no further lookup finds it."""


def key_of(parent: int, name: str, node: Node) -> tuple[object, ...]:
    """What tells one slot from another."""
    return (parent, name, node.digest) if node.is_directory else node.identity


class Journal(Protocol):
    """Where changes are written down before anybody hears of them, such as `ledger.Ledger`."""

    def moment(self, standing: Standing, /) -> int:
        """A number, greater than 0, for where the root stands; the same one for the same standing."""
        ...

    def remembered(self, slots: Sequence[tuple[Slot, bool]], /) -> None:
        """A lookup more of each slot; True when anything else about it changed too."""
        ...

    def forgotten(self, nodeid: int, lookups: int, /) -> None:
        """So many lookups are left."""
        ...

    def retired(self, nodeid: int, /) -> None:
        """No further lookup finds this slot."""
        ...


class InodeTable:
    """All nodeids that the kernel may ask about."""

    def __init__(self, journal: Journal | None = None) -> None:
        """Only the root, which is not in the table: it is looked up anew each time."""
        self._slots: dict[int, Slot] = {}
        self._by_key: dict[tuple[object, ...], Slot] = {}
        self._lock = threading.Lock()
        self._next = ROOT + 1
        self._journal = journal
        self._latest: tuple[int, Standing | None] = (0, None)

    def restore(self, slots: Iterable[Slot], next_nodeid: int) -> None:
        """Go on where another table was; before anything else is asked."""
        for slot in slots:
            self._slots[slot.nodeid] = slot
            if not slot.is_retired:
                self._by_key[slot.key] = slot
        self._next = next_nodeid

    def slots(self) -> dict[int, Slot]:
        """A copy of the whole table."""
        with self._lock:
            return dict(self._slots)

    def __len__(self) -> int:
        """How many slots."""
        return len(self._slots)

    def remember(self, parent: int, name: str, node: Node) -> int:
        """The nodeid of `node`, found as `name` in `parent`; counts one lookup."""
        return self.remember_all(parent, [(name, node)])[0]

    def remember_all(self, parent: int, found: Iterable[tuple[str, Node]]) -> list[int]:
        """The nodeids of many (name, node) of one directory, in one step."""
        told: list[tuple[Slot, bool]] = []
        with self._lock:
            by_key, next_nodeid = self._by_key, self._next
            for name, node in found:
                key = key_of(parent, name, node)
                slot = by_key.get(key)
                is_new = slot is None
                if slot is None:
                    slot = Slot(next_nodeid, key, parent, name, node)
                    by_key[key] = self._slots[next_nodeid] = slot
                    next_nodeid += 1
                elif slot.node != node or slot.parent != parent or slot.name != name:
                    is_new = True
                    slot.is_shared |= slot.node.standing != node.standing
                    slot.parent, slot.name, slot.node = parent, name, node
                slot.lookups += 1
                told.append((slot, is_new))
            self._next = next_nodeid
            if self._journal is not None:
                self._journal.remembered(told)
        return [slot.nodeid for slot, _ in told]

    def get(self, nodeid: int) -> Slot | None:
        """The slot of `nodeid`, or None when the kernel has given it back (or for the root)."""
        return self._slots.get(nodeid)

    def forget(self, forgotten: Iterable[tuple[int, int]]) -> list[int]:
        """Give back (nodeid, lookups); the nodeids that are gone now."""
        gone = []
        with self._lock:
            for nodeid, lookups in forgotten:
                slot = self._slots.get(nodeid)
                if slot is None:
                    continue
                slot.lookups -= lookups
                if slot.lookups <= 0:
                    gone.append(nodeid)
                    del self._slots[nodeid]
                    if self._by_key.get(slot.key) is slot:
                        del self._by_key[slot.key]
                if self._journal is not None:
                    self._journal.forgotten(nodeid, max(slot.lookups, 0))
        return gone

    def retire(self, nodeid: int) -> None:
        """Let no further lookup find this slot: the next one gives what it stands for another nodeid, a twin with the
        same inode number. Whoever has the old one open goes on with it."""
        with self._lock:
            slot = self._slots.get(nodeid)
            if slot is not None and not slot.is_retired:
                slot.is_retired = True
                if self._by_key.get(slot.key) is slot:
                    del self._by_key[slot.key]
                if self._journal is not None:
                    self._journal.retired(nodeid)

    def current(self, nodeid: int) -> int:
        """The nodeid that a lookup gives for what `nodeid` stands for: itself, or a twin; 0 for a new one."""
        slot = self._slots.get(nodeid)
        found = None if slot is None else self._by_key.get(slot.key)
        return 0 if found is None else found.nodeid

    def moment(self, standing: Standing) -> int:
        """A number, greater than 0, for where the root stands: the same one as long as it stands there."""
        if self._journal is not None:
            return self._journal.moment(standing)
        with self._lock:
            number, latest = self._latest
            if latest != standing:
                number += 1
                self._latest = (number, standing)
            return number

    def top(self, nodeid: int) -> Slot | None:
        """The first-level slot above `nodeid` (or itself), whose standing is the newest known for all below it; None
        when the way up is forgotten in part."""
        slot = self._slots.get(nodeid)
        while slot is not None and slot.parent != ROOT:
            slot = self._slots.get(slot.parent)
        return slot

    def path(self, nodeid: int) -> str:
        """A path of `nodeid` from the root, for people: the last one by which it was looked up."""
        names: list[str] = []
        while nodeid != ROOT:
            slot = self._slots.get(nodeid)
            if slot is None:
                names.append("...")
                break
            names.append(slot.name)
            nodeid = slot.parent
        return "/" + "/".join(reversed(names))
