"""How fast are files read through the mount, cold and warm, next to plain files and to other mounts in the same run?

    python benchmarks/bench_mount.py [--size 512M] [--huge 2G] [--files 20000] [--rounds 3] [--dir DIR] [--disk MB/S]
                                     [--only CASE]...

    sequential   bf16 weights in pieces of 1 MiB
    noise        incompressible bytes, the same way
    mapped       the sum of the weights as 64-bit numbers, through mmap
    parallel     eight processes that each read all of the weights
    random       4 KiB at scattered places of the weights: microseconds a read, of one reader (fio, where it is there)
    first        the first 4 KiB, and 4 KiB in the middle, of a huge file that nobody has read yet: milliseconds
    listing      ls -lR of 20,000 files
    unpickle     pickle.load of a model of 40 MB

Cold: the mount has just been made, so that neither the kernel nor the server has anything of it, and nothing is
hydrated; the repository itself is in the page cache, but for the noise, where it is not, as the plain file it is
compared with is not. Warm: the same again for two seconds, once at least, of moorage after `moorage warm`. "moorage
(pages)" is mounted with `--cache-size 0`: nothing is hydrated, what was read is kept by the kernel as pages of the
mount. Plain files are the source on the same disk, in the page cache, or, "cold", not (for a listing: the kernel has
forgotten their names, which only root can have it do); `zstd -d -T2` decodes the same bytes to nowhere. The reader is a
process of its own. "of plain" is the speed as a part of that of plain files; "faster" says how many times moorage, in
the same state, is as fast as the line's candidate. Run by an ordinary user it shows what he gets: everything but
passthrough.

What a virtual disk gives cold may be three times as much a minute later, when its host has the file in memory. `--disk`
has the kernel make it so slow for everybody (see disk.py; bench_disks compares several speeds).
"""

from __future__ import annotations

import contextlib
import io
import pickle
import random
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import has_numpy, make_noise, make_small_files, make_weights
from disk import disk_below, parse_speed
from harness import (
    MIB,
    Expectations,
    Results,
    Run,
    chill,
    forget_names,
    parse_size,
    parser,
    settle,
    show_table,
    warm,
    workplace,
)
from stores import Moorage
from views import OURS, MoorageView, View, fill, views_of

import moorage

PLAIN, COLD, WARM = "plain files", "cold", "warm"
FIRST, MIDDLE = "at the start", "in the middle"
ZSTD = "zstd -d -T2"
_READER = Path(__file__).with_name("reading.py")
_WARM_S = 2.0
_CALM_S = 5.0
"""After gigabytes of memory have become free, which a virtual machine may give back to its host."""


@dataclass(frozen=True, slots=True)
class Case:
    """One way of reading one thing."""

    name: str
    how: str
    path: str
    """Below the mount."""


def cases_of(weights: str) -> list[Case]:
    """All of them; `weights` is the path of the file that is read."""
    return [
        Case("sequential", "sequential", weights),
        Case("noise", "sequential", "noise.bin"),
        Case("mapped", "mapped", weights),
        Case("parallel", "parallel", weights),
        Case("random", "fio" if shutil.which("fio") else "random", weights),
        Case("listing", "listing", "small"),
        Case("unpickle", "unpickle", "models/model.pkl"),
    ]


# -- measuring -----------------------------------------------------------------------------------------------------


def read(case: Case, root: Path, state: str) -> Run:
    """What a reader takes: once if it is cold, else the median of as many times as there is time for."""
    argv = [sys.executable, str(_READER), case.how, str(root / case.path), str(_WARM_S if state == WARM else 0)]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    return Run(float(done.stdout))


def make_source(source: Path, size: int, files: int) -> str:
    """Everything that is read, as one tree; returns the path of the weights."""
    source.mkdir()
    pieces = source / "pieces"
    make_weights(pieces, size)
    with (source / "weights.safetensors").open("wb") as output:
        for piece in sorted(pieces.iterdir()):
            with piece.open("rb") as file:
                shutil.copyfileobj(file, output, 1 << 20)
    shutil.rmtree(pieces)
    make_noise(source / "noise.bin", size)
    make_small_files(source / "small", files)
    (source / "models").mkdir()
    (source / "models" / "model.pkl").write_bytes(pickle.dumps(_model()))
    return "weights.safetensors"


def _model() -> object:
    """About 40 MB: arrays as bytes, and a vocabulary."""
    chance = random.Random(1)
    words = {f"token-{number}": chance.random() for number in range(200_000)}
    return {"layers": [chance.randbytes(1 << 20) for _ in range(34)], "vocabulary": words}


def measure(place: Path, source: Path, views: list[View], case: Case, results: Results) -> None:
    """One round of one case; a peer that cannot be mounted is left out from then on."""
    stored: list[Path] = []
    """What is out of the page cache for a cold read: of the noise everything, of all else nothing."""
    if case.name == "noise":
        # Of the source only this file: how the others lie in the page cache is part of how fast they are.
        stored = [folder for folder in place.iterdir() if folder.is_dir() and folder != source] + [source / case.path]
    settle((source / case.path).stat().st_size)
    warm(source / case.path)
    results.add(case.name, PLAIN, read(case, source, WARM))
    if case.name == "noise":
        for folder in stored:
            chill(folder)
        time.sleep(_CALM_S)
        settle((source / case.path).stat().st_size)
        results.add(case.name, f"{PLAIN}, {COLD}", read(case, source, COLD))
    if case.name == "listing" and forget_names():
        results.add(case.name, f"{PLAIN}, {COLD}", read(case, source, COLD))
    if case.how == "sequential" and case.name != "noise" and (place / "weights.zst").exists():
        started = time.perf_counter()
        subprocess.run(["zstd", "-q", "-d", "-T2", "-f", "-o", "/dev/null", str(place / "weights.zst")], check=True)
        results.add(case.name, ZSTD, Run(time.perf_counter() - started))
    for view in list(views):
        mountpoint = place / view.name.replace(" ", "-")
        mountpoint.mkdir(exist_ok=True)
        for folder in stored:
            chill(folder)
        settle(2 * (source / case.path).stat().st_size)  # it is in memory twice: as the mount's pages, and in the cache
        try:
            with contextmanager(view.mounted)(mountpoint) as root:
                results.add(case.name, f"{view.name}, {COLD}", read(case, root, COLD))
                view.prepare(case.path)
                results.add(case.name, f"{view.name}, {WARM}", read(case, root, WARM))
        except (RuntimeError, subprocess.CalledProcessError) as error:
            if isinstance(view, MoorageView):
                raise
            print(f"left out: {view.name} ({error})")
            views.remove(view)
    for folder in stored:
        warm(folder)


def measure_first(place: Path, size_bytes: int, rounds: int, results: Results, peaks: list[int]) -> None:
    """How long a reader of a huge file waits for its first bytes. The file is a block of noise over and over: what
    counts is the length of its recipe, and where in it a place is found."""
    home = place / "first"
    (home / "nothing").mkdir(parents=True)
    store = fill(home, home / "nothing", Moorage)
    with moorage.Repository.open(store.folder) as repo:
        repo.commit(io.BufferedReader(Repeated(size_bytes), 1 << 20), branch="huge", at="huge.bin", create=True)
    case = Case("first", "first", "huge.bin")
    mountpoint = home / "mount"
    mountpoint.mkdir()
    for _ in range(rounds):
        with contextmanager(MoorageView(store, peaks, branch="huge").mounted)(mountpoint) as root:
            results.add(case.name, FIRST, read(case, root, COLD))
            results.add(case.name, MIDDLE, read(Case("first", "middle", "huge.bin"), root, COLD))
    rows = [(f"first, of {size_bytes / 1e9:.1f} GB", "ms")]
    rows += [(name, f"{1e3 * results.seconds(case.name, name):.2f}") for name in results.names(case.name)]
    print()
    show_table(rows)


class Repeated(io.RawIOBase):
    """A stream of so many bytes, the same noise again and again."""

    def __init__(self, size_bytes: int) -> None:
        """Made on the way."""
        self._block = random.Random(1).randbytes(64 << 20)
        self._left = size_bytes

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As any stream."""
        view = memoryview(buffer)
        at = self._left % len(self._block)
        piece = self._block[at : at + min(len(view), self._left)]
        view[: len(piece)] = piece
        self._left -= len(piece)
        return len(piece)


def show(results: Results, case: Case, size_bytes: int) -> None:
    """One table."""
    unit = {"random": "us a read", "fio": "us a read", "listing": "seconds", "unpickle": "seconds"}.get(
        case.how, "MB/s"
    )
    copies = 8 if case.how == "parallel" else 1
    rows = [(case.name, unit, "of plain", "faster")]
    for name in results.names(case.name):
        seconds = results.seconds(case.name, name)
        figure = {"MB/s": copies * size_bytes / seconds / 1e6, "us a read": seconds * 1e6, "seconds": seconds}[unit]
        ours = f"{OURS}, {name.rsplit(', ', 1)[-1]}"
        peer = name.endswith((COLD, WARM)) and ours != name
        rows.append(
            (
                name,
                f"{figure:.3f}" if unit == "seconds" else f"{figure:.0f}" if unit == "MB/s" else f"{figure:.1f}",
                f"{results.faster(case.name, name, PLAIN):.3f}" if name != PLAIN else "",
                f"x {results.faster(case.name, ours, name):.2f}" if peer else "",
            )
        )
    print()
    show_table(rows)


def judge(results: Results, peaks: list[int]) -> None:
    """Compare with what the project expects of a mount with hydration and passthrough."""
    expected = Expectations()
    warmly, coldly = f"{OURS}, {WARM}", f"{OURS}, {COLD}"
    for case, wanted in (("sequential", 0.9), ("mapped", 0.9), ("random", 0.8), ("parallel", 0.9)):
        if results.names(case):
            expected.at_least(f"{case}, warm, of plain files", wanted, results.faster(case, warmly, PLAIN))
    if ZSTD in results.names("sequential"):
        expected.at_least(f"sequential, cold, of {ZSTD}", 0.7, results.faster("sequential", coldly, ZSTD))
    if results.names("noise"):
        cold = results.faster("noise", coldly, f"{PLAIN}, {COLD}")
        expected.at_least("noise, cold, of plain files, cold", 0.5, cold)
    if results.names("first"):
        expected.at_most("first 4 KiB of a huge file", 20.0, 1e3 * results.seconds("first", FIRST), "ms")
    if results.names("listing"):
        for plain in (PLAIN, f"{PLAIN}, {COLD}"):
            if plain in results.names("listing"):
                times = 1 / results.faster("listing", coldly, plain)
                expected.at_most(f"listing, cold, of {plain}", 3.0, times, "times")
    if peaks:
        expected.at_most("memory of server and supervisor", 150.0, max(peaks) / MIB, "MiB")
    expected.show()


def main() -> None:
    """Measure and print."""
    options_of = parser("Reading through the mount, beside plain files and other mounts.", size="512M", rounds=3)
    options_of.add_argument("--huge", type=parse_size, default="2G", help="of the huge file (default: %(default)s)")
    options_of.add_argument("--files", type=int, default=20_000, help="small files (default: %(default)s)")
    names = [*(case.name for case in cases_of("")), "first"]
    options_of.add_argument(
        "--disk", type=parse_speed, default=0, help="MB/s it gives at most (default: 0, what it can)"
    )
    options_of.add_argument("--only", action="append", choices=names, help="a case; repeatable")
    options = options_of.parse_args()
    if not has_numpy():
        sys.exit("numpy is needed: pip install -e '.[libraries]'")
    results, peaks = Results(), list[int]()
    with workplace(options.dir) as place, contextlib.ExitStack() as stack:
        if options.disk:
            stack.enter_context(disk_below(place)).limit(options.disk)
        if not options.only or "first" in options.only:
            measure_first(place, options.huge, options.rounds, results, peaks)
        source = place / "source"
        cases = cases_of(make_source(source, options.size, options.files))
        cases = [case for case in cases if not options.only or case.name in options.only]
        if shutil.which("zstd"):
            weights = source / "weights.safetensors"
            subprocess.run(["zstd", "-q", "-1", "-T2", str(weights), "-o", str(place / "weights.zst")], check=True)
        views = views_of(place, source, peaks)
        warm(source)
        for _ in range(options.rounds):
            for case in cases:
                measure(place, source, views, case, results)
        for case in cases:
            show(results, case, (source / case.path).stat().st_size)
    judge(results, peaks)


if __name__ == "__main__":
    main()
