"""How are chunks cut where there is neither a C kernel nor numpy? In plain Python: slow, never wrong.

Only the cutting is a loop over bytes; the planes are slices (`moorage.native.slices`).
"""

from __future__ import annotations

from collections.abc import Sequence

from moorage.native.backend import BytesLike, flat
from moorage.native.gear import GEAR, HASH_MASK, WINDOW_BYTES, GearParams
from moorage.native.slices import gather_by_slices, split_by_slices


class PythonBackend:
    """Nothing but the standard library."""

    name = "python"

    def cut_points(self, data: BytesLike, params: GearParams, final: bool) -> list[int]:  # noqa: FBT001  # as Backend
        """See `Backend.cut_points`."""
        view = flat(data)
        ends: list[int] = []
        start = 0
        while start < len(view):
            end = _chunk_end(view[start : start + params.max_bytes], params, final)
            if end is None:
                break
            start += end
            ends.append(start)
        return ends

    def split_planes(self, data: BytesLike, width: int) -> bytes:
        """See `Backend.split_planes`."""
        return split_by_slices(data, width)

    def gather(self, pieces: Sequence[tuple[int, Sequence[BytesLike]]]) -> bytes:
        """See `Backend.gather`."""
        return gather_by_slices(pieces)


def _chunk_end(piece: memoryview, params: GearParams, final: bool) -> int | None:  # noqa: FBT001  # as Backend
    """The end of the chunk at the start of `piece`, which is cut off at the largest chunk; None while undecided."""
    if len(piece) >= params.min_bytes:
        turn = min(params.target_bytes - 1, len(piece))
        end = _first_end(piece, params.min_bytes, turn, params.mask_small)
        if end is None:
            end = _first_end(piece, max(turn + 1, params.min_bytes), len(piece), params.mask_large)
        if end is not None:
            return end
    return len(piece) if final or len(piece) == params.max_bytes else None


def _first_end(piece: memoryview, first: int, last: int, mask: int) -> int | None:
    """The first end from `first` to `last`, both included, whose hash has no bit of `mask` set."""
    if first > last:
        return None
    gear = GEAR
    value = 0
    for byte in piece[first - WINDOW_BYTES : first - 1]:
        value = (value << 1) + gear[byte]
    # One step each for the ends from `first` on. Bits above the 64th are never asked for, so they are dropped only
    # lest the number grows.
    end = first
    for byte in piece[first - 1 : last]:
        value = ((value << 1) & HASH_MASK) + gear[byte]
        if not value & mask:
            return end
        end += 1
    return None
