"""Do files of any number of chunks become recipes that lead back to them?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import InvalidInputError
from moorage.format import recipe as recipe_format
from moorage.model.digest import ChunkId, RecipeId
from moorage.model.recipe import Recipe
from moorage.model.snapshot import Snapshot
from moorage.repository.handle import RepositoryHandle
from moorage.repository.tree_writer import RecipeWriter, write_snapshot
from tests.unit.repository.stores import empty_tree, in_memory


def written(handle: RepositoryHandle, chunks: list[tuple[ChunkId, int]]) -> RecipeId | ChunkId | None:
    with handle.writer() as writer:
        recipe = RecipeWriter(writer)
        for id, size in chunks:
            recipe.add(id, size)
        made = recipe.finish()
        writer.finish()
    return made


def flattened(handle: RepositoryHandle, recipe: Recipe) -> list[tuple[ChunkId, int]]:
    if recipe.level == 0:
        return list(recipe.chunks())
    found = []
    for position in range(len(recipe)):
        child = handle.objects.recipe(recipe.child(position))
        assert child.level == recipe.level - 1
        assert child.size_bytes == recipe.sizes[position]
        found += flattened(handle, child)
    return found


def chunks_of(count: int, every_ends_a_run: bool = False) -> list[tuple[ChunkId, int]]:
    ids = [ChunkId.of(b"%d" % number) for number in range(count)]
    if every_ends_a_run:
        ids = [ChunkId(b"\0\0" + id[2:]) for id in ids]
    return [(id, 1 + number % 7) for number, id in enumerate(ids)]


def test_nothing_has_no_recipe() -> None:
    _, handle = in_memory()
    assert written(handle, []) is None


def test_one_chunk_needs_none() -> None:
    _, handle = in_memory()
    assert written(handle, chunks_of(1)) == chunks_of(1)[0][0]


@pytest.mark.parametrize("count", [2, 1_024, 8_192])
def test_a_run_that_ends_nowhere_is_one_recipe(count: int) -> None:
    _, handle = in_memory()
    chunks = [(ChunkId(b"\xff" + id[1:]), size) for id, size in chunks_of(count)]
    made = written(handle, chunks)
    assert isinstance(made, RecipeId)
    recipe = handle.objects.recipe(made)
    assert (recipe.level, len(recipe)) == (0, count)
    assert flattened(handle, recipe) == chunks


@pytest.mark.parametrize("count", [8_193, 20_000])
def test_more_than_a_recipe_holds_is_split(count: int) -> None:
    _, handle = in_memory()
    made = written(handle, chunks_of(count))
    assert isinstance(made, RecipeId)
    recipe = handle.objects.recipe(made)
    assert recipe.level == 1
    assert flattened(handle, recipe) == chunks_of(count)


def test_runs_are_never_shorter_than_the_least() -> None:
    _, handle = in_memory()
    made = written(handle, chunks_of(5_000, every_ends_a_run=True))
    assert isinstance(made, RecipeId)
    recipe = handle.objects.recipe(made)
    lengths = [len(handle.objects.recipe(recipe.child(position))) for position in range(len(recipe))]
    assert lengths == [1_024] * 4 + [5_000 - 4 * 1_024]


def test_an_insertion_changes_one_recipe_of_the_lowest_level() -> None:
    _, handle = in_memory()
    chunks = chunks_of(40_000)
    inserted = [*chunks[:17_000], (ChunkId.of(b"new"), 3), *chunks[17_000:]]
    children = []
    for some in (chunks, inserted):
        made = written(handle, some)
        assert isinstance(made, RecipeId)
        recipe = handle.objects.recipe(made)
        assert flattened(handle, recipe) == some
        children.append({recipe.child(position) for position in range(len(recipe))})
    assert len(children[1] - children[0]) <= 2
    assert len(children[0] & children[1]) >= 3


@given(st.integers(0, 150), st.integers(0, 2**32 - 1))
def test_small_limits_give_many_levels(count: int, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe_format, "_MIN_RUN", 2)
        patch.setattr(recipe_format, "MAX_REFERENCES", 4)
        _, handle = in_memory()
        ids = [ChunkId.of(b"%d/%d" % (seed, number)) for number in range(count)]
        chunks = [(ChunkId(bytes([id[0] & 1, 0]) + id[2:]), 1 + id[5]) for id in ids]
        made = written(handle, chunks)
    if count < 2:
        assert made == (chunks[0][0] if chunks else None)
        return
    assert isinstance(made, RecipeId)
    recipe = handle.objects.recipe(made)
    assert flattened(handle, recipe) == chunks
    assert recipe.size_bytes == sum(size for _, size in chunks)
    assert recipe.level == 0 or len(recipe) >= 2


def test_memory_is_one_run_a_level() -> None:
    _, handle = in_memory()
    with handle.writer() as writer:
        recipe = RecipeWriter(writer)
        for id, size in chunks_of(30_000):
            recipe.add(id, size)
            assert sum(len(ids) for _, ids in recipe._levels) <= 2 * 8_192
        recipe.finish()


def test_a_snapshot_whose_metadata_is_not_json_is_refused() -> None:
    _, handle = in_memory()
    tree, digest = empty_tree()
    with handle.writer() as writer, pytest.raises(InvalidInputError):
        write_snapshot(writer, Snapshot(tree, digest, 0, (), "a", 0, "", {"a": float("nan")}))
