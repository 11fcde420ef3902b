"""How much of what a disk can give does the first reader of a cold mount get, whatever the disk?

    python benchmarks/bench_disks.py [--size 1G] [--rounds 3] [--dir DIR] [--speeds 500,1000,2000,0]

The disk is made slower by the kernel (the block I/O controller of a control group, which everything here then runs in):
so many MB/s for each reader, 0 for what it gives. At each speed cat(1) reads a plain file of incompressible bytes, and
the same file from a mount that has just been made; neither the plain file nor the repository is in the page cache. As
long as the disk is what limits both, they take the same time; where that ends, the processors limit the mount (see
bench_limit). Beside it, once more at each speed, the same through a mount that hydrates nothing.

For root, on a disk whose control group can be found: version 1 with `blkio`, or 2 with `io`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import Expectations, Results, Run, chill, parser, settle, show_table, workplace
from stores import Moorage
from views import OURS, PAGES, MoorageView, PagesView, noise_of

_CAT = "cat, plain file"
_GROUPS = Path("/sys/fs/cgroup")
_GROUP = "moorage-bench-disks"


class Disk:
    """The disk below a folder, which can be made slower for this process and its children."""

    def __init__(self, folder: Path) -> None:
        """Raises `OSError` where the system has no means to do so, or this user may not."""
        device = folder.stat().st_dev
        self._number = f"{os.major(device)}:{os.minor(device)}"
        about = Path("/sys/dev/block", self._number).resolve(strict=True)
        if (about / "partition").exists():  # the controller knows whole disks only
            self._number = (about.parent / "dev").read_text("ascii").strip()
        self._is_old = (_GROUPS / "blkio").is_dir()
        self._above = _GROUPS / "blkio" if self._is_old else _GROUPS
        self._group = self._above / _GROUP

    def limit(self, bytes_a_second: int) -> None:
        """So much is read from it, 0 for all that it gives."""
        if self._is_old:
            self._write(self._group / "blkio.throttle.read_bps_device", f"{self._number} {bytes_a_second}")
        else:
            self._write(self._group / "io.max", f"{self._number} rbps={bytes_a_second or 'max'}")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have the limits count for this process, and for those that it starts."""
        if not self._is_old:
            self._write(self._above / "cgroup.subtree_control", "+io")
        self._group.mkdir(exist_ok=True)
        try:
            self._write(self._group / "cgroup.procs", str(os.getpid()))
            yield
        finally:
            self._write(self._above / "cgroup.procs", str(os.getpid()))
            with contextlib.suppress(OSError):  # somebody may be in it still
                self._group.rmdir()

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, "ascii")


def cat(path: Path) -> Run:
    """What it takes to read all of a file."""
    started = time.perf_counter()
    subprocess.run(["cat", str(path)], check=True, stdout=subprocess.DEVNULL)
    return Run(time.perf_counter() - started)


def measure(store: Moorage, source: Path, place: Path, case: str, results: Results) -> None:
    """One round at one speed."""
    size_bytes = source.stat().st_size
    settle(size_bytes)
    chill(source)
    results.add(case, _CAT, cat(source))
    for view in (MoorageView(store, []), PagesView(store, [])):
        settle(2 * size_bytes)
        chill(store.folder)
        with contextmanager(view.mounted)(place) as root:
            results.add(case, view.name, cat(root / source.name))


def show(results: Results, cases: list[str], size_bytes: int) -> None:
    """A line a speed."""
    rows = [("the disk gives", f"{_CAT}, MB/s", f"{OURS}, MB/s", "of the plain file", f"{PAGES}, MB/s")]
    expected = Expectations()
    for case in cases:
        speeds = [f"{size_bytes / results.seconds(case, name) / 1e6:.0f}" for name in (_CAT, OURS, PAGES)]
        part = results.faster(case, OURS, _CAT)
        rows.append((case, speeds[0], speeds[1], f"{part:.2f}", speeds[2]))
        expected.at_least(f"cold, of a cold cat, where the disk gives {case}", 0.5, part)
    print()
    show_table(rows)
    expected.show()


def parse_speeds(text: str) -> list[int]:
    """`500,1000` and the like: MB/s."""
    words = text.split(",")
    if not all(map(str.isdecimal, words)):
        raise argparse.ArgumentTypeError(f"{text!r} are no speeds: write 500,1000,0")
    return [int(word) for word in words]


def main() -> None:
    """Measure and print."""
    options_of = parser("How much of what a disk gives its first reader gets.", size="1G", rounds=3)
    options_of.add_argument(
        "--speeds", type=parse_speeds, default="500,1000,2000,0", help="MB/s, 0 for all (default: %(default)s)"
    )
    options = options_of.parse_args()
    results = Results()
    with workplace(options.dir) as home:
        source, store, place = noise_of(home, options.size)
        with contextlib.ExitStack() as stack:
            try:
                disk = Disk(home)
                stack.enter_context(disk.entered())
                disk.limit(0)
            except OSError as error:
                print(f"left out: the disk below {home} cannot be made slower here ({error})")
                return
            cases = {f"{speed} MB/s" if speed else "what it can": speed for speed in options.speeds}
            for _ in range(options.rounds):
                for case, speed in cases.items():
                    disk.limit(speed * 1_000_000)
                    measure(store, source, place, case, results)
            disk.limit(0)
        show(results, list(cases), options.size)


if __name__ == "__main__":
    main()
