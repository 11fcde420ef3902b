"""What may a file system get wrong, so slightly that nobody notices? For negative controls; see `counting`."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from moorage.format.stored import Bytes
from moorage.model.tree import Entry
from moorage.mount.shown.hydration import HydratingReader
from moorage.mount.shown.view import Line, Listing, Node, View

VICTIM = "300001"
"""The name of a file of the tree that is asked for."""


def _lie_once_in_data() -> None:
    """One bit of one read."""
    honest, reads = HydratingReader.parts_at, itertools.count(1)

    def parts_at(self: HydratingReader, offset: int, size: int) -> list[Bytes]:
        parts = honest(self, offset, size)
        if next(reads) != 10:
            return parts
        data = b"".join(parts)
        return [data[:-1], bytes([data[-1] ^ 1])]

    setattr(HydratingReader, "parts_at", parts_at)  # noqa: B010 - to break it is the point


def _change(lie: Callable[[Node], Node]) -> None:
    honest = View.child

    def child(directory: Node, entry: Entry | Line) -> Node:
        node = honest(directory, entry)
        return lie(node) if entry.name == VICTIM else node

    setattr(View, "child", staticmethod(child))  # noqa: B010


def _lie_in_a_listing() -> None:
    """One name of one directory is missing, where it is asked in a row."""
    honest = Listing.window

    def window(self: Listing, start: int, count: int) -> list[Entry | Line]:
        return [entry for entry in honest(self, start, count) if entry.name != VICTIM]

    setattr(Listing, "window", window)  # noqa: B010


LIES: dict[str, Callable[[], None]] = {
    "lie-once-in-data": _lie_once_in_data,
    "lie-in-a-size": lambda: _change(lambda node: node._replace(size_bytes=node.size_bytes - 1)),
    "lie-in-a-mode": lambda: _change(lambda node: node._replace(mode=node.mode | 0o111)),
    "lie-in-a-listing": _lie_in_a_listing,
}
