"""Does every error have the errno that tells a reader the truth?"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from moorage import errors
from moorage.errors import MoorageError
from moorage.mount.journal.errno_map import ERRNO_OF, errno_of


def _all(cls: type[MoorageError]) -> Iterator[type[MoorageError]]:
    yield cls
    for below in cls.__subclasses__():
        yield from _all(below)


@pytest.mark.parametrize("cls", sorted(set(_all(MoorageError)), key=str))
def test_every_error_of_ours_has_an_errno(cls: type[MoorageError]) -> None:
    assert errno_of(cls("x")) in errno.errorcode


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (errors.PathNotFoundError("x"), errno.ENOENT),
        (errors.MissingObjectError("x"), errno.EIO),
        (errors.CorruptDataError("x"), errno.EIO),
        (errors.NewerFormatError("x"), errno.EIO),
        (errors.StorageDeniedError("x"), errno.EACCES),
        (errors.StorageFullError("x"), errno.EIO),
        (errors.ReadOnlyError("x"), errno.EROFS),
        (errors.WrongKindError("x"), errno.ENOTDIR),
        (OSError(errno.EMFILE, "x"), errno.EMFILE),
        (OSError(errno.ENOENT, "a pack is gone"), errno.EIO),
        (FileNotFoundError("without a number"), errno.EIO),
        (IsADirectoryError(errno.EISDIR, "x"), errno.EISDIR),
        (MemoryError(), errno.ENOMEM),
        (ZeroDivisionError(), errno.EIO),
    ],
)
def test_what_a_reader_gets(error: Exception, number: int) -> None:
    assert errno_of(error) == number


def test_no_reader_ever_gets_success_for_a_failure() -> None:
    assert all(number > 0 for number in ERRNO_OF.values())
