"""How is a file read so that what was read is one state of it?

It is stat'ed before and after: one that changed meanwhile is read again, and refused when it will not keep still, since
what was read may be a state that never was.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from io import FileIO
from typing import BinaryIO

from moorage.errors import SourceChangedError, UnreadableSourceError
from moorage.index.stat_cache import FileIdentity
from moorage.ingest.scan import FoundFile, identity_of

TRIES = 3
_PIECE_BYTES = 4 * 1024 * 1024


def fill(readinto: Callable[[memoryview], int], room: memoryview) -> tuple[int, bool]:
    """Read until `room` is full or the source ends; (bytes read, whether it ended)."""
    got = 0
    while got < len(room):
        count = readinto(room[got:])
        if not count:
            return got, True
        got += count
    return got, False


def read_into(stream: BinaryIO, room: memoryview) -> int:
    """`readinto` of a stream that may only have `read`."""
    data = stream.read(len(room))
    room[: len(data)] = data
    return len(data)


def unchanged(fd: int, before: FileIdentity, total: int) -> FileIdentity | None:
    """The identity of an open file, if it is still what it was and `total` bytes long."""
    after = identity_of(os.fstat(fd))
    return after if after == before and total == before.size_bytes else None


def opened(file: FoundFile) -> FileIO:
    """Open a found file, unbuffered. Raises `SourceChangedError` where it is gone, `UnreadableSourceError`."""
    try:
        return open(file.location, "rb", buffering=0)
    except OSError as error:
        raise _unopenable(file, error) from error


def read_whole(file: FoundFile) -> tuple[bytes, FileIdentity]:
    """One state of a small file. Raises `SourceChangedError`, `UnreadableSourceError`."""
    for _ in range(TRIES):
        try:
            fd = os.open(file.location, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _unopenable(file, error) from error
        try:
            before = identity_of(os.fstat(fd))
            data = _read_to_end(fd, before.size_bytes)
            after = identity_of(os.fstat(fd))
        except OSError as error:
            message = f"cannot read {file.location}: {error.strerror}"
            raise UnreadableSourceError(message, path=file.location) from error
        finally:
            os.close(fd)
        if before == after and len(data) == before.size_bytes:
            return data, after
    raise unsteady(file)


def _read_to_end(fd: int, expected: int) -> bytes:
    """All bytes; asking for one more than expected shows the end in the same call."""
    data = os.read(fd, expected + 1)
    if len(data) == expected:
        return data
    parts = [data]
    while more := os.read(fd, _PIECE_BYTES):
        parts.append(more)
    return b"".join(parts)


def _unopenable(file: FoundFile, error: OSError) -> SourceChangedError | UnreadableSourceError:
    if isinstance(error, FileNotFoundError):
        return unsteady(file)
    return UnreadableSourceError(f"cannot read {file.location}: {error.strerror}", path=file.location)


def unsteady(file: FoundFile) -> SourceChangedError:
    """The refusal of a file that will not keep still."""
    return SourceChangedError(
        f"{file.location} keeps changing while it is read",
        hint="commit when its writer is done, or commit a copy; nothing was written to the branch",
        path=file.location,
    )
