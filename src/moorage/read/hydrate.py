"""How does a file of the repository become one plain local file, for those who insist on a path?

    <cache>/files/<first 2 hex>/<digest>[-x]        the bytes, mode 0444 (0555), only ever unlinked, never changed
    <cache>/files/<first 2 hex>/<digest>[-x].seen   what stat(2) said after the bytes had been verified, and the boot

A file is assembled under a temporary name, hashed whole while it is written, and only then given its name: it is
complete or absent. It is used again only while stat says what it said; after another boot it is hashed anew, since a
power cut may have left a name without its bytes. The cache lies in the user's cache directory, mode 0700, and holds at
most the smaller of 20 GiB and a tenth of the disk: what was not asked for longest goes first. Derived: deleting any of
it loses nothing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from pathlib import Path

import msgspec
from blake3 import blake3

from moorage.errors import CorruptDataError, StorageError
from moorage.model.tree import Entry
from moorage.read.file import FileReader
from moorage.read.stream import pieces
from moorage.repository.handle import RepositoryHandle, cache_folder
from moorage.storage.os_errors import translated

_PIECE_BYTES = 8 * 1024 * 1024
_MOST_BYTES = 20 * 1024 * 1024 * 1024
_ABANDONED_AFTER_NS = 24 * 3600 * 1_000_000_000
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class _Seen(msgspec.Struct, forbid_unknown_fields=True):
    """What stat said of a verified file."""

    boot: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def hydrate(handle: RepositoryHandle, entry: Entry) -> Path:
    """A real path of a verified local copy of `entry`, which is a file.

    Raises `WrongKindError`, `DataError`, `StorageError`, `StorageFullError`.
    """
    reader = FileReader(handle, entry)
    folder = cache_folder(handle.config.repository_id) / "files"
    target = folder / entry.digest.hex()[:2] / (entry.digest.hex() + ("-x" if entry.executable else ""))
    with translated("use the cache", str(folder)):
        if not _is_verified(target, entry):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            _make_room(folder, entry.size_bytes)
            _assemble(reader, target)
        with contextlib.suppress(OSError):
            os.utime(_seen_file(target))
    return target


def _seen_file(target: Path) -> Path:
    return target.with_name(target.name + ".seen")


def _boot() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _identity(target: Path) -> _Seen:
    status = os.stat(target, follow_symlinks=False)
    return _Seen(_boot(), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _is_verified(target: Path, entry: Entry) -> bool:
    """Whether the cached file is there and still what was verified; hashes it again where that is not sure."""
    try:
        found = _identity(target)
    except FileNotFoundError:
        return False
    try:
        seen = msgspec.json.decode(_seen_file(target).read_bytes(), type=_Seen)
    except (OSError, msgspec.DecodeError):
        seen = None
    if seen == found and found.boot:
        return True
    if found.size == entry.size_bytes and _hash_of(target) == entry.digest:
        _remember(target)
        return True
    return False


def _hash_of(target: Path) -> bytes:
    hasher = blake3()
    with open(target, "rb", buffering=0) as file:
        while piece := file.read(_PIECE_BYTES):
            hasher.update(piece)
    return hasher.digest()


def _remember(target: Path) -> None:
    temporary = target.with_name(f".{secrets.token_hex(8)}")
    temporary.write_bytes(msgspec.json.encode(_identity(target)))
    os.replace(temporary, _seen_file(target))


def _assemble(reader: FileReader, target: Path) -> None:
    temporary = target.with_name(f".{secrets.token_hex(8)}")
    hasher = blake3()
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            for data in pieces(reader):
                hasher.update(data)
                _write_all(fd, data)
            if hasher.digest() != reader.entry.digest:
                raise CorruptDataError(
                    f"the chunks of {reader.entry.name} do not make the file they should",
                    hint="run `moorage check`",
                    digest=reader.entry.digest.hex(),
                )
            os.fchmod(fd, 0o555 if reader.entry.executable else 0o444)
        finally:
            os.close(fd)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _remember(target)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _make_room(folder: Path, size_bytes: int) -> None:
    """Unlink what was not used for longest until `size_bytes` more fit; whoever has a file open keeps it."""
    limit = min(_MOST_BYTES, shutil.disk_usage(folder).total // 10)
    if size_bytes > limit:
        raise StorageError(
            f"{size_bytes} bytes do not fit into the cache in {folder}, which may hold {limit}",
            hint="read it through repo.open or a mount, or set XDG_CACHE_HOME to a larger disk",
        )
    cached = []
    for file in folder.glob("*/*"):
        if file.name.endswith(".seen"):
            continue
        with contextlib.suppress(OSError):
            status = file.stat()
            if file.name.startswith("."):
                # Being assembled by somebody, or left by somebody who was killed at it.
                used = 0 if status.st_mtime_ns < time.time_ns() - _ABANDONED_AFTER_NS else None
            else:
                seen = _seen_file(file)
                used = seen.stat().st_mtime_ns if seen.exists() else 0
            if used is not None:
                cached.append((used, status.st_size, file))
    total = sum(size for _, size, _ in cached)
    for _, size, file in sorted(cached, key=lambda item: item[0]):
        if total + size_bytes <= limit:
            return
        with contextlib.suppress(OSError):
            file.unlink()
            _seen_file(file).unlink(missing_ok=True)
            total -= size
