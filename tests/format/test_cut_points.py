"""Are files still cut where they have always been cut?

Other cut points would be correct, and every repository would store every file a second time. So they are part of the
format: a change that makes this test fail needs another name in a repository's configuration, not another hash here.

The hashes were computed from the definition alone (`moorage.chunking.reference`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from blake3 import blake3

from moorage.chunking.params import gear_params
from moorage.model.config import ChunkingParams
from moorage.native import GEAR, Backend
from tests.unit.native.backends import BACKENDS, backend

MIB = 1024 * 1024


def _random(size: int) -> bytes:
    """BLAKE3's output stream: the same for ever, whatever Python's random module does."""
    return blake3(b"moorage cut points").digest(length=size)


def _letters(size: int) -> bytes:
    """Sixteen values only."""
    return _random(size).translate(bytes(0x60 | value & 0x0F for value in range(256)))


def _runs(size: int) -> bytes:
    """3,000 random bytes, 5,000 zeros, and so on."""
    source = _random(size)
    return b"".join(source[at : at + 3_000] + bytes(5_000) for at in range(0, size, 8_000))[:size]


def _periodic(size: int) -> bytes:
    """A thousand bytes over and over."""
    return (_random(1_000) * (size // 1_000 + 1))[:size]


DEFAULT = ChunkingParams()
GOLDEN: list[tuple[ChunkingParams, Callable[[int], bytes], int, int, str]] = [
    # sizes, data, its length, number of chunks, BLAKE3 of their ends as little-endian numbers of 8 bytes
    (
        ChunkingParams(64, 256, 1_024),
        _random,
        200_000,
        681,
        "81af72774e06e98eba4bd2e247c908020d458d5bb7b435004fdb19e29001d426",
    ),
    (DEFAULT, _random, 4 * MIB, 59, "620aafc9d632caea744a3cb9fa63a5b3c914ac76a6886d5db22bd93785fa5442"),
    (DEFAULT, _letters, 1 * MIB, 15, "355f10556440106e35ec845f68fe089b78342b9928dc84842de10a0b900354ef"),
    (DEFAULT, _runs, 1 * MIB, 9, "bf4043127a9b6d0d8ddb9d6ea1ba15066a7bfb46e5ae780cdd297aed59820845"),
    (DEFAULT, _periodic, 1 * MIB, 4, "a95dbd9e22eb0f5be4fcb47454d7d23334d70c7fca77d14c89d999a439f1bfe8"),
    (
        ChunkingParams(64, 64, 64),
        _random,
        100_000,
        1_563,
        "4ef7e82c5b3a265dbeac6f3dd8f498fc55a17fb844a6b7d60b22e9d2a40bd866",
    ),
    (
        ChunkingParams(64, 256, 1_024),
        _runs,
        200_000,
        374,
        "1b73bde6f3fa649b02ee2bedb62f263be4f8a0ece66f14bafa82cea10d3cf29e",
    ),
    (
        ChunkingParams(64, 64, 4_096),
        _letters,
        200_000,
        2_544,
        "7dc647fec55b14a84cf45650d0d0b0a728ddee081a4767aa93e8bec48f2cda43",
    ),
    (
        ChunkingParams(200, 1_024, 1_024),
        _periodic,
        200_000,
        196,
        "eee1244cd44ea51e4a3b10f471028d862d68b1842b05408f334913341cdd9230",
    ),
    (
        ChunkingParams(1_024, 4_096, 16_384),
        _random,
        1 * MIB,
        221,
        "159d5e0a6e39948cb933433254e989ab1c576f02bad613d279f3fc76fed9d922",
    ),
    (
        ChunkingParams(2_048, 8_192, 65_536),
        _letters,
        1 * MIB,
        110,
        "faa285519883621bcc2095e053360a8292f5722677f987c90a0e91429aa0377c",
    ),
    (
        ChunkingParams(8_192, 8_192, 32_768),
        _runs,
        1 * MIB,
        78,
        "d9287cc9b080a7d041b6c19b07e356a462608e0b99fcfb1510b78c579d6c1fd6",
    ),
    (
        ChunkingParams(4_096, 1_048_576, 16_777_216),
        _random,
        2 * MIB,
        4,
        "65d958ce6b1ea5bd3e6763b3e99284b16e1556577b49be08c657675e746c3f64",
    ),
]


def fingerprint(ends: list[int]) -> str:
    return blake3(struct.pack(f"<{len(ends)}Q", *ends)).hexdigest()


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(("sizes", "made", "length", "count", "golden"), GOLDEN)
def test_the_cut_points_are_pinned(
    name: str, sizes: ChunkingParams, made: Callable[[int], bytes], length: int, count: int, golden: str
) -> None:
    ends = backend(name).cut_points(made(length), gear_params(sizes), True)
    assert (len(ends), fingerprint(ends)) == (count, golden)


def test_the_gear_table_is_pinned() -> None:
    assert (
        blake3(struct.pack("<256Q", *GEAR)).hexdigest()
        == "1f11236b5b15c52425cb4a95559a5371833da7a1f8398fa3d0964fc6698cff14"
    )


def test_the_default_sizes_are_pinned() -> None:
    """A new repository cuts as the existing ones, so that what is copied between them is found again."""
    assert (DEFAULT.min_bytes, DEFAULT.target_bytes, DEFAULT.max_bytes) == (16_384, 65_536, 262_144)


def test_one_cut_elsewhere_would_be_noticed() -> None:
    """Negative control: a backend that is off by one byte in one chunk."""
    sizes, made, length, _, golden = GOLDEN[0]

    kernel: Backend = backend("python")
    ends = kernel.cut_points(made(length), gear_params(sizes), True)
    assert fingerprint(ends) == golden
    ends[len(ends) // 2] += 1
    assert fingerprint(ends) != golden
