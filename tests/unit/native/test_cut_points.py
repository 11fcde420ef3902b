"""Do all backends find exactly the ends that the definition gives?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moorage.chunking.reference import gear_hash, reference_cut_points
from moorage.errors import InvalidInputError
from moorage.native import GEAR, GearParams
from tests.unit.native.backends import BACKENDS, backend, gear, random_bytes

FREQUENT = gear(64, 128, 256, small_bits=7, large_bits=3)
"""Small chunks, cut in all the ways there are within a few hundred bytes."""


@st.composite
def params_of_many_kinds(draw: st.DrawFn) -> GearParams:
    least = draw(st.integers(64, 200))
    target = draw(st.integers(least, 400))
    most = draw(st.integers(target, 700))
    large = draw(st.integers(1, 8))
    return gear(least, target, most, small_bits=draw(st.integers(large, 12)), large_bits=large)


@st.composite
def data_of_many_kinds(draw: st.DrawFn) -> bytes:
    """Random bytes, runs of one byte, and short periods, in any order."""
    parts = draw(
        st.lists(
            st.one_of(
                st.binary(max_size=200),
                st.builds(lambda seed, size: random_bytes(str(seed), size), st.integers(0, 99), st.integers(0, 1_500)),
                st.builds(lambda piece, times: piece * times, st.binary(min_size=1, max_size=9), st.integers(1, 90)),
            ),
            max_size=4,
        )
    )
    return b"".join(parts)


@pytest.mark.parametrize("name", BACKENDS)
@given(data=data_of_many_kinds(), params=params_of_many_kinds(), final=st.booleans())
@example(data=b"", params=FREQUENT, final=True)
@example(data=b"", params=FREQUENT, final=False)
def test_the_cuts_are_those_of_the_definition(name: str, data: bytes, params: GearParams, final: bool) -> None:
    assert backend(name).cut_points(data, params, final) == reference_cut_points(data, params, final=final)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(
    "params",
    [
        gear(64, 64, 64, small_bits=1, large_bits=1),
        gear(64, 64, 900, small_bits=9, large_bits=5),
        gear(100, 900, 900, small_bits=9, large_bits=5),
        gear(64, 4096, 12_000, small_bits=60, large_bits=13),
        gear(64, 12_000, 12_000, small_bits=13, large_bits=13),
        gear(3_000, 9_000, 40_000, small_bits=14, large_bits=12),
    ],
)
def test_around_every_limit(name: str, params: GearParams) -> None:
    """Lengths one less, equal and one more than each size that the loops turn at."""
    data = random_bytes("limits", 3 * 12_000)
    edges = {params.min_bytes, params.target_bytes, params.max_bytes, 64, 1024, 2048, 8192, 8192 + 64, len(data)}
    whole = reference_cut_points(data, params, final=False)
    for size in sorted({max(0, min(edge + step, len(data))) for edge in edges for step in (-1, 0, 1)}):
        certain = [end for end in whole if end <= size]
        rest = [] if size in (0, *certain) else [size]
        assert backend(name).cut_points(data[:size], params, False) == certain
        assert backend(name).cut_points(data[:size], params, True) == certain + rest


KEY = random_bytes("key", 64)
"""A window whose hash fits `KEY_PARAMS`; nothing else does, but for one case in four thousand millions."""
KEY_MASK = ~gear_hash(KEY, 64) & (2**64 - 1)
KEY_PARAMS = GearParams(64, 100_000, 100_000, KEY_MASK, KEY_MASK)

BORDERS = (64, 65, 1_087, 1_088, 1_089, 2_111, 2_112, 2_113, 3_200, 4_159, 4_160, 4_161, 8_255, 8_256, 8_257, 8_900)
"""Ends near where the kernel's lanes and the blocks of numpy begin and end, and some between."""


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("first", BORDERS)
def test_a_cut_wherever_lanes_and_blocks_may_find_it(name: str, first: int) -> None:
    """The second lane may see a later cut before the first lane sees an earlier one: the earlier one must win."""
    for second in (first, *(border for border in BORDERS if border >= first + 64)):
        data = bytearray(b"\x07" * 9_000)
        for end in (first, second):
            data[end - 64 : end] = KEY
        assert backend(name).cut_points(data, KEY_PARAMS, False) == sorted({first, second})


@pytest.mark.parametrize("name", BACKENDS)
def test_runs_of_one_byte_make_chunks_of_the_largest_size(name: str) -> None:
    params = gear(64, 1_024, 4_096, small_bits=20, large_bits=16)
    ends = backend(name).cut_points(bytes(10_000), params, True)
    assert ends == [4_096, 8_192, 10_000]


@pytest.mark.parametrize("name", BACKENDS)
def test_threads_do_not_disturb_one_another(name: str) -> None:
    pieces = [random_bytes(f"thread {number}", 20_000) for number in range(8)]
    alone = [backend(name).cut_points(piece, FREQUENT, True) for piece in pieces]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda piece: backend(name).cut_points(piece, FREQUENT, True), pieces * 4))
    assert together == alone * 4


def test_the_gear_table_is_that_of_the_definition() -> None:
    """The first outputs of splitmix64 from the seed, computed with another implementation."""
    assert GEAR[:2] == (0x270E7ED21BC391F4, 0x68F93D44615728C0)
    assert GEAR[255] == 0x76D7B3BA2347FB4A
    assert len(set(GEAR)) == 256


@pytest.mark.parametrize(
    "numbers",
    [
        (63, 64, 64, 1, 1),
        (64, 63, 64, 1, 1),
        (64, 64, 63, 1, 1),
        (64, 64, 2**32, 1, 1),
        (64, 64, 64, 0, 0),
        (64, 64, 64, 1, 2),
        (64, 64, 64, 1, 3),
        (64, 64, 64, 2**64, 1),
    ],
)
def test_impossible_parameters_are_refused(numbers: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(InvalidInputError):
        GearParams(*numbers)
