"""What does a program see, and how long does it wait, while the branch that it reads moves?

    python benchmarks/walking.py HOW PATH

A process of its own, as the readers of a mount are. Says `ready`, reads until its input ends, and prints one line of
JSON: how many operations, and the longest of them in milliseconds. Used by bench_following.

    open      opens PATH/version, reads it, closes it
    hold      reads at scattered places of PATH/big, which stays open
    map       touches scattered pages of PATH/big, which stays mapped
    list      lists PATH
    stat      asks for the attributes of PATH/version, as quickly as it can: a burst of walks
"""

from __future__ import annotations

import json
import mmap
import os
import random
import select
import sys
import time
from collections.abc import Callable


def opening(path: str) -> Callable[[], object]:
    """Open, read, close."""
    place = f"{path}/version"

    def once() -> None:
        with open(place, "rb", buffering=0) as file:
            file.read()

    return once


def holding(path: str) -> Callable[[], object]:
    """Read from an open file."""
    fd = os.open(f"{path}/big", os.O_RDONLY)
    pages, chance = os.fstat(fd).st_size // 4096, random.Random(1)
    return lambda: os.pread(fd, 4096, chance.randrange(pages) * 4096)


def mapping(path: str) -> Callable[[], object]:
    """Touch a map."""
    with open(f"{path}/big", "rb") as file:
        view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    pages, chance = len(view) // 4096, random.Random(1)
    return lambda: view[chance.randrange(pages) * 4096]


WAYS: dict[str, Callable[[str], Callable[[], object]]] = {
    "open": opening,
    "hold": holding,
    "map": mapping,
    "list": lambda path: lambda: os.listdir(path),
    "stat": lambda path: lambda: os.stat(f"{path}/version"),
}


def main() -> None:
    """Read until told to stop."""
    once = WAYS[sys.argv[1]](sys.argv[2])
    print("ready", flush=True)
    operations, longest, check = 0, 0.0, 0.0
    while True:
        started = time.perf_counter()
        once()
        ended = time.perf_counter()
        operations, longest = operations + 1, max(longest, ended - started)
        if ended > check:
            check = ended + 0.01
            if select.select([sys.stdin], [], [], 0)[0]:
                break
    print(json.dumps({"operations": operations, "longest_ms": longest * 1000}))


if __name__ == "__main__":
    main()
