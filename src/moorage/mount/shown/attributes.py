"""What does stat say of an entry?

Inodes are content: that of a file is a function of its digest, its mode and when it was first stored; that of a
directory, of its parent's, its name and its digest. They are for programs that compare; nothing is looked up by them,
so a collision of 64 bits serves no wrong byte.

Threads: pure functions.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from typing import TypeAlias

from blake3 import blake3

from moorage.model.digest import ContentDigest
from moorage.model.tree import Entry, EntryKind

Attributes: TypeAlias = tuple[int, int, int, int]
"""Inode, size, time, mode."""

ROOT_INODE = 1
DIRECTORY_MODE = stat.S_IFDIR | 0o555
_FILE_MODE = stat.S_IFREG | 0o444
_PROGRAM_MODE = stat.S_IFREG | 0o555
_SYMLINK_MODE = stat.S_IFLNK | 0o777
_FILE, _DIRECTORY = EntryKind.FILE, EntryKind.DIRECTORY
_ODD = 0x9E3779B97F4A7C15
_64_BITS = (1 << 64) - 1


def attributes_of(directory_inode: int, entries: Iterable[Entry]) -> list[Attributes]:
    """Of the entries of a directory; a first walk over a tree is thousands of these."""
    found: list[Attributes] = []
    last, salt, from_bytes = (0, 0), _salt(0, 0), int.from_bytes
    for entry in entries:
        time_ns, digest = entry.first_stored_ns, entry.digest
        if entry.kind is _DIRECTORY:
            found.append((inode_of_directory(directory_inode, entry.name, digest), 0, time_ns, DIRECTORY_MODE))
            continue
        mode = mode_of(entry)
        if last != (mode, time_ns):
            last, salt = (mode, time_ns), _salt(mode, time_ns)
        inode = from_bytes(digest[:8], "little") ^ salt
        found.append((inode if inode > ROOT_INODE else _inode(digest), entry.size_bytes, time_ns, mode))
    return found


def mode_of(entry: Entry) -> int:
    """What `st_mode` says, before a mount's umask."""
    if entry.kind is _FILE:
        return _PROGRAM_MODE if entry.executable else _FILE_MODE
    return DIRECTORY_MODE if entry.kind is _DIRECTORY else _SYMLINK_MODE


def inode_of_content(digest: ContentDigest, mode: int, first_stored_ns: int) -> int:
    """The inode of a file or symlink: quicker than a hash, and as well mixed as the digest; where it is no good number,
    hashed."""
    inode = int.from_bytes(digest[:8], "little") ^ _salt(mode, first_stored_ns)
    return inode if inode > ROOT_INODE else _inode(digest)


def inode_of_directory(parent: int, name: str, digest: ContentDigest) -> int:
    """The inode of a directory, or of a folder."""
    return _inode(digest + parent.to_bytes(8, "little") + name.encode("utf-8"))


def _salt(mode: int, first_stored_ns: int) -> int:
    return (mode << 44 ^ first_stored_ns * _ODD) & _64_BITS


def _inode(content: bytes) -> int:
    """64 bits of BLAKE3, never 0 (no inode) or 1 (the root)."""
    inode = int.from_bytes(blake3(content).digest(length=8), "little")
    return inode if inode > ROOT_INODE else inode + 2
