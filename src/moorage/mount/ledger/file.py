"""What is at the beginning of a ledger, before its records?

    offset 0     8 bytes   where the records start
    offset 8     4 bytes   version
    offset 16    8 bytes   how many files were opened so far
    offset 4096            records, see `ledger`

Apart from `ledger`, because the supervisor holds ledgers and `moorage mounts` reads this number, and neither should
import what it takes to understand the records.
"""

from __future__ import annotations

import os
from struct import Struct

from moorage.errors import FormatError

VERSION = 2
VERSION_FIELD = "ledger_version"
"""Tells the error for a ledger of another version from others."""
RECORDS_AT = 4096
_HEADER = Struct("<QI")
_START = Struct("<Q")
_OPENS = Struct("<Q")
_OPENS_AT = 16


def create() -> int:
    """A descriptor of an empty ledger."""
    fd = os.memfd_create("moorage-ledger", os.MFD_CLOEXEC)
    os.pwrite(fd, _HEADER.pack(RECORDS_AT, VERSION), 0)
    os.ftruncate(fd, RECORDS_AT)
    return fd


def start_of(fd: int) -> int:
    """Where its records start. Raises `FormatError` for one of another version."""
    start, version = _HEADER.unpack(os.pread(fd, _HEADER.size, 0))
    if version != VERSION:
        raise FormatError(
            f"the ledger of this mount is of version {version}, not {VERSION}",
            hint="unmount it and mount again",
            **{VERSION_FIELD: version},
        )
    return int(start)


def set_start(fd: int, start: int) -> None:
    """Switch to the records that start there."""
    os.pwrite(fd, _START.pack(start), 0)


def opens_in(fd: int) -> int:
    """How many files were opened so far."""
    return int(_OPENS.unpack(os.pread(fd, _OPENS.size, _OPENS_AT))[0])


def set_opens(fd: int, number: int) -> None:
    """So many files were opened so far."""
    os.pwrite(fd, _OPENS.pack(number), _OPENS_AT)


def opens(path: str) -> int:
    """As `opens_in`, of the ledger of another process. Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return opens_in(fd)
    finally:
        os.close(fd)
