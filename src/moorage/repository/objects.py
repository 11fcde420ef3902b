"""What are the bytes of this object? Located, read, decoded and verified; decoded metadata is kept at hand.

An object whose bytes are wrong may only have been looked for in the wrong place: before that is called damage, the
pack's own footer is asked, and where it disagrees with the index, the index is built anew and the object read again.
"""

from __future__ import annotations

from collections.abc import Sequence

from moorage.errors import DataError
from moorage.format.recipe import decode_recipe
from moorage.format.snapshot import decode_snapshot
from moorage.format.stored import Bytes
from moorage.format.tree import decode_tree
from moorage.model.digest import ChunkId, ObjectId, RecipeId, SnapshotId, TreeId
from moorage.model.objects import PackLocation
from moorage.model.recipe import Recipe
from moorage.model.snapshot import Snapshot
from moorage.model.tree import Tree, TreeFork
from moorage.packs.reader import read_objects
from moorage.repository.locator import Locator
from moorage.repository.lru import LruCache
from moorage.storage.base import Storage

_CHUNK_CACHE_BYTES = 16 * 1024 * 1024
_TREE_CACHE_ENTRIES = 100_000
_RECIPE_CACHE_REFERENCES = 500_000
_KEPT_BYTES = 384
_KEPT_ENTRIES = 4
"""What keeping an object costs beside what is in it: a million chunks of a few bytes are not a few megabytes."""


class ObjectStore:
    """Reads objects. Thread-safe. Every method raises `MissingObjectError`, `CorruptDataError`, `StorageError`."""

    def __init__(self, storage: Storage, locator: Locator) -> None:
        """Nothing is read until something is asked for."""
        self.storage = storage
        self.locator = locator
        self._chunks: LruCache[ChunkId, bytes] = LruCache(_CHUNK_CACHE_BYTES, _chunk_weight)
        self._trees: LruCache[TreeId, Tree | TreeFork] = LruCache(_TREE_CACHE_ENTRIES, _tree_weight)
        self._recipes: LruCache[RecipeId, Recipe] = LruCache(_RECIPE_CACHE_REFERENCES, _recipe_weight)
        self._snapshots: LruCache[SnapshotId, Snapshot] = LruCache(1024)

    def get(self, id: ObjectId) -> bytes:
        """The verified bytes of one object."""
        return bytes(self.get_many([id])[0])

    def get_many(self, ids: Sequence[ObjectId], places: Sequence[PackLocation] | None = None) -> list[Bytes]:
        """The verified bytes of several objects, in order. Views keep alive what was decoded with them. `places` is
        what the locator has just said, if it was asked."""
        locations = self.locator.find(ids) if places is None else places
        try:
            return read_objects(self.storage, list(zip(ids, locations, strict=True)))
        except DataError:
            if not self._relocate(ids, locations):
                raise
            return read_objects(self.storage, list(zip(ids, self.locator.find(ids), strict=True)))

    def _relocate(self, ids: Sequence[ObjectId], locations: Sequence[PackLocation]) -> bool:
        """Build the index anew if it is what was wrong; True where trying again makes sense."""
        if self.locator.confirms(zip(ids, locations, strict=True)):
            return False
        self.locator.doubt()
        return list(locations) != self.locator.find(ids)

    def chunk(self, id: ChunkId) -> bytes:
        """One chunk, kept at hand: for readers that come back to it soon."""
        data = self._chunks.get(id)
        if data is None:
            data = self.get(id)
            self._chunks.put(id, data)
        return data

    def chunks(self, ids: Sequence[ChunkId], places: Sequence[PackLocation] | None = None) -> list[Bytes]:
        """Several neighbouring chunks; the first and last are kept at hand, since the next read often needs them.
        `places` as for `get_many`."""
        found: list[Bytes | None] = [self._chunks.get(id) for id in ids]
        missing = [position for position, data in enumerate(found) if data is None]
        if missing:
            some = None if places is None else [places[position] for position in missing]
            got = self.get_many([ids[position] for position in missing], some)
            for position, data in zip(missing, got, strict=True):
                found[position] = data
            for position in (0, -1):
                edge = found[position]
                if edge is not None:
                    self._chunks.put(ids[position], bytes(edge))
        return [data for data in found if data is not None]

    def contains(self, id: ObjectId) -> bool:
        """Whether the index knows the object, as far as it has been brought up to date."""
        return self.locator.lookup([id])[0] is not None

    def snapshot(self, id: SnapshotId) -> Snapshot:
        """A decoded snapshot."""
        value = self._snapshots.get(id)
        if value is None:
            value = decode_snapshot(self.get(id))
            self._snapshots.put(id, value)
        return value

    def recipe(self, id: RecipeId) -> Recipe:
        """A decoded recipe."""
        value = self._recipes.get(id)
        if value is None:
            value = decode_recipe(self.get(id))
            self._recipes.put(id, value)
        return value

    def tree(self, id: TreeId) -> Tree | TreeFork:
        """A decoded tree object."""
        value = self._trees.get(id)
        if value is None:
            value = decode_tree(self.get(id))
            self._trees.put(id, value)
        return value


def _chunk_weight(data: bytes) -> int:
    return _KEPT_BYTES + len(data)


def _recipe_weight(recipe: Recipe) -> int:
    return _KEPT_ENTRIES + len(recipe)


def _tree_weight(tree: Tree | TreeFork) -> int:
    return _KEPT_ENTRIES + (len(tree) if isinstance(tree, Tree) else len(tree.spans))
