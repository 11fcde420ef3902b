"""Which lines of a directory does the kernel get, and what does it learn of each name?

READDIR gives names and kinds. READDIRPLUS also looks each name up, which saves a request for every name that is asked
about afterwards (`ls -l`, `find`, `du`): a page of 32 KiB is about 200 lookups. Names that may mean something else a
moment later are left out of that, unless walks come in a burst (see `lifetimes`): what the kernel may not keep need not
be counted, remembered and given back.

The first walk over a tree is nothing but this, so it is written for speed: a page is taken into the table, and written
down for another server, in one step, and no node is made of what is only listed.

Threads: any.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from moorage.model.tree import Entry
from moorage.mount.host.owner import Owner
from moorage.mount.kernel import wire
from moorage.mount.kernel.opened import OpenDirectory
from moorage.mount.kernel.unthinking import Reply
from moorage.mount.kernel.wire import FOREVER, Lifetime
from moorage.mount.shown.attributes import Attributes, attributes_of
from moorage.mount.shown.inodes import InodeTable
from moorage.mount.shown.slots import is_of_a_branch, packed_entries
from moorage.mount.shown.view import Line, Node, View

_DOTS = 2
"""Positions 0 and 1 of a listing are `.` and `..`. The kernel asks with a page at least, which has room for both."""


class Listings:
    """Writes the pages of listings."""

    def __init__(
        self,
        view: View,
        table: InodeTable,
        owner: Owner,
        is_kept: Callable[[Node, Node], bool],
        kept_all: Callable[[Node], Lifetime | None],
    ) -> None:
        """`is_kept` tells of (directory, node) whether the kernel may keep the name for good, `kept_all` of a directory
        how long it may keep each of its names; None where that is not the same for all, or no time at all."""
        self._view = view
        self._table = table
        self._owner = owner
        self._is_kept = is_kept
        self._kept_all = kept_all

    def page(self, directory: OpenDirectory, position: int, size: int, *, plus: bool) -> Reply:
        """The lines from `position` that fit in `size` bytes; each with its lookup if `plus`."""
        around = wire.DIRENT.size + (wire.ENTRY_BYTES if plus else 0)
        lines = _dots(directory, plus=plus)[position:] if position < _DOTS else []
        position = max(position, _DOTS)
        room = size - sum(map(len, lines))
        found = directory.listing.window(position - _DOTS, room // (around + 8) + 1)
        raw_names: list[bytes] = []
        for entry in found:
            raw_name = entry.name.encode("utf-8")
            # Measured before it is made: a line that does not fit must not count as a lookup.
            room -= around + (len(raw_name) + 7 & ~7)
            if room < 0:
                break
            raw_names.append(raw_name)
        write = self._looked_up if plus else self._listed
        lines += write(directory.nodeid, directory.node, found[: len(raw_names)], raw_names, position)
        # Nothing at all means the end, so a buffer too small for one line must be an error.
        return b"".join(lines) if lines or room >= 0 else errno.EINVAL

    def _listed(
        self,
        _nodeid: int,
        directory: Node,
        found: Sequence[Entry | Line],
        raw_names: Sequence[bytes],
        position: int,
    ) -> list[bytes]:
        """The lines after `position`."""
        numbers = range(position + 1, position + 1 + len(found))
        return [
            wire.dirent(inode, number, raw_name, mode)
            for number, raw_name, (inode, _, _, mode) in zip(
                numbers, raw_names, self._attributes(directory, found), strict=True
            )
        ]

    def _looked_up(
        self,
        nodeid: int,
        directory: Node,
        found: Sequence[Entry | Line],
        raw_names: Sequence[bytes],
        position: int,
    ) -> list[bytes]:
        """The same with their lookups; those that the kernel may keep are remembered."""
        attributes, lifetime = self._attributes(directory, found), self._kept_all(directory)
        entries = [entry for entry in found if isinstance(entry, Entry)]
        if lifetime is None or len(entries) < len(found):
            nodeids = self._one_by_one(nodeid, directory, found)
        else:
            inodes = [inode for inode, *_ in attributes]
            is_of_branch = is_of_a_branch(directory.standing)
            nodeids = self._table.remember_all(
                directory.standing,
                lambda number: packed_entries(entries, raw_names, inodes, number, nodeid, is_of_branch=is_of_branch),
            )
        return wire.direntsplus(nodeids, attributes, raw_names, position, self._owner, lifetime or FOREVER)

    def _attributes(self, directory: Node, found: Sequence[Entry | Line]) -> list[Attributes]:
        if directory.folder is None:
            return attributes_of(directory.inode, [entry for entry in found if isinstance(entry, Entry)])
        nodes = [self._view.child(directory, line) for line in found]
        return [(node.inode, node.size_bytes, node.time_ns, node.mode) for node in nodes]

    def _one_by_one(self, nodeid: int, directory: Node, found: Sequence[Entry | Line]) -> list[int]:
        """The nodeids of those that the kernel may keep for good, 0 of the others."""
        nodeids = []
        for entry in found:
            node = self._view.child(directory, entry)
            is_kept = self._is_kept(directory, node)
            nodeids.append(self._table.remember(nodeid, entry.name, node) if is_kept else 0)
        return nodeids


def _dots(directory: OpenDirectory, *, plus: bool) -> list[bytes]:
    """`.` and `..`, which never count as lookups: their nodeid, in READDIRPLUS, is 0."""
    nothing, mode = wire.NO_ENTRY if plus else b"", directory.node.mode
    return [
        nothing + wire.dirent(directory.node.inode, 1, b".", mode),
        nothing + wire.dirent(directory.parent_inode, 2, b"..", mode),
    ]
