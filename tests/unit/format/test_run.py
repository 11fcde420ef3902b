"""Is a chunk that is encoded with its neighbours the same, byte for byte, as one that is encoded alone?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import InvalidInputError
from moorage.format import run
from moorage.format.run import encode_run
from moorage.format.stored import (
    PLANE_WIDTHS,
    RAW,
    ZSTD,
    Encoding,
    Method,
    compress_many,
    decode_stored,
    encode_stored,
)
from moorage.model.objects import Codec, ObjectKind
from tests.unit.native.backends import random_bytes

CHUNK = ObjectKind.CHUNK
BF16 = Encoding(Codec.PLANES_2, (Method.RAW, Method.ENTROPY))


def alone(data: bytes, ends: Sequence[int], encoding: Encoding) -> list[bytes]:
    return [encode_stored(data[start:end], CHUNK, encoding.at(start), level=1) for start, end in pairwise([0, *ends])]


def together(data: bytes, ends: Sequence[int], encoding: Encoding) -> list[bytes]:
    return list(encode_run(memoryview(data), ends, CHUNK, encoding, level=1))


@st.composite
def encodings(draw: st.DrawFn) -> Encoding:
    codec = draw(st.sampled_from(list(PLANE_WIDTHS)))
    width = PLANE_WIDTHS[codec]
    methods = draw(st.lists(st.sampled_from(Method), min_size=width, max_size=width))
    return draw(st.sampled_from([RAW, ZSTD, Encoding(codec, tuple(methods))]))


@st.composite
def runs(draw: st.DrawFn) -> tuple[bytes, list[int]]:
    """Bytes and where they are cut: anywhere, also inside an element, also every byte."""
    unit = draw(st.binary(min_size=1, max_size=9))
    data = unit * draw(st.integers(1, 60)) + draw(st.binary(max_size=20))
    cuts = draw(st.sets(st.integers(1, len(data)), max_size=12))
    return data, sorted(cuts | {len(data)})


@given(runs(), encodings())
def test_as_each_alone(cut: tuple[bytes, list[int]], encoding: Encoding) -> None:
    data, ends = cut
    found = together(data, ends, encoding)
    assert found == alone(data, ends, encoding)
    for stored, (start, end) in zip(found, pairwise([0, *ends]), strict=True):
        assert decode_stored(stored, kind=CHUNK, raw_bytes=end - start) == data[start:end]


@pytest.mark.parametrize("size", [100_000, 100_001, 100_007])
@pytest.mark.parametrize("codec", PLANE_WIDTHS)
def test_chunks_of_the_usual_kind(codec: Codec, size: int) -> None:
    """Half of each element is noise, half is tame; the run ends inside an element, or not."""
    width = PLANE_WIDTHS[codec]
    noise = random_bytes("run", size)
    data = bytes(byte if at % width < width // 2 else 7 for at, byte in enumerate(noise))
    methods = (Method.RAW,) * (width // 2) + (Method.ENTROPY,) * (width // 2)
    ends = [17_003, 33_333, 50_000, 50_001, 81_920, size]
    found = together(data, ends, Encoding(codec, methods))
    assert found == alone(data, ends, Encoding(codec, methods))
    assert sum(map(len, found)) < size * 0.6


def test_without_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyPy's zstandard compresses one at a time."""
    data, ends = bytes(range(256)) * 100, [7_000, 15_001, 25_600]

    expected = together(data, ends, BF16)

    def one_by_one(parts: Sequence[memoryview], method: Method, level: int) -> list[bytes | memoryview]:
        return [compress_many([part], method, level)[0] for part in parts]

    monkeypatch.setattr(run, "compress_many", one_by_one)
    assert together(data, ends, BF16) == expected


def test_an_empty_chunk_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        together(b"abcd", [2, 2, 4], BF16)


def test_a_plane_that_is_read_in_the_wrong_place_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without regard to where a chunk starts inside an element, the comparison fails."""
    planes = run._planes

    def careless(data: memoryview, chunks: Sequence[tuple[int, int]], width: int) -> list[list[memoryview]]:
        return planes(data, [(start - start % width, end - start % width) for start, end in chunks], width)

    data, ends = bytes(range(256)) * 8, [701, 2048]
    assert together(data, ends, BF16) == alone(data, ends, BF16)
    monkeypatch.setattr(run, "_planes", careless)
    assert together(data, ends, BF16) != alone(data, ends, BF16)
