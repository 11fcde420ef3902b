"""Which paths of which branches can no longer be trusted, given what is damaged?

Asked only when something is. Heads of branches and tags are walked first; what none of them has is then looked for in
history. Directories that turned out to have nothing damaged in them are not walked again, and a million paths are
enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from moorage.format.recipe import decode_recipe
from moorage.maintain.check_objects import ObjectChecker
from moorage.maintain.check_trees import TreeNodes
from moorage.maintain.findings import Finding, Findings
from moorage.model.digest import ChunkId, ObjectId, RecipeId, SnapshotId, TreeId
from moorage.model.names import join_path
from moorage.model.refs import RefRecord
from moorage.model.snapshot import Snapshot
from moorage.model.tree import MAX_TREE_LEVEL, Entry, EntryKind, Tree
from moorage.repository.locator import Locator
from moorage.repository.trees import MAX_DEPTH
from moorage.storage.base import Storage

_MAX_TOUCHED = 1_000_000
"""Paths looked for. A directory that is in itself many times over, as an attacker can make it, has more than there is
time for; counts stop here."""

_Frame = tuple[TreeId, str, int, Iterator[Entry]]
"""A directory, its path, how many hits there were before it, and its entries."""


def find_affected(
    storage: Storage,
    locator: Locator,
    findings: Findings,
    heads: Sequence[RefRecord],
    snapshots: Mapping[SnapshotId, Snapshot],
) -> None:
    """Let each finding know what it touches; `snapshots` are all that can be read. Raises `StorageDeniedError`."""
    search = _Search(storage, locator, findings)
    for head in heads:
        search.look_through(head.ref.name, head.snapshot, snapshots.get(head.snapshot))
    seen = {head.snapshot for head in heads}
    newest_first = sorted(snapshots, key=lambda id: -snapshots[id].time_ns)
    for id in newest_first:
        if not findings.untouched():
            return
        if id not in seen:
            search.look_through(id.short, id, snapshots[id])
        for parent in snapshots[id].parents:
            search.note(parent, id.short)


class _Search:
    def __init__(self, storage: Storage, locator: Locator, findings: Findings) -> None:
        self._locator = locator
        self._findings = findings
        # What cannot be read has been written down before: what this reader finds is thrown away.
        self._objects = ObjectChecker(storage, locator, Findings())
        self._nodes = TreeNodes(self._objects)
        self._hits = 0
        self._clean: set[ObjectId] = set()

    def note(self, id: ObjectId, location: str) -> bool:
        """Write `location` down if the object cannot be trusted."""
        finding = self._blamed(id)
        if finding is None:
            return False
        finding.touches(location)
        self._hits += 1
        return True

    def _blamed(self, id: ObjectId) -> Finding | None:
        finding = self._findings.of_object(id)
        if finding is None:
            place = self._locator.lookup([id])[0]
            finding = self._findings.of_location(place) if place is not None else None
        return finding

    def look_through(self, label: str, id: SnapshotId, snapshot: Snapshot | None) -> None:
        """One snapshot and its tree; what is damaged in it is called `label:path`."""
        self.note(id, label)
        if snapshot is None:
            return
        pending: list[_Frame] = []
        self._open(pending, label, "", snapshot.tree)
        while pending and self._hits < _MAX_TOUCHED:
            tree, path, hits, entries = pending[-1]
            entry = next(entries, None)
            if entry is None:
                pending.pop()
                if self._hits == hits:
                    self._clean.add(tree)
                continue
            here = join_path(path, entry.name)
            if isinstance(entry.object, TreeId):
                self._open(pending, label, here, entry.object)
            elif entry.kind is EntryKind.FILE and entry.size_bytes:
                self._look_at_file(f"{label}:{here}", entry)

    def _open(self, pending: list[_Frame], label: str, path: str, tree: TreeId) -> None:
        if tree not in self._clean and len(pending) <= MAX_DEPTH:
            pending.append((tree, path, self._hits, self._entries(f"{label}:{path}", tree)))

    def _entries(self, location: str, tree: TreeId) -> Iterator[Entry]:
        """The entries of a directory that can be read; tree objects that cannot be trusted touch the directory."""
        levels = [[tree]]
        while levels:
            if not levels[-1]:
                levels.pop()
                continue
            id = levels[-1].pop()
            self.note(id, location)
            node = self._nodes.node(id)
            if isinstance(node, Tree):
                yield from node.entries
            elif node is not None and len(levels) <= MAX_TREE_LEVEL:
                levels.append([span.object for span in reversed(node.spans)])

    def _look_at_file(self, location: str, entry: Entry) -> None:
        """Touch each finding once for a file, however many of its chunks are damaged."""
        source = entry.object if isinstance(entry.object, RecipeId) else ChunkId(entry.digest)
        if source in self._clean:
            return
        blamed = dict.fromkeys(self._blamed_below(source))
        for finding in blamed:
            finding.touches(location)
            self._hits += 1
        if not blamed:
            self._clean.add(source)

    def _blamed_below(self, source: ObjectId) -> Iterator[Finding]:
        pending = [source]
        while pending:
            id = pending.pop()
            finding = self._blamed(id)
            if finding is not None:
                yield finding
            recipe = self._objects.read(id, decode_recipe) if isinstance(id, RecipeId) else None
            if recipe is not None and recipe.level:
                pending += [recipe.child(position) for position in range(len(recipe))]
            elif recipe is not None:
                pending += dict.fromkeys(chunk for chunk, _ in recipe.chunks())
