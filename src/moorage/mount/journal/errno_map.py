"""Which errno does a reader get for which error?

The one place where errors of moorage become errno values. A class that is not listed has the errno of the nearest base
class that is; whatever is no `MoorageError` and no `OSError` is EIO, the answer to "something here is broken".

An `OSError` from below (the repository's disk, the open-file limit) is EIO as well unless it is listed as telling the
reader something true about what *he* asked: an ENOENT of a pack file must not look like an ENOENT of his file.
"""

from __future__ import annotations

import errno

from moorage.errors import (
    AlreadyExistsError,
    DataError,
    FormatError,
    InvalidInputError,
    LockedError,
    MoorageError,
    NotFoundError,
    ReadOnlyError,
    StorageDeniedError,
    StorageError,
    WrongKindError,
)

ERRNO_OF: dict[type[MoorageError], int] = {
    MoorageError: errno.EIO,
    NotFoundError: errno.ENOENT,
    AlreadyExistsError: errno.EEXIST,
    InvalidInputError: errno.EINVAL,
    WrongKindError: errno.ENOTDIR,
    ReadOnlyError: errno.EROFS,
    LockedError: errno.EBUSY,
    DataError: errno.EIO,
    FormatError: errno.EIO,
    StorageError: errno.EIO,
    StorageDeniedError: errno.EACCES,
}

PASSED_ON = frozenset(
    {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ESTALE, errno.ENXIO}
)
"""Of an `OSError`, what is passed on as it is."""


def errno_of(error: BaseException) -> int:
    """The errno for `error`; always positive."""
    if isinstance(error, MoorageError):
        for cls in type(error).__mro__:
            if cls in ERRNO_OF:
                return ERRNO_OF[cls]
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno in PASSED_ON:
        return error.errno
    return errno.EIO
