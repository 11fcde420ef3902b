"""How soon is a move of a branch seen through a mount, who waits for it, and what stays in memory?

    python benchmarks/bench_following.py [--moves 1000] [--size 256M] [--files 20000] [--dir DIR]

A mount follows `main`, which moves between snapshots that differ in one small file; `big`, a file of SIZE, is the same
in all of them.

    seen        from the moment at which the library has moved the branch until an open, tried again and again, shows
                it: while nobody else walks through the mount; while another process walks through it as quickly as it
                can; and whether the first open after `moorage branch move` has ended shows it, meanwhile
    waiting     the longest single operation of readers while the branch moves MOVES times, one move after the other,
                and for as long while it stands: the difference is what moves cost, the rest is this machine's
    listing     ls -lR of 20,000 files while the branch stands, and while it moves a hundred times a second
    pages       how much of `big` is in the page cache (mincore) by one branch after it was read by another, and again
                after this one has moved
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from datasets import make_noise, make_small_files
from harness import Expectations, parser, show_table, workplace

from moorage.api import Repository
from moorage.model.digest import SnapshotId
from moorage.model.refs import RefKind, RefName
from moorage.repository.handle import RepositoryHandle

_HERE = Path(__file__).parent
_MAIN = RefName(RefKind.BRANCH, "main")
_COMMANDS = 20
_ROUNDS = 3
_WAYS = ("open", "hold", "map", "list")


@dataclass(frozen=True, slots=True)
class Subject:
    """A repository whose branch `main` moves."""

    folder: Path
    handle: RepositoryHandle
    ids: Sequence[SnapshotId]
    """Snapshots to move between; `version` says which it is."""

    def move(self, number: int, before: int) -> None:
        """From snapshot `before` to snapshot `number`."""
        count = len(self.ids)
        self.handle.refs.move(
            _MAIN, self.ids[number % count], expected=self.ids[before % count], actor="bench", reason="move"
        )


# -- what is mounted -----------------------------------------------------------------------------------------------


def make(place: Path, size: int, files: int) -> Subject:
    """A repository with `main` and `other`, which share `big`."""
    source = place / "source"
    make_small_files(source / "small", files)
    make_noise(source / "big", size)
    ids: list[SnapshotId] = []
    with Repository.create(place / "store") as repository:
        for number in range(3):
            (source / "version").write_text(f"{number}")
            made = repository.commit(source, branch="main", message="bench", create=True)
            ids.append(made.snapshot)
        repository.create_branch("other", "main")
    handle = RepositoryHandle.open(place / "store")
    subject = Subject(place / "store", handle, ids)
    subject.move(0, 2)
    return subject


@contextlib.contextmanager
def mounted(subject: Subject, place: Path, *words: str) -> Iterator[Path]:
    """`moorage mount` of `main`, or with `--all`."""
    place.mkdir(exist_ok=True)
    moorage = [sys.executable, "-m", "moorage", "--quiet", "--repo", str(subject.folder)]
    revision = [] if "--all" in words else ["main"]
    subprocess.run([*moorage, "mount", *revision, str(place), *words], check=True)
    try:
        yield place
    finally:
        subprocess.run([*moorage, "umount", "--lazy", str(place)], check=True)


class Reader:
    """A process that reads until it is told to stop."""

    def __init__(self, how: str, path: Path) -> None:
        """Start it; returns when it reads."""
        self._process = subprocess.Popen(
            [sys.executable, str(_HERE / "walking.py"), how, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def stop(self) -> tuple[int, float]:
        """How many operations, and the longest in milliseconds."""
        found = json.loads(self._process.communicate("stop\n")[0])
        return found["operations"], found["longest_ms"]


# -- seen ----------------------------------------------------------------------------------------------------------


def seen_after(subject: Subject, root: Path, moves: int) -> tuple[list[float], int]:
    """Milliseconds from the return of each move to the end of the first open that shows it, sorted; and how often that
    was the first of all."""
    taken, at_once = [], 0
    for number in range(1, moves + 1):
        subject.move(number, number - 1)
        started, opens = time.perf_counter(), 1
        while _version(root) != number % len(subject.ids):
            opens += 1
        taken.append((time.perf_counter() - started) * 1000)
        at_once += opens == 1
    subject.move(0, moves)
    return sorted(taken), at_once


def _version(root: Path) -> int:
    with open(root / "version", "rb", buffering=0) as file:
        return int(file.read())


def commands_seen(subject: Subject, root: Path) -> int:
    """Of so many commands that move the branch, after how many the first open showed it."""
    words = [sys.executable, "-m", "moorage", "--quiet", "--repo", str(subject.folder), "branch", "move", "main"]
    good = 0
    for number in range(1, _COMMANDS + 1):
        subprocess.run([*words, subject.ids[number % 3].hex()], check=True)
        good += _version(root) == number % 3
    subject.move(0, _COMMANDS)
    return good


def seen(subject: Subject, place: Path, moves: int, expected: Expectations) -> None:
    """The first table."""
    rows = [("seen, ms after the move", "p50", "p99", "most", "by the first open", "after a command")]
    with mounted(subject, place) as root:
        for name, how in (("nobody else walks", None), ("another walks as quickly as it can", "stat")):
            reader = None if how is None else Reader(how, root)
            taken, at_once = seen_after(subject, root, moves)
            at_command = commands_seen(subject, root)
            if reader is not None:
                reader.stop()
            rows.append(
                (
                    name,
                    f"{statistics.median(taken):.2f}",
                    f"{taken[len(taken) * 99 // 100]:.2f}",
                    f"{taken[-1]:.2f}",
                    f"{at_once} of {moves}",
                    f"{at_command} of {_COMMANDS} commands",
                )
            )
            expected.at_most(f"a move is seen (p99), {name}", 100.0, taken[len(taken) * 99 // 100], "ms")
            expected.at_least(f"the first open after a command, {name}", 1.0, at_command / _COMMANDS)
    print()
    show_table(rows)


# -- waiting -------------------------------------------------------------------------------------------------------


def waiting(subject: Subject, place: Path, moves: int, expected: Expectations) -> None:
    """The second table."""
    found: dict[str, list[tuple[int, float]]] = {}
    with mounted(subject, place) as root:
        readers = [Reader(way, root) for way in _WAYS]
        started = time.perf_counter()
        for number in range(1, moves + 1):
            subject.move(number, number - 1)
        took = time.perf_counter() - started
        found["moves"] = [reader.stop() for reader in readers]
        subject.move(0, moves)
        readers = [Reader(way, root) for way in _WAYS]
        time.sleep(took)
        found["stands"] = [reader.stop() for reader in readers]
    print(f"\n{moves} moves in {took:.1f} s")
    rows = [("longest operation, ms", "while it moves", "while it stands", "operations", "operations")]
    for number, way in enumerate(_WAYS):
        (busy, busy_ms), (calm, calm_ms) = found["moves"][number], found["stands"][number]
        rows.append((way, f"{busy_ms:.1f}", f"{calm_ms:.1f}", f"{busy}", f"{calm}"))
        expected.at_most(f"longest {way}, more than while it stands", 100.0, busy_ms - calm_ms, "ms")
    show_table(rows)


# -- listing -------------------------------------------------------------------------------------------------------


def listing(subject: Subject, place: Path, source: Path, expected: Expectations) -> None:
    """The third table."""
    rows = [("ls -lR, s", "median", "of plain files")]
    with mounted(subject, place) as root:
        plain = _listed(source / "small")
        first = _listed(root / "small", 1)
        again = _listed(root / "small")
        with _moving(subject):
            moving = _listed(root / "small")
    for name, taken in (("plain files", plain), ("first", first), ("again", again), ("while it moves", moving)):
        rows.append((name, f"{taken:.3f}", f"{taken / plain:.2f}"))
    expected.at_most("ls -lR, again, of plain files", 3.0, again / plain, "times")
    expected.at_most("ls -lR, the first time, of plain files", 3.0, first / plain, "times")
    print()
    show_table(rows)


def _listed(folder: Path, rounds: int = _ROUNDS) -> float:
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        subprocess.run(["ls", "-lR", str(folder)], check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


@contextlib.contextmanager
def _moving(subject: Subject) -> Iterator[None]:
    """A hundred moves a second in the background."""
    stopping, moved = threading.Event(), 0

    def move() -> None:
        nonlocal moved
        while not stopping.wait(0.01):
            moved += 1
            subject.move(moved, moved - 1)

    thread = threading.Thread(target=move)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
        subject.move(0, moved)


# -- pages ---------------------------------------------------------------------------------------------------------


def pages(subject: Subject, place: Path, expected: Expectations) -> None:
    """The last table."""
    rows: list[tuple[str, ...]] = [
        ("big in the page cache, %", "before", "read by main", "by other", "after a move of main", "inodes")
    ]
    for name, words in (("hydrated", ()), ("pages of the mount", ("--cache-size", "0"))):
        with mounted(subject, place, "--all", *words) as root:
            main, other = root / "branches/main/big", root / "branches/other/big"
            if not words:
                command = [
                    sys.executable,
                    "-m",
                    "moorage",
                    "--quiet",
                    "--repo",
                    str(subject.folder),
                    "warm",
                    "main:big",
                ]
                subprocess.run(command, check=True)
            before = _cached(other)
            _read(main)
            by = [_cached(main), _cached(other)]
            subject.move(1, 0)
            by.append(_cached(main))
            subject.move(0, 1)
            inodes = len({os.stat(path).st_ino for path in (main, other)})
        rows.append((name, *(f"{share * 100:.1f}" for share in (before, *by)), str(inodes)))
        for what, share in zip(("by main", "by other", "after a move of main"), by, strict=True):
            expected.at_least(f"big in the page cache, {name}, {what}", 1.0, share)
    print()
    show_table(rows)


def _read(path: Path) -> None:
    buffer = bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _cached(path: Path) -> float:
    """The part of a file that is in the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as view:
        count = -(-len(view) // mmap.PAGESIZE)
        there = (ctypes.c_ubyte * count)()
        start = ctypes.c_char.from_buffer(view)
        failed = libc.mincore(ctypes.addressof(start), len(view), there)
        del start
    if failed:
        raise OSError(ctypes.get_errno(), "mincore failed")
    return sum(page & 1 for page in there) / count


def main() -> None:
    """Measure and print."""
    options_of = parser("Moves of a branch, seen through a mount.", size="256M", rounds=1)
    options_of.add_argument("--moves", type=int, default=1000, help="of the branch (default: %(default)s)")
    options_of.add_argument("--files", type=int, default=20_000, help="small files (default: %(default)s)")
    options = options_of.parse_args()
    expected = Expectations()
    with workplace(options.dir) as place:
        subject = make(place, options.size, options.files)
        names = cycle(f"mnt{number}" for number in range(100))
        for _ in range(options.rounds):
            seen(subject, place / next(names), options.moves, expected)
            waiting(subject, place / next(names), options.moves, expected)
            listing(subject, place / next(names), place / "source", expected)
            pages(subject, place / next(names), expected)
        subject.handle.close()
    expected.show()


if __name__ == "__main__":
    main()
