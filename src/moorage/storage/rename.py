"""How can a file be given a new name without taking it from another? renameat2(2) with RENAME_NOREPLACE, by ctypes.

Python's standard library has no binding for it. Linux only; elsewhere the call is refused as not supported.
"""

from __future__ import annotations

import ctypes
import errno
import os

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_libc = ctypes.CDLL(None, use_errno=True)


def rename_noreplace(source: str, target: str) -> None:
    """Rename `source` to `target`; raises `FileExistsError` when `target` exists, and `OSError`."""
    call = getattr(_libc, "renameat2", None)
    if call is None:
        raise OSError(errno.EOPNOTSUPP, "neither hard links nor RENAME_NOREPLACE", target)
    result = call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), ctypes.c_uint(_RENAME_NOREPLACE))
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)
