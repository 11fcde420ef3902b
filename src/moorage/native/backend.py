"""What does every backend promise?

Functions that look at every byte, given by three backends (C, numpy, plain Python) with exactly the same results;
only their speed differs. All are pure, hold no state between calls and may be called from any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from moorage.errors import InvalidInputError
from moorage.native.gear import GearParams

BytesLike: TypeAlias = bytes | bytearray | memoryview
"""C-contiguous; of a memoryview the bytes count, whatever its format. The C backend reads it in place."""

PLANE_WIDTHS = (2, 4, 8)


class BackendUnavailable(Exception):
    """A backend cannot work here; the text says why. Never leaves `moorage.native`: the next backend is taken."""


class Backend(Protocol):
    """One way to run the loops over every byte."""

    @property
    def name(self) -> str:
        """`c`, `numpy` or `python`."""
        ...

    def cut_points(self, data: BytesLike, params: GearParams, final: bool) -> list[int]:  # noqa: FBT001  # hot: positional
        """The exclusive ends of the chunks of `data`, ascending; `data` starts where a chunk starts.

        With `final`, `data` is all there is, and the last end is its length. Without, only ends that no further byte
        can change are given; the bytes after the last of them belong at the front of the next call's data. Empty data
        has no chunks. `moorage.native.gear` defines the ends.
        """
        ...

    def split_planes(self, data: BytesLike, width: int) -> bytes:
        """The byte planes of elements of 2, 4 or 8 bytes, back to back, in one object as long as `data`.

        With `count = len(data) // width`, plane k is `result[k * count : (k + 1) * count]`: byte k of each element. The
        bytes after the last whole element follow as they are, from `result[width * count]` on.
        """
        ...

    def gather(self, pieces: Sequence[tuple[int, Sequence[BytesLike]]]) -> bytes:
        """Pieces one after another, in one call however many: each is (width, parts).

        A piece of width 1 is its one part. One of 2, 4 or 8 is joined from its planes, which are as long as each other,
        and ends with the part after them: the inverse of `split_planes`. Raises `InvalidInputError` where the parts
        are not so.
        """
        ...


def check_width(width: int) -> None:
    """Refuse widths without planes. Raises `InvalidInputError`."""
    if width not in PLANE_WIDTHS:
        raise InvalidInputError(f"byte planes are of elements of 2, 4 or 8 bytes, not {width}")


def check_pieces(pieces: Sequence[tuple[int, Sequence[BytesLike]]]) -> None:
    """Refuse pieces that do not have a part for each of their planes, and one. Raises `InvalidInputError`."""
    for width, parts in pieces:
        if width != 1:
            check_width(width)
        if len(parts) != (width + 1 if width > 1 else 1):
            raise InvalidInputError(f"a piece of width {width} has {len(parts)} parts")


def uneven() -> InvalidInputError:
    """What is raised for planes of one piece that are not as long as each other."""
    return InvalidInputError("the planes of a piece are not of one length")


def flat(data: BytesLike) -> memoryview:
    """`data` as a one-dimensional view of its bytes. Raises `BufferError` where it is not contiguous."""
    view = memoryview(data)
    if view.ndim == 1 and view.format == "B" and view.c_contiguous:
        return view
    if not view.c_contiguous:
        raise BufferError("the buffer is not C-contiguous")
    return view.cast("B") if view.nbytes else memoryview(b"")
