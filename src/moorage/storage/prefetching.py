"""How does a file get into the page cache before it is read, whatever the disk's own read-ahead is?

By a map of it that is advised MADV_HUGEPAGE, of which one page is touched (MADV_POPULATE_READ): Linux then reads 4 MiB,
in folios as large as it can, however little `read_ahead_kb` of the disk allows. That is 128 KiB unless somebody raised
it, and then a read of 2 MiB waits for the disk again and again. The folios matter as much: reading a cold GiB so, and
then by read(2), takes 0.1 s of CPU time, where read(2) alone takes 0.18 s and posix_fadvise(WILLNEED), which makes
pages of 4 KiB, 0.33 s (one core, Linux 6.18, ext4). What lies in the page cache already costs next to nothing.

Where the disk's own read-ahead is as large as that, nothing is done: what is read in a row comes in time anyhow. There
the first reader of a mount gained 2 to 13 % (19 to 35 % where it is 128 KiB to 2 MiB), and could lose 17 to 25 % in a
virtual machine whose host takes free memory back at once, and then has to supply the large blocks again.

The map is never read by this process: MADV_POPULATE_READ fails where the disk does, and no signal is raised.

Linux 5.18 with huge pages of 2 MiB, for who may open the file with O_NOATIME (its owner, or root): else mmap(2) might
have to write down the time of access first, and waits for the disk with the lock that every page fault of the process
needs. He may also know what is in the page cache (mincore(2) tells others that everything is). Elsewhere nothing
happens, and files are read as they always were.

Source: `do_sync_mmap_readahead` in `mm/filemap.c`, `can_do_mincore` in `mm/mincore.c`, open(2), madvise(2), and
`read_ahead_kb` in `Documentation/ABI/testing/sysfs-class-bdi`.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os

from moorage.model.ranges import ByteRange

_HUGE_PAGE = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
_DISKS = "/sys/dev/block"
_HUGE_PAGE_BYTES = 2 * 1024 * 1024
"""With larger ones (of 512 MiB, where pages have 64 KiB) a touch reads more than anybody asked for."""
WINDOW_BYTES = 2 * _HUGE_PAGE_BYTES
"""What the kernel reads at once from where it is touched, which is a multiple of this."""
_MADV_HUGEPAGE = 14
_MADV_POPULATE_READ = 22
_FAILED = ctypes.c_void_p(-1).value


def prefetch(path: str, wanted: ByteRange) -> None:
    """Have those windows of a file read into the page cache whose middle is wanted; waits until most of it is there.
    Raises `OSError` where the file cannot be opened; whatever else cannot be done, or need not be, is left."""
    if not _is_possible():
        return
    first, last = ((place + WINDOW_BYTES // 2 - 1) // WINDOW_BYTES for place in (wanted.start, wanted.stop))
    if first >= last:
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME)
    except PermissionError:
        return
    try:
        if _read_ahead_bytes(os.fstat(fd).st_dev) < WINDOW_BYTES:
            _touch(fd, first * WINDOW_BYTES, (last - first) * WINDOW_BYTES)
    finally:
        os.close(fd)


def _read_ahead_bytes(device: int) -> int:
    """How far the kernel reads ahead of who reads in a row from a device (`st_dev`); 0 where that is not known, as of a
    file system that is on several disks. Anybody may change it at any time."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for disk in (number, f"{number}/.."):  # a partition has what its disk has
        try:
            with open(f"{_DISKS}/{disk}/bdi/read_ahead_kb", encoding="ascii") as file:
                return int(file.read()) * 1024
        except (OSError, ValueError):
            continue
    return 0


def _touch(fd: int, start: int, size: int) -> None:
    """The first page of each of these windows."""
    waiting, quick = _calls()
    address = waiting.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, start)
    if address is None or address == _FAILED:
        return
    is_there = ctypes.c_ubyte()
    quick.madvise(address, size, _MADV_HUGEPAGE)
    for page in range(address, address + size, WINDOW_BYTES):
        quick.mincore(page, mmap.PAGESIZE, ctypes.byref(is_there))
        if not is_there.value & 1:
            waiting.madvise(page, mmap.PAGESIZE, _MADV_POPULATE_READ)
        quick.munmap(page, WINDOW_BYTES)  # at once: what is mapped counts as memory of this process


@functools.cache
def _is_possible() -> bool:
    try:
        with open(_HUGE_PAGE, encoding="ascii") as file:
            return int(file.read()) == _HUGE_PAGE_BYTES
    except (OSError, ValueError):
        return False


@functools.cache
def _calls() -> tuple[ctypes.CDLL, ctypes.PyDLL]:
    """The C library, once giving the GIL away for each call, as all must that may wait for a disk (the standard
    library's mmap does not), and once keeping it: getting it back from busy threads takes longer than what is quick."""
    waiting, quick = ctypes.CDLL(None), ctypes.PyDLL(None)
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    waiting.mmap.restype = pointer
    waiting.mmap.argtypes = (pointer, size, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    quick.munmap.argtypes = (pointer, size)
    quick.mincore.argtypes = (pointer, size, pointer)
    for library in (waiting, quick):
        library.madvise.argtypes = (pointer, size, ctypes.c_int)
    return waiting, quick
