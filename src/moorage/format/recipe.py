"""How a recipe is encoded: columns, so that finding an offset touches no ids.

    offset        size     field
    0             1        level: 0 lists chunks, n lists recipes of level n - 1
    1             3        zero
    4             4        count, 1 to 8,192
    8             8*count  raw bytes of each reference (4*count at level 0)
    ...           32*count ids, in the same order

Splitting into levels is the writer's choice, made by content (`ends_run`) so that an insertion changes one recipe
of the lowest level, not all that follow.
"""

from __future__ import annotations

import struct

from moorage.errors import FormatError, InvalidInputError
from moorage.model.digest import DIGEST_BYTES
from moorage.model.recipe import MAX_LEVEL, MAX_REFERENCES, Recipe

_HEAD = struct.Struct("<B3xI")
_MIN_RUN = 1_024
"""Shorter runs would only be overhead; also guarantees that each level is much shorter than the one below."""


def encode_recipe(recipe: Recipe) -> bytes:
    """The canonical bytes; a level-0 size is at most 4 GiB - 1 by the limits of a chunk."""
    width = "I" if recipe.level == 0 else "Q"
    sizes = struct.pack(f"<{len(recipe)}{width}", *recipe.sizes)
    return _HEAD.pack(recipe.level, len(recipe)) + sizes + recipe.ids


def decode_recipe(data: bytes) -> Recipe:
    """Read a recipe back. Raises `FormatError`."""
    if len(data) < _HEAD.size:
        raise FormatError("a recipe is at least 8 bytes long")
    level, count = _HEAD.unpack_from(data)
    width = 4 if level == 0 else 8
    length = _HEAD.size + count * (width + DIGEST_BYTES)
    if level > MAX_LEVEL or not 1 <= count <= MAX_REFERENCES or len(data) != length or any(data[1:4]):
        raise FormatError(f"not a recipe: level {level}, {count} references, {len(data)} bytes")
    sizes = struct.unpack_from(f"<{count}{'I' if level == 0 else 'Q'}", data, _HEAD.size)
    try:
        return Recipe(level, sizes, data[_HEAD.size + count * width :])
    except InvalidInputError as error:
        raise FormatError(f"not a recipe: {error.message}") from error


def ends_run(length: int, last_id: bytes | None) -> bool:
    """Whether a run of `length` references whose last is `last_id` ends there, as more references follow.

    It does after a reference whose id starts with 12 zero bits (one in 4,096), but not before 1,024 references and
    always at 8,192.
    """
    if last_id is None or length < _MIN_RUN:
        return False
    return length >= MAX_REFERENCES or not (last_id[0] | (last_id[1] & 0xF0))
