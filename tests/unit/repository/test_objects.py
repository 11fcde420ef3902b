"""Are the bytes that come out always those that went in, or an error that says what is wrong?"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from moorage.errors import CorruptDataError, MissingObjectError
from moorage.format.keys import pack_key, parse_pack_key
from moorage.format.recipe import encode_recipe
from moorage.index.memory import MemoryIndex
from moorage.model.digest import ChunkId, RecipeId, TreeId
from moorage.model.objects import PackLocation
from moorage.model.recipe import Recipe
from moorage.repository import objects as objects_module
from moorage.repository.handle import RepositoryHandle
from tests.unit.repository.stores import in_memory, line_of_snapshots, opened, put_chunks
from tests.unit.wrapped import Wrapped

RAWS = [bytes([number]) * (50 + number) for number in range(30)]


@pytest.fixture
def filled() -> tuple[Wrapped, RepositoryHandle, list[ChunkId]]:
    storage, handle = in_memory()
    with handle.writer() as writer:
        ids = put_chunks(writer, RAWS)
        writer.finish()
    return storage, opened(storage), ids


def test_objects_come_back_in_the_order_asked(filled: tuple[Wrapped, RepositoryHandle, list[ChunkId]]) -> None:
    _, handle, ids = filled
    order = [5, 0, 29, 5, 17]
    assert handle.objects.get_many([ids[n] for n in order]) == [RAWS[n] for n in order]
    assert handle.objects.chunks([ids[n] for n in order]) == [RAWS[n] for n in order]
    assert handle.objects.get_many([]) == []
    assert handle.objects.get(ids[3]) == handle.objects.chunk(ids[3]) == RAWS[3]


def test_neighbours_are_fetched_together(filled: tuple[Wrapped, RepositoryHandle, list[ChunkId]]) -> None:
    storage, handle, ids = filled
    handle.locator.refresh()
    storage.done.clear()
    handle.objects.get_many(ids)
    assert len(storage.keys_of("get_ranges")) == 1


def test_what_was_read_lately_is_not_fetched_again(filled: tuple[Wrapped, RepositoryHandle, list[ChunkId]]) -> None:
    storage, handle, ids = filled
    handle.objects.chunk(ids[0])
    handle.objects.chunks(ids[5:10])
    storage.done.clear()
    assert handle.objects.chunk(ids[0]) == RAWS[0]
    assert handle.objects.chunks([ids[5], ids[9]]) == [RAWS[5], RAWS[9]]
    assert storage.done == []


def test_metadata_is_decoded_once() -> None:
    storage, handle = in_memory()
    recipe = Recipe(0, (3, 4), bytes(64))
    raw = encode_recipe(recipe)
    with handle.writer() as writer:
        writer.put(RecipeId.of(raw), raw)
        writer.finish()
    snapshot = line_of_snapshots(handle, time_ns=5)
    tree = handle.objects.snapshot(snapshot).tree
    assert handle.objects.recipe(RecipeId.of(raw)) == recipe
    assert handle.objects.tree(tree) is handle.objects.tree(tree)
    storage.done.clear()
    assert handle.objects.snapshot(snapshot) is handle.objects.snapshot(snapshot)
    assert handle.objects.recipe(RecipeId.of(raw)) is handle.objects.recipe(RecipeId.of(raw))
    assert storage.done == []


def test_what_is_there_and_what_is_not(filled: tuple[Wrapped, RepositoryHandle, list[ChunkId]]) -> None:
    _, handle, ids = filled
    handle.locator.refresh()
    assert handle.objects.contains(ids[0])
    assert not handle.objects.contains(TreeId(ids[0]))
    with pytest.raises(MissingObjectError):
        handle.objects.get(TreeId(ids[0]))


def damage(storage: Wrapped, offset: int) -> None:
    (info,) = list(storage.inner.list_keys("packs/"))
    data = bytearray(storage.inner.get(info.key))
    data[offset] ^= 4
    storage.inner.delete(info.key)
    storage.inner.create(info.key, bytes(data))


def test_damage_names_the_object_and_the_pack(filled: tuple[Wrapped, RepositoryHandle, list[ChunkId]]) -> None:
    storage, handle, ids = filled
    damage(storage, 8 + 12 + 5)
    with pytest.raises(CorruptDataError) as caught:
        handle.objects.get_many(ids)
    assert caught.value.fields["id"] == ids[0].hex()
    assert caught.value.fields["pack"] == parse_pack_key(next(iter(storage.inner.list_keys("packs/"))).key).hex()
    assert handle.objects.get_many(ids[1:]) == RAWS[1:]


class Lying(MemoryIndex):
    """Says at first that everything lies where something else does."""

    def __init__(self) -> None:
        super().__init__()
        self.is_lying = True

    def find(self, ids: Sequence[object]) -> list[PackLocation | None]:
        found = super().find(ids)  # type: ignore[arg-type]  # handed on
        if self.is_lying and found and found[0] is not None:
            place = found[0]
            return [PackLocation(place.pack, place.offset_bytes + 3, place.stored_bytes, place.raw_bytes, place.codec)]
        return found

    def clear(self) -> None:
        self.is_lying = False
        super().clear()


def test_an_index_that_is_wrong_is_not_called_damage(filled: tuple[Wrapped, RepositoryHandle, list[ChunkId]]) -> None:
    storage, _, ids = filled
    index = Lying()
    handle = opened(storage, index=index)
    assert handle.objects.get(ids[4]) == RAWS[4]
    assert not index.is_lying


def test_a_pack_that_was_rewritten_is_found_where_it_went(
    filled: tuple[Wrapped, RepositoryHandle, list[ChunkId]],
) -> None:
    """As a collection does it: the objects lie in another pack, then the old one is removed."""
    storage, handle, ids = filled
    old = handle.locator.find(ids)[0].pack
    other = opened(storage)
    with other.writer() as writer:
        writer._reusable[old] = False
        put_chunks(writer, RAWS)
        put_chunks(writer, [b"one more, so that the pack is another one"])
        writer.finish()
    storage.inner.delete(pack_key(old))
    assert handle.objects.get_many(ids) == RAWS


def test_small_things_count_for_what_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects_module, "_CHUNK_CACHE_BYTES", 10_000)
    _, handle = in_memory()
    raws = [b"%d" % number for number in range(200)]
    with handle.writer() as writer:
        put_chunks(writer, raws)
        writer.finish()
    for raw in raws:
        assert handle.objects.chunk(ChunkId.of(raw)) == raw
    assert len(handle.objects._chunks._values) < 30
