"""Are the tree objects of a directory, which may be many, what they say of each other?"""

from __future__ import annotations

from collections.abc import Iterator

from moorage.format.tree import decode_tree
from moorage.maintain.check_objects import ObjectChecker
from moorage.maintain.report import ProblemKind
from moorage.model.digest import TreeId
from moorage.model.tree import Entry, Tree, TreeFork, TreeSpan
from moorage.repository.lru import LruCache

_CACHED_ENTRIES = 100_000


class TreeNodes:
    """Tree objects, read and decoded once as long as they are kept; spans of huge directories are often shared."""

    def __init__(self, objects: ObjectChecker) -> None:
        """`objects` writes down what cannot be read."""
        self.findings = objects.findings
        self._objects = objects
        self._kept: LruCache[TreeId, Tree | TreeFork] = LruCache(_CACHED_ENTRIES, _weight)

    def node(self, id: TreeId) -> Tree | TreeFork | None:
        """One tree object; None, and written down, where it cannot be read."""
        node = self._kept.get(id)
        if node is None:
            node = self._objects.read(id, decode_tree)
            if node is not None:
                self._kept.put(id, node)
        return node


class DirectoryWalk:
    """The entries of one directory, in order, as far as they can be read."""

    def __init__(self, nodes: TreeNodes, tree: TreeId) -> None:
        """Nothing is read yet."""
        self._nodes = nodes
        self._tree = tree
        self.is_complete = True
        """Whether all of it could be read; known when the walk is over."""

    def __iter__(self) -> Iterator[Entry]:
        """Read it."""
        return self._entries(self._tree, None, None)

    def _entries(self, tree: TreeId, span: TreeSpan | None, level: int | None) -> Iterator[Entry]:
        """The entries below one tree object, of which `span` says how many there are and which is the last."""
        node = self._nodes.node(tree)
        if node is None:
            self.is_complete = False
            return
        found_level = node.level if isinstance(node, TreeFork) else 0
        if level is not None and level != found_level:
            # Not followed: levels that do not go down may not end.
            self.is_complete = False
            self._mismatch(tree, f"it is of level {found_level}, not {level} as what is above it says")
            return
        if isinstance(node, Tree):
            yield from node.entries
            found = len(node), node.entries[-1].name if node.entries else ""
        else:
            yield from self._below(tree, node)
            found = sum(below.entries for below in node.spans), node.spans[-1].last_name
        if span is not None and (span.entries, span.last_name) != found:
            self._mismatch(tree, f"it holds {found[0]} entries up to {found[1]!r}, which is not what is above it says")

    def _below(self, tree: TreeId, node: TreeFork) -> Iterator[Entry]:
        last = b""
        for span in node.spans:
            for entry in self._entries(span.object, span, node.level - 1):
                if entry.sort_key <= last:
                    self._mismatch(tree, "its spans overlap")
                last = entry.sort_key
                yield entry

    def _mismatch(self, tree: TreeId, message: str) -> None:
        self._nodes.findings.bad_object(ProblemKind.MISMATCH, tree, message)


def _weight(node: Tree | TreeFork) -> int:
    return 1 + (len(node) if isinstance(node, Tree) else len(node.spans))
