"""What becomes of the temporary files of a writer that was killed?

Each temporary file is locked (flock) by its writer from the moment it is there until it is published or discarded; the
kernel gives the lock back when the writer dies, however it dies. So a file that can be locked belongs to nobody, and
the next writer removes it: once in the life of a storage, before its first upload.

Two things could make a file look abandoned that is not: the moment between its creation and its lock, and a file system
on which another machine's locks are not seen. So only what has not been touched for a day is looked at, and where locks
do not work nothing is removed.

Removing is safe at any time for everybody else: nobody reads under tmp/, and of a file that was published the name
there is only a second one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time

UNTOUCHED_S = 24 * 3600.0
"""How long nobody must have written to a file before it is looked at."""


def hold(fd: int) -> None:
    """Say that the new file behind `fd` has a writer, for as long as it is open; where locks do not work, nothing."""
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sweep(folder: str, untouched_s: float = UNTOUCHED_S) -> int:
    """Remove what dead writers have left in `folder`; how many files that were. Never raises: another one does it."""
    removed = 0
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        for item in found:
            with contextlib.suppress(OSError):
                removed += _remove_abandoned(item, time.time() - untouched_s)
    return removed


def _remove_abandoned(item: os.DirEntry[str], before: float) -> bool:
    status = item.stat(follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode) or status.st_mtime > before:
        return False
    fd = os.open(item.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(item.path)
    finally:
        os.close(fd)
    return True
