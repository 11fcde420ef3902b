"""Does it matter to a mount how many files a snapshot has?

    python benchmarks/bench_huge.py [--files 1000000] [--rounds 3] [--dir DIR]

Three snapshots: of one file, of a million files in 1,000 directories, and of a tenth as many in one directory. Nothing
but the trees is stored, since no file is opened. In each round each is mounted by the command (`mount`: until it
answers) and looked at for the first time: `first ls` lists its root, `deep ls` one directory below (the only one, where
there is none below), `ls -l` the same with what stat says of each; then `find` sees every name.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from blake3 import blake3
from harness import Expectations, Results, Run, parser, show_table, workplace

from moorage.model.digest import ContentDigest
from moorage.model.refs import RefKind, RefName
from moorage.model.snapshot import Snapshot
from moorage.model.tree import Entry, EntryKind
from moorage.repository.handle import RepositoryHandle
from moorage.repository.tree_writer import WrittenTree, write_snapshot, write_tree
from moorage.repository.writer import ObjectWriter

_DIRECTORIES = 1000
_TIME_NS = 1_700_000_000_000_000_000
_SMALL, _NESTED, _FLAT = "one file", "in directories", "in one directory"
_STEPS = ("mount", "first ls", "deep ls", "ls -l", "find")


def make(folder: Path, files: int) -> dict[str, str]:
    """A repository; name of each snapshot -> its branch."""
    sizes = {_SMALL: (0, 1), _NESTED: (_DIRECTORIES, files // _DIRECTORIES), _FLAT: (0, files // 10)}
    with RepositoryHandle.create(folder) as handle:
        for number, (directories, each) in enumerate(sizes.values()):
            with handle.writer() as writer:
                tree = _tree(writer, directories, each)
                made = Snapshot(tree.id, tree.digest, tree.size_bytes, (), "bench", _TIME_NS, "bench")
                id = write_snapshot(writer, made)
                writer.finish()
            handle.refs.create(RefName(RefKind.BRANCH, f"b{number}"), id, actor="bench", reason="bench")
    return {name: f"b{number}" for number, name in enumerate(sizes)}


def _tree(writer: ObjectWriter, directories: int, each: int) -> WrittenTree:
    if not directories:
        return write_tree(writer, _files(each, 0))
    entries = []
    for number in range(directories):
        below = write_tree(writer, _files(each, number))
        entry = Entry(f"run-{number:04}", EntryKind.DIRECTORY, below.digest, below.id, below.size_bytes, _TIME_NS)
        entries.append(entry)
    return write_tree(writer, entries)


def _files(count: int, salt: int) -> Iterator[Entry]:
    for number in range(count):
        digest = ContentDigest(blake3(f"{salt}/{number}".encode()).digest())
        yield Entry(f"sample-{number:07}.bin", EntryKind.FILE, digest, None, 1000, _TIME_NS)


def measure(store: Path, place: Path, branch: str, name: str, results: Results) -> None:
    """One round of one snapshot."""
    words = [sys.executable, "-m", "moorage", "--quiet", "--repo", str(store)]
    place.mkdir(exist_ok=True)
    deep = str(place / "run-0500" if name == _NESTED else place)
    _timed(results, "mount", name, partial(_run, [*words, "mount", branch, str(place)]))
    try:
        _timed(results, "first ls", name, partial(os.listdir, place))
        for step, argv in (("deep ls", ["ls", deep]), ("ls -l", ["ls", "-l", deep]), ("find", ["find", str(place)])):
            _timed(results, step, name, partial(_run, argv))
    finally:
        _run([*words, "umount", str(place)])


def _timed(results: Results, step: str, name: str, do: Callable[[], object]) -> None:
    started = time.perf_counter()
    do()
    results.add(step, name, Run(time.perf_counter() - started))


def _run(argv: list[str]) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Measure and print."""
    options_of = parser("Mounts of huge snapshots.", size=None, rounds=3)
    options_of.add_argument("--files", type=int, default=1_000_000, help="of the largest (default: %(default)s)")
    options = options_of.parse_args()
    results, expected = Results(), Expectations()
    with workplace(options.dir) as place:
        branches = make(place / "store", options.files)
        for _ in range(options.rounds):
            for name, branch in branches.items():
                measure(place / "store", place / branch, branch, name, results)
    print()
    rows = [("seconds", *branches)]
    rows += [(step, *(f"{results.seconds(step, name):.3f}" for name in branches)) for step in _STEPS]
    show_table(rows)
    expected.at_most("mount, in directories", 0.5, results.seconds("mount", _NESTED), "s")
    expected.at_most("first ls, in directories", 0.05, results.seconds("first ls", _NESTED), "s")
    expected.show()


if __name__ == "__main__":
    main()
