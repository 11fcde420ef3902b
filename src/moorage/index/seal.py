"""Is this LMDB file still what was written? LMDB has no page checksums, so the whole used part is hashed.

A flipped bit in a page's structure makes LMDB follow wild pointers, and a file shorter than its own account of itself
kills the process with SIGBUS: both must be found before LMDB opens the file. After each commit a file `seal` beside the
database records the transaction number and XXH3-64 of all used pages; it is compared when a process opens the index.

    seal: ASCII, one line: "<transaction> <used bytes> <16 hexadecimal digits>\\n"

A seal that does not match, or that is missing, means that the index is deleted and built anew: it is derived. Files
above `MAX_SEALED_BYTES` are only checked for their length, so that opening a large repository stays fast (values carry
checksums of their own).

Source of the layout: `MDB_meta` in LMDB 0.9 (mdb.c); both meta pages are read and the newer one counts, as LMDB does
it.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import xxhash

MAX_SEALED_BYTES = 256 * 1024 * 1024
_META = struct.Struct("<16xIIQQI92xQQ")
"""16 bytes of page header; magic, version, address, map size, page size (first of 96 bytes), last page, transaction."""
_MAGIC = 0xBEEFC0DE
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Used:
    """What a database says of itself."""

    transaction: int
    size_bytes: int
    """All pages up to the last one in use."""


def read_used(data_file: Path) -> Used | None:
    """What the newer meta page says; None where there is no valid one or the file is shorter than it says."""
    try:
        with open(data_file, "rb", buffering=0) as file:
            first = file.read(_META.size)
            if len(first) < _META.size:
                return None
            page_bytes = _META.unpack(first)[4]
            if page_bytes & (page_bytes - 1) or not 512 <= page_bytes <= 65536:
                return None
            file.seek(page_bytes)
            second = file.read(_META.size)
            actual = os.fstat(file.fileno()).st_size
    except OSError:
        return None
    if len(second) < _META.size:
        return None
    best: Used | None = None
    for raw in (first, second):
        magic, _, _, _, _, last_page, transaction = _META.unpack(raw)
        if magic != _MAGIC:
            return None
        if best is None or transaction > best.transaction:
            best = Used(transaction, (last_page + 1) * page_bytes)
    return best if best is not None and best.size_bytes <= actual else None


def _line(data_file: Path) -> str | None:
    used = read_used(data_file)
    if used is None:
        return None
    if used.size_bytes > MAX_SEALED_BYTES:
        return f"{used.transaction} {used.size_bytes} -\n"
    hasher = xxhash.xxh3_64()
    left = used.size_bytes
    with open(data_file, "rb", buffering=0) as file:
        while left > 0:
            piece = file.read(min(_PIECE, left))
            if not piece:
                return None
            hasher.update(piece)
            left -= len(piece)
    return f"{used.transaction} {used.size_bytes} {hasher.hexdigest()}\n"


def write_seal(folder: Path) -> None:
    """Seal the database in `folder`; the caller holds its lock. Raises `OSError`."""
    line = _line(folder / "data.mdb")
    if line is None:
        return
    # Written over the old one: torn, it is no seal, and the index is built anew. A rename over the old one, or cutting
    # that to nothing first, makes ext4 flush the file at once: 3 ms of a small commit.
    fd = os.open(folder / "seal", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        written = os.pwrite(fd, line.encode("ascii"), 0)
        os.ftruncate(fd, written)
    finally:
        os.close(fd)


def discard_unsound(folder: Path) -> None:
    """Delete a database that is not what was sealed; the caller holds its lock. Raises `OSError`."""
    if not is_sound(folder):
        for name in ("seal", "data.mdb", "lock.mdb"):
            (folder / name).unlink(missing_ok=True)


def is_sound(folder: Path) -> bool:
    """Whether the database in `folder` is what was sealed (and exists); the caller holds its lock, shared at least."""
    try:
        sealed = (folder / "seal").read_text(encoding="ascii")
        found = _line(folder / "data.mdb")
    except (OSError, UnicodeDecodeError):
        return False
    return found is not None and found == sealed
