"""How much of a file has the kernel in memory?

Run as a script, it prints for each path in its arguments how many pages are, and of how many.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.mmap.restype = ctypes.c_void_p
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def resident(path: str | Path) -> list[bool]:
    """Of each page whether it is in memory."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
        pages = (ctypes.c_ubyte * (-(-size // mmap.PAGESIZE)))()
        assert _libc.mincore(address, size, pages) == 0
        assert _libc.munmap(address, size) == 0
    return [bool(page & 1) for page in pages]


def drop(path: str | Path) -> None:
    """Have the kernel forget what it has of a file; tmpfs never does."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        found = resident(name)
        print(sum(found), len(found))
