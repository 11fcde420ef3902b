"""In which ways can the same tree be seen as a folder? Ours, and the peers that are installed.

Each is mounted as its users would: with its own defaults, by its own command. What it serves is the same source, taken
in ahead of time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from datasets import make_noise
from harness import remove, run, warm
from stores import Borg, Moorage, Restic, Store, present

OURS = "moorage"
PAGES = f"{OURS} (pages)"
_MOUNTED_WITHIN_SECONDS = 60.0


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

    def __init__(self, store: Moorage, peaks: list[int], *options: str, branch: str = "main") -> None:
        """The most memory that each mount took, of all its processes, is added to `peaks`."""
        self._peaks = peaks
        self._options = options
        self._branch = branch
        self._words = [sys.executable, "-m", "moorage", "--quiet", "--repo", str(store.folder)]
        self._cache = store.folder.parent / "cache"

    def mounted(self, place: Path) -> Iterator[Path]:
        """See `View.mounted`."""
        call([*self._words, "mount", self._branch, str(place), *self._options], self._environment())
        try:
            yield place
            self._peaks.append(_peak_of(place))
        finally:
            call([*self._words, "umount", str(place)])
            remove(self._cache)

    def prepare(self, path: str) -> None:
        """See `View.prepare`."""
        call([*self._words, "warm", f"{self._branch}:{path}"], self._environment())

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "XDG_CACHE_HOME": str(self._cache)}


class PagesView(MoorageView):
    """The same without hydration."""

    name = PAGES

    def __init__(self, store: Moorage, peaks: list[int]) -> None:
        """As `MoorageView`."""
        super().__init__(store, peaks, "--cache-size", "0")

    def prepare(self, path: str) -> None:
        """See `View.prepare`."""


def _peak_of(place: Path) -> int:
    listed = subprocess.run(
        [sys.executable, "-m", "moorage", "mounts", "--json"], check=True, capture_output=True, text=True
    )
    record = next(
        record for record in map(json.loads, listed.stdout.splitlines()) if record["mountpoint"] == str(place)
    )
    processes = [record[name] for name in ("server_pid", "supervisor_pid") if record.get(name)]
    return sum(map(_peak_of_process, processes))


def _peak_of_process(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
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
        call(command.argv, environment)
        try:
            yield place
        finally:
            call(self._store.umount(place).argv, environment)


class ServerView(View):
    """A program that serves a mount for as long as it runs."""

    def __init__(self, words: Sequence[str], environment: dict[str, str] | None = None, shown: str = ".") -> None:
        """`words` are its command line without the mountpoint; `shown` is where below that the source is."""
        self._words = words
        self._environment = {**os.environ, **(environment or {})}
        self._shown = shown
        self.pid = 0
        """Of the program, while it runs."""

    def mounted(self, place: Path) -> Iterator[Path]:
        """See `View.mounted`."""
        quiet = subprocess.DEVNULL
        server = subprocess.Popen([*self._words, str(place)], env=self._environment, stdout=quiet, stderr=quiet)
        self.pid = server.pid
        try:
            _wait_for(place, self._shown, server)
            yield place / self._shown
        finally:
            server.terminate()  # upon which it unmounts; what a shell starts in the background ignores SIGINT
            server.wait()
            if _is_mounted(place):
                call(["fusermount3", "-u", "-z", str(place)])


class ResticView(ServerView):
    """`restic mount`."""

    name = "restic mount"

    def __init__(self, store: Restic) -> None:
        """Of the newest snapshot."""
        command = store.command("mount")
        super().__init__(command.argv, dict(command.environment), "snapshots/latest")


class SquashView(ServerView):
    """squashfuse, of an image compressed with zstd: one file that holds the tree, and no history."""

    name = "squashfuse"

    def __init__(self, image: Path) -> None:
        """Of that image."""
        super().__init__(["squashfuse", "-f", str(image)])


class RcloneView(ServerView):
    """rclone, passing the source itself through: a mount that has nothing to decode."""

    name = "rclone mount"

    def __init__(self, source: Path) -> None:
        """Of that folder."""
        super().__init__(["rclone", "mount", "--read-only", str(source)])


def _is_mounted(place: Path) -> bool:
    return any(line.split()[1] == str(place) for line in Path("/proc/mounts").read_text("utf-8").splitlines())


def _wait_for(place: Path, shown: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _MOUNTED_WITHIN_SECONDS
    while not (_is_mounted(place) and (place / shown).exists()):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the mount did not come up")
        time.sleep(0.05)


def call(argv: Sequence[str], environment: dict[str, str] | None = None) -> None:
    """Run a command that must succeed. Raises `RuntimeError`."""
    done = subprocess.run(argv, check=False, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()[-500:]}")


AnyStore = TypeVar("AnyStore", bound=Store)


def fill(place: Path, source: Path, kind: type[AnyStore]) -> AnyStore:
    """A store that holds the source as `all`."""
    home = place / kind.__name__
    home.mkdir()
    store = kind(home)
    start = store.start()
    if start is not None:
        run(start, place / "log")
    run(store.ingest(source, "all"), place / "log")
    return store


def noise_of(home: Path, size_bytes: int) -> tuple[Path, Moorage, Path]:
    """One file of incompressible bytes, a repository that holds it under the same name, and a folder to mount it on."""
    source, place = home / "source" / "noise.bin", home / "mount"
    for folder in (source.parent, place):
        folder.mkdir()
    make_noise(source, size_bytes)
    return source, fill(home, source.parent, Moorage), place


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
    if shutil.which("squashfuse") and shutil.which("mksquashfs"):
        (place / "squash").mkdir()
        image = place / "squash" / "image"
        call(["mksquashfs", str(source), str(image), "-comp", "zstd", "-Xcompression-level", "3", "-quiet"])
        warm(image.parent)
        found.append(SquashView(image))
    if shutil.which("rclone"):
        found.append(RcloneView(source))
    return found
