"""Do masks and sizes follow from the target as documented?"""

from __future__ import annotations

import pytest

from moorage.chunking.params import gear_params, mask_of
from moorage.model.config import ChunkingParams
from moorage.native import GEAR


def test_a_mask_is_the_highest_even_bits() -> None:
    assert mask_of(1) == 1 << 62
    assert mask_of(3) == 1 << 62 | 1 << 60 | 1 << 58
    assert mask_of(32) == 0x5555555555555555


@pytest.mark.parametrize("bits", range(1, 33))
def test_masks_have_their_number_of_bits_and_are_nested(bits: int) -> None:
    assert mask_of(bits).bit_count() == bits
    assert mask_of(bits - 1) & ~mask_of(bits) == 0


def test_the_default_parameters() -> None:
    params = gear_params(ChunkingParams())
    assert (params.min_bytes, params.target_bytes, params.max_bytes) == (16_384, 65_536, 262_144)
    assert (params.mask_small, params.mask_large) == (mask_of(18), mask_of(14))


@pytest.mark.parametrize("exponent", range(6, 25))
def test_every_target_that_a_repository_may_have(exponent: int) -> None:
    target = 2**exponent
    params = gear_params(ChunkingParams(64, target, max(target, 2**20)))
    assert params.mask_small.bit_count() == exponent + 2
    assert params.mask_large.bit_count() == exponent - 2


def test_no_run_of_one_byte_is_cut_by_the_default_masks() -> None:
    """In such a run the hash stays at minus the byte's table entry: zeros, above all, must not make smallest chunks."""
    mask = gear_params(ChunkingParams()).mask_large
    assert [value for value in range(256) if -GEAR[value] % 2**64 & mask == 0] == []
