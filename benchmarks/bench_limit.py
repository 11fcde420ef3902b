"""How quickly could the first reader of a cold incompressible file have it, if nothing were done but what must be done?

    python benchmarks/bench_limit.py [--size 1G] [--rounds 5] [--dir DIR]

Each byte has to be read from its pack, hashed, handed to the kernel, and taken from there by the reader. What each of
these costs is measured alone: the pack is read from the page cache into one buffer; chunks are hashed that lie in
memory; a mount hands out bytes that it has anyhow (see from_memory.py). Their CPU time added up, divided by the number
of processors, is the least that the whole can take, and it cannot take less than its reader, who is one thread: that is
the limit. Beside it stand a real mount, cold, and a plain file, cold, in the same run.

It is a limit for this way of doing it, and a kind one: alone, each step has the caches for itself, and reads and hashes
the same few megabytes of memory all the time. Only the loop around each request is counted as it is.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from blake3 import blake3
from harness import GIB, MIB, Expectations, Results, Run, chill, parser, settle, show_table, warm, workplace
from reading import sequential
from stores import Moorage
from views import MoorageView, ServerView, noise_of

from moorage.read.file import FileReader
from moorage.read.resolve import Location, locate
from moorage.repository.handle import RepositoryHandle

_PIECE_BYTES = 2 * MIB
_FILE = "noise.bin"
_SERVER = Path(__file__).with_name("from_memory.py")
READ, HASH, GIVE, TAKE = "read from the pack", "hashed by chunks", "handed to the kernel", "taken from the kernel"
ALL = "all of it"
LIMIT, OURS, PLAIN = "limit of all processors", "moorage, cold", "a plain file, cold"
_CASE = "incompressible bytes"


def chunk_sizes(store: Moorage) -> list[int]:
    """Of the chunks of the file."""
    handle = RepositoryHandle.open(store.folder)
    try:
        entry = locate(handle, Location("main", _FILE)).entry
        assert entry is not None
        return [size for _, size in FileReader(handle, entry).chunks()]
    finally:
        handle.close()


def reading_packs(store: Moorage) -> float:
    """CPU seconds to read all packs, which are in the page cache."""
    buffer = bytearray(_PIECE_BYTES)
    started = time.process_time()
    for pack in sorted(store.folder.glob("packs/*/*")):
        with pack.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.process_time() - started


def hashing(sizes: list[int]) -> float:
    """CPU seconds to hash chunks so long, from a buffer that has just been filled."""
    data = memoryview(os.urandom(_PIECE_BYTES + max(sizes)))
    at = 0
    started = time.process_time()
    for size in sizes:
        blake3(data[at : at + size]).digest()
        at = (at + size) % _PIECE_BYTES
    return time.process_time() - started


def cpu_of(pid: int) -> float:
    """CPU seconds of another process so far, in hundredths."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(store: Moorage, source: Path, sizes: list[int], place: Path, results: Results) -> None:
    """One round: of the steps the CPU time, of all else what the clock says."""
    size_bytes = source.stat().st_size
    warm(store.folder)
    steps = {READ: reading_packs(store), HASH: hashing(sizes)}
    settle(size_bytes)
    from_memory = ServerView([sys.executable, str(_SERVER), str(store.folder), "main"])
    with contextmanager(from_memory.mounted)(place) as root:
        given, taken = cpu_of(from_memory.pid), time.process_time()
        sequential(str(root / _FILE))
        steps |= {GIVE: cpu_of(from_memory.pid) - given, TAKE: time.process_time() - taken}
    steps[ALL] = sum(steps.values())
    for name, seconds in steps.items():
        results.add(_CASE, name, Run(seconds))
    results.add(_CASE, LIMIT, Run(max(steps[ALL] / len(os.sched_getaffinity(0)), steps[TAKE])))
    chill(store.folder)
    settle(2 * size_bytes)
    with contextmanager(MoorageView(store, []).mounted)(place) as root:
        results.add(_CASE, OURS, Run(sequential(str(root / _FILE))))
    chill(source)
    settle(size_bytes)
    results.add(_CASE, PLAIN, Run(sequential(str(source))))


def show(results: Results, size_bytes: int) -> None:
    """What each step costs, what that allows, and what there is."""
    rows = [(_CASE, "CPU s a GiB", "MB/s")]
    for name in results.names(_CASE):
        seconds = results.seconds(_CASE, name)
        if name in (LIMIT, OURS, PLAIN):
            rows.append((name, "", f"{size_bytes / seconds / 1e6:.0f}"))
        else:
            rows.append((name, f"{seconds * GIB / size_bytes:.3f}", ""))
    print()
    show_table(rows)
    expected = Expectations()
    expected.at_least(f"{OURS}, of the limit", 0.6, results.faster(_CASE, OURS, LIMIT))
    expected.at_least(f"{OURS}, of {PLAIN}", 0.5, results.faster(_CASE, OURS, PLAIN))
    expected.at_least(f"the limit, of {PLAIN}", 0.5, results.faster(_CASE, LIMIT, PLAIN))
    expected.show()


def main() -> None:
    """Measure and print."""
    options = parser("What the first read of incompressible bytes must cost.", size="1G", rounds=5).parse_args()
    results = Results()
    with workplace(options.dir) as home:
        source, store, place = noise_of(home, options.size)
        sizes = chunk_sizes(store)
        for _ in range(options.rounds):
            measure(store, source, sizes, place, results)
        show(results, options.size)


if __name__ == "__main__":
    main()
