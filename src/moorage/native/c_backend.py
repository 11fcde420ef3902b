"""How is the C kernel called with the least ado?

By ctypes, which releases the GIL during the call (`CDLL`) and needs no Python headers to build. A call costs about a
microsecond besides its work: parameters go over as one packed bytes object, `bytes` are passed as they are, and the
address of any other buffer, also a read-only slice, is asked of Python's own C interface, which pins it meanwhile.
"""

from __future__ import annotations

import ctypes
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moorage.native.backend import BackendUnavailable, BytesLike, check_pieces, check_width, uneven
from moorage.native.gear import GEAR, GearParams

ABI_VERSION = 2
"""As in `kernel.c`."""

LIBRARY = Path(__file__).with_name("_kernel.so")
"""Where the build puts the compiled kernel."""


class _PyBuffer(ctypes.Structure):
    """`Py_buffer`, part of Python's stable ABI since 3.11."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_BUFFER_BYTES = ctypes.sizeof(_PyBuffer)
_BYTES_OF = operator.attrgetter("len")
_CONTIGUOUS = 0  # PyBUF_SIMPLE: one run of bytes, or BufferError


class CBackend:
    """The compiled kernel."""

    name = "c"

    def __init__(self, library: Path = LIBRARY) -> None:
        """Load `library`. Raises `BackendUnavailable` where it is missing, foreign or of another version."""
        self._cut, self._split, self._gather = _kernel_functions(library)
        self._acquire, self._release, self._new_bytes = _python_functions()
        self._gear = (ctypes.c_uint64 * len(GEAR))(*GEAR)

    def cut_points(self, data: BytesLike, params: GearParams, final: bool) -> list[int]:  # noqa: FBT001  # hot: positional
        """See `Backend.cut_points`."""
        if type(data) is bytes:
            return self._cut_at(data, len(data), params, final)
        view = _PyBuffer()
        pinned = ctypes.addressof(view)
        self._acquire(data, pinned, _CONTIGUOUS)
        try:
            return self._cut_at(view.buf, view.len, params, final)
        finally:
            self._release(pinned)

    def split_planes(self, data: BytesLike, width: int) -> bytes:
        """See `Backend.split_planes`."""
        check_width(width)
        view = _PyBuffer()
        pinned = ctypes.addressof(view)
        self._acquire(data, pinned, _CONTIGUOUS)
        try:
            size = view.len
            result: bytes = self._new_bytes(None, size)
            if size:  # the empty bytes object is one for all
                self._split(view.buf, size, width, result)
            return result
        finally:
            self._release(pinned)

    def gather(self, pieces: Sequence[tuple[int, Sequence[BytesLike]]]) -> bytes:
        """See `Backend.gather`."""
        check_pieces(pieces)
        parts = [part for _, each in pieces for part in each]
        views = (_PyBuffer * len(parts))()
        pinned = ctypes.addressof(views)
        acquired = 0
        try:
            for part in parts:
                self._acquire(part, pinned + acquired * _BUFFER_BYTES, _CONTIGUOUS)
                acquired += 1
            size = sum(map(_BYTES_OF, views))
            result: bytes = self._new_bytes(None, size)
            if size and self._gather(pinned, bytes(width for width, _ in pieces), len(pieces), result) < len(pieces):
                raise uneven()
            return result
        finally:
            for number in range(acquired):
                self._release(pinned + number * _BUFFER_BYTES)

    def _cut_at(self, address: bytes | int | None, size: int, params: GearParams, final: bool) -> list[int]:  # noqa: FBT001  # hot
        ends = (ctypes.c_uint64 * (size // params.min_bytes + 1))()
        count = self._cut(address, size, self._gear, params.packed, final, ends)
        return ends[:count]


def _kernel_functions(library: Path) -> tuple[Any, Any, Any]:
    """The loops of the kernel, typed."""
    try:
        kernel = ctypes.CDLL(str(library))
        version = kernel.moorage_kernel_abi
        functions = (
            kernel.moorage_cut_points,
            kernel.moorage_split_planes,
            kernel.moorage_gather,
        )
    except (OSError, AttributeError) as error:
        raise BackendUnavailable(f"the C kernel cannot be loaded: {error}") from error
    version.restype = ctypes.c_uint32
    version.argtypes = []
    if version() != ABI_VERSION:
        raise BackendUnavailable(f"{library.name} was built from version {version()}, not {ABI_VERSION}")
    cut, split, gather = functions
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    cut.restype = size
    cut.argtypes = [pointer, size, pointer, pointer, ctypes.c_int, pointer]
    split.restype = None
    split.argtypes = [pointer, size, ctypes.c_uint32, pointer]
    gather.restype = size
    gather.argtypes = [pointer, pointer, size, pointer]
    return functions


def _python_functions() -> tuple[Any, Any, Any]:
    """PyObject_GetBuffer, PyBuffer_Release, and PyBytes_FromStringAndSize.

    The last makes a bytes object that is not filled yet, for the kernel to fill before anybody sees it. These call with
    the GIL held and raise what Python raised. They are function objects of our own: those that are attributes of
    `ctypes.pythonapi` are shared, and any library may set their types.
    """
    pointer, size, anything = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.py_object
    try:
        acquire = ctypes.PYFUNCTYPE(ctypes.c_int, anything, pointer, ctypes.c_int)(
            ("PyObject_GetBuffer", ctypes.pythonapi)
        )
        release = ctypes.PYFUNCTYPE(None, pointer)(("PyBuffer_Release", ctypes.pythonapi))
        new_bytes = ctypes.PYFUNCTYPE(anything, pointer, size)(("PyBytes_FromStringAndSize", ctypes.pythonapi))
    except AttributeError as error:
        raise BackendUnavailable(f"this Python has no C interface of CPython's kind: {error}") from error
    return acquire, release, new_bytes
