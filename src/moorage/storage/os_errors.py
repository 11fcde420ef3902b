"""Which error of moorage does an error of the operating system mean? The one table of the local storage."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from moorage.errors import (
    KeyNotFoundError,
    MoorageError,
    ReadOnlyError,
    StorageDeniedError,
    StorageError,
    StorageFullError,
)

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM}
_ABSENT = {errno.ENOENT, errno.ENOTDIR}


def translate(error: OSError, what: str, key: str) -> MoorageError:
    """The error to raise from `error`, which happened while doing `what` (a verb) to `key`."""
    reason = error.strerror or str(error)
    message = f"cannot {what} {key}: {reason}"
    if error.errno in _ABSENT:
        return KeyNotFoundError(message, key=key)
    if error.errno in _FULL:
        return StorageFullError(message, hint="free some space and run the command again; nothing was lost", key=key)
    if error.errno == errno.EROFS:
        return ReadOnlyError(message, hint="the repository lies on a read-only file system", key=key)
    if error.errno in _DENIED:
        return StorageDeniedError(message, hint="check the owner and the mode of the repository's files", key=key)
    return StorageError(message, hint="see the kernel's log for the cause", key=key, errno=error.errno)


@contextmanager
def translated(what: str, key: str) -> Iterator[None]:
    """Translate every `OSError` raised inside."""
    try:
        yield
    except OSError as error:
        raise translate(error, what, key) from error
