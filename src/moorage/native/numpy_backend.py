"""How are chunks cut at a useful speed where no C compiler was at hand? With numpy, a block of hashes at a time.

A gear hash depends on 64 bytes only, so all hashes of a block come from six doublings: the hash over 2n bytes is that
over the last n plus that over the n before, shifted by n. Memory is bounded by the block, whatever the data's size.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from moorage.native.backend import BackendUnavailable, BytesLike, flat
from moorage.native.gear import GEAR, WINDOW_BYTES, GearParams
from moorage.native.slices import gather_by_slices, split_by_slices

BLOCK_ENDS = 8 * 1024
"""Hashes worked on at once: three arrays of 64 KiB stay in the second-level cache."""


class NumpyBackend:
    """numpy, where it can be imported."""

    name = "numpy"

    def __init__(self) -> None:
        """Import numpy. Raises `BackendUnavailable` where that fails."""
        try:
            import numpy as np
        except ImportError as error:
            raise BackendUnavailable(f"numpy cannot be imported: {error}") from error
        self._np: Any = np
        self._gear: Any = np.array(GEAR, dtype=np.uint64)

    def cut_points(self, data: BytesLike, params: GearParams, final: bool) -> list[int]:  # noqa: FBT001  # as Backend
        """See `Backend.cut_points`."""
        view = flat(data)
        scan = _Scan(self._np, self._gear, view, params)
        ends: list[int] = []
        start, size = 0, len(view)
        while start < size:
            stop = min(start + params.max_bytes, size)
            turn = start + params.target_bytes
            end = scan.first_end(start + params.min_bytes, turn, stop) if stop - start >= params.min_bytes else None
            if end is None and (final or stop - start == params.max_bytes):
                end = stop
            if end is None:
                break
            ends.append(end)
            start = end
        return ends

    def split_planes(self, data: BytesLike, width: int) -> bytes:
        """See `Backend.split_planes`."""
        return split_by_slices(data, width)

    def gather(self, pieces: Sequence[tuple[int, Sequence[BytesLike]]]) -> bytes:
        """See `Backend.gather`."""
        return gather_by_slices(pieces)


class _Scan:
    """Finds ends in one buffer, remembering the block it last hashed: small chunks share it."""

    def __init__(self, np: Any, gear: Any, view: memoryview, params: GearParams) -> None:
        self._np = np
        self._gear = gear
        self._bytes = np.frombuffer(view, dtype=np.uint8)
        self._masks = (np.uint64(params.mask_small), np.uint64(params.mask_large))
        self._block = range(0)
        self._small: list[int] = []
        self._large: list[int] = []

    def first_end(self, first: int, turn: int, last: int) -> int | None:
        """The first end from `first` to `last`, both included: by the mask of small chunks before `turn`, else by that
        of large ones."""
        while first <= last:
            if first not in self._block:
                self._hash_block(first)
            stop = min(self._block.stop, last + 1)
            for found, lower, upper in ((self._small, first, min(stop, turn)), (self._large, max(first, turn), stop)):
                position = bisect_left(found, lower)
                if position < len(found) and found[position] < upper:
                    return found[position]
            first = stop
        return None

    def _hash_block(self, first: int) -> None:
        """Judge all ends from `first` on, as many as a block has."""
        np = self._np
        stop = min(first + BLOCK_ENDS, len(self._bytes) + 1)
        hashes = self._gear[self._bytes[first - WINDOW_BYTES : stop - 1]]
        shifted = np.empty_like(hashes)
        span = 1
        while span < WINDOW_BYTES:
            # The first 63 hashes lack bytes before them and are not asked for.
            np.left_shift(hashes[:-span], np.uint64(span), out=shifted[span:])
            hashes[span:] += shifted[span:]
            span *= 2
        hashes = hashes[WINDOW_BYTES - 1 :]
        small, large = self._masks
        at_large = np.flatnonzero((hashes & large) == 0)
        at_small = at_large[(hashes[at_large] & small) == 0]
        self._block = range(first, stop)
        self._large = (at_large + first).tolist()
        self._small = (at_small + first).tolist()
