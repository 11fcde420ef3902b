"""Which requests are answered without a thought?

Those that would change something: EROFS. The mount is read-only, so the kernel refuses most of them before they come
here. And those that need nothing: ENOSYS is the answer that makes the kernel do them itself, and never ask again.

Threads: any; nothing here has a state.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeAlias

from moorage.format.stored import Bytes
from moorage.mount.kernel import wire
from moorage.mount.kernel.wire import Opcode

Reply: TypeAlias = "bytes | list[Bytes] | int | None"
"""The body of a reply, in one or in pieces, or an errno, or no answer at all."""
Handler: TypeAlias = Callable[[int, wire.Buffer, int], Reply]
"""(nodeid, buffer with the whole request, its length) -> reply."""

MUTATING = (
    Opcode.SETATTR,
    Opcode.SYMLINK,
    Opcode.MKNOD,
    Opcode.MKDIR,
    Opcode.UNLINK,
    Opcode.RMDIR,
    Opcode.RENAME,
    Opcode.LINK,
    Opcode.WRITE,
    Opcode.SETXATTR,
    Opcode.REMOVEXATTR,
    Opcode.CREATE,
    Opcode.FALLOCATE,
    Opcode.RENAME2,
    Opcode.COPY_FILE_RANGE,
    Opcode.COPY_FILE_RANGE_64,
    Opcode.TMPFILE,
)
"""EROFS, whatever they say."""


def without_thought() -> list[Handler]:
    """By opcode; ENOSYS for all that are not known, among them FLUSH, FSYNC and FSYNCDIR (closing and syncing need
    nothing), and INTERRUPT (a request that is being answered cannot be interrupted)."""
    handlers: list[Handler] = [_unknown] * wire.OPCODE_LIMIT
    for opcode in MUTATING:
        handlers[opcode] = _read_only
    handlers[Opcode.NOTIFY_REPLY] = _no_answer
    handlers[Opcode.DESTROY] = _done
    return handlers


def _unknown(_nodeid: int, _buffer: wire.Buffer, _length: int) -> Reply:
    return errno.ENOSYS


def _read_only(_nodeid: int, _buffer: wire.Buffer, _length: int) -> Reply:
    return errno.EROFS


def _done(_nodeid: int, _buffer: wire.Buffer, _length: int) -> Reply:
    return b""


def _no_answer(_nodeid: int, _buffer: wire.Buffer, _length: int) -> Reply:
    return None
