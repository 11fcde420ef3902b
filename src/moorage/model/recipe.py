"""Which chunks, in which order, make a file.

A recipe of one level lists chunks; a recipe of a higher level lists recipes one level below, with the raw length that
each stands for, so that neither a small read of a huge file nor its ingest ever holds all of its references. Columns,
not objects: a list of 8,192 references is two flat arrays, and finding the one at an offset is a bisection.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from moorage.errors import InvalidInputError
from moorage.model.digest import DIGEST_BYTES, ChunkId, RecipeId
from moorage.model.limits import MAX_SIZE_BYTES

MAX_REFERENCES = 8_192
"""In one recipe object."""
MAX_LEVEL = 8
"""8,192 ** 8 chunks are more than any disk holds; a deeper recipe is an attack or a bug."""
MAX_CHUNK_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Recipe:
    """One recipe object: `sizes[i]` raw bytes come from the reference `ids[32 * i : 32 * i + 32]`."""

    level: int
    """0: the references are chunks. n: they are recipes of level n - 1."""
    sizes: tuple[int, ...]
    """Raw bytes that each reference stands for; each at least 1, and of a chunk at most 16 MiB."""
    ids: bytes
    """32 bytes a reference, in order."""
    ends: array[int] = field(init=False, repr=False, compare=False)
    """Running total of `sizes`: where each reference's bytes stop."""

    def __post_init__(self) -> None:
        """Check that the columns fit together and are in bounds."""
        count = len(self.sizes)
        if not 0 <= self.level <= MAX_LEVEL:
            raise InvalidInputError(f"a recipe's level is 0 to {MAX_LEVEL}, not {self.level}")
        if not 1 <= count <= MAX_REFERENCES:
            raise InvalidInputError(f"a recipe holds 1 to {MAX_REFERENCES} references, not {count}")
        if len(self.ids) != count * DIGEST_BYTES:
            raise InvalidInputError("a recipe's sizes and ids differ in number")
        if min(self.sizes) < 1 or (self.level == 0 and max(self.sizes) > MAX_CHUNK_BYTES):
            raise InvalidInputError(f"a recipe refers to a chunk that is empty or longer than {MAX_CHUNK_BYTES} bytes")
        if sum(self.sizes) > MAX_SIZE_BYTES:
            raise InvalidInputError("a recipe stands for more bytes than a file can have")
        object.__setattr__(self, "ends", array("Q", accumulate(self.sizes)))

    def __len__(self) -> int:
        """How many references."""
        return len(self.sizes)

    @property
    def size_bytes(self) -> int:
        """Raw bytes that the whole recipe stands for."""
        return self.ends[-1]

    def find(self, offset: int) -> int:
        """The reference whose bytes hold `offset`, which must be inside the recipe."""
        return bisect_right(self.ends, offset)

    def start(self, position: int) -> int:
        """Where the bytes of the reference at `position` start."""
        return self.ends[position] - self.sizes[position]

    def chunk(self, position: int) -> ChunkId:
        """The chunk at `position` of a recipe of level 0."""
        return ChunkId(self.ids[position * DIGEST_BYTES : (position + 1) * DIGEST_BYTES])

    def child(self, position: int) -> RecipeId:
        """The recipe at `position` of a recipe of a higher level."""
        return RecipeId(self.ids[position * DIGEST_BYTES : (position + 1) * DIGEST_BYTES])

    def chunks(self) -> Iterator[tuple[ChunkId, int]]:
        """All (chunk, raw bytes) of a recipe of level 0, in order."""
        for position, size in enumerate(self.sizes):
            yield self.chunk(position), size
