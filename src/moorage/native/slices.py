"""How are byte planes taken apart and joined without a kernel? By slices with a stride, which Python runs in C.

For both fallbacks: numpy was measured to be no faster at it. Strided slices of bytes objects are fast, those of
memoryviews slow, so a view is copied first.
"""

from __future__ import annotations

from collections.abc import Sequence

from moorage.native.backend import BytesLike, check_pieces, check_width, flat, uneven


def split_by_slices(data: BytesLike, width: int) -> bytes:
    """See `Backend.split_planes`."""
    check_width(width)
    source = bytes(flat(data))
    whole = len(source) // width * width
    return b"".join([*(source[plane:whole:width] for plane in range(width)), source[whole:]])


def gather_by_slices(pieces: Sequence[tuple[int, Sequence[BytesLike]]]) -> bytes:
    """See `Backend.gather`."""
    check_pieces(pieces)
    found: list[BytesLike] = []
    for width, parts in pieces:
        *planes, rest = map(flat, parts)
        if planes:
            found.append(_joined(planes, width))
        found.append(rest)
    return b"".join(found)


def _joined(planes: Sequence[memoryview], width: int) -> bytearray:
    count = len(planes[0])
    if any(len(plane) != count for plane in planes):
        raise uneven()
    data = bytearray(count * width)
    for number, plane in enumerate(planes):
        data[number::width] = plane
    return data
