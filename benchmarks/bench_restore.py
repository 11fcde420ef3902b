"""How fast does a snapshot become plain files, next to peers in the same run?

    python benchmarks/bench_restore.py [--size 1G] [--files 20000] [--rounds 3] [--dir DIR] [--only CASE]...

    new          bf16 weights
    second       a second version of them, stored after the first: its chunks lie in the packs of both
    noise        incompressible bytes
    small        20,000 small files

Everything is stored once; then each round writes it to an empty folder on the same disk. Repositories are in the page
cache. The first round compares every byte with the source. Nobody syncs what it restores. "faster" and "less CPU" say
how many times moorage is that, compared with the candidate of the line: above 1 it is better.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import has_numpy, make_incompressible, make_small_files, make_weights
from harness import Expectations, Results, file_bytes, parser, remove, run, settle, show_case, warm, workplace
from stores import BORG_LZ4, BORG_ZSTD, MOORAGE, Borg, BorgZstd, Copy, Moorage, Restic, Store, Zstd, present

NEW, SECOND, NOISE, SMALL = "new", "second", "noise", "small"
KINDS: tuple[type[Store], ...] = (Moorage, Borg, BorgZstd, Restic, Copy, Zstd)


@dataclass(frozen=True, slots=True)
class Case:
    """What is restored: the last of several folders that are stored one after the other."""

    name: str
    what: str
    sources: Sequence[str]


CASES = (
    Case(NEW, "bf16 weights", ["v1"]),
    Case(SECOND, "their second version, 2 % of the tensors changed", ["v1", "v2"]),
    Case(NOISE, "incompressible bytes", ["noise"]),
    Case(SMALL, "small files", ["small"]),
)


def make_sources(place: Path, size: int, files: int, cases: Sequence[Case]) -> None:
    """Only what the cases need."""
    needed = {source for case in cases for source in case.sources}
    if "v1" in needed:
        make_weights(place / "v1", size)
    if "v2" in needed:
        make_weights(place / "v2", size, changed=True)
    if "noise" in needed:
        make_incompressible(place / "noise", size)
    if "small" in needed:
        make_small_files(place / "small", files)


def filled(place: Path, kind: type[Store], case: Case) -> Store:
    """A store that holds all sources of a case."""
    home = place / "stores" / kind.__name__
    home.mkdir(parents=True)
    store = kind(home)
    start = store.start()
    if start is not None:
        run(start, place / "log")
    for source in case.sources:
        run(store.ingest(place / source, source), place / "log")
    return store


def measure(place: Path, kinds: Sequence[type[Store]], case: Case, rounds: int, results: Results) -> None:
    """One case, from filling the stores to removing them."""
    stores = [filled(place, kind, case) for kind in kinds]
    source, target = place / case.sources[-1], place / "out"
    size = file_bytes(source)
    for number in range(rounds):
        for store in stores:
            target.mkdir()
            command = store.restore(case.sources[-1], target)
            if command is not None:
                warm(store.folder)
                settle(size)
                results.add(case.name, store.name, run(command, place / "log"))
                if number == 0 and not same(source, target):
                    sys.exit(f"{store.name} did not restore {case.what} as they were")
            remove(target)
    remove(place / "stores")


def same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same bytes under the same names."""
    compared = subprocess.run(["diff", "-r", "-q", str(one), str(other)], check=False, stdout=subprocess.DEVNULL)
    return compared.returncode == 0


def judge(results: Results) -> None:
    """Compare with what the project expects of itself."""
    expected = Expectations()
    for case in CASES:
        for peer in (BORG_LZ4, BORG_ZSTD):
            if peer in results.names(case.name):
                found = results.faster(case.name, MOORAGE, peer)
                expected.at_least(f"{case.name}: times as fast as {peer}", 2.0, found)
            elif results.names(case.name):
                expected.unknown(case.name, f"{peer} was not run")
    expected.show()


def main() -> None:
    """Measure and print."""
    options_of = parser("How fast a snapshot becomes plain files, beside peers.", size="1G", rounds=3)
    options_of.add_argument("--files", type=int, default=20_000, help="small files (default: %(default)s)")
    options_of.add_argument("--only", action="append", choices=[case.name for case in CASES], help="a case; repeatable")
    options = options_of.parse_args()
    cases = [case for case in CASES if not options.only or case.name in options.only]
    if not has_numpy():
        print("left out: weights (numpy is not installed)")
        cases = [case for case in cases if case.name not in (NEW, SECOND)]
    kinds = present(KINDS)
    results = Results()
    with workplace(options.dir) as place:
        make_sources(place, options.size, options.files, cases)
        for case in cases:
            measure(place, kinds, case, options.rounds, results)
            show_case(results, case.name, MOORAGE, file_bytes(place / case.sources[-1]), case.what)
    judge(results)


if __name__ == "__main__":
    main()
