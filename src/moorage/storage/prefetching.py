"""How does a file get into the page cache before it is read, whatever the disk's own read-ahead is?

By a map of it that is advised MADV_HUGEPAGE, of which one page is touched (MADV_POPULATE_READ): Linux then reads 4 MiB,
in folios as large as it can, however little `read_ahead_kb` of the disk allows. That is 128 KiB unless somebody raised
it, and then a read of 2 MiB waits for the disk again and again. The folios matter as much: reading a cold GiB so, and
then by read(2), takes 0.1 s of CPU time, where read(2) alone takes 0.18 s and posix_fadvise(WILLNEED), which makes
pages of 4 KiB, 0.33 s (one core, Linux 6.18, ext4). What lies in the page cache already costs next to nothing.

The map is never read by this process: MADV_POPULATE_READ fails where the disk does, and no signal is raised. Linux 5.14
with transparent huge pages, and a file system with large folios for all of it; elsewhere little or nothing happens, and
files are read as they always were. Source: `do_sync_mmap_readahead` in `mm/filemap.c`, and madvise(2).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys

from moorage.model.ranges import ByteRange

WINDOW_BYTES = 4 * 1024 * 1024
"""What the kernel reads at once, and where it starts: twice the size of a huge page, wherever in it the touch was."""
_MADV_HUGEPAGE = 14
_MADV_POPULATE_READ = 22
_FAILED = ctypes.c_void_p(-1).value
# The standard library's mmap keeps the GIL while it waits for the disk. Here what waits gives it away, and nothing else
# does: it takes longer to get it back from busy threads than to do the rest.
_waiting = ctypes.CDLL(None)
_waiting.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_quick = ctypes.PyDLL(None)
_quick.mmap.restype = ctypes.c_void_p
_quick.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_quick.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_quick.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
_quick.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def prefetch(fd: int, wanted: ByteRange) -> None:
    """Have an open file's bytes, and some around them, read into the page cache; waits until the first half of the last
    of them is there. Whatever cannot be done is left. Raises `OSError` for what is no open file."""
    if sys.platform != "linux":
        return
    # Others than the owner are told that everything is there.
    may_know = os.geteuid() in (0, os.fstat(fd).st_uid)
    start = wanted.start - wanted.start % WINDOW_BYTES
    size = wanted.stop - start
    address = _quick.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, start)
    if address is None or address == _FAILED:
        return
    _quick.madvise(address, size, _MADV_HUGEPAGE)
    for page in range(address, address + size, WINDOW_BYTES):
        if not (may_know and _is_there(page)):
            _waiting.madvise(page, mmap.PAGESIZE, _MADV_POPULATE_READ)
    _quick.munmap(address, size)


def _is_there(page: int) -> bool:
    """Whether a page of a map is in memory."""
    found = ctypes.c_ubyte()
    return _quick.mincore(page, mmap.PAGESIZE, ctypes.byref(found)) == 0 and bool(found.value & 1)
