"""Does everything that branches and tags lead to exist, and is each part what the others say of it?

Each object is looked at once, but for the spans of huge directories, which are hashed again for each version of the
directory. Whether a chunk's bytes are right is not asked here: that its place is known is enough. Nor is a file made of
them (see `check_contents`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from moorage.format.recipe import decode_recipe
from moorage.format.snapshot import decode_snapshot
from moorage.format.tree import directory_digest
from moorage.maintain.check_objects import ObjectChecker
from moorage.maintain.check_trees import DirectoryWalk, TreeNodes
from moorage.maintain.distinct import DistinctIds
from moorage.maintain.report import ProblemKind
from moorage.model.digest import ChunkId, ContentDigest, RecipeId, SnapshotId, TreeId
from moorage.model.progress import Progress
from moorage.model.snapshot import Snapshot
from moorage.model.tree import Entry, EntryKind

_NO_CONTENT = ContentDigest.of(b"")
_CHUNK_BATCH = 4096


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a directory is, or is said to be."""

    digest: ContentDigest
    size_bytes: int


class GraphChecker:
    """Walks from snapshots to chunks."""

    def __init__(self, objects: ObjectChecker, progress: Progress) -> None:
        """Nothing is read before `check`."""
        self._objects = objects
        self._progress = progress
        self._findings = objects.findings
        self._nodes = TreeNodes(objects)
        self._facts: dict[TreeId, _Facts | None] = {}
        """By directory; None where not all of it can be read."""
        self._recipes: dict[RecipeId, tuple[int, int] | None] = {}
        """(raw bytes, level); None where it cannot be read."""
        self.contents: dict[RecipeId, tuple[ContentDigest, int]] = {}
        """Of files of several chunks: what each recipe is said to make, and how long that is."""
        self._waiting: list[tuple[ChunkId, int]] = []
        self.snapshots: dict[SnapshotId, Snapshot] = {}
        """All that could be read."""
        self.files = 0
        self.chunks = DistinctIds()

    @property
    def trees(self) -> int:
        """Directories seen."""
        return len(self._facts)

    @property
    def recipes(self) -> int:
        """Recipes seen."""
        return len(self._recipes)

    def check(self, heads: Iterable[SnapshotId]) -> None:
        """Everything that `heads` lead to, history included. Raises `StorageDeniedError`."""
        self._progress.begin("checking history", total_bytes=None, total_files=None)
        seen: set[SnapshotId] = set()
        pending = list(heads)
        while pending:
            id = pending.pop()
            if id in seen:
                continue
            seen.add(id)
            snapshot = self._objects.read(id, decode_snapshot)
            if snapshot is not None:
                self.snapshots[id] = snapshot
                pending += snapshot.parents
                self._check_root(id, snapshot)
        self._check_waiting()
        self._progress.finish()

    # -- directories -----------------------------------------------------------------------------------

    def _check_root(self, id: SnapshotId, snapshot: Snapshot) -> None:
        self._check_directories(snapshot.tree)
        facts = self._facts[snapshot.tree]
        if facts is not None and facts != _Facts(snapshot.digest, snapshot.size_bytes):
            self._findings.bad_object(ProblemKind.MISMATCH, id, "its tree is not what it says of it")

    def _check_directories(self, root: TreeId) -> None:
        """Look at a directory and all below, those not seen before; without recursion, which Python limits."""
        pending: list[tuple[TreeId, _Facts | None]] = [(root, None)]
        while pending:
            tree, said = pending.pop()
            if tree not in self._facts:
                children: list[tuple[TreeId, _Facts | None]] = []
                walk = DirectoryWalk(self._nodes, tree)
                size = _Sum()
                digest = directory_digest(self._looked_at(tree, walk, children, size))
                self._facts[tree] = _Facts(digest, size.total) if walk.is_complete else None
                pending += children
            facts = self._facts[tree]
            if said is not None and facts is not None and facts != said:
                self._findings.bad_object(ProblemKind.MISMATCH, tree, "it is not what the directory above says of it")

    def _looked_at(
        self, tree: TreeId, walk: DirectoryWalk, children: list[tuple[TreeId, _Facts | None]], size: _Sum
    ) -> Iterator[Entry]:
        """Pass the entries of a directory on; directories among them go to `children`."""
        files = 0
        for entry in walk:
            size.total += entry.size_bytes
            if isinstance(entry.object, TreeId):
                children.append((entry.object, _Facts(entry.digest, entry.size_bytes)))
            else:
                files += entry.kind is EntryKind.FILE
                self._check_leaf(tree, entry)
            yield entry
        self.files += files
        self._progress.advance(files=files)

    # -- files -----------------------------------------------------------------------------------------

    def _check_leaf(self, directory: TreeId, entry: Entry) -> None:
        """A file's recipe or chunk, or what a symlink or an empty file says of itself."""
        is_right = True
        if isinstance(entry.object, RecipeId):
            self._check_recipe(entry.object, entry.size_bytes)
            if self.contents.setdefault(entry.object, (entry.digest, entry.size_bytes))[0] != entry.digest:
                self._findings.bad_object(
                    ProblemKind.MISMATCH, entry.object, "entries say that it makes different files"
                )
        elif entry.kind is EntryKind.SYMLINK:
            target = entry.target.encode("utf-8")
            is_right = entry.digest == ContentDigest.of(target) and entry.size_bytes == len(target)
        elif entry.size_bytes:
            self._check_chunk(ChunkId(entry.digest), entry.size_bytes)
        else:
            is_right = entry.digest == _NO_CONTENT
        if not is_right:
            message = f"its entry {entry.name!r} has a digest or a size that is not its own"
            self._findings.bad_object(ProblemKind.MISMATCH, directory, message)

    def _check_recipe(self, top: RecipeId, top_bytes: int) -> None:
        pending: list[tuple[RecipeId, int, int | None]] = [(top, top_bytes, None)]
        while pending:
            id, size_bytes, level = pending.pop()
            if id not in self._recipes:
                recipe = self._objects.read(id, decode_recipe)
                self._recipes[id] = None if recipe is None else (recipe.size_bytes, recipe.level)
                if recipe is not None and recipe.level:
                    pending += [
                        (recipe.child(position), size, recipe.level - 1) for position, size in enumerate(recipe.sizes)
                    ]
                elif recipe is not None:
                    for chunk, size in recipe.chunks():
                        self._check_chunk(chunk, size)
            found = self._recipes[id]
            if found is not None and (found[0] != size_bytes or level not in (None, found[1])):
                message = f"it makes {found[0]} bytes at level {found[1]}; what refers to it says {size_bytes}"
                self._findings.bad_object(ProblemKind.MISMATCH, id, message)

    def _check_chunk(self, id: ChunkId, size_bytes: int) -> None:
        self._waiting.append((id, size_bytes))
        if len(self._waiting) >= _CHUNK_BATCH:
            self._check_waiting()

    def _check_waiting(self) -> None:
        """Ask where many chunks are, at once."""
        waiting, self._waiting = self._waiting, []
        ids = [id for id, _ in waiting]
        self.chunks.add(b"".join(ids))
        for (id, size_bytes), place in zip(waiting, self._objects.locate(ids), strict=True):
            if place is not None and place.raw_bytes != size_bytes:
                message = f"it has {place.raw_bytes} bytes, not {size_bytes} as a file says"
                self._findings.bad_object(ProblemKind.MISMATCH, id, message)


@dataclass(slots=True)
class _Sum:
    total: int = 0
