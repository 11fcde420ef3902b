"""Do stored objects come back whatever they hold and however they are encoded, and do lying ones take no memory?"""

from __future__ import annotations

import struct
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import CorruptDataError, InvalidInputError, NewerFormatError
from moorage.format.stored import (
    HEADER_BYTES,
    MAX_RAW_BYTES,
    PLANE_WIDTHS,
    RAW,
    ZSTD,
    Encoding,
    Method,
    checksum,
    decode_stored,
    encode_stored,
)
from moorage.model.objects import Codec, ObjectKind
from tests.unit.native.backends import random_bytes

CHUNK = ObjectKind.CHUNK


def stored(codec: int, raw_bytes: int, payload: bytes, kind: int = CHUNK, zero: int = 0) -> bytes:
    return struct.pack("<BBHII", codec, kind, zero, raw_bytes, len(payload)) + payload


def frame(raw: bytes, **options: object) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(raw)  # type: ignore[arg-type]  # options by name


def decoded(data: bytes, raw_bytes: int, kind: ObjectKind = CHUNK) -> bytes:
    return decode_stored(data, kind=kind, raw_bytes=raw_bytes)


def refused(data: bytes, raw_bytes: int) -> None:
    with pytest.raises(CorruptDataError):
        decoded(data, raw_bytes)


METHODS = st.sampled_from(Method)


@st.composite
def encodings(draw: st.DrawFn) -> Encoding:
    codec = draw(st.sampled_from(Codec))
    count = PLANE_WIDTHS.get(codec, 1)
    if codec in (Codec.RAW, Codec.ZSTD):
        return Encoding(
            codec, (Method.RAW if codec is Codec.RAW else draw(st.sampled_from([Method.ENTROPY, Method.ZSTD])),)
        )
    return Encoding(codec, tuple(draw(st.lists(METHODS, min_size=count, max_size=count))))


CONTENTS = st.binary(min_size=1, max_size=300) | st.builds(
    lambda unit, count, tail: unit * count + tail,
    st.binary(min_size=1, max_size=9),
    st.integers(1, 200),
    st.binary(max_size=9),
)


@given(CONTENTS, encodings(), st.sampled_from(ObjectKind), st.integers(0, 20), st.sampled_from([1, 3, 19]))
def test_everything_comes_back(raw: bytes, encoding: Encoding, kind: ObjectKind, offset: int, level: int) -> None:
    data = encode_stored(raw, kind, encoding.at(offset), level=level)
    assert decoded(data, len(raw), kind) == raw
    assert data[0] in (encoding.codec, Codec.RAW)
    assert data[1] == kind
    assert len(data) <= HEADER_BYTES + len(raw)


@given(CONTENTS, encodings())
def test_any_buffer_will_do(raw: bytes, encoding: Encoding) -> None:
    buffer = bytearray(b"xx" + raw + b"yy")
    view = memoryview(buffer)[2:-2]
    assert encode_stored(view, CHUNK, encoding, level=1) == encode_stored(raw, CHUNK, encoding, level=1)


def test_what_saves_nothing_is_stored_raw() -> None:
    raw = random_bytes("stored", 10_000)
    for encoding in (
        ZSTD,
        Encoding(Codec.PLANES_2, (Method.ZSTD,) * 2),
        Encoding(Codec.PLANES_8, (Method.ENTROPY,) * 8),
    ):
        assert encode_stored(raw, CHUNK, encoding, level=1) == encode_stored(raw, CHUNK, RAW, level=1)


@pytest.mark.parametrize("size", [0, MAX_RAW_BYTES + 1])
def test_what_no_reader_would_take_is_never_written(size: int) -> None:
    for encoding in (RAW, ZSTD):
        with pytest.raises(InvalidInputError):
            encode_stored(bytes(size), CHUNK, encoding, level=1)


def test_the_largest_object() -> None:
    raw = bytes(MAX_RAW_BYTES)
    assert decoded(encode_stored(raw, CHUNK, ZSTD, level=1), len(raw)) == raw


# -- phases ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("codec", "width"), PLANE_WIDTHS.items())
def test_methods_follow_the_phase_of_the_elements(codec: Codec, width: int) -> None:
    """However a stream of numbers is cut, the tame plane is the one that is compressed."""
    noisy = random_bytes("phase", 40_000)
    data = bytearray(noisy)
    data[width - 1 :: width] = bytes(0x3C + value % 3 for value in noisy[width - 1 :: width])
    encoding = Encoding(codec, (Method.RAW,) * (width - 1) + (Method.ENTROPY,))
    sizes = []
    for offset in range(2 * width + 1):
        piece = bytes(data[offset : offset + 20_000])
        packed = encode_stored(piece, CHUNK, encoding.at(offset), level=1)
        assert packed[0] == codec
        table = struct.unpack_from(f"<{width}I", packed, HEADER_BYTES)
        compressed = [number for number, length in enumerate(table) if length >> 31]
        assert compressed == [(width - 1 - offset) % width]
        sizes.append(len(packed))
    assert max(sizes) - min(sizes) < 0.02 * min(sizes)


def test_without_the_phase_nothing_is_saved() -> None:
    """Negative control of the test above: every second chunk would be stored at nearly its full length."""
    noisy = random_bytes("phase", 40_000)
    data = bytearray(noisy)
    data[1::2] = bytes(0x3C + value % 3 for value in noisy[1::2])
    encoding = Encoding(Codec.PLANES_2, (Method.RAW, Method.ENTROPY))
    right, wrong = (
        len(encode_stored(bytes(data[1:20_001]), CHUNK, each, level=1)) for each in (encoding.at(1), encoding)
    )
    assert right < 0.7 * 20_000
    assert wrong == HEADER_BYTES + 20_000


# -- lies --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        stored(0, 5, b"hello")[:11],
        stored(0, 5, b"hello")[:-1],
        stored(0, 5, b"hello") + b"!",
        stored(0, 5, b"hello", kind=2),
        stored(0, 5, b"hello", zero=1),
        stored(0, 6, b"hello"),
        stored(0, 5, b"hell"),
        stored(0, 0, b""),
        stored(1, 5, b"hello"),
        stored(1, 5, b""),
        stored(1, 5, frame(b"hello") + b"!"),
        stored(1, 5, frame(b"hello") * 2),
        stored(1, 5, frame(b"hello")[:-1]),
        stored(1, 5, frame(b"hell")),
        stored(1, 5, frame(b"hello!")),
        stored(1, 5, frame(b"hello", write_content_size=False)),
        stored(1, 5, frame(b"hello", write_checksum=True)),
        stored(1, 5, b"\x50\x2a\x4d\x18" + struct.pack("<I", 5) + b"hello"),
        stored(2, 5, b""),
        stored(2, 5, bytes(8)),
        stored(2, 5, struct.pack("<2I", 2, 2) + b"abcd"),
        stored(2, 5, struct.pack("<2I", 2, 3) + b"abcdef"),
        stored(2, 5, struct.pack("<2I", 2, 2) + b"abcdef"),
        stored(2, 5, struct.pack("<2I", 2**31 - 1, 2) + b"abcde"),
        stored(2, 5, struct.pack("<2I", 2**31 | 2, 2) + b"abcde"),
        stored(2, 5, struct.pack("<2I", 2**31 | len(frame(b"abc")), 2) + frame(b"abc") + b"bde"),
    ],
    ids=range(27),
)
def test_what_does_not_add_up_is_refused(data: bytes) -> None:
    refused(data, 5)


def test_the_control_of_the_above() -> None:
    assert decoded(stored(0, 5, b"hello"), 5) == b"hello"
    assert decoded(stored(1, 5, frame(b"hello")), 5) == b"hello"
    assert decoded(stored(2, 5, struct.pack("<2I", 2, 2) + b"hl" + b"el" + b"o"), 5) == b"hello"


def test_an_object_that_claims_to_be_too_long() -> None:
    refused(stored(0, MAX_RAW_BYTES + 1, b"x"), MAX_RAW_BYTES + 1)


@pytest.mark.parametrize("codec", [5, 16, 31, 255])
def test_a_codec_that_nobody_knows(codec: int) -> None:
    with pytest.raises(NewerFormatError):
        decoded(stored(codec, 5, b"hello"), 5)


@pytest.mark.parametrize("codec", [Codec.ZSTD, Codec.PLANES_2, Codec.PLANES_8])
def test_a_bomb_takes_no_memory(codec: Codec) -> None:
    """25 kB that would become 800 MiB, under a header that says 64 KiB, and under one that says 64 MiB."""
    bomb = frame(bytes(800 * 1024 * 1024))
    payload = bomb
    if codec in PLANE_WIDTHS:
        width = PLANE_WIDTHS[codec]
        payload = struct.pack(f"<{width}I", 2**31 | len(bomb), *[0] * (width - 1)) + bomb
    tracemalloc.start()
    try:
        for claimed in (64 * 1024, MAX_RAW_BYTES):
            refused(stored(codec, claimed, payload), claimed)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1024 * 1024


@given(st.data())
def test_a_damaged_object_is_refused_or_has_the_stated_length(data: st.DataObject) -> None:
    """What is decoded is compared with its id by the caller: here nothing may crash, or be of another length."""
    raw = data.draw(CONTENTS)
    good = encode_stored(raw, CHUNK, data.draw(encodings()), level=1)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes([good[at] ^ 1 << data.draw(st.integers(0, 7))]) + good[at + 1 :]
    assert checksum(bad) != checksum(good)
    try:
        found = decoded(bad, len(raw))
    except (CorruptDataError, NewerFormatError):
        return
    assert len(found) == len(raw)
