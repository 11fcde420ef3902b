"""How is a file read so that what was read is one state of it?

It is stat'ed before and after: one that changed meanwhile is read again, and refused when it will not keep still, since
what was read may be a state that never was.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from io import FileIO
from typing import BinaryIO

from moorage.errors import InvalidInputError, SourceChangedError, UnreadableSourceError
from moorage.index.stat_cache import FileIdentity
from moorage.ingest.scan import FoundFile, identity_of

TRIES = 3
_MOST_BYTES = 16 * 1024 * 1024
"""A file found small that has grown beyond this is not read whole: memory is bounded."""


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
    """`readinto` of a stream that may only have `read`. Raises `InvalidInputError` for what gives no bytes."""
    data: object = stream.read(len(room))
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InvalidInputError("the stream does not give bytes", hint='open it with mode "rb", and blocking')
    if len(data) > len(room):
        raise InvalidInputError("the stream gives more bytes than it is asked for")
    room[: len(data)] = data
    return len(data)


def unchanged(fd: int, before: FileIdentity, total: int) -> FileIdentity | None:
    """The identity of an open file, if it is still what it was and `total` bytes long."""
    after = identity_of(os.fstat(fd))
    return after if after == before and total == before.size_bytes else None


def opened(file: FoundFile) -> FileIO:
    """Open a found file, unbuffered. Raises `SourceChangedError` where it is gone, `UnreadableSourceError`."""
    return FileIO(_open(file), "rb")


def _open(file: FoundFile) -> int:
    try:
        # Not blocking: what was a file when it was found may be a fifo now, which would be waited for.
        fd = os.open(file.location, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise unsteady(file) from error
    except OSError as error:
        raise unreadable(file, error) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise unsteady(file)
    return fd


def read_whole(file: FoundFile) -> tuple[bytes, FileIdentity]:
    """One state of a small file. Raises `SourceChangedError`, `UnreadableSourceError`."""
    for _ in range(TRIES):
        fd = _open(file)
        try:
            before = identity_of(os.fstat(fd))
            if before.size_bytes > _MOST_BYTES:
                raise unsteady(file)
            data = _read_to_end(fd, before.size_bytes)
            after = identity_of(os.fstat(fd))
        except OSError as error:
            raise unreadable(file, error) from error
        finally:
            os.close(fd)
        if before == after and len(data) == before.size_bytes:
            return data, after
    raise unsteady(file)


def _read_to_end(fd: int, expected: int) -> bytes:
    """All bytes, or more than expected; asking for one more than that shows the end in the same call."""
    data = os.read(fd, expected + 1)
    if len(data) == expected:
        return data
    parts, total = [data], len(data)
    while total <= expected and (more := os.read(fd, expected + 1 - total)):
        parts.append(more)
        total += len(more)
    return b"".join(parts)


def unreadable(file: FoundFile, error: OSError) -> UnreadableSourceError:
    """The refusal of a file that the operating system does not let us read."""
    return UnreadableSourceError(f"cannot read {file.location}: {error.strerror}", path=file.location)


def unsteady(file: FoundFile) -> SourceChangedError:
    """The refusal of a file that will not keep still."""
    return SourceChangedError(
        f"{file.location} keeps changing while it is read",
        hint="commit when its writer is done, or commit a copy; nothing was written to the branch",
        path=file.location,
    )
