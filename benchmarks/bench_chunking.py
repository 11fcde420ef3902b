"""How fast are chunks cut and byte planes made, by each backend, next to hashing and copying in the same run?

    python benchmarks/bench_chunking.py [--mib 64] [--rounds 9]

Data are pseudo-random bytes in memory. Each line is the median over the rounds; in each round every candidate runs
once, so that a slow moment of the machine falls on all of them. The ratio is to the first line of its table. The numpy
and plain Python backends cut a part of the data, as said, since they would take minutes. Planes are made of pieces of
64 KiB, the size of a chunk.
"""

from __future__ import annotations

import argparse
import collections
import importlib
import importlib.util
import statistics
import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass

from blake3 import blake3

from moorage.chunking.params import gear_params
from moorage.model.config import ChunkingParams
from moorage.native import PLANE_WIDTHS, Backend, BackendUnavailable, CBackend, NumpyBackend, PythonBackend

MIB = 1024 * 1024
PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing to measure."""

    label: str
    run: Callable[[], object]
    size_bytes: int


def backends() -> list[Backend]:
    """Those that work here, fastest first."""
    makers: tuple[Callable[[], Backend], ...] = (CBackend, NumpyBackend, PythonBackend)
    found: list[Backend] = []
    for make in makers:
        try:
            found.append(make())
        except BackendUnavailable as error:
            print(f"left out: {error}")
    return found


def medians(candidates: list[Candidate], rounds: int) -> list[float]:
    """GB/s of each."""
    seconds: list[list[float]] = [[] for _ in candidates]
    for _ in range(rounds):
        for taken, candidate in zip(seconds, candidates, strict=True):
            started = time.perf_counter()
            candidate.run()
            taken.append(time.perf_counter() - started)
    return [
        candidate.size_bytes / statistics.median(taken) / 1e9
        for taken, candidate in zip(seconds, candidates, strict=True)
    ]


def show(title: str, candidates: list[Candidate], rounds: int) -> None:
    """One table."""
    print(f"\n{title}")
    results = medians(candidates, rounds)
    for candidate, result in zip(candidates, results, strict=True):
        print(f"  {candidate.label:32} {result:8.3f} GB/s   x {result / results[0]:.3f}")


def cutting(data: bytes) -> list[Candidate]:
    """Whole cuts with the default sizes, a peer where it is installed, hashing and copying."""
    sizes = ChunkingParams()
    params = gear_params(sizes)
    shares = {"c": 1, "numpy": 16, "python": 64}

    def candidate(kernel: Backend) -> Candidate:
        part = memoryview(data)[: len(data) // shares[kernel.name]]
        label = f"cut, {kernel.name} ({len(part) / MIB:g} MiB)"
        return Candidate(label, lambda: kernel.cut_points(part, params, True), len(part))

    found = [candidate(kernel) for kernel in backends()]
    if importlib.util.find_spec("pyfastcdc"):
        pyfastcdc = importlib.import_module("pyfastcdc")
        peer = pyfastcdc.FastCDC(avg_size=sizes.target_bytes, min_size=sizes.min_bytes, max_size=sizes.max_bytes)
        found.append(Candidate("cut, pyfastcdc", lambda: collections.deque(peer.cut_buf(data), 0), len(data)))
    found.append(Candidate("BLAKE3, one thread", lambda: blake3(data).digest(), len(data)))
    found.append(Candidate("copy to fresh memory", lambda: bytearray(data), len(data)))
    return found


def planes(data: bytes, width: int, *, join: bool) -> list[Candidate]:
    """All pieces of the data, one call each."""
    view = memoryview(data)
    pieces = [view[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]

    def candidate(kernel: Backend) -> Candidate:
        def parts(piece: memoryview) -> tuple[int, list[memoryview]]:
            count = len(piece) // width
            return width, [*(piece[at * count : (at + 1) * count] for at in range(width)), piece[width * count :]]

        if join:
            return Candidate(kernel.name, lambda: [kernel.gather([parts(piece)])[:0] for piece in pieces], len(data))
        return Candidate(kernel.name, lambda: [kernel.split_planes(piece, width)[:0] for piece in pieces], len(data))

    return [candidate(kernel) for kernel in backends() if kernel.name != "numpy"]  # which does as plain Python


def overhead() -> None:
    """What a call costs besides its work: a hundred bytes have none."""
    params = gear_params(ChunkingParams())
    kernel = backends()[0]
    short = bytes(100)
    view = memoryview(short)[:99]
    calls: dict[str, Callable[[], object]] = {
        "cut, bytes": lambda: kernel.cut_points(short, params, False),
        "cut, slice of a view": lambda: kernel.cut_points(view, params, False),
        "split, slice of a view": lambda: kernel.split_planes(view, 2),
        "gather, three slices of a view": lambda: kernel.gather([(2, [view[:49], view[49:98], view[98:]])]),
    }
    print(f"\ncost of one call, {kernel.name}")
    for label, call in calls.items():
        print(f"  {label:32} {statistics.median(timeit.repeat(call, number=10_000, repeat=7)) * 100:8.2f} us")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Cut points and byte planes: medians in GB/s, and ratios.")
    parser.add_argument("--mib", type=int, default=64, help="size of the data (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="how often each is run (default: %(default)s)")
    options = parser.parse_args()
    data = blake3(b"benchmark").digest(length=options.mib * MIB)
    show("cutting", cutting(data), options.rounds)
    for width in PLANE_WIDTHS:
        show(f"split into {width} planes", planes(data, width, join=False), options.rounds)
        show(f"join {width} planes", planes(data, width, join=True), options.rounds)
    overhead()


if __name__ == "__main__":
    main()
