"""Which chunks, and which part of each, make this range of a file? Pure: recipes in, slices out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from moorage.model.digest import ChunkId, RecipeId
from moorage.model.recipe import Recipe

LoadRecipe = Callable[[RecipeId, int, int], Recipe]
"""(recipe, raw bytes it must stand for, level it must have) -> the recipe."""


@dataclass(frozen=True, slots=True)
class ChunkSlice:
    """Bytes `start` to `stop` of one chunk."""

    id: ChunkId
    chunk_bytes: int
    """Raw length of the whole chunk."""
    start: int
    stop: int


def slices_of(recipe: Recipe, start: int, stop: int, load: LoadRecipe) -> Iterator[ChunkSlice]:
    """The slices that make bytes `start` to `stop` of `recipe`, in order; needs `0 <= start < stop <= size`.

    Loads only the recipes that the range touches, one a level at a time.
    """
    for position in range(recipe.find(start), len(recipe)):
        begin = recipe.start(position)
        if begin >= stop:
            return
        size = recipe.sizes[position]
        inner_start, inner_stop = max(0, start - begin), min(size, stop - begin)
        if recipe.level == 0:
            yield ChunkSlice(recipe.chunk(position), size, inner_start, inner_stop)
        else:
            child = load(recipe.child(position), size, recipe.level - 1)
            yield from slices_of(child, inner_start, inner_stop, load)
