"""How are byte planes taken apart and joined without a kernel? By slices with a stride, which Python runs in C.

For both fallbacks: numpy was measured to be no faster at it. Strided slices of bytes objects are fast, those of
memoryviews slow, so a view is copied first.
"""

from __future__ import annotations

from moorage.native.backend import BytesLike, check_width, flat


def split_by_slices(data: BytesLike, width: int) -> bytes:
    """See `Backend.split_planes`."""
    check_width(width)
    source = bytes(flat(data))
    whole = len(source) // width * width
    return b"".join([*(source[plane:whole:width] for plane in range(width)), source[whole:]])


def join_by_slices(planes: BytesLike, width: int) -> bytes:
    """See `Backend.join_planes`."""
    check_width(width)
    view = flat(planes)
    count = len(view) // width
    data = bytearray(view)
    for plane in range(width):
        data[plane : count * width : width] = view[plane * count : (plane + 1) * count]
    return bytes(data)
