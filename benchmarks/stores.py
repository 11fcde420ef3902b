"""Who is measured? Moorage and its peers, each as the command line that its users would type.

Peers are used where they are installed. borg runs without encryption, restic with its own compression on automatic;
both keep their caches in the temporary folder. None of the three is spared its start-up, its locks or its syncs. What
only copies, compresses or hashes is there to show where the floor is; it syncs nothing unless it says so.
"""

from __future__ import annotations

import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from harness import Command, disk_bytes

from moorage.format.keys import DERIVED_FOLDER

MOORAGE = "moorage"
BORG_LZ4 = "borg lz4"
BORG_ZSTD = "borg zstd,3"
RESTIC = "restic"


class Store(ABC):
    """Something that takes a folder in and, mostly, gives it back. Stays in `place`."""

    name: str
    program: str
    keeps = True
    """Whether there is anything of it on disk afterwards."""

    def __init__(self, place: Path) -> None:
        """`place` exists, and is this store's alone."""
        self.folder = place / "store"
        self.caches = [place / "caches"]

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot be run here."""
        return None if shutil.which(cls.program) else f"{cls.program} is not installed"

    def start(self) -> Command | None:
        """Make an empty repository; not timed."""
        return None

    def sizes(self) -> tuple[int, int]:
        """What it occupies: the repository proper, and what could be deleted because it is derived from it."""
        derived = sum(map(disk_bytes, self.caches))
        inside = sum(disk_bytes(cache) for cache in self.caches if self.folder in cache.parents)
        return disk_bytes(self.folder) - inside, derived

    @abstractmethod
    def ingest(self, source: Path, label: str) -> Command:
        """Take in all of `source`."""

    def restore(self, label: str, target: Path) -> Command | None:
        """Write what was taken in as `label` into the empty folder `target`."""
        return None


class Moorage(Store):
    """Ours. Each ingest is the next snapshot of one branch."""

    name = MOORAGE
    program = sys.executable

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.caches = [self.folder / DERIVED_FOLDER]

    def _command(self, *words: str) -> Command:
        return Command([sys.executable, "-m", "moorage", "--quiet", *words])

    def start(self) -> Command:
        """See `Store.start`."""
        return self._command("init", str(self.folder))

    def ingest(self, source: Path, label: str) -> Command:
        """See `Store.ingest`."""
        words = ("commit", str(source), "--branch", "main", "--create", "--message", label, "--repo", str(self.folder))
        return self._command(*words)

    def restore(self, label: str, target: Path) -> Command:
        """See `Store.restore`."""
        return self._command("checkout", "main", str(target), "--repo", str(self.folder))


class Borg(Store):
    """borg, without encryption."""

    name = BORG_LZ4
    program = "borg"
    compression = "lz4"

    def _command(self, *words: str, cwd: Path | None = None) -> Command:
        environment = {
            "BORG_BASE_DIR": str(self.caches[0]),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }
        return Command(["borg", *words], cwd, environment)

    def start(self) -> Command:
        """See `Store.start`."""
        return self._command("init", "--encryption", "none", str(self.folder))

    def ingest(self, source: Path, label: str) -> Command:
        """See `Store.ingest`."""
        archive = f"{self.folder}::{label}"
        return self._command("create", "--compression", self.compression, archive, ".", cwd=source)

    def restore(self, label: str, target: Path) -> Command:
        """See `Store.restore`."""
        return self._command("extract", f"{self.folder}::{label}", cwd=target)

    def mount(self, label: str, target: Path) -> Command:
        """Show an archive as a folder, in the background."""
        return self._command("mount", f"{self.folder}::{label}", str(target))

    def umount(self, target: Path) -> Command:
        """End that."""
        return self._command("umount", str(target))


class BorgZstd(Borg):
    """borg with the compression that is nearest to ours."""

    name = BORG_ZSTD
    compression = "zstd,3"


class Restic(Store):
    """restic, which always encrypts."""

    name = RESTIC
    program = "restic"

    def command(self, *words: str, cwd: Path | None = None) -> Command:
        """One call of it."""
        environment = {
            "RESTIC_REPOSITORY": str(self.folder),
            "RESTIC_PASSWORD": "benchmark",
            "RESTIC_CACHE_DIR": str(self.caches[0]),
        }
        return Command(["restic", "--quiet", *words], cwd, environment)

    def start(self) -> Command:
        """See `Store.start`."""
        return self.command("init")

    def ingest(self, source: Path, label: str) -> Command:
        """See `Store.ingest`."""
        return self.command("backup", "--compression", "auto", "--tag", label, ".", cwd=source)

    def restore(self, label: str, target: Path) -> Command:
        """See `Store.restore`."""
        return self.command("restore", "latest", "--tag", label, "--target", str(target))


class Copy(Store):
    """cp: what the page cache takes."""

    name = "cp -r"
    program = "cp"

    def ingest(self, source: Path, label: str) -> Command:
        """See `Store.ingest`."""
        self.folder.mkdir(exist_ok=True)
        return Command(["cp", "-r", str(source), str(self.folder / label)])

    def restore(self, label: str, target: Path) -> Command | None:
        """See `Store.restore`."""
        return Command(["cp", "-r", f"{self.folder / label}/.", str(target)])


class SyncedCopy(Copy):
    """cp, and then on disk: what every store that acknowledges must wait for."""

    name = "cp -r; sync"

    def ingest(self, source: Path, label: str) -> Command:
        """See `Store.ingest`."""
        self.folder.mkdir(exist_ok=True)
        script = 'cp -r "$0" "$1" && sync --file-system "$1"'
        return Command(["sh", "-c", script, str(source), str(self.folder / label)])

    def restore(self, label: str, target: Path) -> Command | None:
        """See `Store.restore`."""
        return None


class Zstd(Store):
    """zstd on two threads, file by file."""

    name = "zstd -1 -T2"
    program = "zstd"

    def ingest(self, source: Path, label: str) -> Command:
        """See `Store.ingest`."""
        target = self.folder / label
        target.mkdir(parents=True, exist_ok=True)
        return Command(["zstd", "-q", "-1", "-T2", "-r", "--output-dir-mirror", str(target), "."], source)

    def restore(self, label: str, target: Path) -> Command:
        """See `Store.restore`."""
        return Command(["zstd", "-q", "-d", "-T2", "-r", "--output-dir-mirror", str(target), "."], self.folder / label)


class Blake3(Store):
    """b3sum on one thread: hashing and nothing else."""

    name = "BLAKE3, 1 thread"
    program = "b3sum"
    keeps = False
    threads: Sequence[str] = ("--num-threads", "1")

    def ingest(self, source: Path, label: str) -> Command:
        """See `Store.ingest`."""
        script = 'find . -type f -print0 | xargs -0 b3sum "$@"'
        return Command(["sh", "-c", script, "sh", *self.threads], source)


class Blake3All(Blake3):
    """b3sum on all threads."""

    name = "BLAKE3, all threads"
    threads = ()


ALL: tuple[type[Store], ...] = (Moorage, Borg, BorgZstd, Restic, Copy, SyncedCopy, Zstd, Blake3, Blake3All)
REPOSITORIES: tuple[type[Store], ...] = (Moorage, Borg, BorgZstd, Restic)


def present(kinds: Sequence[type[Store]]) -> list[type[Store]]:
    """Those that can be run here; says which cannot."""
    found = []
    for kind in kinds:
        why = kind.missing()
        if why is None:
            found.append(kind)
        else:
            print(f"left out: {kind.name} ({why})")
    return found
