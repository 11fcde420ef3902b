"""What decides where a chunk ends: the gear table, the hash, its parameters. Normative: other numbers are other cuts.

The gear table is the first 256 outputs of splitmix64 (Steele, Lea, Flood 2014) whose state starts at `GEAR_SEED`. The
hash of a place in the data is a function of the 64 bytes before it and of nothing else:

    hash(end) = sum of GEAR[data[end - 1 - k]] << k for k = 0 ... 63, modulo 2**64

A chunk that starts at `start` ends at the first `end` that fits one of these, in the order of `end`:

    start + min_bytes <= end < start + target_bytes     and  hash(end) & mask_small == 0
    start + target_bytes <= end                         and  hash(end) & mask_large == 0
    end == start + max_bytes
    end == the end of the data                          (where the data is all there is)

This is FastCDC with normalised chunking (Xia et al., USENIX ATC 2016; IEEE TPDS 2020), with 64-bit hashes and one
difference: there the hash starts empty after the skipped minimum, here it is always that of a full window, so it does
not depend on where the chunk started. `min_bytes` is at least 64, so the window never reaches into the chunk before.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from moorage.errors import InvalidInputError

GEAR_SEED = 0x6D6F6F7261676531
"""`moorage1` in ASCII."""
WINDOW_BYTES = 64
"""How far back a 64-bit gear hash remembers."""
HASH_MASK = 2**64 - 1


def _splitmix64(state: int, count: int) -> tuple[int, ...]:
    outputs: list[int] = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & HASH_MASK
        mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & HASH_MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & HASH_MASK
        outputs.append(mixed ^ (mixed >> 31))
    return tuple(outputs)


GEAR = _splitmix64(GEAR_SEED, 256)
"""What each value of a byte adds to the hash."""


@dataclass(frozen=True, slots=True)
class GearParams:
    """Sizes and masks of one way to cut; `chunking.params` derives the masks from the sizes."""

    min_bytes: int
    """At least 64."""
    target_bytes: int
    """Where `mask_small` gives way to `mask_large`."""
    max_bytes: int
    mask_small: int
    """Asked of the hash while the chunk is smaller than the target: the more bits, the rarer a cut."""
    mask_large: int
    """Asked from the target on; a subset of `mask_small`."""
    packed: bytes = field(init=False, repr=False, compare=False)
    """The five numbers as the C kernel reads them."""

    def __post_init__(self) -> None:
        """Refuse what the backends do not expect."""
        if not WINDOW_BYTES <= self.min_bytes <= self.target_bytes <= self.max_bytes < 2**32:
            raise InvalidInputError("chunk sizes: 64 <= min <= target <= max < 4 GiB")
        if not 0 < self.mask_large <= self.mask_small <= HASH_MASK or self.mask_large & ~self.mask_small:
            raise InvalidInputError("the mask of large chunks is a part of the mask of small ones, and not empty")
        numbers = (self.min_bytes, self.target_bytes, self.max_bytes, self.mask_small, self.mask_large)
        object.__setattr__(self, "packed", struct.pack("=5Q", *numbers))
