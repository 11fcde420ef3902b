"""How much of what a disk can give does the first reader of a cold mount get, whatever the disk?

    python benchmarks/bench_disks.py [--size 1G] [--rounds 3] [--dir DIR] [--speeds 500,1000,2000,0]

The disk is made slower by the kernel (see disk.py): so many MB/s for all that runs here, 0 for what it gives. At each
speed cat(1) reads a plain file of incompressible bytes, and the same file from a mount that has just been made; neither
the plain file nor the repository is in the page cache. As long as the disk is what limits both, they take the same
time; where that ends, the processors limit the mount (see bench_limit). Beside it, once more at each speed, the same
through a mount that hydrates nothing.
"""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from disk import disk_below, parse_speed
from harness import Expectations, Results, Run, chill, parser, settle, show_table, workplace
from stores import Moorage
from views import OURS, PAGES, MoorageView, PagesView, noise_of

_CAT = "cat, plain file"


def cat(path: Path) -> Run:
    """What it takes to read all of a file."""
    started = time.perf_counter()
    subprocess.run(["cat", str(path)], check=True, stdout=subprocess.DEVNULL)
    return Run(time.perf_counter() - started)


def measure(store: Moorage, source: Path, place: Path, case: str, results: Results) -> None:
    """One round at one speed."""
    size_bytes = source.stat().st_size
    for data in (source, store.folder):
        chill(data)
    settle(size_bytes)
    results.add(case, _CAT, cat(source))
    for view in (MoorageView(store, []), PagesView(store, [])):
        chill(store.folder)
        settle(2 * size_bytes)
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
    return [parse_speed(word) for word in text.split(",")]


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
        cases = {f"{speed} MB/s" if speed else "what it can": speed for speed in options.speeds}
        with disk_below(home) as disk:
            for _ in range(options.rounds):
                for case, speed in cases.items():
                    disk.limit(speed)
                    measure(store, source, place, case, results)
        show(results, list(cases), options.size)


if __name__ == "__main__":
    main()
