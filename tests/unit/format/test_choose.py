"""Is each kind of content written the way that suits it, wherever it is cut, and also after something else?"""

from __future__ import annotations

import random
import struct

import pytest

from moorage.format import choose as choosing
from moorage.format.choose import SAMPLE_BYTES, Chooser, choose
from moorage.format.stored import Encoding, Method, encode_stored
from moorage.model.objects import Codec, ObjectKind
from tests.unit.native.backends import random_bytes

SIZE = 64 * 1024


def gauss(count: int, code: str) -> bytes:
    chance = random.Random(7)
    return struct.pack(f"<{count}{code}", *(chance.gauss(0, 0.02) for _ in range(count)))


def bf16(count: int) -> bytes:
    """The upper halves of 32-bit floats."""
    data = gauss(count, "f")
    return b"".join(data[at + 2 : at + 4] for at in range(0, len(data), 4))


CONTENTS: dict[str, bytes] = {
    "random": random_bytes("choose", 2 * SIZE),
    "text": b"".join(b"step %d: loss %.4f\n" % (n, 1 / (n + 1)) for n in range(8_000))[: 2 * SIZE],
    "zeros": bytes(2 * SIZE),
    "bf16": bf16(SIZE),
    "f32": gauss(SIZE // 2, "f"),
    "f64": gauss(SIZE // 4, "d"),
    "i64": struct.pack(f"<{SIZE // 4}q", *(number * number for number in range(SIZE // 4))),
}


def codec_of(name: str, offset: int = 0, size: int = SIZE) -> Codec:
    chooser = Chooser(1)
    return chooser.choose(CONTENTS[name][offset : offset + size], offset).codec


def ratio(name: str, offset: int = 0, size: int = SIZE) -> float:
    piece = CONTENTS[name][offset : offset + size]
    encoding = Chooser(1).choose(piece, offset).at(offset)
    return len(encode_stored(piece, ObjectKind.CHUNK, encoding, level=1)) / len(piece)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("random", Codec.RAW),
        ("text", Codec.ZSTD),
        ("zeros", Codec.ZSTD),
        ("bf16", Codec.PLANES_2),
        ("f32", Codec.PLANES_4),
        ("f64", Codec.PLANES_8),
    ],
)
def test_each_content_has_its_codec(name: str, codec: Codec) -> None:
    assert codec_of(name) is codec


@pytest.mark.parametrize(("name", "least", "most"), [("bf16", 0.60, 0.72), ("f32", 0.75, 0.88), ("f64", 0.80, 0.95)])
@pytest.mark.parametrize("offset", range(9))
def test_numbers_save_the_same_at_every_phase(name: str, least: float, most: float, offset: int) -> None:
    assert least < ratio(name, offset) < most


@pytest.mark.parametrize("size", [8_192, 12_345, SAMPLE_BYTES - 1, SAMPLE_BYTES, SAMPLE_BYTES + 9, SAMPLE_BYTES + 16])
@pytest.mark.parametrize("offset", [0, 1, 3, 5])
def test_small_chunks_too(size: int, offset: int) -> None:
    """A sample as long as the chunk starts at an element all the same."""
    assert codec_of("bf16", offset, size) is Codec.PLANES_2
    assert ratio("bf16", offset, size) < 0.75


def test_of_exponents_entropy_coding_alone_is_chosen() -> None:
    assert Chooser(1).choose(CONTENTS["bf16"], 0).methods == (Method.RAW, Method.ENTROPY)


@pytest.mark.parametrize("data", [b"", b"a", b"ab" * 3, b"abc" * 100])
def test_next_to_nothing(data: bytes) -> None:
    assert Chooser(1).choose(data, 3).codec in Codec
    encoding, found = choose(data, level=1)
    assert found <= 1.0
    assert encoding.codec in (Codec.RAW, Codec.ZSTD)


def test_a_choice_is_remembered_while_it_suits(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(sample: bytes | memoryview, *, level: int) -> tuple[Encoding, float]:
        made.append(len(sample))
        return choose(sample, level=level)

    monkeypatch.setattr(choosing, "choose", counted)
    chooser = Chooser(1)
    for offset in range(0, SIZE, 17 * 1024 + 1):
        assert chooser.choose(CONTENTS["bf16"][offset : offset + 17 * 1024], offset).codec is Codec.PLANES_2
    assert len(made) == 1


@pytest.mark.parametrize("first", CONTENTS)
@pytest.mark.parametrize("then", ["random", "text", "zeros", "bf16"])
def test_another_content_is_noticed(first: str, then: str) -> None:
    chooser = Chooser(1)
    chooser.choose(CONTENTS[first][:SIZE], 0)
    piece = CONTENTS[then][:SIZE]
    later = len(encode_stored(piece, ObjectKind.CHUNK, chooser.choose(piece, 0), level=1))
    fresh = len(encode_stored(piece, ObjectKind.CHUNK, Chooser(1).choose(piece, 0), level=1))
    assert later <= 1.05 * fresh


def test_the_level_is_the_repositorys() -> None:
    piece = CONTENTS["text"][:SIZE]
    sizes = [
        len(encode_stored(piece, ObjectKind.CHUNK, Chooser(level).choose(piece, 0), level=level)) for level in (1, 19)
    ]
    assert sizes[1] < sizes[0]
