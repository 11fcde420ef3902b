"""Do all backends take elements apart into the same planes, and join them again?"""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import InvalidInputError
from moorage.native import PLANE_WIDTHS, BytesLike
from tests.unit.native.backends import BACKENDS, backend, joined, random_bytes

SIZES = (*range(34), 127, 128, 129, 1_023, 1_024, 2_049, 4_095, 8_191, 8_192, 8_193, 16_391, 70_003)
"""Around vectors of 16 bytes and the kernel's blocks of 1,024 elements; with and without a tail."""


def expected_planes(data: bytes, width: int) -> bytes:
    """Byte by byte."""
    count = len(data) // width
    planes = [bytes(data[element * width + plane] for element in range(count)) for plane in range(width)]
    return b"".join(planes) + data[count * width :]


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("width", PLANE_WIDTHS)
def test_planes_are_right_at_every_length(name: str, width: int) -> None:
    for size in SIZES:
        data = random_bytes("planes", size)
        planes = backend(name).split_planes(data, width)
        assert planes == expected_planes(data, width)
        assert joined(backend(name), planes, width) == data


@pytest.mark.parametrize("name", BACKENDS)
@given(data=st.binary(max_size=300), width=st.sampled_from(PLANE_WIDTHS))
def test_joining_undoes_splitting(name: str, data: bytes, width: int) -> None:
    assert joined(backend(name), backend(name).split_planes(data, width), width) == data
    assert backend(name).split_planes(joined(backend(name), data, width), width) == data


@pytest.mark.parametrize("name", BACKENDS)
def test_the_result_is_an_object_of_its_own(name: str) -> None:
    """The C backend fills bytes objects before anybody sees them; one that Python shares must not be among them."""
    for value in range(256):
        single = bytes([value])
        assert backend(name).split_planes(memoryview(single), 2) == single
    assert backend(name).split_planes(b"", 2) == b""
    assert [bytes([value])[0] for value in range(256)] == list(range(256))


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("width", [-2, 0, 1, 3, 16])
def test_other_widths_are_refused(name: str, width: int) -> None:
    with pytest.raises(InvalidInputError, match="2, 4 or 8"):
        backend(name).split_planes(b"1234", width)
    if width != 1:  # which has no planes
        with pytest.raises(InvalidInputError, match="2, 4 or 8"):
            backend(name).gather([(width, [b"1234"] * (width + 1))])


@pytest.mark.parametrize("name", BACKENDS)
@given(data=st.data())
def test_pieces_are_gathered_in_order(name: str, data: st.DataObject) -> None:
    """Of all widths in one call, their parts anywhere."""
    raws = data.draw(st.lists(st.tuples(st.sampled_from([1, *PLANE_WIDTHS]), st.binary(max_size=80)), max_size=9))
    pieces: list[tuple[int, list[BytesLike]]] = []
    for width, raw in raws:
        count = len(raw) // width
        planes = [raw[plane : count * width : width] for plane in range(width)] if width > 1 else []
        rest = raw[count * width :] if width > 1 else raw
        kind = data.draw(st.sampled_from([bytes, bytearray, memoryview]))
        pieces.append((width, [kind(part) for part in (*planes, rest)]))
    assert backend(name).gather(pieces) == b"".join(raw for _, raw in raws)


@pytest.mark.parametrize("name", BACKENDS)
def test_pieces_that_are_none_are_refused(name: str) -> None:
    kernel = backend(name)
    for width, parts in ((1, [b"1", b"2"]), (1, []), (2, [b"1", b"2"]), (4, [b"1"] * 6)):
        with pytest.raises(InvalidInputError, match="parts"):
            kernel.gather([(1, [b"good"]), (width, parts)])
    for planes in ([b"12", b"1"], [b"1", b"12"], [b"", b"1"]):
        with pytest.raises(InvalidInputError, match="one length"):
            kernel.gather([(1, [b"good"]), (2, [*planes, b""])])
    grows = bytearray(b"12")
    with pytest.raises(InvalidInputError):
        kernel.gather([(2, [grows, b"1", b""])])
    grows += b"is not pinned any more"
    with pytest.raises(TypeError):
        kernel.gather([(1, [grows]), (1, [cast(bytes, "text")])])
    grows += b"nor now"
