"""By which path, and in which snapshot, did somebody open a file?

An OPEN names a nodeid, and a file's nodeid is its content: it has as many paths as there are names for that content,
in as many snapshots. So where opens are written down, names of files have no lifetime; then each walk to a file ends in
a LOOKUP by the thread that opens it a moment later, and that lookup names directory and name. Who opens without a walk
(through `/proc/self/fd`), or cannot be told from others, is written down with the last path by which anybody came.

Threads: any; one caller's requests come one after another.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from moorage.mount.journal.open_log import Caller, Opened, OpenLog, caller_of
from moorage.mount.kernel import wire
from moorage.mount.shown.following import Standing
from moorage.mount.shown.inodes import InodeTable
from moorage.mount.shown.view import Node
from moorage.repository.lru import LruCache

_MOST_WALKS = 4096


class _Walk(NamedTuple):
    nodeid: int
    parent: int
    name: str
    standing: Standing | None


class Provenance:
    """Writes down opens of one mount."""

    def __init__(self, opens: OpenLog, mountpoint: str, table: InodeTable) -> None:
        """Write to `opens`, with paths below `mountpoint`."""
        self._opens = opens
        self._mountpoint = mountpoint.rstrip("/")
        self._table = table
        self._walks: LruCache[int, _Walk] = LruCache(_MOST_WALKS)

    def walked(self, buffer: wire.Buffer, nodeid: int, parent: int, name: str, standing: Standing | None) -> None:
        """The caller was told that a file is called `name` in `parent`."""
        thread = _thread_of(buffer)
        if thread:  # 0 is everybody of a pid namespace that ours cannot see into
            self._walks.put(thread, _Walk(nodeid, parent, name, standing))

    def opened(self, buffer: wire.Buffer, nodeid: int, node: Node, standing: Standing | None) -> None:
        """The caller has opened a file; `standing` is where it is if nothing better is known."""
        walk = self._walks.get(_thread_of(buffer))
        if walk is not None and walk.nodeid == nodeid:
            path, standing = self._table.path(walk.parent).rstrip("/") + "/" + walk.name, walk.standing
        else:
            path = self._table.path(nodeid)
        self._opens.note(
            Opened(
                time.time_ns(),
                _caller(buffer),
                self._mountpoint + path,
                None if standing is None else standing.snapshot.hex(),
                node.digest.hex(),
            )
        )


def _thread_of(buffer: wire.Buffer) -> int:
    thread: int = wire.PID_IN.unpack_from(buffer, wire.PID_AT)[0]
    return thread


def _caller(buffer: wire.Buffer) -> Caller:
    return caller_of(_thread_of(buffer), wire.UID_IN.unpack_from(buffer, wire.UID_AT)[0])
