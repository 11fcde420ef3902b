"""Which files of repositories lie on this machine as plain files, verified, and which of them must go?

    <folder>/usage                              bytes taken; whoever makes room holds it (flock)
    <folder>/<first 2 hex>/<digest>[-x]         the bytes, mode 0444 (0555), only ever unlinked, never changed
    <folder>/<first 2 hex>/<digest>[-x].seen    what stat(2) said after the bytes had been verified, and the boot
    <folder>/<first 2 hex>/<digest>[-x].part    being assembled; whoever does so holds it (flock)

Named by content, so all repositories, mounts and programs of a user share it. A file is assembled as `.part`, hashed
whole, and only then given its name: it is complete or absent, whatever dies. It is used only while stat says what it
said after that; after another boot it is hashed anew, since a power cut may have left a name without its bytes.

At most so many bytes. What was not asked for longest goes first, never a file that somebody holds: a `CachedFile` has a
shared lock on its open file, which the kernel keeps for as long as a mount reads through it, and what goes must be
locked exclusively. A `.part` that nobody holds was left by somebody who was killed, and goes too.

Bytes taken are counted, so that adding a file does not look at all others. A crash or a deletion by hand makes the
count too high, never too low; where it says that the cache is full, everything is counted again.

Derived: deleting any of it loses nothing. Threads and processes: any number at once.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from moorage.errors import StorageDeniedError
from moorage.model.tree import Entry
from moorage.read.cached_file import (
    PART,
    SEEN,
    CachedFile,
    OpenFile,
    Seen,
    hold,
    is_content,
    last_used,
    remember,
    remembered,
    remove_unheld,
    seen_of,
    size_of,
    unlink,
)
from moorage.repository.user_folders import cache_home
from moorage.storage.os_errors import translated

_log = logging.getLogger(__name__)

MOST_BYTES_UNASKED = 20 * 1024 * 1024 * 1024
_BLOCK_BYTES = 4096
_SPARE_PART = 16
"""When files must go, a sixteenth of the cache is made free beyond what is needed, so that not each new file has all
others looked at."""


class Refusal(enum.Enum):
    """Why a file cannot be assembled now."""

    BUSY = "somebody else is assembling it"
    FULL = "the cache is full of files in use"
    TOO_LARGE = "it is larger than the cache"


class Usage(NamedTuple):
    """How much lies in a cache."""

    files: int
    size_bytes: int
    limit_bytes: int


class Part(OpenFile):
    """A file being assembled, held exclusively; `publish` or `discard` it."""

    def __init__(self, cache: FileCache, fd: int, entry: Entry, path: Path) -> None:
        """Own `fd`, which is as long as the file will be."""
        super().__init__(fd)
        self.entry = entry
        self.path = path
        self._cache = cache

    def publish(self) -> CachedFile:
        """Give it its name. Its bytes have been verified. Raises `OSError`."""
        target = self.path.with_suffix("")
        os.fchmod(self.fd, 0o555 if self.entry.executable else 0o444)
        # From exclusive to shared before it has its name, so that whoever finds it there can hold it, too.
        fcntl.flock(self.fd, fcntl.LOCK_SH)
        os.rename(self.path, target)
        fd = hold(target)
        self.close()
        if fd is None:
            raise FileNotFoundError(f"{target} was deleted as soon as it was there")
        return CachedFile(fd, target, remember(target, fd))

    def discard(self) -> None:
        """Forget it."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        self.close()
        self._cache.give_back(self.entry.size_bytes)


class FileCache:
    """One folder of whole files."""

    def __init__(self, folder: Path | None = None, limit_bytes: int | None = None) -> None:
        """Files lie in `folder`, by default the user's cache directory, and take `limit_bytes` at most: by default the
        smaller of 20 GiB and a tenth of the disk. Raises `StorageError` for a user without a home."""
        self.folder = folder or cache_home() / "files"
        self.limit_bytes = default_limit_bytes(self.folder) if limit_bytes is None else limit_bytes
        self._is_known_to_be_ours = False

    @property
    def usable_bytes(self) -> int:
        """What fits without any of it making another go."""
        return self.limit_bytes - self.limit_bytes // _SPARE_PART

    def find(self, entry: Entry, *, verify: bool) -> CachedFile | None:
        """The file, held and marked as just used; None where it is not here, or not what was verified.

        With `verify`, one of which stat says something else (another boot, a restored backup) is hashed first, which
        takes as long as reading it. One that is damaged is removed. Raises `OSError`, `StorageDeniedError`.
        """
        if not self._is_ours():
            return None
        target = self._target(entry)
        fd = hold(target)
        if fd is None:
            return None
        try:
            seen = Seen.of(fd)
            if not (seen.boot and seen == remembered(target)):
                if not verify:
                    os.close(fd)
                    return None
                if not is_content(fd, entry):
                    _log.warning("%s is damaged, and removed", target)
                    unlink(target)
                    os.close(fd)
                    return None
                seen = remember(target, fd)
        except OSError:
            os.close(fd)
            raise
        with contextlib.suppress(OSError):
            os.utime(seen_of(target))
        return CachedFile(fd, target, seen)

    def has(self, entry: Entry) -> bool:
        """Whether something has that name; nothing is said about what it holds."""
        return self._target(entry).exists()

    def reserve(self, entry: Entry) -> Part | Refusal:
        """Room for a file, and the right to assemble it. Raises `OSError`, `StorageDeniedError`."""
        if charge(entry.size_bytes) > self.limit_bytes:
            return Refusal.TOO_LARGE
        self._prepare(self._target(entry).parent)
        path = _part_of(self._target(entry))
        fd = _claim(path)
        if fd is None:
            return Refusal.BUSY
        try:
            os.ftruncate(fd, 0)  # what somebody who was killed has left
            has_room = self._make_room(charge(entry.size_bytes))
            if has_room:
                os.ftruncate(fd, entry.size_bytes)
                return Part(self, fd, entry, path)
        except BaseException:
            unlink(path)
            os.close(fd)
            raise
        unlink(path)
        os.close(fd)
        return Refusal.FULL

    def wait(self, entry: Entry) -> None:
        """Wait until nobody assembles the file. Raises `OSError`."""
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(_part_of(self._target(entry)), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_SH)
            finally:
                os.close(fd)

    def usage(self) -> Usage:
        """What is there now, counted. Raises `OSError`."""
        names = [path for path in self._names() if path.suffix not in (SEEN, PART)]
        return Usage(len(names), sum(size_of(path) for path in names), self.limit_bytes)

    def give_back(self, size_bytes: int) -> None:
        """Count a file of that size no longer."""
        with contextlib.suppress(OSError), self._counting() as count:
            _write_count(count, max(0, _read_count(count) - charge(size_bytes)))

    # -- room --------------------------------------------------------------------------------------

    def _target(self, entry: Entry) -> Path:
        name = entry.digest.hex()
        return self.folder / name[:2] / (name + ("-x" if entry.executable else ""))

    def _names(self) -> Iterator[Path]:
        return self.folder.glob("[0-9a-f][0-9a-f]/*")

    def _prepare(self, below: Path) -> None:
        """Make the folders."""
        if not below.exists():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._is_ours()
            below.mkdir(mode=0o700, exist_ok=True)

    def _is_ours(self) -> bool:
        """Whether the folder is there. What lies in it is believed, so it must be this user's alone, else
        `StorageDeniedError`."""
        if self._is_known_to_be_ours:
            return True
        try:
            status = os.stat(self.folder)
        except FileNotFoundError:
            return False
        if status.st_uid != os.geteuid():
            raise StorageDeniedError(
                f"{self.folder} belongs to another user", hint="set XDG_CACHE_HOME to a directory of your own"
            )
        if status.st_mode & 0o022:
            raise StorageDeniedError(f"{self.folder} can be written by others", hint="delete it, it is only a cache")
        if status.st_mode & 0o055:
            os.chmod(self.folder, 0o700)
        self._is_known_to_be_ours = True
        return True

    @contextlib.contextmanager
    def _counting(self) -> Iterator[int]:
        fd = os.open(self.folder / "usage", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)

    def _make_room(self, needed: int) -> bool:
        """Count `needed` more bytes, and let others go for them. False when what is left is all in use."""
        with self._counting() as count:
            taken = _read_count(count)
            if taken + needed > self.limit_bytes:
                taken = self._recount()
                if taken + needed > self.limit_bytes:
                    taken -= self._evict(taken + needed - self.usable_bytes)
            has_room = taken + needed <= self.limit_bytes
            _write_count(count, taken + needed if has_room else taken)
        return has_room

    def _recount(self) -> int:
        """Bytes taken; removes what was left by somebody who was killed."""
        taken = 0
        for path in self._names():
            if path.suffix == SEEN:
                if not path.with_suffix("").exists():
                    path.unlink(missing_ok=True)
            elif path.suffix != PART or not remove_unheld(path):
                size = size_of(path)
                taken += charge(size) if size else 0  # a .part without a length is the one that room is made for
        return taken

    def _evict(self, wanted: int) -> int:
        """Let go what was not used for longest, of `wanted` bytes or a little more; returns of how many."""
        files = [path for path in self._names() if path.suffix not in (SEEN, PART)]
        freed = 0
        for path in sorted(files, key=last_used):
            if freed >= wanted:
                break
            size = charge(size_of(path))
            if remove_unheld(path):
                freed += size
        return freed


def charge(size_bytes: int) -> int:
    """What a file takes on the disk, with what was seen of it."""
    return -(-size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES + _BLOCK_BYTES


def default_limit_bytes(folder: Path) -> int:
    """The smaller of 20 GiB and a tenth of the disk that `folder` is, or will be, on."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with translated("use the cache", str(folder)):
        return min(MOST_BYTES_UNASKED, shutil.disk_usage(folder).total // 10)


def _part_of(target: Path) -> Path:
    return target.with_name(target.name + PART)


def _claim(path: Path) -> int | None:
    """A descriptor that holds `path`, made where it is absent; None when somebody else holds it."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        if os.fstat(fd).st_nlink and _is_named(fd, path):
            return fd
        os.close(fd)  # it was published or removed between the two calls


def _is_named(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _read_count(fd: int) -> int:
    """The count; beyond every limit where there is none, so that it is made."""
    data = os.pread(fd, 8, 0)
    return int.from_bytes(data, "little") if len(data) == 8 else 1 << 62


def _write_count(fd: int, count: int) -> None:
    os.pwrite(fd, min(max(count, 0), (1 << 63) - 1).to_bytes(8, "little"), 0)
