"""How can a process be stopped exactly at its n-th change to a folder, whichever of its threads makes it?

By ptrace(2): the traced process gives itself a seccomp filter that stops it at each system call of a list, and nowhere
else; the tracer looks whether the call touches the folder, counts, and lets it pass, kills the process in its place, or
makes it fail with an error number. Calls are numbered over all threads together. strace can inject too, but counts for
each thread apart, so of two threads that each call fsync twice it reaches the calls of one.

x86-64 Linux only. The tracer is single-threaded and the parent of what it traces.

Source: ptrace(2), seccomp(2), linux/audit.h, and arch/x86/entry/syscalls/syscall_64.tbl of Linux.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PTRACE_TRACEME, PTRACE_POKEUSER, PTRACE_CONT = 0, 6, 7
PTRACE_SETOPTIONS, PTRACE_GET_SYSCALL_INFO = 0x4200, 0x420E
_OPTIONS = 0x2 | 0x4 | 0x8 | 0x10 | 0x80 | 0x100000
"""TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC, TRACESECCOMP, EXITKILL."""
_EVENT_SECCOMP = 7
_WALL = 0x40000000
_RAX, _ORIG_RAX = 80, 120
"""Offsets in struct user of x86-64."""
_INFO = struct.Struct("<B3xIQQQ6QI4x")
"""struct ptrace_syscall_info of a seccomp stop: op, arch, ip, sp; then nr, six arguments, ret_data."""
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER_MODE = 38, 22, 2
_LOAD_NUMBER, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_RET_TRACE, _RET_ALLOW = 0x7FF00000, 0x7FFF0000


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    paths: tuple[int, ...] = ()
    """Which arguments are paths."""
    fd: int | None = None
    """Which argument is a descriptor."""
    flags: int | None = None
    """Which argument holds the flags of open(2): the call changes something only if they say so."""
    changes: bool = True
    """Whether it changes something on disk."""


CALLS: dict[int, _Call] = {
    1: _Call("write", fd=0),
    2: _Call("open", paths=(0,), flags=1),
    18: _Call("pwrite64", fd=0),
    20: _Call("writev", fd=0),
    74: _Call("fsync", fd=0),
    75: _Call("fdatasync", fd=0),
    76: _Call("truncate", paths=(0,)),
    77: _Call("ftruncate", fd=0),
    82: _Call("rename", paths=(0, 1)),
    83: _Call("mkdir", paths=(0,)),
    84: _Call("rmdir", paths=(0,)),
    85: _Call("creat", paths=(0,)),
    86: _Call("link", paths=(0, 1)),
    87: _Call("unlink", paths=(0,)),
    88: _Call("symlink", paths=(1,)),
    90: _Call("chmod", paths=(0,)),
    91: _Call("fchmod", fd=0),
    257: _Call("openat", paths=(1,), flags=2),
    258: _Call("mkdirat", paths=(1,)),
    263: _Call("unlinkat", paths=(1,)),
    264: _Call("renameat", paths=(1, 3)),
    265: _Call("linkat", paths=(1, 3)),
    266: _Call("symlinkat", paths=(2,)),
    268: _Call("fchmodat", paths=(1,)),
    277: _Call("sync_file_range", fd=0),
    280: _Call("utimensat", paths=(1,)),
    285: _Call("fallocate", fd=0),
    296: _Call("pwritev", fd=0),
    306: _Call("syncfs", fd=0),
    316: _Call("renameat2", paths=(1, 3)),
    275: _Call("splice", fd=2),
    326: _Call("copy_file_range", fd=2),
    328: _Call("pwritev2", fd=0),
    # What only looks. Made to fail in the tests of errors, never counted otherwise.
    0: _Call("read", fd=0, changes=False),
    4: _Call("stat", paths=(0,), changes=False),
    6: _Call("lstat", paths=(0,), changes=False),
    5: _Call("fstat", fd=0, changes=False),
    17: _Call("pread64", fd=0, changes=False),
    73: _Call("flock", fd=0, changes=False),
    217: _Call("getdents64", fd=0, changes=False),
    262: _Call("newfstatat", paths=(1,), changes=False),
    332: _Call("statx", paths=(1,), changes=False),
}


@dataclass(frozen=True, slots=True)
class Trace:
    """What to watch for, and what to do there."""

    folder: str
    """Calls that touch what lies in it are counted."""
    at: int | None = None
    """The number, from 1, of the call to act on; None to let all pass."""
    error: int | None = None
    """The errno that the call fails with instead of being made; None kills the process instead."""
    looks: bool = False
    """Whether calls that only look are counted too."""
    pause: bool = False
    """Whether, instead, the call is made to wait until something else has been done."""


@dataclass(frozen=True, slots=True)
class Touch:
    """One counted call."""

    name: str
    path: str
    """Below the folder; of a rename or link the new name. Names of temporary files are shortened to `*`."""
    changes: bool

    def __str__(self) -> str:
        """As a failing test shows it."""
        return f"{self.name} {self.path}"


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, pid, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def submit_to_tracing(trace: Trace) -> None:
    """In a child that has just been forked: stop until the parent calls `follow`, and let it see the calls."""
    _ptrace(PTRACE_TRACEME, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    _install_filter(trace.looks)


def follow(pid: int, trace: Trace, meanwhile: Callable[[], None]) -> tuple[int, list[Touch]]:
    """In the parent: watch the child to its end; returns its wait status and what it touched, in order.

    `meanwhile` is called while the child is paused; its other threads come no further than to their next change.
    """
    return _Tracer(pid, trace, meanwhile).run()


def _install_filter(looks: bool) -> None:
    """Stop at the calls of the list; inherited by all threads and children of this process."""
    numbers = [number for number, call in CALLS.items() if looks or call.changes]
    program = [struct.pack("<HBBI", _LOAD_NUMBER, 0, 0, 0)]
    for position, number in enumerate(numbers):
        program.append(struct.pack("<HBBI", _JUMP_IF_EQUAL, len(numbers) - position, 0, number))
    program.append(struct.pack("<HBBI", _RETURN, 0, 0, _RET_ALLOW))
    program.append(struct.pack("<HBBI", _RETURN, 0, 0, _RET_TRACE))
    code = ctypes.create_string_buffer(b"".join(program))
    header = ctypes.create_string_buffer(struct.pack("<H6xQ", len(program), ctypes.addressof(code)))
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or _libc.prctl(_PR_SET_SECCOMP, _FILTER_MODE, header, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class _Tracer:
    """Follows one process, its threads and its children, to its end."""

    def __init__(self, pid: int, trace: Trace, meanwhile: Callable[[], None]) -> None:
        self._pid = pid
        self._trace = trace
        self._meanwhile = meanwhile
        self._folder = os.path.realpath(trace.folder)
        self._touches: list[Touch] = []

    def run(self) -> tuple[int, list[Touch]]:
        _, status = os.waitpid(self._pid, _WALL)
        if not os.WIFSTOPPED(status):
            return status, []  # it was not allowed to be traced, and said so
        _ptrace(PTRACE_SETOPTIONS, self._pid, 0, _OPTIONS)
        _ptrace(PTRACE_CONT, self._pid)
        known = {self._pid}
        while True:
            thread, status = os.waitpid(-1, _WALL)
            if not os.WIFSTOPPED(status):
                if thread == self._pid:
                    return status, self._touches
                continue
            number = os.WSTOPSIG(status)
            event = status >> 16
            if event == _EVENT_SECCOMP:
                self._at_call(thread)
            if event or (number == signal.SIGSTOP and thread not in known):
                number = 0  # a stop of the tracer's own making
            known.add(thread)
            try:
                _ptrace(PTRACE_CONT, thread, 0, number)
            except OSError as error:
                if error.errno != errno.ESRCH:  # killed meanwhile
                    raise

    def _at_call(self, thread: int) -> None:
        try:
            number, arguments = _call_of(thread)
            touch = self._touch_of(thread, CALLS[number], arguments)
        except (OSError, ValueError):
            return  # killed meanwhile
        if touch is None:
            return
        self._touches.append(touch)
        if self._trace.at != len(self._touches):
            return
        if self._trace.pause:
            self._meanwhile()
        elif self._trace.error is None:
            os.kill(self._pid, signal.SIGKILL)
        else:
            _ptrace(PTRACE_POKEUSER, thread, _ORIG_RAX, -1 & 0xFFFFFFFFFFFFFFFF)
            _ptrace(PTRACE_POKEUSER, thread, _RAX, -self._trace.error & 0xFFFFFFFFFFFFFFFF)

    def _touch_of(self, thread: int, call: _Call, arguments: Sequence[int]) -> Touch | None:
        changes = call.changes
        if call.flags is not None:
            changes = bool(arguments[call.flags] & (os.O_CREAT | os.O_TRUNC))
            if not changes and not self._trace.looks:
                return None
        if call.fd is not None:
            paths = [os.readlink(f"/proc/{thread}/fd/{arguments[call.fd] & 0xFFFFFFFF}")]
        else:
            paths = [_string_at(thread, arguments[position]) for position in call.paths]
        inside = [path for path in paths if path == self._folder or path.startswith(self._folder + "/")]
        if not inside:
            return None
        return Touch(call.name, _shortened(inside[-1].removeprefix(self._folder).lstrip("/")), changes)


def _call_of(thread: int) -> tuple[int, Sequence[int]]:
    info = ctypes.create_string_buffer(_INFO.size)
    if _libc.ptrace(PTRACE_GET_SYSCALL_INFO, thread, _INFO.size, ctypes.addressof(info)) < 0:
        raise OSError(ctypes.get_errno(), "no system call")
    _, _, _, _, number, *arguments, _ = _INFO.unpack(info.raw)
    return number, arguments


def _string_at(thread: int, address: int) -> str:
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        found = b""
        while b"\0" not in found and len(found) < 8192:
            # Never across the end of a page that might be the last one.
            memory.seek(address + len(found))
            piece = memory.read(4096 - (address + len(found)) % 4096)
            if not piece:
                break
            found += piece
    return os.fsdecode(found.split(b"\0", 1)[0])


def _shortened(path: str) -> str:
    return "tmp/*" if path.startswith("tmp/") else path
