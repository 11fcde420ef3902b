"""What lies at this path of a tree? Directories small and huge alike, one tree object at a time."""

from __future__ import annotations

from collections.abc import Iterator

from moorage.errors import CorruptDataError, FormatError, PathNotFoundError, WrongKindError
from moorage.model.digest import TreeId
from moorage.model.names import join_path, split_path
from moorage.model.tree import Entry, EntryKind, Tree, TreeFork, TreeSpan
from moorage.repository.objects import ObjectStore

MAX_DEPTH = 2_048
"""Of directories in directories; a path of 4,095 bytes cannot go deeper. A deeper tree is an attack or a loop."""


class TreeReader:
    """Reads directories. Thread-safe. Every method raises `DataError`, `FormatError`, `StorageError`."""

    def __init__(self, objects: ObjectStore) -> None:
        """Tree objects come from `objects`, which keeps recent ones decoded."""
        self._objects = objects

    def lookup(self, tree: TreeId, name: str) -> Entry | None:
        """The entry called `name`; reads one tree object a level, so logarithmic in the size of the directory."""
        node = self._objects.tree(tree)
        while isinstance(node, TreeFork):
            span = node.find(name)
            if span is None:
                return None
            node = self._below(node, span)
        return node.get(name)

    def _below(self, fork: TreeFork, span: TreeSpan) -> Tree | TreeFork:
        """The tree object of a span, which is exactly one level lower, so that no chain of them is without end."""
        node = self._objects.tree(span.object)
        level = node.level if isinstance(node, TreeFork) else 0
        if level != fork.level - 1:
            raise FormatError(f"tree {span.object.hex()} is of level {level} where level {fork.level - 1} was promised")
        return node

    def entries(self, tree: TreeId) -> Iterator[Entry]:
        """All entries of one directory, in canonical order."""
        return self._entries_of(self._objects.tree(tree))

    def _entries_of(self, node: Tree | TreeFork) -> Iterator[Entry]:
        if isinstance(node, Tree):
            yield from node.entries
            return
        last = b""
        for span in node.spans:
            count = 0
            for entry in self._entries_of(self._below(node, span)):
                if entry.sort_key <= last:
                    raise CorruptDataError(f"tree {span.object.hex()} overlaps with the one before it")
                last = entry.sort_key
                count += 1
                yield entry
            if count != span.entries or last != span.last_name.encode("utf-8"):
                raise CorruptDataError(f"tree {span.object.hex()} does not hold the entries that were promised")

    def at(self, tree: TreeId, path: str) -> Entry:
        """The entry at `path`, which is not the root.

        Raises `PathNotFoundError`, also where a directory on the way is a file; `InvalidInputError` for a path that no
        tree can hold.
        """
        names = split_path(path)
        if not names:
            raise WrongKindError("the root of a tree has no entry of its own", path=path)
        walked = ""
        for number, name in enumerate(names):
            entry = self.lookup(tree, name)
            walked = join_path(walked, name)
            if entry is None:
                raise PathNotFoundError(
                    f"no such path: {walked}", hint="`moorage ls REV` lists what there is", path=walked
                )
            if number == len(names) - 1:
                return entry
            if not isinstance(entry.object, TreeId):
                raise PathNotFoundError(f"{walked} is a {entry.kind.word}, not a directory", path=walked)
            tree = entry.object
        raise AssertionError("unreachable")

    def walk(self, tree: TreeId, path: str = "") -> Iterator[tuple[str, Entry]]:
        """Everything below `tree` with its path, parents before children, siblings in canonical order."""
        pending = [(path, self.entries(tree))]
        while pending:
            parent, entries = pending[-1]
            entry = next(entries, None)
            if entry is None:
                pending.pop()
                continue
            here = join_path(parent, entry.name)
            yield here, entry
            if entry.kind is EntryKind.DIRECTORY and isinstance(entry.object, TreeId):
                if len(pending) >= MAX_DEPTH:
                    raise FormatError(f"the tree is nested more than {MAX_DEPTH} deep at {here[:80]}")
                pending.append((here, self.entries(entry.object)))
