"""How fast does a folder become a snapshot, and how much disk does it take, next to peers in the same run?

    python benchmarks/bench_ingest.py [--size 1G] [--files 20000] [--rounds 3] [--dir DIR] [--only CASE]...

    new          bf16 weights that nobody has seen
    second       the same weights written anew, 2 % of the tensors changed
    noise        incompressible bytes
    small        20,000 small files
    unchanged    the same 20,000 files once more

The source is in the page cache; repositories are on the same disk; every run is a whole command, from its start to its
acknowledgement. `stored` is by how much the repository grew (`du`), `caches` by how much what could be deleted did: the
index and the stat cache of moorage, the caches of borg and restic. "faster", "less CPU" and "smaller" say how many
times moorage is that, compared with the candidate of the line: above 1 it is better.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasets import has_numpy, make_incompressible, make_small_files, make_weights
from harness import Expectations, Results, file_bytes, parser, remove, run, settle, show_case, warm, workplace
from stores import ALL, BORG_LZ4, BORG_ZSTD, MOORAGE, REPOSITORIES, RESTIC, Store, present

NEW, SECOND, NOISE, SMALL, UNCHANGED = "new", "second", "noise", "small", "unchanged"
_TRUSTED_AFTER_SECONDS = 2.5
"""Moorage and borg both read a file again that is too young to tell whether it has changed."""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to take in."""

    name: str
    what: str
    source: str
    fresh: bool
    """Into an empty repository, or into that of the case before."""
    kinds: Sequence[type[Store]]


CASES = (
    Case(NEW, "bf16 weights", "v1", fresh=True, kinds=ALL),
    Case(SECOND, "the same weights written anew, 2 % of the tensors changed", "v2", fresh=False, kinds=ALL),
    Case(NOISE, "incompressible bytes", "noise", fresh=True, kinds=ALL),
    Case(SMALL, "small files", "small", fresh=True, kinds=ALL),
    Case(UNCHANGED, "the same small files once more", "small", fresh=False, kinds=REPOSITORIES),
)


def make_sources(place: Path, size: int, files: int, cases: Sequence[Case]) -> None:
    """Only what the cases need."""
    needed = {case.source for case in cases}
    if "v1" in needed:
        make_weights(place / "v1", size)
    if "v2" in needed:
        make_weights(place / "v2", size, changed=True)
    if "noise" in needed:
        make_incompressible(place / "noise", size)
    if "small" in needed:
        make_small_files(place / "small", files)
    time.sleep(_TRUSTED_AFTER_SECONDS)


def one_round(place: Path, cases: Sequence[Case], results: Results, number: int) -> None:
    """Every candidate of every case, once."""
    stores: dict[type[Store], Store] = {}
    log = place / "log"
    for case in cases:
        if case.fresh:
            remove(place / "stores")
            stores = {}
        warm(place / case.source)
        case_bytes = file_bytes(place / case.source)
        for kind in case.kinds:
            if kind not in stores:
                home = place / "stores" / kind.__name__
                home.mkdir(parents=True)
                stores[kind] = kind(home)
                start = stores[kind].start()
                if start is not None:
                    run(start, log)
            store = stores[kind]
            stored, derived = store.sizes()
            settle(case_bytes)
            taken = run(store.ingest(place / case.source, f"{case.name}-{number}"), log)
            if store.keeps:
                stored, derived = (
                    after - before for after, before in zip(store.sizes(), (stored, derived), strict=True)
                )
                taken = replace(taken, stored_bytes=stored, derived_bytes=derived)
            results.add(case.name, kind.name, taken)
    remove(place / "stores")


def judge(results: Results) -> None:
    """Compare with what the project expects of itself."""
    expected = Expectations()
    for case, wanted in ((NEW, 3.0), (SECOND, 4.0)):
        if BORG_LZ4 in results.names(case):
            found = results.faster(case, MOORAGE, BORG_LZ4)
            expected.at_least(f"{case}: times as fast as {BORG_LZ4}", wanted, found)
        else:
            expected.unknown(case, f"{BORG_LZ4} was not run")
    if results.names(UNCHANGED):
        expected.at_most(f"{UNCHANGED}: the whole command", 1.0, results.seconds(UNCHANGED, MOORAGE), "s")
    for case in (NEW, SECOND, NOISE, SMALL):
        for peer in (BORG_LZ4, BORG_ZSTD, RESTIC):
            if peer in results.names(case):
                mine, theirs = results.stored_bytes(case, MOORAGE), results.stored_bytes(case, peer)
                if mine and theirs:
                    expected.at_least(f"{case}: stored by {peer}, times ours", 1.0, theirs / mine)
    expected.show()


def main() -> None:
    """Measure and print."""
    options_of = parser("How fast a folder becomes a snapshot, beside peers.", size="1G", rounds=3)
    options_of.add_argument("--files", type=int, default=20_000, help="small files (default: %(default)s)")
    options_of.add_argument("--only", action="append", choices=[case.name for case in CASES], help="a case; repeatable")
    options = options_of.parse_args()
    names = set(options.only or [case.name for case in CASES])
    names |= {base for case, base in ((SECOND, NEW), (UNCHANGED, SMALL)) if case in names}
    wanted = [case for case in CASES if case.name in names]
    if not has_numpy():
        print("left out: weights (numpy is not installed)")
        wanted = [case for case in wanted if case.name not in (NEW, SECOND)]
    usable = present(ALL)
    cases = [replace(case, kinds=[kind for kind in case.kinds if kind in usable]) for case in wanted]
    results = Results()
    with workplace(options.dir) as place:
        make_sources(place, options.size, options.files, cases)
        for number in range(options.rounds):
            one_round(place, cases, results, number)
        for case in cases:
            show_case(results, case.name, MOORAGE, file_bytes(place / case.source), case.what)
    judge(results)


if __name__ == "__main__":
    main()
