"""How do requests come in and replies go out?

A few threads each read a request from `/dev/fuse` into a buffer of their own, have it answered, and write header and
body with one `writev`. Both calls release the GIL, and so does the decoding of chunks in between. The kernel hands each
request to exactly one reader, so the threads share nothing but the view and the table of inodes.

INIT comes first, alone, and is answered by `handshake` before any thread starts: when that returned, the mount answers,
and what was agreed is a value (`Negotiated`) that could be given to another process.

Nothing raises into the loop: an exception is an errno (`Operations.failed`), and what takes too long is answered by
somebody else (`deadline`). The loop ends when the kernel says that
the file system is unmounted (ENODEV) or aborted (ECONNABORTED).

Source: `fs/fuse/dev.c` of Linux for the errors of read and write.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass

from moorage.errors import MountError
from moorage.mount.kernel import wire
from moorage.mount.kernel.crew import BUFFER_BYTES, Crew, Worker
from moorage.mount.kernel.deadline import MOST_RELIEVED, Deadlines, Watchdog
from moorage.mount.kernel.operations import Operations
from moorage.mount.kernel.unthinking import Reply
from moorage.mount.kernel.wire import InitFlag, Opcode
from moorage.mount.shown.patience import Patience

_log = logging.getLogger(__name__)

MAX_WRITE_BYTES = 64 * 1024
"""Nobody writes here, but the kernel wants a read buffer of this and a page."""
MAX_PAGES = 256
"""Pages in one request: reads of 1 MiB."""
READ_AHEAD_BYTES = 4 * 1024 * 1024
"""The most we ever want. The kernel takes it as a cap on the mount's own setting, which only root can raise (see
`connect`)."""
MOST_PARTS = 512
"""Of one answer; writev(2) takes 1,024."""
THREADS = 4
NO_TIMEOUT_S = math.inf
STOP_LOOK_S = 0.001
HANDSHAKE_TIMEOUT_S = 20
"""INIT waits in the device as soon as mount(2) has returned; this is for a machine on its knees."""

WANTED = (
    InitFlag.ASYNC_READ
    | InitFlag.DO_READDIRPLUS
    | InitFlag.READDIRPLUS_AUTO
    | InitFlag.PARALLEL_DIROPS
    | InitFlag.ABORT_ERROR
    | InitFlag.MAX_PAGES
    | InitFlag.CACHE_SYMLINKS
    | InitFlag.INIT_EXT
    | InitFlag.HAS_RESEND
)

_ENDED = frozenset({errno.ENODEV, errno.ECONNABORTED, errno.EBADF})
_TRY_AGAIN = frozenset({errno.ENOENT, errno.EINTR, errno.EAGAIN})
"""ENOENT: the request was taken back while it was being read."""


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What INIT agreed on."""

    kernel_minor: int
    minor: int
    max_readahead_bytes: int
    offered: InitFlag
    flags: InitFlag


def handshake(fd: int, *, passthrough: bool = False) -> Negotiated:
    """Answer INIT, which is the first request on a new mount; say yes to `passthrough` where it is offered.

    Raises `MountError`.
    """
    buffer = bytearray(BUFFER_BYTES)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while True:
        if not poll.poll(HANDSHAKE_TIMEOUT_S * 1000):
            raise MountError("the kernel did not start to talk", hint="see dmesg for what the fuse module says")
        try:
            os.readv(fd, [buffer])
        except OSError as error:
            if error.errno in _TRY_AGAIN:
                continue
            if error.errno == errno.EPERM:
                raise MountError("nothing is mounted with this device yet", hint="mount first, then start") from error
            raise MountError(f"the mount went away while it was set up: {error}") from error
        _, opcode, unique, *_ = wire.HEADER_IN.unpack_from(buffer)
        if opcode != Opcode.INIT:
            raise MountError(f"the kernel's first request has opcode {opcode}, not INIT")
        major, minor, readahead, low = wire.INIT_IN.unpack_from(buffer, wire.BODY)
        if major > wire.MAJOR:
            _send(fd, unique, wire.INIT_OUT.pack(wire.MAJOR, wire.MINOR, *[0] * 11))
            continue  # the kernel says INIT again, with our major version
        if (major, minor) < (wire.MAJOR, wire.OLDEST_MINOR):
            os.writev(fd, [wire.HEADER_OUT.pack(wire.HEADER_OUT.size, -errno.EPROTO, unique)])
            raise MountError(
                f"this kernel speaks FUSE {major}.{minor}; moorage needs {wire.MAJOR}.{wire.OLDEST_MINOR} (Linux 5.4)",
                hint="mount with --driver libfuse",
            )
        high = wire.INIT_IN_FLAGS2.unpack_from(buffer, wire.INIT_IN_FLAGS2_AT)[0] if low & InitFlag.INIT_EXT else 0
        agreed = _agree(minor, readahead, InitFlag(low | high << 32), passthrough=passthrough)
        _send(
            fd,
            unique,
            wire.init_reply(
                agreed.minor,
                agreed.max_readahead_bytes,
                agreed.flags,
                max_write=MAX_WRITE_BYTES,
                max_pages=MAX_PAGES,
            ),
        )
        return agreed


def _agree(kernel_minor: int, readahead: int, offered: InitFlag, *, passthrough: bool) -> Negotiated:
    return Negotiated(
        kernel_minor,
        min(kernel_minor, wire.MINOR),
        max(readahead, READ_AHEAD_BYTES),
        offered,
        offered & (WANTED | InitFlag.PASSTHROUGH if passthrough else WANTED),
    )


def _send(fd: int, unique: int, body: bytes) -> None:
    os.writev(fd, [wire.HEADER_OUT.pack(wire.HEADER_OUT.size + len(body), 0, unique), body])


class Session:
    """Serves one connection until it is unmounted."""

    def __init__(
        self, fd: int, operations: Operations, *, threads: int = THREADS, patience: Patience | None = None
    ) -> None:
        """Prepare to serve the connection `fd`, whose handshake is done; the session owns it from now on. With
        `patience` every request is answered within that, else whenever it is done."""
        self._fd = fd
        self._operations = operations
        self._is_stopping = False
        self._crew = Crew(threads, self._serve, MOST_RELIEVED)
        self._deadlines = Deadlines(NO_TIMEOUT_S if patience is None else patience.timeout_s)
        self._watchdog = None if patience is None else Watchdog(fd, self._deadlines, self._crew, operations, patience)

    def start(self, on_end: Callable[[], None] = lambda: None) -> None:
        """Begin to serve; `on_end` is called once, when the mount is gone. A worker that never came back is not waited
        for."""
        self._crew.start(on_end, self._close)
        if self._watchdog is not None:
            self._watchdog.start()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the mount is gone, and every worker too; False when the time was over first."""
        return self._crew.join(timeout_s)

    def stop(self, timeout_s: float) -> bool:
        """Answer nothing that is read from now on, and wait for what is being answered; False when the time was over
        first. The process must end then: whatever was read and not answered, the kernel sends again to the next."""
        self._is_stopping = True  # who is reading sees it before he begins with what he read
        deadline = time.monotonic() + timeout_s
        while not all(worker.is_reading or worker.is_given_up for worker in self._crew.workers()):
            if time.monotonic() > deadline:
                return False
            time.sleep(STOP_LOOK_S)
        return True

    def counts(self) -> dict[str, int]:
        """How many requests of each kind came in so far."""
        totals = self._crew.counts()
        return {opcode.name: totals[opcode] for opcode in Opcode if totals[opcode]}

    def _close(self) -> None:
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog.join()
        os.close(self._fd)

    def _serve(self, worker: Worker) -> None:
        """The loop. Everything it touches for each request is a local name."""
        fd, operations, deadlines = self._fd, self._operations, self._deadlines
        handlers, after, pending = operations.handlers, operations.after, deadlines.pending
        buffer, counts, vector, taken = worker.buffer, worker.counts, [worker.buffer], pending.pop
        unpack, pack, header_bytes = wire.HEADER_IN.unpack_from, wire.HEADER_OUT.pack, wire.HEADER_OUT.size
        readv, writev, limit, smallest = os.readv, os.writev, wire.OPCODE_LIMIT, wire.HEADER_IN.size
        while True:
            worker.is_reading = True
            try:
                length = readv(fd, vector)
            except OSError as error:
                if error.errno in _ENDED:
                    return self._crew.end()
                if error.errno in _TRY_AGAIN:
                    continue
                raise
            worker.is_reading = False
            if self._is_stopping:
                return None
            if length < smallest:
                return self._crew.end()  # not the device: nothing shorter than a header is ever read from it
            _, opcode, unique, nodeid, _, _, _, _, _ = unpack(buffer)
            if opcode >= limit:
                opcode = 0  # no such request: the table says ENOSYS
            counts[opcode] += 1
            pending[unique] = worker
            try:
                reply = handlers[opcode](nodeid, buffer, length)
            except Exception as error:  # noqa: BLE001 - nothing raises into the loop
                reply = operations.failed(error, opcode, nodeid, buffer, length)
                if opcode in wire.NEVER_ANSWERED:
                    reply = None
            is_relieved = taken(unique, None) is None
            if is_relieved and not deadlines.may_answer(unique):
                return self._too_late(opcode, nodeid, reply)
            if reply is not None:
                try:
                    if isinstance(reply, int):
                        writev(fd, (pack(header_bytes, -reply, unique),))
                    elif isinstance(reply, list):
                        if len(reply) > MOST_PARTS:
                            reply = [b"".join(reply)]
                        writev(fd, (pack(header_bytes + sum(map(len, reply)), 0, unique), *reply))
                    else:
                        writev(fd, (pack(header_bytes + len(reply), 0, unique), reply))
                except OSError as error:
                    self._not_taken(opcode, nodeid, reply, error)
                else:
                    if opcode in after:
                        after[opcode](nodeid)
            if is_relieved:
                return None

    def _not_taken(self, opcode: int, nodeid: int, reply: Reply, error: OSError) -> None:
        """The kernel did not take an answer: because nobody waits for it any more, or because it is malformed (then it
        has ended the request with EIO itself)."""
        if error.errno not in _ENDED | _TRY_AGAIN:
            _log.error("the kernel refused the answer to request %d: %s", opcode, error)
        if isinstance(reply, bytes):
            self._operations.unanswered(opcode, nodeid, reply)

    def _too_late(self, opcode: int, nodeid: int, reply: Reply) -> None:
        """The kernel was given EIO in the meantime."""
        after = self._operations.after.get(opcode)
        if after is not None:
            after(nodeid)  # the kernel forgets what it gives back, whatever the answer
        elif isinstance(reply, bytes):
            self._operations.unanswered(opcode, nodeid, reply)
