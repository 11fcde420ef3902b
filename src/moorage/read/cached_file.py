"""What keeps one file of the cache whole, and keeps it there for as long as somebody uses it?

A file is used only while stat says what it said after its bytes had been verified, in this boot of the machine. Whoever
uses it has a shared lock (flock) on the open file; the kernel keeps that for as long as anybody reads through the same
open file, a mount with passthrough included. A file goes only when nobody has such a lock, and by being unlinked:
whoever opened it a moment too late sees that it has no name any more.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec
from blake3 import blake3

from moorage.model.tree import Entry

PIECE_BYTES = 2 * 1024 * 1024
SEEN, PART = ".seen", ".part"
"""What is added to a file's name for what was seen of it, and while it is being assembled."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Seen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stat said of a verified file, and in which boot of the machine."""

    boot: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, fd: int) -> Self:
        """What stat says of an open file now."""
        status = os.fstat(fd)
        return cls(_boot(), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class OpenFile:
    """A descriptor that is closed when nobody has it any more, so that a thread that still reads can go on."""

    def __init__(self, fd: int) -> None:
        """Own `fd`."""
        self.fd = fd

    def close(self) -> None:
        """Close it now; only for who shares it with nobody."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        """Close it at last."""
        self.close()


class CachedFile(OpenFile):
    """A verified file of the cache, held: it stays for as long as this does."""

    def __init__(self, fd: int, path: Path, seen: Seen) -> None:
        """Own `fd`, which holds a shared lock."""
        super().__init__(fd)
        self.path = path
        self.seen = seen

    def is_intact(self) -> bool:
        """Whether it is still what was verified: not written to, and not taken away."""
        return Seen.of(self.fd) == self.seen

    def read_at(self, offset: int, size: int) -> bytes:
        """As `FileReader.read_at`."""
        return os.pread(self.fd, size, offset)


def hold(target: Path) -> int | None:
    """A descriptor that keeps `target` from being evicted; None where it is not there, or just going."""
    try:
        fd = os.open(target, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        is_there = os.fstat(fd).st_nlink > 0
    except OSError as error:
        os.close(fd)
        if isinstance(error, BlockingIOError):
            return None
        raise
    if is_there:
        return fd
    os.close(fd)
    return None


def hash_of(fd: int, size_bytes: int, keep_going: Callable[[], bool] = lambda: True) -> bytes | None:
    """BLAKE3 of an open file, on all cores, a piece at a time so that memory stays small; None when `keep_going` said
    no. Raises `OSError`."""
    hasher = blake3(max_threads=blake3.AUTO)
    piece = memoryview(bytearray(min(PIECE_BYTES, max(1, size_bytes))))
    offset = 0
    while count := os.preadv(fd, [piece], offset):
        hasher.update(piece[:count])
        offset += count
        if not keep_going():
            return None
    return hasher.digest()


def is_content(fd: int, entry: Entry) -> bool:
    """Whether an open file is what `entry` says, by its hash. Raises `OSError`."""
    return os.fstat(fd).st_size == entry.size_bytes and hash_of(fd, entry.size_bytes) == entry.digest


def seen_of(target: Path) -> Path:
    """Where it is written down what was seen of `target`."""
    return target.with_name(target.name + SEEN)


def remembered(target: Path) -> Seen | None:
    """What was seen of `target` when it had been verified; None where that is not known."""
    try:
        return msgspec.json.decode(seen_of(target).read_bytes(), type=Seen)
    except (OSError, msgspec.DecodeError):
        return None


def remember(target: Path, fd: int) -> Seen:
    """Write down what stat says. Who reads half of it hashes the file again, so this needs no rename."""
    seen = Seen.of(fd)
    seen_of(target).write_bytes(msgspec.json.encode(seen))
    return seen


def remove_unheld(path: Path) -> bool:
    """Unlink a file, unless somebody holds it; whoever opens it meanwhile sees that it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unlink(path)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def unlink(path: Path) -> None:
    """Remove a file, and what was seen of it."""
    path.unlink(missing_ok=True)
    if path.suffix != PART:
        seen_of(path).unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """The length of a file; 0 where it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def last_used(path: Path) -> int:
    """When a file was asked for last; 0 where that is not known."""
    try:
        return seen_of(path).stat().st_mtime_ns
    except OSError:
        return 0


_this_boot: str | None = None


def _boot() -> str:
    """What tells this boot of the machine from others; empty where that cannot be told."""
    global _this_boot
    if _this_boot is None:
        try:
            _this_boot = _BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            _this_boot = ""
    return _this_boot
