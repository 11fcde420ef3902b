"""Which backend runs the loops over every byte, and how is it called?

The first that works of: the C kernel, numpy, plain Python. Their results are the same; the choice depends on what is
installed and on nothing else, is made at the first call, and holds for the process. A loop that makes many small calls
may hold `selected()` and save a lookup each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from moorage.native.backend import PLANE_WIDTHS, Backend, BackendUnavailable, BytesLike
from moorage.native.c_backend import CBackend
from moorage.native.gear import GEAR, GEAR_SEED, GearParams
from moorage.native.numpy_backend import NumpyBackend
from moorage.native.python_backend import PythonBackend

__all__ = [
    "GEAR",
    "GEAR_SEED",
    "PLANE_WIDTHS",
    "Backend",
    "BackendUnavailable",
    "BytesLike",
    "CBackend",
    "GearParams",
    "NumpyBackend",
    "PythonBackend",
    "backend_name",
    "choose",
    "cut_points",
    "gather",
    "selected",
    "split_planes",
    "why_not_faster",
]

_BEST_FIRST: tuple[Callable[[], Backend], ...] = (CBackend, NumpyBackend, PythonBackend)


def choose(candidates: Sequence[Callable[[], Backend]] = _BEST_FIRST) -> tuple[Backend, list[str]]:
    """The first backend that works, and why each before it does not. The last candidate must always work."""
    reasons: list[str] = []
    for candidate in candidates[:-1]:
        try:
            return candidate(), reasons
        except BackendUnavailable as error:
            reasons.append(str(error))
    return candidates[-1](), reasons


@functools.cache
def _choice() -> tuple[Backend, list[str]]:
    return choose()


def selected() -> Backend:
    """The backend of this process."""
    return _choice()[0]


def backend_name() -> str:
    """`c`, `numpy` or `python`."""
    return selected().name


def why_not_faster() -> list[str]:
    """Why each faster backend is not used; empty with the C kernel."""
    return list(_choice()[1])


def cut_points(data: BytesLike, params: GearParams, final: bool) -> list[int]:  # noqa: FBT001  # hot: positional
    """The exclusive ends of the chunks of `data`; see `Backend.cut_points`."""
    return _choice()[0].cut_points(data, params, final)


def split_planes(data: BytesLike, width: int) -> bytes:
    """The byte planes of `data`, back to back, then its tail; see `Backend.split_planes`."""
    return _choice()[0].split_planes(data, width)


def gather(pieces: Sequence[tuple[int, Sequence[BytesLike]]]) -> bytes:
    """Pieces one after another, each as it is or joined from its planes; see `Backend.gather`."""
    return _choice()[0].gather(pieces)
