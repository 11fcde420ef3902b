"""Which files and directories does somebody have open?

A handle must mean the same to another server, which opens and lists anew whatever it is asked about:

    of a file                its nodeid
    of the root              the number of the moment that it shows (`InodeTable.moment`)
    of a directory in a tree 0
    of a `Folder`            a number that no server ever gave out before; to another one it is a new listing

So the counts here are of this server alone: who had something open before it began was not counted; when somebody else
closes it, it is opened once more for him.

Threads: any; one lock each, held for a few dictionary operations.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from moorage.mount.shown.attributes import ROOT_INODE
from moorage.mount.shown.following import Standing
from moorage.mount.shown.inodes import ROOT, InodeTable
from moorage.mount.shown.view import Listing, Node, Reader, View

MOST_MOMENTS = 1024
"""Of the root, for those who have had it open since before this server began."""
IN_A_TREE = 0


class _OpenFile:
    __slots__ = ("opens", "reader")

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.opens = 0


class OpenFiles:
    """The readers of nodeids."""

    def __init__(self, open_again: Callable[[int], Reader]) -> None:
        """`open_again` opens a nodeid that another server had open."""
        self._open_again = open_again
        self._files: dict[int, _OpenFile] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many nodeids."""
        return len(self._files)

    def enter(self, nodeid: int, reader: Reader, opens: int = 1) -> Reader:
        """So many opens more; the reader to use, which is this one if there was none."""
        with self._lock:
            file = self._files.get(nodeid)
            is_first = file is None
            if file is None:
                file = self._files[nodeid] = _OpenFile(reader)
            file.opens += opens
        if not is_first:
            reader.close()
        return file.reader

    def reader(self, nodeid: int) -> Reader:
        """Of a nodeid that somebody has open."""
        file = self._files.get(nodeid)
        return self.enter(nodeid, self._open_again(nodeid), 0) if file is None else file.reader

    def leave(self, nodeid: int) -> None:
        """One open less."""
        with self._lock:
            file = self._files.get(nodeid)
            if file is None:
                return
            file.opens -= 1
            if file.opens > 0:
                return
            del self._files[nodeid]
        file.reader.close()

    def forget(self, nodeids: Iterable[int]) -> None:
        """The kernel knows these no longer, so nobody has them open, whatever was counted."""
        for nodeid in nodeids:
            with self._lock:
                file = self._files.pop(nodeid, None)
            if file is not None:
                file.reader.close()


class OpenDirectory:
    """A listing that somebody reads."""

    __slots__ = ("listing", "node", "nodeid", "opens", "parent_inode")

    def __init__(self, nodeid: int, node: Node, parent_inode: int, listing: Listing) -> None:
        """Opened by nobody yet."""
        self.nodeid = nodeid
        self.node = node
        self.parent_inode = parent_inode
        self.listing = listing
        self.opens = 0


class OpenDirectories:
    """The listings of handles."""

    def __init__(
        self, view: View, table: InodeTable, node_of: Callable[[int], Node], moments: Mapping[int, Standing]
    ) -> None:
        """`moments` are those of the root to which another server gave out handles."""
        self._view = view
        self._table = table
        self._node_of = node_of
        self._moments = dict(moments)
        self._new_handles = itertools.count(time.monotonic_ns())  # no server lives for less than a nanosecond an open
        self._directories: dict[tuple[int, int], OpenDirectory] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many."""
        return len(self._directories)

    def enter(self, nodeid: int, node: Node) -> int:
        """Open it once more; its handle."""
        handle = IN_A_TREE
        if node.folder is not None:
            handle = next(self._new_handles)
        elif nodeid == ROOT and node.standing is not None:
            handle = self._table.moment(node.standing)
            with self._lock:
                self._moments.pop(handle, None)  # so that the last one to go is the last one opened
                self._moments[handle] = node.standing
                if len(self._moments) > MOST_MOMENTS:
                    del self._moments[next(iter(self._moments))]
        directory = self._made(nodeid, node)
        with self._lock:
            self._directories.setdefault((nodeid, handle), directory).opens += 1
        return handle

    def get(self, nodeid: int, handle: int) -> OpenDirectory | None:
        """What a handle stands for, also one that another server gave out."""
        directory = self._directories.get((nodeid, handle))
        if directory is not None:
            return directory
        node = self._node_of(nodeid)
        if nodeid == ROOT and node.folder is None:
            standing = self._moments.get(handle)
            if standing is None:
                return None
            node = self._view.root_of(standing)
        directory = self._made(nodeid, node)
        with self._lock:
            return self._directories.setdefault((nodeid, handle), directory)

    def leave(self, nodeid: int, handle: int) -> None:
        """One open less."""
        with self._lock:
            directory = self._directories.get((nodeid, handle))
            if directory is not None:
                directory.opens -= 1
                if directory.opens <= 0:
                    del self._directories[nodeid, handle]

    def _made(self, nodeid: int, node: Node) -> OpenDirectory:
        """Not under the lock: what is in a folder is asked for at once."""
        slot = self._table.get(nodeid)
        above = None if slot is None else self._table.get(slot.parent)
        parent_inode = ROOT_INODE if above is None else above.node.inode
        return OpenDirectory(nodeid, node, parent_inode, self._view.listing(node))
