"""Which error of moorage does an error of the operating system mean, where a checkout was being written?

The storage's own table is another one: there the repository is at fault, here it is the target.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from moorage.errors import (
    AlreadyExistsError,
    InvalidInputError,
    MoorageError,
    ReadOnlyError,
    StorageDeniedError,
    StorageError,
    StorageFullError,
)

_NOT_A_FOLDER = {errno.ELOOP, errno.ENOTDIR}
_UNNAMEABLE = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}


@contextmanager
def translated_for(path: str) -> Iterator[None]:
    """Translate every `OSError` raised inside while writing `path`."""
    try:
        yield
    except OSError as error:
        raise translate(error, path) from error


def translate(error: OSError, path: str) -> MoorageError:
    """The error to raise from `error`, which happened while writing `path` of a checkout."""
    message = f"cannot write {path}: {error.strerror or error}"
    if error.errno in _NOT_A_FOLDER:
        return AlreadyExistsError(
            f"{path} is there and is no directory", hint="remove it, or replace it with --force", path=path
        )
    if error.errno == errno.EEXIST:
        return AlreadyExistsError(f"{path} exists already", hint="replace it with --force", path=path)
    if error.errno in (errno.EISDIR, errno.ENOTEMPTY):
        return AlreadyExistsError(f"{path} is a directory, and is not replaced", hint="remove it first", path=path)
    if error.errno in _UNNAMEABLE:
        return InvalidInputError(message, hint="this file system cannot hold that name", path=path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(message, hint="free some space and run it again with --force", path=path)
    if error.errno in (errno.EACCES, errno.EPERM):
        return StorageDeniedError(message, hint="check the owner and the mode of the directory", path=path)
    if error.errno == errno.EROFS:
        return ReadOnlyError(message, hint="the target lies on a read-only file system", path=path)
    return StorageError(message, hint="see the kernel's log for the cause", path=path, errno=error.errno)
