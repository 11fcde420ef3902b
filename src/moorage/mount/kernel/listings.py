"""Which lines of a directory does the kernel get, and what does it learn of each name?

READDIR gives names and kinds. READDIRPLUS also looks each name up, which saves a request for every name that is asked
about afterwards (`ls -l`, `find`, `du`): a page of 32 KiB is about 200 lookups. Names that may mean something else a
moment later are left out of that: what the kernel may not keep need not be counted, remembered and given back.

The first walk over a tree is nothing but this, so it is written for speed: 100 lines are taken into the table, and
written down for another server, in one step.

Threads: any.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from moorage.mount.host.owner import Owner
from moorage.mount.kernel import wire
from moorage.mount.kernel.opened import OpenDirectory
from moorage.mount.kernel.unthinking import Reply
from moorage.mount.shown.inodes import InodeTable
from moorage.mount.shown.view import Node, View

_DOTS = 2
"""Positions 0 and 1 of a listing are `.` and `..`. The kernel asks with a page at least, which has room for both."""
_NOTHING = bytes(wire.ENTRY_BYTES)
"""In place of a lookup: this name was not looked up."""


class Listings:
    """Writes the pages of listings."""

    def __init__(self, view: View, table: InodeTable, owner: Owner, is_kept: Callable[[Node, Node], bool]) -> None:
        """`is_kept` tells of (directory, node) whether the kernel may keep the name for good."""
        self._view = view
        self._table = table
        self._owner = owner
        self._is_kept = is_kept

    def page(self, directory: OpenDirectory, position: int, size: int, *, plus: bool) -> Reply:
        """The lines from `position` that fit in `size` bytes; each with its lookup if `plus`."""
        around = wire.DIRENT.size + (wire.ENTRY_BYTES if plus else 0)
        lines = _dots(directory, plus=plus)[position:] if position < _DOTS else []
        position = max(position, _DOTS)
        room = size - sum(map(len, lines))
        found: list[tuple[str, bytes, Node]] = []
        for entry in directory.listing.window(position - _DOTS, room // (around + 8) + 1):
            raw_name = entry.name.encode("utf-8")
            # Measured before it is made: a line that does not fit must not count as a lookup.
            room -= around + (len(raw_name) + 7 & ~7)
            if room < 0:
                break
            found.append((entry.name, raw_name, self._view.child(directory.node, entry)))
        if plus:
            lines += self._looked_up(directory, found, position)
        else:
            numbers = range(position + 1, position + 1 + len(found))
            lines += [
                wire.dirent(node.inode, at, raw, node.mode) for at, (_, raw, node) in zip(numbers, found, strict=True)
            ]
        # Nothing at all means the end, so a buffer too small for one line must be an error.
        return b"".join(lines) if lines or room >= 0 else errno.EINVAL

    def _looked_up(self, directory: OpenDirectory, found: list[tuple[str, bytes, Node]], position: int) -> list[bytes]:
        """The lines after `position`; those that the kernel may keep are remembered."""
        kept = [self._is_kept(directory.node, node) for _, _, node in found]
        nodeids = iter(
            self._table.remember_all(
                directory.nodeid,
                [(name, node) for (name, _, node), is_kept in zip(found, kept, strict=True) if is_kept],
            )
        )
        lines = []
        owner, line = self._owner, wire.direntplus
        for (_, raw, node), is_kept in zip(found, kept, strict=True):
            position += 1
            if is_kept:
                ino, size, time_ns, mode = node.inode, node.size_bytes, node.time_ns, node.mode
                lines.append(line(next(nodeids), ino, size, time_ns, mode, node.links, owner, position, raw))
            else:
                lines += (_NOTHING, wire.dirent(node.inode, position, raw, node.mode))
        return lines


def _dots(directory: OpenDirectory, *, plus: bool) -> list[bytes]:
    """`.` and `..`, which never count as lookups: their nodeid, in READDIRPLUS, is 0."""
    nothing, mode = _NOTHING if plus else b"", directory.node.mode
    return [
        nothing + wire.dirent(directory.node.inode, 1, b".", mode),
        nothing + wire.dirent(directory.parent_inode, 2, b"..", mode),
    ]
