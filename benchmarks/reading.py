"""How fast are files read, by a program that knows nothing of where they come from?

    python benchmarks/reading.py HOW PATH SECONDS

A process of its own, as the readers of a mount are; prints one number: seconds a run, the median of as many as were
begun in SECONDS, one at least, measured inside, so that the start of Python is no part of it. Used by bench_mount.

    sequential   a file in pieces of 1 MiB into one buffer
    random       reads of 4 KiB at scattered places; prints seconds a read
    fio          the same by fio, for two seconds
    first        open a file and read its first 4 KiB
    middle       ... and 4 KiB from its middle
    mapped       a sum over the file as 64-bit numbers, through mmap
    parallel     eight processes that each read the whole file
    listing      ls -lR
    unpickle     pickle.load
"""

from __future__ import annotations

import json
import mmap
import os
import pickle
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

_PIECE_BYTES = 1024 * 1024
_PAGE_BYTES = 4096
_RANDOM_READS = 2_000
_READERS = 8


def sequential(path: str) -> float:
    """Seconds to read a file from start to end, into a buffer that begins with a page, as that of cat(1) does.

    One that malloc(3) has placed begins 16 bytes later. There some processors take several times as long to copy pages
    to, which then is what is measured.
    """
    buffer = mmap.mmap(-1, _PIECE_BYTES)
    started = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - started


def scattered(path: str) -> float:
    """Seconds a read of 4 KiB."""
    chance = random.Random(1)
    pages = os.stat(path).st_size // _PAGE_BYTES
    places = [chance.randrange(pages) * _PAGE_BYTES for _ in range(_RANDOM_READS)]
    buffers = [bytearray(_PAGE_BYTES)]
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        started = time.perf_counter()
        for place in places:
            os.preadv(fd, buffers, place)
        return (time.perf_counter() - started) / _RANDOM_READS
    finally:
        os.close(fd)


def fio(path: str) -> float:
    """Seconds a read of 4 KiB, as fio finds them; `--readonly` makes it refuse to write."""
    words = [f"--filename={path}", "--name=random", "--rw=randread", "--bs=4k", "--ioengine=psync", "--size=100%"]
    argv = ["fio", "--readonly", "--invalidate=0", "--runtime=2", "--time_based", "--output-format=json", *words]
    found = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    return float(found["jobs"][0]["read"]["clat_ns"]["mean"]) / 1e9


def _page_at(path: str, part: float) -> float:
    started = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        file.seek(int(os.fstat(file.fileno()).st_size * part))
        assert len(file.read(_PAGE_BYTES)) == _PAGE_BYTES
    return time.perf_counter() - started


def first(path: str) -> float:
    """Seconds until the first bytes are there."""
    return _page_at(path, 0)


def middle(path: str) -> float:
    """Seconds until bytes from the middle are there."""
    return _page_at(path, 0.5)


def mapped(path: str) -> float:
    """Seconds to add up a file through a map."""
    import numpy as np

    started = time.perf_counter()
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        numbers = np.frombuffer(view, np.uint64, len(view) // 8)
        total = int(numbers.sum())
        del numbers
    taken = time.perf_counter() - started
    assert total >= 0
    return taken


def parallel(path: str) -> float:
    """Seconds until eight readers, started at once, have all read a file."""
    waiting, go = os.pipe()
    children = []
    for _ in range(_READERS):
        child = os.fork()
        if not child:
            os.close(go)
            os.read(waiting, 1)  # the end of the pipe is the signal
            sequential(path)
            os._exit(0)
        children.append(child)
    started = time.perf_counter()
    os.close(go)
    failed = [child for child in children if os.waitpid(child, 0)[1]]
    taken = time.perf_counter() - started
    if failed:
        sys.exit("a reader failed")
    return taken


def listing(path: str) -> float:
    """Seconds to list a folder and all below it, with what stat says of each."""
    started = time.perf_counter()
    subprocess.run(["ls", "-lR", path], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def unpickle(path: str) -> float:
    """Seconds to load a pickled object."""
    started = time.perf_counter()
    with open(path, "rb") as file:
        pickle.load(file)
    return time.perf_counter() - started


WAYS: dict[str, Callable[[str], float]] = {
    "sequential": sequential,
    "random": scattered,
    "fio": fio,
    "first": first,
    "middle": middle,
    "mapped": mapped,
    "parallel": parallel,
    "listing": listing,
    "unpickle": unpickle,
}


def main(how: str, path: str, seconds: float) -> None:
    """Print what the median run takes."""
    until = time.perf_counter() + seconds
    taken = [WAYS[how](path)]
    while time.perf_counter() < until:
        taken.append(WAYS[how](path))
    print(statistics.median(taken))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
