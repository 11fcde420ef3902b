"""How does a directory of any size become tree objects, and a file of any size recipes?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moorage.format import recipe as recipe_format
from moorage.format import tree as tree_format
from moorage.format.snapshot import encode_snapshot
from moorage.model.digest import ChunkId, ContentDigest, RecipeId, SnapshotId, TreeId
from moorage.model.recipe import Recipe
from moorage.model.snapshot import Snapshot
from moorage.model.tree import MAX_TREE_ENTRIES, Entry, Tree, TreeFork, TreeSpan
from moorage.repository.writer import ObjectWriter


@dataclass(frozen=True, slots=True)
class WrittenTree:
    """A directory that has been written."""

    id: TreeId
    digest: ContentDigest
    size_bytes: int


def write_tree(writer: ObjectWriter, entries: Iterable[Entry]) -> WrittenTree:
    """Write one directory; a huge one as spans under forks. Raises `InvalidInputError` when a name occurs twice."""
    tree = Tree.of(list(entries))
    digest = tree_format.directory_digest(tree.entries)
    return WrittenTree(_write_spans(writer, tree), digest, tree.size_bytes)


def _write_spans(writer: ObjectWriter, tree: Tree) -> TreeId:
    if len(tree) <= MAX_TREE_ENTRIES:
        return _put_tree(writer, tree_format.encode_tree(tree))
    spans: list[TreeSpan] = []
    start = 0
    for stop in tree_format.split_points([entry.name for entry in tree.entries]):
        run = Tree(tree.entries[start:stop])
        id = _put_tree(writer, tree_format.encode_tree(run))
        spans.append(TreeSpan(run.entries[-1].name, len(run), id))
        start = stop
    level = 1
    while len(spans) > MAX_TREE_ENTRIES:
        spans = _fork_level(writer, level, spans)
        level += 1
    return _put_tree(writer, tree_format.encode_fork(TreeFork(level, tuple(spans))))


def _fork_level(writer: ObjectWriter, level: int, spans: Sequence[TreeSpan]) -> list[TreeSpan]:
    above: list[TreeSpan] = []
    start = 0
    for stop in tree_format.split_points([span.last_name for span in spans]):
        run = spans[start:stop]
        id = _put_tree(writer, tree_format.encode_fork(TreeFork(level, tuple(run))))
        above.append(TreeSpan(run[-1].last_name, sum(span.entries for span in run), id))
        start = stop
    return above


def _put_tree(writer: ObjectWriter, raw: bytes) -> TreeId:
    id = TreeId.of(raw)
    writer.put(id, raw)
    return id


class RecipeWriter:
    """Turns the chunks of one file, as they come, into recipes; holds one run of references a level."""

    def __init__(self, writer: ObjectWriter) -> None:
        """Recipes go to `writer`."""
        self._writer = writer
        self._levels: list[tuple[list[int], list[bytes]]] = []

    def add(self, chunk: ChunkId, size_bytes: int) -> None:
        """Append one chunk of the file."""
        self._append(0, size_bytes, chunk)

    def _append(self, level: int, size: int, id: bytes) -> None:
        if level == len(self._levels):
            self._levels.append(([], []))
        sizes, ids = self._levels[level]
        if recipe_format.ends_run(len(ids), ids[-1] if ids else None):
            self._close(level)
            sizes, ids = self._levels[level]
        sizes.append(size)
        ids.append(id)

    def _close(self, level: int) -> None:
        sizes, ids = self._levels[level]
        self._levels[level] = ([], [])
        self._append(level + 1, sum(sizes), self._put(level, sizes, ids))

    def _put(self, level: int, sizes: Sequence[int], ids: Sequence[bytes]) -> RecipeId:
        raw = recipe_format.encode_recipe(Recipe(level, tuple(sizes), b"".join(ids)))
        id = RecipeId.of(raw)
        self._writer.put(id, raw)
        return id

    def finish(self) -> RecipeId | ChunkId | None:
        """The recipe of the file; its chunk where there is only one; None for an empty file."""
        if not self._levels:
            return None
        level = 0
        while level < len(self._levels) - 1:
            if self._levels[level][0]:
                self._close(level)
            level += 1
        sizes, ids = self._levels[level]
        if level == 0 and len(ids) == 1:
            return ChunkId(ids[0])
        return RecipeId(ids[0]) if len(ids) == 1 else self._put(level, sizes, ids)


def write_snapshot(writer: ObjectWriter, snapshot: Snapshot) -> SnapshotId:
    """Write a snapshot. Raises `InvalidInputError` for metadata that is not JSON."""
    raw = encode_snapshot(snapshot)
    id = SnapshotId.of(raw)
    writer.put(id, raw)
    return id
