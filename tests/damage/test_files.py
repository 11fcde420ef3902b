"""What does a reader get when a file of the repository is damaged, whichever file and in whatever way?

The right bytes, or an error of moorage that names what is damaged: never wrong bytes, another exception, a signal or a
hang. What does not depend on the damaged file is read as ever, and `check` reports the damage.
"""

from __future__ import annotations

import pytest

from tests.damage.bench import IS_SOAK, Bench
from tests.damage.damages import Damage, files_of, flips, kind_of, whole_file_damages
from tests.damage.reading import IndexIs, read_cases, read_cases_unverified

_FLIPS = None if IS_SOAK else 400
"""Of a file too large for all of its bits."""
_ALL_BITS_UP_TO_BYTES = 900
"""Files up to this size have each of their bits flipped: configuration, ref records, the smallest pack."""
_CHECK_EVERY = 100
"""Flips after which `check` is run too."""


def _whole_files(bench: Bench) -> list[Damage]:
    folder = bench.victim.folder
    paths = files_of(folder)
    siblings = {path: [other for other in paths if kind_of(other) == kind_of(path)] for path in paths}
    return [damage for path in paths for damage in whole_file_damages(folder, path, siblings[path])]


@pytest.mark.parametrize("index", IndexIs)
def test_whole_files(bench: Bench, index: IndexIs) -> None:
    tried = bench.try_all(read_cases, _whole_files(bench), index, 1)
    print(f"{tried.cases} cases, index {index.value}")
    assert not tried.wrong, "\n".join(tried.wrong)


@pytest.mark.parametrize("index", [IndexIs.INTACT, IndexIs.IN_MEMORY])
def test_single_bits(bench: Bench, index: IndexIs) -> None:
    folder = bench.victim.folder
    cases: list[Damage] = []
    for path in files_of(folder):
        small = (folder / path).stat().st_size <= _ALL_BITS_UP_TO_BYTES
        # A record is read in the same way whatever the index is.
        count = None if small and (index is IndexIs.IN_MEMORY or IS_SOAK) else _FLIPS
        cases += flips(folder, path, count)
    tried = bench.try_all(read_cases, cases, index, _CHECK_EVERY)
    print(f"{tried.cases} bits, index {index.value}")
    assert not tried.wrong, "\n".join(tried.wrong)


def test_all_ways_are_tried_on_all_kinds(bench: Bench) -> None:
    ways = {(kind_of(damage.path), damage.way) for damage in _whole_files(bench)}
    kinds = {"config", "index", "packs", "refs"}
    every = {"deleted", "emptied", "short by one", "halved", "long by one", "page zeroed"}
    assert {(kind, way) for kind in kinds for way in every} | {("packs", "swapped"), ("refs", "swapped")} <= ways


def test_bytes_that_are_not_verified_are_caught(bench: Bench) -> None:
    """The negative control: the same test, of a reader that does not compare hashes, sees wrong bytes."""
    cases = [case for path in files_of(bench.victim.folder) for case in flips(bench.victim.folder, path, 50)]
    tried = bench.try_all(read_cases_unverified, cases)
    assert sum("has wrong bytes" in wrong for wrong in tried.wrong) > 20
