"""What is a chunker, and which one cuts a given file?

A chunker is made for one file, from its name and first bytes, so that one that knows a format (tensors of safetensors
or npy files) can take its place later without a change to those who use it. What it finds may depend on nothing else
than these and the bytes: the same file is always cut the same way.
"""

from __future__ import annotations

from typing import Protocol

from moorage.chunking.fastcdc import FastCdcChunker
from moorage.model.config import ChunkingParams
from moorage.native import BytesLike


class Chunker(Protocol):
    """Cuts one file, handed over in order. One thread at a time."""

    def cut(self, buffer: BytesLike, *, final: bool) -> list[int]:
        """The exclusive ends, ascending, of the chunks of `buffer`, which starts where a chunk starts.

        Without `final` the last bytes may stay undecided: whatever follows the last end must come again at the front of
        the next buffer, with more behind it. A buffer of the largest chunk's length or more always has an end. With
        `final`, the file ends with the buffer, and the last end is the buffer's length; an empty buffer has none.
        """
        ...


def chunker_for(params: ChunkingParams, name: str, head: bytes) -> Chunker:  # noqa: ARG001  # for chunkers to come
    """The chunker of the file called `name` that starts with `head`. Every file is cut by content for now."""
    return FastCdcChunker(params)
