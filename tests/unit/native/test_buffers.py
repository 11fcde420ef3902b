"""Which objects may hold the data, and are they let go of again?"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import cast

import pytest

from moorage.chunking.reference import reference_cut_points
from moorage.errors import InvalidInputError
from moorage.native import Backend, BytesLike
from tests.unit.native.backends import BACKENDS, backend, gear, random_bytes

PARAMS = gear(64, 128, 256, small_bits=7, large_bits=3)
DATA = random_bytes("buffers", 4_000)

SHAPES: dict[str, Callable[[bytes], BytesLike]] = {
    "bytes": lambda data: data,
    "bytearray": bytearray,
    "read-only view": memoryview,
    "writable view": lambda data: memoryview(bytearray(data)),
    "slice of a view": lambda data: memoryview(b"before" + data + b"after")[6:-5],
    "view of numbers": lambda data: memoryview(array("Q", data)),
    "view of two dimensions": lambda data: memoryview(data).cast("B", (len(data) // 40, 40)),
}

CALLS: dict[str, Callable[[Backend, BytesLike], object]] = {
    "cut": lambda kernel, data: kernel.cut_points(data, PARAMS, True),
    "split": lambda kernel, data: kernel.split_planes(data, 4),
    "gather": lambda kernel, data: kernel.gather([(1, [b"before"]), (1, [data])]),
}


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_contiguous_buffer_is_taken(name: str, shape: str) -> None:
    kernel = backend(name)
    data = SHAPES[shape](DATA)
    assert kernel.cut_points(data, PARAMS, True) == reference_cut_points(DATA, PARAMS, final=True)
    assert kernel.split_planes(data, 4) == kernel.split_planes(DATA, 4)
    assert kernel.gather([(1, [data]), (1, [DATA])]) == DATA * 2


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("empty", [b"", bytearray(), memoryview(b""), memoryview(b"abc")[3:], memoryview(array("Q"))])
def test_empty_buffers(name: str, empty: BytesLike) -> None:
    assert backend(name).cut_points(empty, PARAMS, True) == []
    assert backend(name).split_planes(empty, 8) == b""
    assert backend(name).gather([(1, [empty]), (2, [empty] * 3)]) == b""


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("call", CALLS)
def test_a_view_with_gaps_is_refused(name: str, call: str) -> None:
    with pytest.raises(BufferError):
        CALLS[call](backend(name), memoryview(DATA)[::2])


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("call", CALLS)
def test_text_is_refused(name: str, call: str) -> None:
    with pytest.raises(TypeError):
        CALLS[call](backend(name), cast(bytes, "text"))


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("call", CALLS)
def test_the_buffer_is_free_after_the_call(name: str, call: str) -> None:
    """A bytearray that is still pinned cannot grow."""
    data = bytearray(DATA)
    CALLS[call](backend(name), data)
    data += b"more"
    assert len(data) == len(DATA) + 4


@pytest.mark.parametrize("name", BACKENDS)
def test_the_buffer_is_free_after_an_error(name: str) -> None:
    data = bytearray(DATA)
    with pytest.raises(InvalidInputError):
        backend(name).split_planes(data, 3)
    data += b"more"


def test_a_pinned_buffer_would_be_noticed() -> None:
    """Negative control of the two above."""
    data = bytearray(DATA)
    with memoryview(data), pytest.raises(BufferError):
        data += b"more"
