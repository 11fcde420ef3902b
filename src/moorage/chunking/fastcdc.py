"""Where does a file end its chunks when nothing is known of its format? Where its content says (FastCDC)."""

from __future__ import annotations

from moorage.chunking.params import gear_params
from moorage.model.config import ChunkingParams
from moorage.native import BytesLike, selected


class FastCdcChunker:
    """Content-defined cuts by gear hash; `moorage.native.gear` defines them. Keeps nothing between calls."""

    __slots__ = ("_cut_points", "_params")

    def __init__(self, params: ChunkingParams) -> None:
        self._params = gear_params(params)
        self._cut_points = selected().cut_points

    def cut(self, buffer: BytesLike, *, final: bool) -> list[int]:
        """See `Chunker.cut`."""
        return self._cut_points(buffer, self._params, final)
