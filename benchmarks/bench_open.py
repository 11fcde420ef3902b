"""Does opening a file cost the same however long the history and however large the store? And what does a command cost?

    python benchmarks/bench_open.py [--snapshots 10,1000,20000] [--rounds 5] [--dir DIR]

Stores of several lengths, each a branch whose snapshots changed one of 50 files, are opened in turn. `fresh` is
`moorage.open` in a process that has nothing of the store open; `open` is `Repository.open` on one that has; `by id` is
the same where the snapshot is named by its id, so that no branch is looked up; `commit` is of one small file. Then
whole commands on the middle store, from the shell's point of view, beside the start of Python and of peers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import Command, Expectations, Results, Run, parser, run, settle, show_table, workplace
from stores import Borg, Restic, present

import moorage
from moorage.model.digest import ContentDigest, SnapshotId
from moorage.model.refs import RefKind, RefName, RefRecord
from moorage.model.snapshot import Snapshot
from moorage.model.tree import Entry, EntryKind
from moorage.repository.handle import RepositoryHandle
from moorage.repository.tree_writer import write_snapshot, write_tree
from moorage.repository.writer import ObjectWriter

_FILES = 50
_FILE = "models/config-07.json"
_SNAPSHOTS_A_TRANSACTION = 100
_CALLS = 20


@dataclass(frozen=True, slots=True)
class Subject:
    """A store with a history."""

    snapshots: int
    path: Path
    repository: moorage.Repository
    last: str


# -- making stores -------------------------------------------------------------------------------------------------


def make_store(path: Path, snapshots: int) -> Subject:
    """A branch `main` of so many snapshots; many to a transaction, since a commit each would take an hour."""
    contents = {f"config-{number:02}.json": f'{{"number": {number}}}'.encode() for number in range(_FILES)}
    ref = RefName(RefKind.BRANCH, "main")
    record: RefRecord | None = None
    last: SnapshotId | None = None
    with RepositoryHandle.create(path) as handle:
        for start in range(0, snapshots, _SNAPSHOTS_A_TRANSACTION):
            made: list[SnapshotId] = []
            with handle.writer() as writer:
                for number in range(start, min(start + _SNAPSHOTS_A_TRANSACTION, snapshots)):
                    contents[f"config-{number % _FILES:02}.json"] = f'{{"number": {number}, "changed": true}}'.encode()
                    last = _snapshot(writer, contents, last, number)
                    made.append(last)
                writer.finish()
            for id in made:
                record = handle.refs.start(ref, record, id, actor="bench", reason="commit")
    assert last is not None
    return Subject(snapshots, path, moorage.Repository.open(path), last.hex())


def _snapshot(writer: ObjectWriter, contents: dict[str, bytes], parent: SnapshotId | None, number: int) -> SnapshotId:
    entries = []
    for name, data in contents.items():
        chunk = writer.put_chunk(data)
        entries.append(Entry(name, EntryKind.FILE, ContentDigest(chunk), None, len(data), 1))
    inner = write_tree(writer, entries)
    folder = Entry("models", EntryKind.DIRECTORY, inner.digest, inner.id, inner.size_bytes, 1)
    root = write_tree(writer, [folder])
    snapshot = Snapshot(
        tree=root.id,
        digest=root.digest,
        size_bytes=root.size_bytes,
        parents=(parent,) if parent else (),
        author="bench",
        time_ns=1_700_000_000_000_000_000 + number,
        message=f"number {number}",
        metadata={},
    )
    return write_snapshot(writer, snapshot)


# -- measuring -----------------------------------------------------------------------------------------------------


def fresh(subject: Subject) -> None:
    """`moorage.open` of a store that nobody has open."""
    with moorage.open(_FILE, repo=subject.path, rev="main", mode="rb") as file:
        assert file.read()


def opened(subject: Subject) -> None:
    """`Repository.open` of a branch."""
    with subject.repository.open(f"main:{_FILE}") as file:
        assert file.read()


def by_id(subject: Subject) -> None:
    """`Repository.open` of a snapshot."""
    with subject.repository.open(f"{subject.last}:{_FILE}") as file:
        assert file.read()


def commit(subject: Subject) -> None:
    """One small file more."""
    data = str(time.time_ns()).encode()
    subject.repository.commit(data, branch="main", at="models/state.json", message="bench")


OPERATIONS: dict[str, tuple[Callable[[Subject], None], int]] = {
    "fresh": (fresh, _CALLS),
    "open": (opened, _CALLS),
    "by id": (by_id, _CALLS),
    "commit": (commit, 3),
}


def timed(call: Callable[[Subject], None], subject: Subject, times: int) -> Run:
    """The median of several calls."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        call(subject)
        taken.append(time.perf_counter() - started)
    return Run(statistics.median(taken))


def show_lengths(results: Results, subjects: Sequence[Subject]) -> None:
    """Milliseconds of each operation at each length."""
    print("\nmilliseconds a call, by the number of snapshots of the branch")
    rows = [("", *(f"{subject.snapshots:,}" for subject in subjects), "last / first")]
    for name in OPERATIONS:
        medians = [results.seconds(name, str(subject.snapshots)) for subject in subjects]
        rows.append((name, *(f"{seconds * 1e3:.2f}" for seconds in medians), f"{medians[-1] / medians[0]:.2f}"))
    show_table(rows)


# -- whole commands ------------------------------------------------------------------------------------------------


def commands(subject: Subject, place: Path) -> dict[str, Command]:
    """What is started, by what is shown for it."""

    def ours(*words: str) -> Command:
        return Command([sys.executable, "-m", "moorage", "--repo", str(subject.path), *words])

    found = {
        "python -c pass": Command([sys.executable, "-c", "pass"]),
        "python -c 'import moorage'": Command([sys.executable, "-c", "import moorage"]),
        "moorage --version": Command([sys.executable, "-m", "moorage", "--version"]),
        "moorage --help": ours("--help"),
        "moorage branch": ours("branch"),
        "moorage ls": ours("ls", "main:models"),
        "moorage cat": ours("cat", f"main:{_FILE}"),
        "moorage stat": ours("stat", f"main:{_FILE}"),
        "moorage mounts": ours("mounts"),
    }
    for kind in present((Borg, Restic)):
        store = kind(place / kind.__name__)
        (place / kind.__name__).mkdir()
        start = store.start()
        if isinstance(store, Borg) and start is not None:
            run(start, place / "log")
            found["borg list (an empty one)"] = Command(["borg", "list", str(store.folder)], None, start.environment)
        elif isinstance(store, Restic) and start is not None:
            run(start, place / "log")
            found["restic snapshots (an empty one)"] = store.command("snapshots")
    return found


def show_commands(results: Results) -> None:
    """Milliseconds of each command."""
    print("\nmilliseconds a command, from start to end")
    rows = [("", "ms", "CPU ms")]
    for name in results.names("commands"):
        milliseconds = (results.seconds("commands", name) * 1e3, results.cpu_seconds("commands", name) * 1e3)
        rows.append((name, f"{milliseconds[0]:.0f}", f"{milliseconds[1]:.0f}"))
    show_table(rows)


def _lengths(text: str) -> list[int]:
    try:
        return sorted(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers, as 10,1000") from error


def main() -> None:
    """Measure and print."""
    options_of = parser("Opening a file, by the length of history; and the start of commands.", size=None, rounds=5)
    options_of.add_argument("--snapshots", type=_lengths, default="10,1000,20000", help="(default: %(default)s)")
    options = options_of.parse_args()
    results = Results()
    with workplace(options.dir) as place:
        subjects = [make_store(place / f"store-{snapshots}", snapshots) for snapshots in options.snapshots]
        all_commands = commands(subjects[len(subjects) // 2], place)
        settle(0)
        for _ in range(options.rounds):
            for name, (call, times) in OPERATIONS.items():
                for subject in subjects:
                    results.add(name, str(subject.snapshots), timed(call, subject, times))
            for name, command in all_commands.items():
                results.add("commands", name, run(command, place / "log"))
        for subject in subjects:
            subject.repository.close()
    show_lengths(results, subjects)
    show_commands(results)
    expected = Expectations()
    first, last = str(subjects[0].snapshots), str(subjects[-1].snapshots)
    for name in ("fresh", "open"):
        grew = results.seconds(name, last) / results.seconds(name, first)
        expected.at_most(f"{name}: {last} snapshots beside {first}", 2.0, grew, "times")
    expected.show()


if __name__ == "__main__":
    main()
