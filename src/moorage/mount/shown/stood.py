"""How is a set of files read whole from a mount whose branch moves? Below `.snapshots/ID`, which never changes.

A directory of the mount stays on its snapshot while somebody holds it open, but the root itself moves, and a handle is
no path. So the root of a mount of one revision has one more name, which no listing shows: below it each snapshot on
which this mount stands, or its branch has ever stood, is found by its whole id. Not all snapshots of the repository:
who is shown one branch is shown one branch.

A tree that has the name `.snapshots` itself is shown as it is. `pinned` is what programs use.

Threads: any.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from moorage.errors import InvalidInputError, RefNotFoundError
from moorage.model.digest import SnapshotId
from moorage.model.refs import RefKind, RefName, RefRecord
from moorage.mount.shown.all_branches import snapshot_line
from moorage.mount.shown.following import Root, Snapshots, Standing
from moorage.mount.shown.view import SNAPSHOTS, Folder, Line, Node
from moorage.repository.lru import LruCache

_MOST_KNOWN = 1024


class Logs(Protocol):
    """What this needs of `RefStore`."""

    def log(self, ref: RefName, /) -> list[RefRecord]:
        """All records, oldest first. Raises `RefNotFoundError`."""
        ...


class Stood(Folder):
    """The snapshots on which one root has stood, by id."""

    word = SNAPSHOTS

    def __init__(self, root: Root, logs: Logs, snapshots: Snapshots, asked: RefName | None) -> None:
        """`asked` is the branch that `root` follows, None where it is fixed."""
        self._root = root
        self._logs = logs
        self._snapshots = snapshots
        self._asked = asked
        self._known: LruCache[SnapshotId, Standing] = LruCache(_MOST_KNOWN)

    def lookup(self, here: Node, name: str) -> Node | None:
        """See `Folder.lookup`."""
        try:
            id = SnapshotId.parse(name)
        except InvalidInputError:
            return None
        standing = self._known.get(id) or self._find(id)
        if standing is None or id.hex() != name:
            return None
        self._known.put(id, standing)
        return snapshot_line(here, standing).node

    def lines(self, here: Node) -> Iterable[Line]:
        """See `Folder.lines`: the one on which the root stands now."""
        return [snapshot_line(here, self._named(self._root.now()))]

    def is_lasting(self, found: Node | None) -> bool:
        """See `Folder.is_lasting`."""
        return found is not None

    def _named(self, standing: Standing) -> Standing:
        """As it is below its id: of no branch, if that moves."""
        return standing if self._root.is_fixed else replace(standing, branch="")

    def _find(self, id: SnapshotId) -> Standing | None:
        standing = self._root.now()
        if standing.snapshot == id:
            return self._named(standing)
        if self._root.is_fixed:
            return None
        branches = {self._asked, RefName(RefKind.BRANCH, standing.branch)}  # they differ after a rename
        if not any(record.snapshot == id for ref in branches if ref for record in self._log(ref)):
            return None
        return Standing.at(id, self._snapshots.snapshot(id))

    def _log(self, ref: RefName) -> list[RefRecord]:
        try:
            return self._logs.log(ref)
        except RefNotFoundError:
            return []
