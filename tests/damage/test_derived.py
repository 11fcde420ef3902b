"""Does it matter when the index or the stat cache is damaged? Never: same answers, built anew unasked.

They lie in LMDB, which has no checksums: it hands out flipped bits as data, follows wild pointers, and a file that is
too short kills the process. So these cases look for signals as much as for wrong answers.
"""

from __future__ import annotations

import pytest

from tests.damage.bench import IS_SOAK, Bench
from tests.damage.damages import Damage, flips, whole_file_damages
from tests.damage.reading import IndexIs, commit_cases, read_cases, read_cases_unsealed

_FLIPS = 20_000 if IS_SOAK else 600
"""Of `data.mdb`."""
_FILES = ("data.mdb", "lock.mdb", "seal", "writer.lock", "open.lock")


def _damages(bench: Bench, database: str) -> list[Damage]:
    folder = bench.victim.folder
    paths = [f"derived/{database}/{name}" for name in _FILES if (folder / "derived" / database / name).exists()]
    return [damage for path in paths for damage in whole_file_damages(folder, path, paths)]


def _bits(bench: Bench, database: str) -> list[Damage]:
    folder = bench.victim.folder
    count = _FLIPS if database == "index" else _FLIPS // 6
    found = list(flips(folder, f"derived/{database}/data.mdb", count))
    found += flips(folder, f"derived/{database}/lock.mdb", count // 10)
    return found + list(flips(folder, f"derived/{database}/seal", count // 5))


def test_reading_with_a_damaged_index(bench: Bench) -> None:
    cases = _damages(bench, "index") + _bits(bench, "index")
    tried = bench.try_all(read_cases, cases, IndexIs.INTACT, 20)
    print(f"{tried.cases} cases")
    assert not tried.wrong, "\n".join(tried.wrong)


def test_reading_with_a_damaged_index_too_large_to_be_hashed(bench: Bench) -> None:
    """Above a size an index is opened without hashing it; the checksums of its values must do."""
    seal = "derived/index/seal"  # would be found wrong, and the index built anew
    tried = bench.try_all(read_cases_unsealed, [damage for damage in _bits(bench, "index") if damage.path != seal])
    print(f"{tried.cases} cases")
    assert not tried.wrong, "\n".join(tried.wrong)


@pytest.mark.parametrize("database", ["index", "stat"])
def test_committing_with_something_derived_damaged(bench: Bench, database: str) -> None:
    cases = _damages(bench, database) + _bits(bench, database)
    tried = bench.try_all(commit_cases, cases)
    print(f"{tried.cases} cases; files read: {sorted(set(tried.notes))}")
    assert not tried.wrong, "\n".join(tried.wrong)


def test_an_undamaged_stat_cache_is_asked(bench: Bench) -> None:
    """Else the test above would be of commits that read everything anyway."""
    unharmed = Damage("derived/stat/data.mdb", "long by one")
    tried = bench.try_all(commit_cases, [Damage("derived/index/lock.mdb", "deleted"), unharmed])
    assert tried.notes[0] == 0, tried
