"""Does the kernel touch any byte outside the buffers that it was given?

Data and result lie between pages that nothing may touch; a byte too far kills the process, so each try has its own.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from moorage.native.c_backend import LIBRARY
from tests.needs import needs_linux
from tests.unit.native.backends import backend

PROGRAM = """
import ctypes, mmap, sys
kernel = ctypes.CDLL(sys.argv[1])
libc = ctypes.CDLL(None)
PAGE = mmap.PAGESIZE
beyond = int(sys.argv[2])

class Guarded:
    def __init__(self):
        self.pages = mmap.mmap(-1, 6 * PAGE)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.pages)) + PAGE
        self.stop = self.start + 4 * PAGE
        for guard in (self.start - PAGE, self.stop):
            assert libc.mprotect(ctypes.c_void_p(guard), PAGE, 0) == 0

def cut(address, size, params, final):
    room = (ctypes.c_uint64 * (size // params[0] + 1))()
    gear = (ctypes.c_uint64 * 256)(*((n * 0x9E3779B97F4A7C15) % 2**64 for n in range(256)))
    kernel.moorage_cut_points(ctypes.c_void_p(address), ctypes.c_size_t(size), gear, (ctypes.c_uint64 * 5)(*params),
                              final, room)

def gather(address, size, width, target):
    # One piece whose planes lie back to back, as its tail does, and once more as they are.
    count = size // width
    places = [(address + plane * count, count) for plane in range(width)] + [(address + width * count, size % width)]
    views = (ctypes.c_void_p * (10 * len(places)))()
    for number, (start, length) in enumerate(places):
        views[10 * number], views[10 * number + 2] = start, length
    widths = bytes([width])
    assert kernel.moorage_gather(views, widths, ctypes.c_size_t(1), ctypes.c_void_p(target)) == 1
    views[0], views[2] = address, size
    assert kernel.moorage_gather(views, bytes([1]), ctypes.c_size_t(1), ctypes.c_void_p(target)) == 1

source, target = Guarded(), Guarded()
whole = 4 * PAGE
never = 2**64 - 1
every_way = (
    (64, 128, 256, 0xF << 60, 3 << 62),
    (64, whole, 2 * whole, never, never),
    (64, 64, whole, never, never),
)
for size in [whole + beyond, *range(0, 300), 2111, 2112, 2113, 4159, 4160, 4161]:
    for params in every_way:
        for final in (0, 1):
            cut(source.start, size, params, final)
            cut(source.stop - size + beyond, size, params, final)
    for width in (2, 4, 8):
        for a, b in ((source.start, target.start), (source.stop - size + beyond, target.stop - size + beyond)):
            kernel.moorage_split_planes(ctypes.c_void_p(a), ctypes.c_size_t(size), width, ctypes.c_void_p(b))
            gather(a, size, width, b)
print("untouched")
"""


def run(beyond: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(LIBRARY), str(beyond)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@needs_linux
def test_nothing_outside_the_buffers_is_touched() -> None:
    backend("c")
    done = run(0)
    assert (done.returncode, done.stdout.strip()) == (0, "untouched"), done.stderr


@needs_linux
@pytest.mark.parametrize("beyond", [1, 9])
def test_a_byte_too_far_would_be_noticed(beyond: int) -> None:
    """Negative control: buffers that are said to be longer than they are."""
    backend("c")
    assert run(beyond).returncode < 0
