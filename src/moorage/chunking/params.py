"""Which gear hash parameters follow from a repository's chunk sizes? Normative: other masks are other cuts.

A mask of n bits takes the n highest even bits of the hash, 62, 60, 58, ...: high bits, since bit b depends on the last
b + 1 bytes only; every second one, so that neighbouring hashes, which are shifts of one another plus a table entry,
share few of the bits asked for. A smaller mask is thereby a subset of a larger one. With a target of 2**t bytes, chunks
below the target are cut by a mask of t + 2 bits, larger ones by t - 2 (normalised chunking, level 2).
"""

from __future__ import annotations

import functools

from moorage.model.config import ChunkingParams
from moorage.native import GearParams

NORMALISATION_BITS = 2
"""How much rarer than once a target's length a cut is below the target, and how much more frequent above it."""

_EVEN_BITS = tuple(range(62, -1, -2))


def mask_of(bits: int) -> int:
    """The mask of the `bits` highest even bits of a 64-bit hash."""
    return sum(1 << position for position in _EVEN_BITS[:bits])


@functools.lru_cache(maxsize=64)
def gear_params(params: ChunkingParams) -> GearParams:
    """What the backends need to cut as `params` says."""
    bits = params.target_bytes.bit_length() - 1
    return GearParams(
        min_bytes=params.min_bytes,
        target_bytes=params.target_bytes,
        max_bytes=params.max_bytes,
        mask_small=mask_of(bits + NORMALISATION_BITS),
        mask_large=mask_of(bits - NORMALISATION_BITS),
    )
