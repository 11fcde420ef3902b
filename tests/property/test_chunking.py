"""What must hold of every way to cut, whatever the bytes and however they arrive?"""

from __future__ import annotations

from itertools import pairwise
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.chunking import Chunker, chunker_for
from moorage.chunking.params import gear_params
from moorage.model.config import ChunkingParams
from moorage.native import Backend, GearParams
from tests.unit.native.backends import BACKENDS, backend, random_bytes

SMALL = ChunkingParams(64, 256, 1_024)

chunk_sizes = st.builds(
    lambda least, target, most: ChunkingParams(min(least, 2**target), 2**target, max(most, 2**target)),
    least=st.integers(64, 600),
    target=st.integers(6, 10),
    most=st.integers(64, 5_000),
)
data_of_any_kind = st.builds(
    lambda seed, size, period: random_bytes(str(seed), size) if period == 0 else random_bytes(str(seed), period) * 40,
    seed=st.integers(0, 10_000),
    size=st.integers(0, 20_000),
    period=st.one_of(st.just(0), st.integers(1, 200)),
)


class BackendChunker:
    """A chunker over one backend, to try those that are not selected."""

    def __init__(self, kernel: Backend, params: GearParams) -> None:
        self._kernel = kernel
        self._params = params

    def cut(self, buffer: bytes | bytearray | memoryview, *, final: bool) -> list[int]:
        return self._kernel.cut_points(buffer, self._params, final)


def ends_in_pieces(chunker: Chunker, data: bytes, pieces: list[int]) -> list[int]:
    """Hand `data` over in pieces of the given lengths, the rest at last, keeping what is undecided."""
    ends: list[int] = []
    start = taken = 0
    for piece in [*pieces, len(data)]:
        taken = min(taken + piece, len(data))
        for final in (False, True) if taken == len(data) else (False,):
            found = chunker.cut(data[start:taken], final=final)
            ends += [start + end for end in found]
            start = ends[-1] if ends else 0
        if taken == len(data):
            break
    return ends


def sizes_of(ends: list[int]) -> list[int]:
    return [end - start for start, end in pairwise([0, *ends])]


def chunks_of(data: bytes, params: ChunkingParams) -> list[bytes]:
    ends = chunker_for(params, "file", data[:64]).cut(data, final=True)
    return [data[start:end] for start, end in pairwise([0, *ends])]


@pytest.mark.parametrize("name", BACKENDS)
@given(data=data_of_any_kind, sizes=chunk_sizes, pieces=st.lists(st.integers(0, 3_000), max_size=20))
def test_pieces_are_cut_as_the_whole(name: str, data: bytes, sizes: ChunkingParams, pieces: list[int]) -> None:
    chunker = BackendChunker(backend(name), gear_params(sizes))
    assert ends_in_pieces(chunker, data, pieces) == chunker.cut(data, final=True)


@given(data=data_of_any_kind, sizes=chunk_sizes)
def test_chunks_cover_the_data_and_keep_the_bounds(data: bytes, sizes: ChunkingParams) -> None:
    chunks = chunks_of(data, sizes)
    assert b"".join(chunks) == data
    assert all(sizes.min_bytes <= len(chunk) <= sizes.max_bytes for chunk in chunks[:-1])
    assert all(0 < len(chunk) <= sizes.max_bytes for chunk in chunks[-1:])


@given(data=data_of_any_kind, sizes=chunk_sizes, cut_off=st.integers(0, 20_000))
def test_a_certain_end_stays_whatever_follows(data: bytes, sizes: ChunkingParams, cut_off: int) -> None:
    chunker = chunker_for(sizes, "file", b"")
    certain = chunker.cut(data[:cut_off], final=False)
    assert certain == chunker.cut(data, final=True)[: len(certain)]


@given(data=data_of_any_kind, sizes=chunk_sizes, skipped=st.integers(0, 50))
def test_cutting_may_start_again_at_any_chunk(data: bytes, sizes: ChunkingParams, skipped: int) -> None:
    chunker = chunker_for(sizes, "file", b"")
    ends = chunker.cut(data, final=True)
    start = ([0, *ends])[min(skipped, len(ends))]
    assert [start + end for end in chunker.cut(data[start:], final=True)] == [end for end in ends if end > start]


@given(seed=st.integers(0, 10_000), inserted=st.binary(min_size=1, max_size=500), place=st.integers(0, 1_000))
def test_an_insertion_changes_few_chunks(seed: int, inserted: bytes, place: int) -> None:
    """Of about 200 chunks, those around the insertion are new, and the rest are found again."""
    data = random_bytes(f"shift {seed}", 60_000)
    before = set(chunks_of(data, SMALL))
    after = chunks_of(data[:place] + inserted + data[place:], SMALL)
    assert sum(chunk in before for chunk in after) >= len(after) * 0.85


def test_blocks_of_fixed_size_would_change_with_an_insertion() -> None:
    """Negative control: equal sizes are legal parameters, and lose everything."""
    fixed = ChunkingParams(256, 256, 256)
    data = random_bytes("fixed", 60_000)
    assert not set(chunks_of(data, fixed)) & set(chunks_of(b"x" + data, fixed))


@pytest.mark.parametrize(
    ("sizes", "total"),
    [
        (ChunkingParams(64, 256, 1_024), 300_000),
        (ChunkingParams(256, 1_024, 4_096), 1_000_000),
        (ChunkingParams(1_024, 4_096, 16_384), 4_000_000),
        (ChunkingParams(), 16_000_000),
    ],
)
def test_the_mean_size_of_random_chunks_is_near_the_target(sizes: ChunkingParams, total: int) -> None:
    backend("c")  # in plain Python this takes minutes
    found = sizes_of(chunker_for(sizes, "file", b"").cut(random_bytes("mean", total), final=True))
    assert 1.0 < mean(found) / sizes.target_bytes < 1.3
    assert sum(size == sizes.max_bytes for size in found) < len(found) * 0.01


@pytest.mark.parametrize("value", [0x00, 0x20, 0x3F, 0x80, 0xFF])
def test_equal_bytes_make_chunks_of_the_largest_size(value: int) -> None:
    sizes = ChunkingParams()
    ends = chunker_for(sizes, "file", b"").cut(bytes([value]) * (sizes.max_bytes * 3 + 5), final=True)
    assert sizes_of(ends) == [sizes.max_bytes] * 3 + [5]
