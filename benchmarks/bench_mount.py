"""How fast are files read through the mount, cold and warm, next to plain files and to other mounts in the same run?

    python benchmarks/bench_mount.py [--size 512M] [--files 20000] [--rounds 3] [--dir DIR] [--only CASE]...

    sequential   bf16 weights in pieces of 1 MiB
    noise        incompressible bytes, the same way
    mapped       the sum of the weights as 64-bit numbers, through mmap
    parallel     eight processes that each read all of the weights
    random       4 KiB at scattered places of the weights: microseconds a read
    listing      ls -lR of 20,000 files
    unpickle     pickle.load of a model of 40 MB

Cold: the mount has just been made, so that neither the kernel nor the server has anything of it, and nothing is
hydrated; the repository itself is in the page cache. Warm: the same three times more, of moorage after `moorage warm`.
"moorage (pages)" is mounted with `--cache-size 0`: nothing is hydrated, what was read is kept by the kernel as pages of
the mount. Plain files are the source on the same disk, in the page cache; `zstd -d -T2` decodes the same bytes to
nowhere. The reader is a process of its own. "of plain" is the speed as a part of that of plain files; "faster" says how
many times moorage, in the same state, is as fast as the line's candidate.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datasets import has_numpy, make_incompressible, make_small_files, make_weights
from harness import Expectations, Results, Run, parser, remove, run, settle, show_table, warm, workplace
from stores import Borg, Moorage, Restic, Store, present

PLAIN, COLD, WARM = "plain files", "cold", "warm"
ZSTD = "zstd -d -T2"
OURS = "moorage"
_READER = Path(__file__).with_name("reading.py")
_MOUNTED_WITHIN_SECONDS = 60.0
_WARM_READS = 3


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
        Case("noise", "sequential", "noise/archive-0.bin"),
        Case("mapped", "mapped", weights),
        Case("parallel", "parallel", weights),
        Case("random", "random", weights),
        Case("listing", "listing", "small"),
        Case("unpickle", "unpickle", "models/model.pkl"),
    ]


# -- what is mounted -----------------------------------------------------------------------------------------------


class View(ABC):
    """A way to see the source as a folder."""

    name: str

    @abstractmethod
    def mounted(self, place: Path) -> Iterator[Path]:
        """Show it for as long as the generator is held; yields where its root is."""

    def prepare(self, path: str) -> None:
        """What its users would do before they read `path` often."""


class MoorageView(View):
    """`moorage mount`, each time with a cache that is empty."""

    name = OURS

    def __init__(self, store: Moorage, peaks: list[int], *options: str) -> None:
        """The most memory that each server took is added to `peaks`."""
        self._store = store
        self._peaks = peaks
        self._options = options
        self._words = [sys.executable, "-m", "moorage", "--quiet", "--repo", str(store.folder)]
        self._cache = store.folder.parent / "cache"

    def mounted(self, place: Path) -> Iterator[Path]:
        """See `View.mounted`."""
        _call([*self._words, "mount", "main", str(place), *self._options], self._environment())
        try:
            yield place
            self._peaks.append(_peak_of_server(place))
        finally:
            _call([*self._words, "umount", str(place)])
            remove(self._cache)

    def prepare(self, path: str) -> None:
        """See `View.prepare`."""
        _call([*self._words, "warm", f"main:{path}"], self._environment())

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "XDG_CACHE_HOME": str(self._cache)}


class PagesView(MoorageView):
    """The same without hydration."""

    name = f"{OURS} (pages)"

    def __init__(self, store: Moorage, peaks: list[int]) -> None:
        """As `MoorageView`."""
        super().__init__(store, peaks, "--cache-size", "0")

    def prepare(self, path: str) -> None:
        """See `View.prepare`."""


def _peak_of_server(place: Path) -> int:
    listed = subprocess.run(
        [sys.executable, "-m", "moorage", "mounts", "--json"], check=True, capture_output=True, text=True
    )
    records = [json.loads(line) for line in listed.stdout.splitlines()]
    servers = [record["pid"] for record in records if record["mountpoint"] == str(place)]
    status = Path(f"/proc/{servers[0]}/status").read_text("utf-8")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


class BorgView(View):
    """`borg mount`."""

    name = "borg mount"

    def __init__(self, store: Borg, label: str) -> None:
        """Of the archive `label`."""
        self._store = store
        self._label = label

    def mounted(self, place: Path) -> Iterator[Path]:
        """See `View.mounted`."""
        command = self._store.mount(self._label, place)
        environment = {**os.environ, **command.environment}
        _call(command.argv, environment)
        try:
            yield place
        finally:
            _call(self._store.umount(place).argv, environment)


class ResticView(View):
    """`restic mount`."""

    name = "restic mount"

    def __init__(self, store: Restic) -> None:
        """Of the newest snapshot."""
        self._store = store

    def mounted(self, place: Path) -> Iterator[Path]:
        """See `View.mounted`."""
        command = self._store.command("mount", str(place))
        environment = {**os.environ, **command.environment}
        quiet = subprocess.DEVNULL
        server = subprocess.Popen(command.argv, env=environment, stdout=quiet, stderr=quiet)
        try:
            shown = place / "snapshots" / "latest"
            _wait_for(shown, server)
            yield shown
        finally:
            server.send_signal(signal.SIGINT)  # upon which it unmounts
            server.wait()
            if any(line.split()[1] == str(place) for line in Path("/proc/mounts").read_text("utf-8").splitlines()):
                _call(["umount", "--lazy", str(place)])


def _wait_for(shown: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _MOUNTED_WITHIN_SECONDS
    while not shown.exists():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("restic mount did not come up")
        time.sleep(0.05)


def _call(argv: Sequence[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(argv, check=False, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()[-500:]}")


# -- measuring -----------------------------------------------------------------------------------------------------


def read(case: Case, root: Path, times: int) -> Run:
    """What a reader takes: the median of so many times."""
    argv = [sys.executable, str(_READER), case.how, str(root / case.path), str(times)]
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
    make_incompressible(source / "noise", size * 4)
    for other in range(1, 4):
        (source / "noise" / f"archive-{other}.bin").unlink()
    make_small_files(source / "small", files)
    (source / "models").mkdir()
    (source / "models" / "model.pkl").write_bytes(pickle.dumps(_model()))
    return "weights.safetensors"


def _model() -> object:
    """About 40 MB: arrays as bytes, and a vocabulary."""
    chance = random.Random(1)
    words = {f"token-{number}": chance.random() for number in range(200_000)}
    return {"layers": [chance.randbytes(1 << 20) for _ in range(34)], "vocabulary": words}


def fill(place: Path, source: Path, kind: type[Store]) -> Store:
    """A store that holds the source as `all`."""
    home = place / kind.__name__
    home.mkdir()
    store = kind(home)
    start = store.start()
    if start is not None:
        run(start, place / "log")
    run(store.ingest(source, "all"), place / "log")
    return store


def views_of(place: Path, source: Path, peaks: list[int]) -> list[View]:
    """Ours, and the peers that can be mounted here."""
    found: list[View] = []
    for kind in present((Moorage, Borg, Restic)):
        store = fill(place, source, kind)
        warm(store.folder)
        if isinstance(store, Moorage):
            found += [MoorageView(store, peaks), PagesView(store, peaks)]
        elif isinstance(store, Borg):
            found.append(BorgView(store, "all"))
        elif isinstance(store, Restic):
            found.append(ResticView(store))
    return found


def measure(place: Path, source: Path, views: list[View], case: Case, results: Results) -> None:
    """One round of one case; a peer that cannot be mounted is left out from then on."""
    settle((source / case.path).stat().st_size)
    results.add(case.name, PLAIN, read(case, source, _WARM_READS))
    if case.how == "sequential" and case.name != "noise" and (place / "weights.zst").exists():
        started = time.perf_counter()
        subprocess.run(["zstd", "-q", "-d", "-T2", "-f", "-o", "/dev/null", str(place / "weights.zst")], check=True)
        results.add(case.name, ZSTD, Run(time.perf_counter() - started))
    for view in list(views):
        mountpoint = place / view.name.replace(" ", "-")
        mountpoint.mkdir(exist_ok=True)
        try:
            with contextmanager(view.mounted)(mountpoint) as root:
                results.add(case.name, f"{view.name}, {COLD}", read(case, root, 1))
                view.prepare(case.path)
                results.add(case.name, f"{view.name}, {WARM}", read(case, root, _WARM_READS))
        except (RuntimeError, subprocess.CalledProcessError) as error:
            if isinstance(view, MoorageView):
                raise
            print(f"left out: {view.name} ({error})")
            views.remove(view)


def show(results: Results, case: Case, size_bytes: int) -> None:
    """One table."""
    unit = {"random": "us a read", "listing": "seconds", "unpickle": "seconds"}.get(case.how, "MB/s")
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
    if results.names("listing"):
        expected.at_most("listing, cold, of plain files", 3.0, 1 / results.faster("listing", coldly, PLAIN), "times")
    if peaks:
        expected.at_most("memory of the server", 150.0, max(peaks) / 1e6, "MB")
    expected.show()


def main() -> None:
    """Measure and print."""
    options_of = parser("Reading through the mount, beside plain files and other mounts.", size="512M", rounds=3)
    options_of.add_argument("--files", type=int, default=20_000, help="small files (default: %(default)s)")
    names = [case.name for case in cases_of("")]
    options_of.add_argument("--only", action="append", choices=names, help="a case; repeatable")
    options = options_of.parse_args()
    if not has_numpy():
        sys.exit("numpy is needed: pip install -e '.[libraries]'")
    results, peaks = Results(), list[int]()
    with workplace(options.dir) as place:
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
