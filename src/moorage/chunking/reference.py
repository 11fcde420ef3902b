"""What are the right cut points, written so that anybody can see that they are? The oracle of the tests; far too slow.

The definition of `moorage.native.gear`, sum by sum, and nothing shared with the backends but the gear table.
"""

from __future__ import annotations

from moorage.native.gear import GEAR, GearParams


def gear_hash(data: bytes, end: int) -> int:
    """The hash of the 64 bytes before `end`, which is at least 64."""
    return sum(GEAR[data[end - 1 - age]] << age for age in range(64)) % 2**64


def is_end(data: bytes, start: int, end: int, params: GearParams) -> bool:
    """Whether a chunk that starts at `start` and has not ended before `end` ends there because of its bytes."""
    size = end - start
    if size < params.min_bytes:
        return False
    if size == params.max_bytes:
        return True
    mask = params.mask_small if size < params.target_bytes else params.mask_large
    return gear_hash(data, end) & mask == 0


def reference_cut_points(data: bytes, params: GearParams, *, final: bool) -> list[int]:
    """The exclusive ends of the chunks of `data`, ascending."""
    ends: list[int] = []
    start = 0
    for end in range(1, len(data) + 1):
        if is_end(data, start, end, params):
            ends.append(end)
            start = end
    if final and start < len(data):
        ends.append(len(data))
    return ends
