"""How do requests come in and replies go out?

A few threads each read a request from `/dev/fuse` into a buffer of their own, have it answered, and write header and
body with one `writev`. Both calls release the GIL, and so does the decoding of chunks in between. The kernel hands each
request to exactly one reader, so the threads share nothing but the view and the table of inodes.

INIT comes first, alone, and is answered by `handshake` before any thread starts: when that returned, the mount answers,
and what was agreed is a value (`Negotiated`) that could be given to another process.

Nothing raises into the loop: an exception is an errno (`Operations.failed`). The loop ends when the kernel says that
the file system is unmounted (ENODEV) or aborted (ECONNABORTED).

Source: `fs/fuse/dev.c` of Linux for the errors of read and write.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from moorage.errors import MountError
from moorage.mount.kernel import wire
from moorage.mount.kernel.operations import Operations
from moorage.mount.kernel.wire import InitFlag, Opcode

_log = logging.getLogger(__name__)

MAX_WRITE_BYTES = 64 * 1024
"""Nobody writes here, but the kernel wants a read buffer of this and a page."""
BUFFER_BYTES = 128 * 1024 + 4096
MAX_PAGES = 256
"""Pages in one request: reads of 1 MiB."""
READ_AHEAD_BYTES = 4 * 1024 * 1024
"""The most we ever want. The kernel takes it as a cap on the mount's own setting, which only root can raise (see
`connect`)."""
THREADS = 4
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

    def __init__(self, fd: int, operations: Operations, *, threads: int = THREADS) -> None:
        """Prepare to serve the connection `fd`, whose handshake is done; the session owns it from now on."""
        self._fd = fd
        self._operations = operations
        self._counts = [[0] * wire.OPCODE_LIMIT for _ in range(threads)]
        self._at_work = [threading.Lock() for _ in range(threads)]
        """Each held by its thread from reading a request to writing the answer."""
        self._is_stopping = False
        self._threads = [
            threading.Thread(target=self._run, args=(counts, at_work), name=f"fuse-{number}", daemon=True)
            for number, (counts, at_work) in enumerate(zip(self._counts, self._at_work, strict=True))
        ]
        self._serving = threads
        self._ending = threading.Lock()
        self._on_end: Callable[[], None] = lambda: None

    def start(self, on_end: Callable[[], None] = lambda: None) -> None:
        """Begin to serve; `on_end` is called once, by the last thread, when the mount is gone."""
        self._on_end = on_end
        for thread in self._threads:
            thread.start()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the mount is gone; False when the time was over first."""
        for thread in self._threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self, timeout_s: float) -> bool:
        """Answer nothing that is read from now on, and wait for what is being answered; False when the time was over
        first. The process must end then: whatever was read and not answered, the kernel sends again to the next."""
        self._is_stopping = True
        deadline = time.monotonic() + timeout_s
        return all(lock.acquire(timeout=max(0.0, deadline - time.monotonic())) for lock in self._at_work)

    def counts(self) -> dict[str, int]:
        """How many requests of each kind came in so far."""
        totals = [sum(column) for column in zip(*self._counts, strict=True)]
        return {opcode.name: totals[opcode] for opcode in Opcode if totals[opcode]}

    def _run(self, counts: list[int], at_work: threading.Lock) -> None:
        try:
            self._serve(counts, at_work)
        except Exception:  # noqa: BLE001 - what is left of the session still serves
            _log.exception("a serving thread ended; the others go on")
        with self._ending:
            self._serving -= 1
            last = self._serving == 0
        if last:
            os.close(self._fd)
            self._on_end()

    def _serve(self, counts: list[int], at_work: threading.Lock) -> None:
        """The loop. Everything it touches for each request is a local name."""
        fd, buffer, readv, smallest = self._fd, bytearray(BUFFER_BYTES), os.readv, wire.HEADER_IN.size
        vector = [buffer]
        while True:
            try:
                length = readv(fd, vector)
            except OSError as error:
                if error.errno in _ENDED:
                    return
                if error.errno in _TRY_AGAIN:
                    continue
                raise
            if length < smallest:
                return  # not the device: nothing shorter than a header is ever read from it
            with at_work:
                if self._is_stopping:
                    return
                self._answer(buffer, length, counts)

    def _answer(self, buffer: bytearray, length: int, counts: list[int]) -> None:
        operations = self._operations
        _, opcode, unique, nodeid, _, _, _, _, _ = wire.HEADER_IN.unpack_from(buffer)
        if opcode >= wire.OPCODE_LIMIT:
            opcode = 0  # no such request: the table says ENOSYS
        counts[opcode] += 1
        try:
            reply = operations.handlers[opcode](nodeid, buffer, length)
        except Exception as error:  # noqa: BLE001 - nothing raises into the loop
            reply = operations.failed(error, opcode, nodeid, buffer, length)
            if opcode in wire.NEVER_ANSWERED:
                return
        if reply is None:
            return
        try:
            if isinstance(reply, int):
                os.writev(self._fd, (wire.HEADER_OUT.pack(wire.HEADER_OUT.size, -reply, unique),))
            else:
                os.writev(self._fd, (wire.HEADER_OUT.pack(wire.HEADER_OUT.size + len(reply), 0, unique), reply))
        except OSError as error:
            self._not_taken(opcode, nodeid, reply, error)
        else:
            if opcode in operations.after:
                operations.after[opcode](nodeid)

    def _not_taken(self, opcode: int, nodeid: int, reply: bytes | int, error: OSError) -> None:
        """The kernel did not take an answer: because nobody waits for it any more, or because it is malformed (then it
        has ended the request with EIO itself)."""
        if error.errno not in _ENDED | _TRY_AGAIN:
            _log.error("the kernel refused the answer to request %d: %s", opcode, error)
        if isinstance(reply, bytes):
            self._operations.unanswered(opcode, nodeid, reply)
