"""Are repeated ids counted once, with little memory?"""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from moorage.maintain import distinct
from moorage.maintain.distinct import DistinctIds


@given(st.lists(st.integers(0, 50), max_size=300))
def test_each_id_comes_out_once(numbers: list[int]) -> None:
    ids = [number.to_bytes(32, "little") for number in numbers]
    found = DistinctIds()
    found.add(b"".join(ids[:100]))
    found.add(b"".join(ids[100:]))
    assert sorted(found) == sorted(set(ids))


def test_repetitions_do_not_pile_up() -> None:
    source = random.Random(1)
    ids = [source.randbytes(32) for _ in range(5_000)]
    found = DistinctIds()
    for _ in range(50):
        found.add(b"".join(ids))
    kept = sum(len(bucket) for bucket in found._buckets)
    # 8 MB went in; each of 256 buckets may wait until it has doubled, or reached its first limit.
    assert kept <= 2 * 256 * distinct._FIRST_LIMIT_BYTES
    assert sorted(found) == sorted(ids)
    for _ in range(500):
        found.add(b"".join(ids))
    assert sum(len(bucket) for bucket in found._buckets) <= 2 * 256 * distinct._FIRST_LIMIT_BYTES
