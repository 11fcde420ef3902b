"""Does a chunker keep its contract, whoever hands it the file?"""

from __future__ import annotations

import pytest

from moorage.chunking import Chunker, chunker_for
from moorage.chunking.params import gear_params
from moorage.chunking.reference import reference_cut_points
from moorage.model.config import ChunkingParams
from moorage.native import BytesLike
from tests.unit.native.backends import random_bytes

PARAMS = ChunkingParams(64, 256, 1_024)
DATA = random_bytes("chunker", 9_000)


def chunker() -> Chunker:
    return chunker_for(PARAMS, "weights.bin", DATA[:512])


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1_023, 1_024, 9_000])
def test_it_cuts_as_defined(size: int, final: bool) -> None:
    expected = reference_cut_points(DATA[:size], gear_params(PARAMS), final=final)
    assert chunker().cut(DATA[:size], final=final) == expected


@pytest.mark.parametrize("shape", [bytes, bytearray, memoryview])
def test_it_takes_any_buffer(shape: type[BytesLike]) -> None:
    assert chunker().cut(shape(DATA), final=True) == chunker().cut(DATA, final=True)


def test_name_and_head_do_not_matter_yet() -> None:
    other = chunker_for(PARAMS, "other.npy", b"\x93NUMPY")
    assert other.cut(DATA, final=True) == chunker().cut(DATA, final=True)


def test_a_buffer_of_the_largest_size_always_has_an_end() -> None:
    assert chunker().cut(bytes(PARAMS.max_bytes - 1), final=False) == []
    assert chunker().cut(bytes(PARAMS.max_bytes), final=False) == [PARAMS.max_bytes]
