"""A file system that shows a directory and stops answering when it is told to; run as a program by `hung`.

    hanging.py SOURCE MOUNTPOINT

Says `ready` when it is mounted. Then each line of its input is a command, answered with `done`:

    hang PREFIX    leave open every request about a path of SOURCE that starts so; `hang` alone means all
    free           answer them

A request that is left open has been read: whoever made it is in the kernel, and no signal brings him back. Nothing is
kept in the kernel, so each read comes here.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import itertools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from moorage.mount.kernel import wire
from moorage.mount.kernel.session import Session, handshake
from moorage.mount.kernel.wire import Opcode, OpenFlag

THREADS = 150
"""Each request that is left open takes one."""
_FLAGS = 1 | 2 | 4
"""Read-only, nosuid, nodev."""
_NO_LOOKUP = bytes(wire.ENTRY_HEAD.size + wire.ATTRIBUTES.size)
"""Before a name of READDIRPLUS: its nodeid is 0."""


class Passing:
    """Passes requests on to a directory; takes the place of `Operations`."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._paths = {1: ""}
        self._nodeids = {"": 1}
        self._next = itertools.count(2)
        self._lock = threading.Lock()
        self._prefix: str | None = None
        self._free = threading.Event()
        self.after: dict[int, Callable[[int], None]] = {}
        self.handlers: list[Any] = [lambda *_: errno.ENOSYS] * wire.OPCODE_LIMIT
        for opcode, handler in {
            Opcode.LOOKUP: self._lookup,
            Opcode.GETATTR: lambda nodeid, *_: wire.ATTR_HEAD.pack(0, 0, 0) + self._attributes(self._path(nodeid)),
            Opcode.READLINK: lambda nodeid, *_: os.fsencode(os.readlink(self._path(nodeid))),
            Opcode.OPEN: lambda nodeid, *_: self._opened(nodeid, OpenFlag(1)),  # direct I/O
            Opcode.OPENDIR: lambda nodeid, *_: self._opened(nodeid, OpenFlag(0)),
            Opcode.READ: self._read,
            Opcode.READDIR: functools.partial(self._list, b""),
            Opcode.READDIRPLUS: functools.partial(self._list, _NO_LOOKUP),
            Opcode.RELEASE: lambda *_: b"",
            Opcode.RELEASEDIR: lambda *_: b"",
            Opcode.FORGET: lambda *_: None,
            Opcode.BATCH_FORGET: lambda *_: None,
            Opcode.STATFS: lambda *_: wire.STATFS_OUT.pack(0, 0, 0, 0, 0, 4096, 255, 4096),
        }.items():
            self.handlers[opcode] = handler

    def hang(self, prefix: str) -> None:
        self._free.clear()
        self._prefix = prefix

    def free(self) -> None:
        self._prefix = None
        self._free.set()

    def _path(self, nodeid: int, name: str = "") -> str:
        path = self._paths[nodeid] + (f"/{name}" if name else "")
        if self._prefix is not None and path.lstrip("/").startswith(self._prefix):
            self._free.wait()
        return self._source + path

    def _attributes(self, path: str) -> bytes:
        found = os.lstat(path)
        raw: bytes = wire.ATTRIBUTES.pack(
            found.st_ino,
            found.st_size,
            found.st_blocks,
            *[found.st_mtime_ns // 10**9] * 3,
            *[found.st_mtime_ns % 10**9] * 3,
            found.st_mode,
            found.st_nlink,
            found.st_uid,
            found.st_gid,
            0,
            4096,
            0,
        )
        return raw

    def _lookup(self, nodeid: int, buffer: wire.Buffer, length: int) -> bytes:
        name = wire.name(buffer, length).decode()
        attributes = self._attributes(self._path(nodeid, name))
        relative = f"{self._paths[nodeid]}/{name}"
        with self._lock:
            found = self._nodeids.get(relative)
            if found is None:
                found = self._nodeids[relative] = next(self._next)
                self._paths[found] = relative
        return wire.ENTRY_HEAD.pack(found, 0, 0, 0, 0, 0) + attributes

    def _opened(self, nodeid: int, flags: OpenFlag) -> bytes:
        self._path(nodeid)
        return wire.OPEN_OUT.pack(0, flags, 0)

    def _read(self, nodeid: int, buffer: wire.Buffer, _length: int) -> bytes:
        _, offset, size = wire.READ_IN.unpack_from(buffer, wire.BODY)
        with open(self._path(nodeid), "rb") as file:
            return os.pread(file.fileno(), size, offset)

    def _list(self, before: bytes, nodeid: int, buffer: wire.Buffer, _length: int) -> bytes:
        _, position, size = wire.READ_IN.unpack_from(buffer, wire.BODY)
        reply = b""
        for number, entry in enumerate(sorted(os.scandir(self._path(nodeid)), key=lambda entry: entry.name), 1):
            if number > position:
                mode = 0o040000 if entry.is_dir() else 0o100000
                line = before + wire.dirent(entry.inode(), number, os.fsencode(entry.name), mode)
                if len(reply) + len(line) > size:
                    break
                reply += line
        return reply

    def failed(self, error: Exception, *_: object) -> int:
        return error.errno or errno.EIO if isinstance(error, OSError) else errno.EIO

    def unanswered(self, *_: object) -> None:
        pass


def main() -> None:
    """Serve until unmounted, or killed."""
    source, mountpoint = sys.argv[1:]
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"hanging", os.fsencode(mountpoint), b"fuse.hanging", ctypes.c_ulong(_FLAGS), options) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    handshake(fd)
    passing = Passing(source)
    Session(fd, passing, threads=THREADS).start()  # type: ignore[arg-type]  # it does what the loop needs
    print("ready", flush=True)
    for line in sys.stdin:
        word, _, prefix = line.strip().partition(" ")
        passing.free() if word == "free" else passing.hang(prefix)
        print("done", flush=True)


if __name__ == "__main__":
    main()
