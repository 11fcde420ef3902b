"""How is a command measured, so that a shared machine does not decide the result? Timing, medians, tables.

Every candidate of a case runs once in each round, one after the other, so that a slow moment falls on all of them; what
is printed are medians over the rounds, and a ratio is the median of the ratios of each round. Beside the wall clock
stands the CPU time, user and system, of the whole process tree (`wait4`), which a busy disk does not change.

Before a timed run all that is dirty is synced, so that nobody pays for the bytes of the one before; and as much memory
as the run may need is touched and freed again, since the first touch of memory that the host of a virtual machine has
not given it yet costs more than all else (the same `cp` took 0.25 s of CPU with it and 1.44 s without).

Benchmarks are run from the project's environment: `python benchmarks/bench_ingest.py`.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import mmap
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import moorage

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_UNITS = {"": 1, "K": KIB, "M": MIB, "G": GIB}


# -- running -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Command:
    """One process to run, or several joined by a shell."""

    argv: Sequence[str]
    cwd: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took."""

    seconds: float
    cpu_seconds: float = 0.0
    """User and system, of the process and all that it waited for."""
    peak_bytes: int = 0
    """Resident memory, of the largest process; 0 where it is less than that of the benchmark itself."""
    stored_bytes: int | None = None
    """By which a repository grew, without what is derived from it."""
    derived_bytes: int = 0
    """By which caches and indexes grew that could be deleted."""


def settle(size_bytes: int) -> None:
    """Before a timed run that will write about `size_bytes`: nothing is dirty, and free memory is really there."""
    os.sync()
    touch = f"import mmap; mmap.mmap(-1, {min(2 * size_bytes + 256 * MIB, _free_bytes() * 3 // 4)}, flags={_POPULATE})"
    subprocess.run([sys.executable, "-S", "-c", touch], check=False)


_POPULATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_POPULATE", 0)


def _free_bytes() -> int:
    """Memory that nobody uses, not even as page cache, which must not be pushed out."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGESIZE")


def run(command: Command, log: Path) -> Run:
    """Run one command; ends the benchmark, with what the command said, when it fails."""
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command.argv,
            cwd=command.cwd,
            env={**os.environ, **command.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = log.read_text("utf-8", "replace")[-2000:]
        sys.exit(f"failed with {process.returncode}: {' '.join(command.argv)}\n{said}")
    # Linux counts into a child's peak what its parent had when it was started.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * KIB if usage.ru_maxrss > own else 0)


def warm(path: Path) -> None:
    """Read a file, or everything in a folder, once, so that it is in the page cache."""
    buffer = bytearray(4 * MIB)
    for each in _files_of(path):
        with contextlib.suppress(OSError), open(each, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def chill(path: Path) -> None:
    """Have a file, or everything in a folder, out of the page cache; what is dirty stays."""
    for each in _files_of(path):
        with contextlib.suppress(OSError), open(each, "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _files_of(path: Path) -> Iterator[Path]:
    """A file, or all those below a folder."""
    if path.is_file():
        yield path
    for place, _, names in os.walk(path):
        yield from (Path(place, name) for name in names)


def forget_names() -> bool:
    """Have the kernel forget the names and attributes of all files that nobody has open; False where it will not."""
    with contextlib.suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("2\n", "ascii")
        return True
    return False


def disk_bytes(folder: Path) -> int:
    """What a folder occupies, as `du` counts."""
    total = 0
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            total += os.lstat(os.path.join(place, name)).st_blocks * 512
    return total


def file_bytes(folder: Path) -> int:
    """The lengths of all files below a folder, added up."""
    return sum(os.lstat(os.path.join(place, name)).st_size for place, _, names in os.walk(folder) for name in names)


def remove(folder: Path) -> None:
    """Have a folder out of the way, and deleted if its files are few.

    Where files have just been deleted by the thousand, making as many anew takes several times as long (ext4 passes
    over inodes that were freed lately): these stay until the end.
    """
    if not folder.exists():
        return
    if sum(len(names) for _, _, names in os.walk(folder)) < _MANY_FILES:
        shutil.rmtree(folder)
        return
    retired = folder.with_name("retired")
    retired.mkdir(exist_ok=True)
    folder.rename(retired / f"{folder.name}-{len(os.listdir(retired))}")


_MANY_FILES = 1000


# -- results -------------------------------------------------------------------------------------------------------


class Results:
    """What every candidate took in every round of every case."""

    def __init__(self) -> None:
        """Nothing has been measured."""
        self._runs: dict[str, dict[str, list[Run]]] = {}

    def add(self, case: str, name: str, taken: Run) -> None:
        """One more run."""
        self._runs.setdefault(case, {}).setdefault(name, []).append(taken)

    def names(self, case: str) -> list[str]:
        """The candidates of a case, in the order in which they were first run."""
        return list(self._runs.get(case, {}))

    def seconds(self, case: str, name: str) -> float:
        """Median wall clock."""
        return statistics.median(taken.seconds for taken in self._runs[case][name])

    def spread(self, case: str, name: str) -> str:
        """The fastest and the slowest round, beside the median: how much to believe it."""
        taken = sorted(one.seconds for one in self._runs[case][name])
        return f"{taken[0]:.2f}-{taken[-1]:.2f}"

    def cpu_seconds(self, case: str, name: str) -> float:
        """Median CPU time."""
        return statistics.median(taken.cpu_seconds for taken in self._runs[case][name])

    def peak_bytes(self, case: str, name: str) -> int:
        """The most memory of any round."""
        return max(taken.peak_bytes for taken in self._runs[case][name])

    def stored_bytes(self, case: str, name: str) -> float | None:
        """Median of what the repository grew by."""
        known = [taken.stored_bytes for taken in self._runs[case][name] if taken.stored_bytes is not None]
        return statistics.median(known) if known else None

    def derived_bytes(self, case: str, name: str) -> float:
        """Median of what caches and indexes grew by."""
        return statistics.median(taken.derived_bytes for taken in self._runs[case][name])

    def faster(self, case: str, ours: str, peer: str) -> float:
        """How many times as fast `ours` is, by the clock: the median over the rounds."""
        pairs = zip(self._runs[case][ours], self._runs[case][peer], strict=True)
        return statistics.median(theirs.seconds / mine.seconds for mine, theirs in pairs)

    def cheaper(self, case: str, ours: str, peer: str) -> float:
        """How many times as much CPU the peer took."""
        pairs = zip(self._runs[case][ours], self._runs[case][peer], strict=True)
        return statistics.median(theirs.cpu_seconds / max(mine.cpu_seconds, 1e-6) for mine, theirs in pairs)


_HEADING: tuple[str, ...] = (
    "",
    "seconds",
    "range",
    "MB/s",
    "CPU s",
    "CPU s/GB",
    "peak MB",
    "stored MB",
    "caches MB",
    "faster",
    "less CPU",
    "smaller",
)


def show_case(results: Results, case: str, ours: str, size_bytes: int, what: str) -> None:
    """One table: a line a candidate, what it took, and how `ours` compares with it."""
    names = results.names(case)
    if not names:
        return
    rounds = len(results._runs[case][names[0]])
    print(f"\n{case}: {what}; medians of {rounds}")
    rows = [_HEADING]
    mine = results.stored_bytes(case, ours)
    for name in names:
        stored = results.stored_bytes(case, name)
        derived = results.derived_bytes(case, name)
        peak = results.peak_bytes(case, name)
        peer = name != ours
        rows.append(
            (
                name,
                f"{results.seconds(case, name):.2f}",
                results.spread(case, name),
                f"{size_bytes / results.seconds(case, name) / 1e6:.0f}",
                f"{results.cpu_seconds(case, name):.2f}",
                f"{results.cpu_seconds(case, name) / size_bytes * 1e9:.2f}",
                f"{peak / 1e6:.0f}" if peak else "",
                "" if stored is None else f"{stored / 1e6:.1f}",
                f"{derived / 1e6:.1f}" if derived else "",
                f"x {results.faster(case, ours, name):.2f}" if peer else "",
                f"x {results.cheaper(case, ours, name):.2f}" if peer else "",
                f"x {stored / mine:.3f}" if peer and stored is not None and mine else "",
            )
        )
    show_table(rows)


def show_table(rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns: the first to the left, all others to the right; the first row is the heading.

    A column in which there is nothing is left out.
    """
    told = [column for column in range(len(rows[0])) if not column or any(row[column] for row in rows[1:])]
    rows = [[row[column] for column in told] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        first, *others = row
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([f"  {first.ljust(widths[0])}", *cells]).rstrip())


class Expectations:
    """What the project expects of itself, and whether this run shows it."""

    def __init__(self) -> None:
        """Nothing is expected yet."""
        self._rows: list[tuple[str, ...]] = [("expected", "at least", "is", "")]
        self._left_out: list[str] = []

    def at_least(self, what: str, wanted: float, found: float) -> None:
        """`found` should not be less than `wanted`."""
        self._rows.append((what, f"{wanted:g}", f"{found:.3f}", "met" if found >= wanted else "NOT MET"))

    def at_most(self, what: str, wanted: float, found: float, unit: str) -> None:
        """`found` should not be more than `wanted`."""
        verdict = "met" if found <= wanted else "NOT MET"
        self._rows.append((what, f"(most) {wanted:g} {unit}", f"{found:.2f} {unit}", verdict))

    def unknown(self, what: str, why: str) -> None:
        """Nothing that this run can say."""
        self._left_out.append(f"{what}: not compared, {why}")

    def show(self) -> None:
        """The last table."""
        print()
        if len(self._rows) > 1:
            show_table(self._rows)
        for line in self._left_out:
            print(f"  {line}")


# -- the surroundings ----------------------------------------------------------------------------------------------


def parser(description: str, *, size: str | None, rounds: int) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    made = argparse.ArgumentParser(description=description)
    if size is not None:
        made.add_argument("--size", type=parse_size, default=size, help="bytes, as 64M or 1G (default: %(default)s)")
    made.add_argument("--rounds", type=int, default=rounds, help="how often all is run (default: %(default)s)")
    made.add_argument("--dir", type=Path, help="where temporary data go (default: the system's folder for them)")
    return made


def parse_size(text: str) -> int:
    """`64M` and the like, in powers of 1,024."""
    number, unit = (text[:-1], text[-1].upper()) if text and text[-1].isalpha() else (text, "")
    if unit not in _UNITS or not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 512K, 64M or 1G")
    return int(number) * _UNITS[unit]


@contextlib.contextmanager
def workplace(folder: Path | None) -> Iterator[Path]:
    """A folder of our own, gone afterwards, whatever happens; nothing in the user's caches is touched meanwhile."""
    with tempfile.TemporaryDirectory(prefix="moorage-bench-", dir=folder, ignore_cleanup_errors=True) as name:
        place = Path(name).resolve()
        os.environ["XDG_CACHE_HOME"] = str(place / "cache")
        # As an installed package has it: else each command would compile the sources anew.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        compileall.compile_dir(os.path.dirname(moorage.__file__), quiet=2)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}, Python {sys.version.split()[0]}")
        yield place
