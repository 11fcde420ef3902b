"""Which chunks, and which part of each, make this range of a file? Pure: recipes in, slices out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from moorage.model.digest import ChunkId, RecipeId
from moorage.model.recipe import Recipe

LoadRecipe = Callable[[RecipeId, int, int], Recipe]
"""(recipe, raw bytes it must stand for, level it must have) -> the recipe."""


class ChunkSlice(msgspec.Struct, frozen=True, gc=False):
    """Bytes `start` to `stop` of one chunk. A struct as `PackLocation` is, and for the same reason."""

    id: ChunkId
    chunk_bytes: int
    """Raw length of the whole chunk."""
    start: int
    stop: int


def slices_of(recipe: Recipe, start: int, stop: int, load: LoadRecipe) -> Iterator[ChunkSlice]:
    """The slices that make bytes `start` to `stop` of `recipe`, in order; needs `0 <= start < stop <= size`.

    Loads only the recipes that the range touches, one a level at a time.
    """
    first = recipe.find(start)
    begin, is_lowest = recipe.start(first), recipe.level == 0
    for position, size in enumerate(recipe.sizes[first:], first):
        if begin >= stop:
            return
        end = begin + size
        inner_start = start - begin if start > begin else 0
        inner_stop = size if stop >= end else stop - begin
        if is_lowest:
            yield ChunkSlice(recipe.chunk(position), size, inner_start, inner_stop)
        else:
            child = load(recipe.child(position), size, recipe.level - 1)
            yield from slices_of(child, inner_start, inner_stop, load)
        begin = end
