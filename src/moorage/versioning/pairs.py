"""Which names of two directories stand for different things? Pure, given a way to read tree objects.

Of a huge directory, which is kept as spans, only the spans that the two sides do not share are read: spans are cut by
content, so equal runs of entries have equal ids wherever they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from moorage.errors import FormatError
from moorage.model.digest import TreeId
from moorage.model.tree import Entry, Tree, TreeFork
from moorage.versioning.changes import is_same

ReadTree = Callable[[TreeId], Tree | TreeFork]
"""One decoded tree object; raises `DataError`, `FormatError`, `StorageError`."""

Pair = tuple[Entry | None, Entry | None]
"""What one name stands for on the old and on the new side; None where the name is not there."""

_LEAF = 0


def differing(read: ReadTree, old: TreeId | None, new: TreeId | None) -> Iterator[Pair]:
    """Every name that stands for different things in two directories, in canonical order; None is an empty directory.

    Costs what differs, not what there is. Raises what `read` raises.
    """
    if old == new:
        return
    for pair in _joined(*_unshared(read, old, new)):
        if not is_same(*pair):
            yield pair


def _unshared(read: ReadTree, old: TreeId | None, new: TreeId | None) -> tuple[Iterator[Entry], Iterator[Entry]]:
    """The entries on either side that do not lie in tree objects which the two sides share."""
    old_level, old_nodes = _opened(read, old)
    new_level, new_nodes = _opened(read, new)
    while True:
        if old_level == new_level:
            shared = set(old_nodes).intersection(new_nodes)
            old_nodes = [node for node in old_nodes if node not in shared]
            new_nodes = [node for node in new_nodes if node not in shared]
        if old_level == new_level == _LEAF:
            return _entries(read, old_nodes), _entries(read, new_nodes)
        deeper = max(old_level, new_level) - 1
        if old_level > deeper:
            old_level, old_nodes = deeper, _children(read, old_nodes, deeper)
        if new_level > deeper:
            new_level, new_nodes = deeper, _children(read, new_nodes, deeper)


def _opened(read: ReadTree, tree: TreeId | None) -> tuple[int, list[TreeId]]:
    """The level of a directory's top object, and that object."""
    if tree is None:
        return _LEAF, []
    node = read(tree)
    return (node.level if isinstance(node, TreeFork) else _LEAF), [tree]


def _children(read: ReadTree, forks: Iterable[TreeId], level: int) -> list[TreeId]:
    """The objects of `level` below forks of the level above."""
    children: list[TreeId] = []
    for id in forks:
        node = read(id)
        if not isinstance(node, TreeFork) or node.level != level + 1:
            raise FormatError(f"tree {id.hex()} is not of level {level + 1}, as was promised", id=id.hex())
        children += [span.object for span in node.spans]
    return children


def _entries(read: ReadTree, leaves: Iterable[TreeId]) -> Iterator[Entry]:
    for id in leaves:
        node = read(id)
        if not isinstance(node, Tree):
            raise FormatError(f"tree {id.hex()} holds spans where entries were promised", id=id.hex())
        yield from node.entries


def _joined(old: Iterator[Entry], new: Iterator[Entry]) -> Iterator[Pair]:
    """Both sides side by side, by name."""
    left, right = next(old, None), next(new, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left.sort_key < right.sort_key):
            yield left, None
            left = next(old, None)
        elif left is None or right.sort_key < left.sort_key:
            yield None, right
            right = next(new, None)
        else:
            yield left, right
            left, right = next(old, None), next(new, None)
