"""Do all backends take elements apart into the same planes, and join them again?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import InvalidInputError
from moorage.native import PLANE_WIDTHS
from tests.unit.native.backends import BACKENDS, backend, random_bytes

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
        assert backend(name).join_planes(planes, width) == data


@pytest.mark.parametrize("name", BACKENDS)
@given(data=st.binary(max_size=300), width=st.sampled_from(PLANE_WIDTHS))
def test_joining_undoes_splitting(name: str, data: bytes, width: int) -> None:
    assert backend(name).join_planes(backend(name).split_planes(data, width), width) == data
    assert backend(name).split_planes(backend(name).join_planes(data, width), width) == data


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
    with pytest.raises(InvalidInputError, match="2, 4 or 8"):
        backend(name).join_planes(b"1234", width)
