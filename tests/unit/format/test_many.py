"""Is a chunk that is encoded or decoded with others the same, byte for byte, as one that is alone?"""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Sequence
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import CorruptDataError, InvalidInputError, NewerFormatError
from moorage.format import many
from moorage.format.many import decode_many, encode_run
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

    monkeypatch.setattr(many, "compress_many", one_by_one)
    assert together(data, ends, BF16) == expected


def test_an_empty_chunk_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        together(b"abcd", [2, 2, 4], BF16)


def test_a_plane_that_is_read_in_the_wrong_place_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without regard to where a chunk starts inside an element, the comparison fails."""
    planes = many._planes

    def careless(data: memoryview, chunks: Sequence[tuple[int, int]], width: int) -> list[list[memoryview]]:
        return planes(data, [(start - start % width, end - start % width) for start, end in chunks], width)

    data, ends = bytes(range(256)) * 8, [701, 2048]
    assert together(data, ends, BF16) == alone(data, ends, BF16)
    monkeypatch.setattr(many, "_planes", careless)
    assert together(data, ends, BF16) != alone(data, ends, BF16)


# -- decoding ----------------------------------------------------------------------------------------


def decoded(stored: bytes, raw_bytes: int, beside: bytes) -> bytes | None:
    """Decoded with another object before it and one after it; None where that is refused."""
    other = (memoryview(beside), CHUNK, len(TAME))
    try:
        found = decode_many([other, (memoryview(stored), CHUNK, raw_bytes), other])
    except (CorruptDataError, NewerFormatError):
        return None
    assert found[0] == found[2] == TAME
    return bytes(found[1])


def decoded_alone(stored: bytes, raw_bytes: int) -> bytes | None:
    try:
        return decode_stored(stored, kind=CHUNK, raw_bytes=raw_bytes)
    except (CorruptDataError, NewerFormatError):
        return None


TAME = b"\x00\x3f" * 300
BESIDE = [encode_stored(TAME, CHUNK, encoding, level=1) for encoding in (RAW, ZSTD, BF16)]


@given(runs(), encodings(), st.sampled_from(BESIDE))
def test_decoded_with_others(cut: tuple[bytes, list[int]], encoding: Encoding, beside: bytes) -> None:
    data, _ = cut
    assert decoded(encode_stored(data, CHUNK, encoding, level=1), len(data), beside) == data


@given(st.data(), encodings(), st.sampled_from(BESIDE))
def test_what_is_damaged_fares_as_it_does_alone(data: st.DataObject, encoding: Encoding, beside: bytes) -> None:
    raw = TAME[: data.draw(st.integers(16, len(TAME)))]
    stored = bytearray(encode_stored(raw, CHUNK, encoding, level=1))
    stored[data.draw(st.integers(0, len(stored) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert decoded(bytes(stored), len(raw), beside) == decoded_alone(bytes(stored), len(raw))


@pytest.mark.parametrize(
    "more",
    [
        b"x",
        b"three more bytes",
        zstandard.ZstdCompressor().compress(b"another frame"),
        bytes.fromhex("502a4d180100000000"),
    ],
    ids=["a byte", "bytes", "a frame", "a skippable frame"],
)
def test_nothing_may_follow_a_frame(more: bytes) -> None:
    """zstandard, asked for many, would not mind."""
    frame = zstandard.ZstdCompressor(level=1).compress(TAME)
    for payload in (frame, frame + more):
        stored = struct.pack("<BBHII", Codec.ZSTD, CHUNK, 0, len(TAME), len(payload)) + payload
        assert decoded(stored, len(TAME), BESIDE[1]) == (TAME if payload == frame else None)
    found = zstandard.ZstdDecompressor().multi_decompress_to_buffer([frame + more, frame])
    assert [len(found[number]) for number in range(2)] == [len(TAME)] * 2


@pytest.mark.parametrize("codec", [Codec.ZSTD, Codec.PLANES_2])
def test_a_frame_that_is_cut_short(codec: Codec) -> None:
    whole = encode_stored(TAME, CHUNK, ZSTD if codec is Codec.ZSTD else BF16, level=1)
    for stop in range(len(whole)):
        assert decoded(whole[:stop], len(TAME), BESIDE[0]) is None


def test_a_frame_that_claims_much_takes_no_memory() -> None:
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(50_000_000))
    stored = struct.pack("<BBHII", Codec.ZSTD, CHUNK, 0, 1000, len(bomb)) + bomb
    tracemalloc.start()
    try:
        assert decoded(stored, 1000, BESIDE[1]) is None
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
