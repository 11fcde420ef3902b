"""Which backends do the tests try, and on which data?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from moorage.native import Backend, BackendUnavailable, BytesLike, CBackend, GearParams, NumpyBackend, PythonBackend
from tests.needs import require

BACKENDS = ("c", "numpy", "python")

KERNEL_SOURCE = Path(__file__).resolve().parents[3] / "src" / "moorage" / "native" / "kernel.c"


@functools.cache
def _made(name: str) -> Backend | str:
    """The backend, or why there is none."""
    makers: dict[str, Callable[[], Backend]] = {"c": CBackend, "numpy": NumpyBackend, "python": PythonBackend}
    try:
        return makers[name]()
    except BackendUnavailable as error:
        return f"{error} (pip install -e . compiles the kernel)"


def backend(name: str) -> Backend:
    """The backend called `name`; skips the running test where it cannot work."""
    found = _made(name)
    require(lambda: found if isinstance(found, str) else None)
    assert not isinstance(found, str)
    return found


def random_bytes(seed: str, size: int) -> bytes:
    """The same on every machine and in every version: BLAKE3's output stream for `seed`."""
    return blake3(seed.encode()).digest(length=size)


def gear(min_bytes: int, target_bytes: int, max_bytes: int, *, small_bits: int, large_bits: int) -> GearParams:
    """Parameters with masks chosen freely: the highest bits of the hash."""
    all_bits = 2**64
    return GearParams(
        min_bytes, target_bytes, max_bytes, all_bits - (all_bits >> small_bits), all_bits - (all_bits >> large_bits)
    )


def joined(kernel: Backend, planes: BytesLike, width: int) -> bytes:
    """What `split_planes` has made of it, put together again."""
    view = memoryview(planes).cast("B") if len(planes) else memoryview(b"")
    count = len(view) // width
    return kernel.gather(
        [(width, [*(view[at * count : (at + 1) * count] for at in range(width)), view[width * count :]])]
    )
