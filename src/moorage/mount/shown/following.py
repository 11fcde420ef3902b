"""Which snapshot does a mount show now?

A mount of a tag, of a snapshot, or of a pinned branch shows one for good: `Fixed`. A mount of a branch follows it:
`Following` asks, whenever a first-level name is looked up, whether the branch has a newer record; that is one failed
open of a file, so there is no timer and no notification, and the first lookup after a move already sees it.

What is shown is a function of the refs as they stand, never of when somebody looked, so that all mounts of a branch
agree: the branch that was asked for if it lives; if it was renamed, the name it has now; if it is gone, the last
snapshot seen. (A `prod` that is renamed to `prod-old` and created anew is again `prod` for every mount, even for one
that looked in between.)

A branch that cannot be read, or whose new snapshot cannot, leaves the mount where it is: what is served stays whole,
and the log says so once until it works again. So does a snapshot whose reading takes long: one walk waits for it, the
others do not.

Threads: everything here may be called from any thread. The common path takes no lock.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from moorage.errors import MoorageError
from moorage.model.digest import ContentDigest, SnapshotId, TreeId
from moorage.model.refs import RefAction, RefName, RefRecord
from moorage.model.snapshot import Snapshot
from moorage.mount.journal.log_format import fields

_log = logging.getLogger(__name__)


PATIENCE_S = 1.0
"""How long a walk waits for another one that reads the next snapshot, before it stays on the last."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the root of a mount stands: one snapshot, and the branch that led there."""

    snapshot: SnapshotId
    tree: TreeId
    digest: ContentDigest
    size_bytes: int
    time_ns: int
    branch: str
    """Empty where no branch was asked for."""

    @classmethod
    def at(cls, snapshot_id: SnapshotId, snapshot: Snapshot, branch: str = "") -> Standing:
        """The standing on a snapshot."""
        return cls(snapshot_id, snapshot.tree, snapshot.digest, snapshot.size_bytes, snapshot.time_ns, branch)


class Root(Protocol):
    """What decides where the root of a mount stands."""

    @property
    def is_fixed(self) -> bool:
        """Whether `now` gives the same for good."""
        ...

    @property
    def moved_ns(self) -> int | None:
        """When the branch that is followed moved to where it stands, Unix time; None where none is."""
        ...

    def now(self) -> Standing:
        """Where the root stands. Never raises."""
        ...

    def last(self) -> Standing:
        """Where it stood when somebody asked last; asks nobody, and waits for nothing."""
        ...


class Refs(Protocol):
    """What `Following` needs of `RefStore`."""

    def last(self, ref: RefName, after: RefRecord | None = None) -> RefRecord | None:
        """The newest record of `ref`, dead or alive; None if there never was one."""
        ...


class Snapshots(Protocol):
    """What `Following` needs of `ObjectStore`."""

    def snapshot(self, id: SnapshotId, /) -> Snapshot:
        """The snapshot of that id."""
        ...


class Fixed:
    """A root that stands for good."""

    is_fixed = True

    def __init__(self, standing: Standing) -> None:
        """Stand there."""
        self._standing = standing

    def now(self) -> Standing:
        """Where it always stood."""
        return self._standing

    def last(self) -> Standing:
        """The same."""
        return self._standing

    @property
    def moved_ns(self) -> None:
        """Never."""
        return


@dataclass(frozen=True, slots=True)
class _Known:
    """One consistent answer, swapped as a whole."""

    chain: tuple[RefRecord, ...]
    """The newest record of the branch that was asked for and, where that says the branch was renamed, of the next
    name, and so on."""
    standing: Standing
    note: str = ""
    """Why the root does not go on from there, or under which other name it does; else empty."""


class Following:
    """A root that goes where a branch goes."""

    is_fixed = False

    def __init__(
        self,
        refs: Refs,
        snapshots: Snapshots,
        record: RefRecord,
        standing: Standing,
        moved: Callable[[Standing], None] = lambda standing: None,
        noted: Callable[[str], None] = lambda note: None,
    ) -> None:
        """Start at `record`, a living record of the branch to follow, whose snapshot is that of `standing`. `moved` is
        told of each other one, in order, before anybody else is; `noted` of what keeps the root from following, or that
        it goes by another name, and of nothing (the empty string) when it follows the one that was asked for."""
        self._refs = refs
        self._snapshots = snapshots
        self._asked = record.ref
        self._known = _Known((record,), standing)
        self._moved = moved
        self._noted = noted
        self._moving = threading.Lock()
        self._is_held_up = False
        """Whether somebody who reads the next snapshot has been at it for a while."""
        self._trouble = ""

    def now(self) -> Standing:
        """Where the branch stands; asks the refs each time."""
        known = self._known
        try:
            for record in known.chain:
                newest = self._refs.last(record.ref, after=record)
                if newest is None or newest.number != record.number:
                    return self._move()
        except (MoorageError, OSError) as error:
            self._complain(f"cannot tell where {self._asked} stands, staying on its last snapshot: {error}")
            return known.standing
        self._recover(known)
        return known.standing

    def last(self) -> Standing:
        """See `Root.last`."""
        return self._known.standing

    @property
    def moved_ns(self) -> int:
        """When the branch moved to where it stands, Unix time."""
        return self._known.chain[-1].time_ns

    def _move(self) -> Standing:
        """Follow to the newest record. Under the lock, so that no thread installs an answer older than another's."""
        if not self._moving.acquire(timeout=0 if self._is_held_up else PATIENCE_S):
            self._is_held_up = True
            self._complain(f"the snapshot at which {self._asked} stands cannot be read yet, staying on its last one")
            return self._known.standing
        try:
            known = self._known
            chain = self._chase({record.ref: record for record in known.chain})
            if chain == known.chain:
                return known.standing
            self._known = following = self._known_at(chain, known.standing)
            if following.note != known.note and not self._trouble:
                self._noted(following.note)
            self._recover(following)
            return following.standing
        finally:
            self._is_held_up = False
            self._moving.release()

    def _chase(self, seen: dict[RefName, RefRecord]) -> tuple[RefRecord, ...]:
        """The newest records along renames, from the branch that was asked for."""
        chain: list[RefRecord] = []
        ref = self._asked
        while ref not in {record.ref for record in chain}:
            record = self._refs.last(ref, after=seen.get(ref))
            if record is None:
                break
            chain.append(record)
            if record.action is not RefAction.RENAMED_TO:
                break
            ref = RefName(ref.kind, record.other)
        # Records are never removed: nothing at all where there was one means that the repository was swapped under us.
        return tuple(chain) or self._known.chain

    def _known_at(self, chain: tuple[RefRecord, ...], before: Standing) -> _Known:
        record = chain[-1]
        if not record.is_alive:
            note = f"{record.ref} was deleted; staying on snapshot {before.snapshot.short}"
            _log.warning("%s", note, extra=fields(branch=record.ref.name, snapshot=before.snapshot.hex()))
            return _Known(chain, before, note)
        _log.info(
            "%s stands at %s (record %d)",
            record.ref,
            record.snapshot.short,
            record.number,
            extra=fields(branch=record.ref.name, snapshot=record.snapshot.hex(), record=record.number),
        )
        standing = Standing.at(record.snapshot, self._snapshots.snapshot(record.snapshot), record.ref.name)
        if standing != before:
            self._moved(standing)
        note = "" if record.ref == self._asked else f"{self._asked} was renamed; following {record.ref}"
        return _Known(chain, standing, note)

    def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            _log.error("%s", trouble)
            self._noted(trouble)

    def _recover(self, known: _Known) -> None:
        if self._trouble:
            self._trouble = ""
            self._noted(known.note)
