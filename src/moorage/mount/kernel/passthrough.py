"""Which open files does the kernel read itself, without asking us?

A file that is hydrated is registered with the kernel as a *backing file*; an OPEN that is answered with its id is
served by the kernel alone, at the speed of the disk, maps included. The kernel keeps the file, and the lock on it that
keeps it in the cache, until the id is given back.

All opens of one nodeid must be of one mode, and with one id, for as long as any of them is there; the kernel ends
another one with EIO. So the mode is decided by the first open of a nodeid, and given up with the last. An OPEN that
wants another is refused: it is answered ESTALE, the kernel looks the name up again and is given a twin of the nodeid.
Once only: who comes with the same nodeid again (through /proc/self/fd, where there is no name to look up) shares the
mode that is there, if that reads the same verified bytes.

Whether it works is found by trying it: it takes a kernel, a privilege, and a file system below that the kernel is
willing to stack upon.

Threads: any; one lock, held for two system calls at most. Counts go up before the answer is written, so they err high.

Source: `fs/fuse/backing.c`, `iomode.c` and `passthrough.c` of Linux.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from moorage.mount.kernel import wire
from moorage.read.cached_file import CachedFile, Seen

_log = logging.getLogger(__name__)

RETRY_S = 1.0
"""An OPEN by the same thread within this time is the kernel's second try."""
_MOST_REFUSED = 256


class Backings(Protocol):
    """Where backing files are registered."""

    takes_direct: bool
    """Whether they can be opened with O_DIRECT."""

    def register(self, fd: int) -> int:
        """An id for the open file `fd`, which may be closed afterwards. Raises `OSError`."""
        ...

    def give_back(self, id: int) -> None:
        """The id is used no more. Raises `OSError`."""
        ...


class KernelBackings:
    """Those of one connection."""

    def __init__(self, device: int, *, takes_direct: bool = True) -> None:
        """Register with the connection `device`."""
        self._device = device
        self.takes_direct = takes_direct

    def register(self, fd: int) -> int:
        """See `Backings.register`."""
        # The id is what the call returns, which Python hands on only for an argument that it may change.
        return int(fcntl.ioctl(self._device, wire.BACKING_OPEN, bytearray(wire.BACKING_MAP.pack(fd, 0, 0))))

    def give_back(self, id: int) -> None:
        """See `Backings.give_back`."""
        fcntl.ioctl(self._device, wire.BACKING_CLOSE, bytearray(wire.BACKING_ID.pack(id)))


def try_out(device: int, folder: Path) -> KernelBackings | None:
    """Backings of files in `folder`, or None where the kernel does not let us; the log says why."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            backings = KernelBackings(device)
            backings.give_back(backings.register(file.fileno()))
            try:
                os.close(os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC))
            except OSError:
                backings.takes_direct = False
            return backings
    except OSError as error:
        why = "this user may not" if error.errno == errno.EPERM else error.strerror
        _log.info("no passthrough (%s): hydrated files are served from the page cache", why)
        return None


class OpenMode:
    """How one nodeid is open."""

    __slots__ = ("backing", "opens", "seen")

    def __init__(self, backing: int, seen: Seen | None, opens: int = 1) -> None:
        """Open so often."""
        self.backing = backing
        """0: read from us."""
        self.seen = seen
        """Of the file that backs it, or that the kernel would not take."""
        self.opens = opens
        """At least as many as the kernel has."""


class ModeJournal(Protocol):
    """Where modes are written down before anybody hears of them, such as `ledger.Ledger`."""

    def opened(self) -> None:
        """A file more is opened."""
        ...

    def mode(self, nodeid: int, mode: OpenMode, /) -> None:
        """How a nodeid is open now; with 0 opens, no longer."""
        ...


class OpenModes:
    """The modes of all nodeids that are open."""

    def __init__(self, backings: Backings | None = None, journal: ModeJournal | None = None) -> None:
        """Without `backings` everything is read from us, and there is nothing to decide."""
        self._backings = backings
        self._journal = journal
        self._modes: dict[int, OpenMode] = {}
        self._refused: dict[int, float] = {}
        self._lock = threading.Lock()
        self._complained: set[int] = set()

    def __len__(self) -> int:
        """How many backing files are registered."""
        return sum(mode.backing != 0 for mode in self._modes.values())

    def enter(self, nodeid: int, caller: int, file: CachedFile | None, *, is_direct: bool = False) -> int | None:
        """Count one more open of `nodeid`: the backing id to answer with, 0 where reads are to come to us, or None
        where it must be refused. `file` is what could back it; `caller` the thread that opens."""
        backing = self._enter(nodeid, caller, file, is_direct=is_direct)
        if backing is not None and self._journal is not None:
            self._journal.opened()
        return backing

    def _enter(self, nodeid: int, caller: int, file: CachedFile | None, *, is_direct: bool) -> int | None:
        if self._backings is None:
            return 0
        if is_direct and not self._backings.takes_direct:
            file = None
        wanted = None if file is None else file.seen
        with self._lock:
            mode = self._modes.get(nodeid)
            if mode is None:
                mode = OpenMode(0 if file is None else self._register(file), wanted)
                self._modes[nodeid] = mode
                self._write(nodeid, mode)
                return mode.backing
            if mode.seen != wanted and not self._is_second_try(caller, mode):
                return None
            mode.opens += 1
            self._write(nodeid, mode)
            return mode.backing

    def would_share(self, nodeid: int, file: CachedFile | None) -> bool:
        """Whether an open that `file` could back would be of the mode in which `nodeid` is open, if it is."""
        with self._lock:
            mode = self._modes.get(nodeid)
            return mode is None or mode.seen == (None if file is None else file.seen)

    def leave(self, nodeid: int) -> None:
        """Count one open less; the last one gives the backing file back."""
        if self._backings is None:
            return
        with self._lock:
            mode = self._modes.get(nodeid)
            if mode is None:
                return  # its count was given up with its name
            mode.opens -= 1
            if mode.opens == 0:
                self._drop(nodeid, mode)
            else:
                self._write(nodeid, mode)

    def forget(self, nodeids: Iterable[int]) -> None:
        """The kernel knows these no longer, so nobody has them open, whatever was counted."""
        if not self._modes:
            return
        with self._lock:
            for nodeid in nodeids:
                mode = self._modes.get(nodeid)
                if mode is not None:
                    mode.opens = 0
                    self._drop(nodeid, mode)

    def restore(self, modes: dict[int, OpenMode]) -> None:
        """Go on where another process was; before anything else is asked."""
        self._modes = modes if self._backings is not None else {}

    def _drop(self, nodeid: int, mode: OpenMode) -> None:
        """Written down first: an id that is lost is a file that stays in the cache too long, one that is used after it
        was given back could be another file."""
        del self._modes[nodeid]
        self._write(nodeid, mode)
        if mode.backing:
            assert self._backings is not None
            with contextlib.suppress(OSError):  # the connection is gone, and all ids with it
                self._backings.give_back(mode.backing)

    def _write(self, nodeid: int, mode: OpenMode) -> None:
        if self._journal is not None:
            self._journal.mode(nodeid, mode)

    def _is_second_try(self, caller: int, mode: OpenMode) -> bool:
        """Whether `caller` was refused a moment ago, perhaps with another nodeid of the file, and may go along with
        `mode` now: the kernel tries no third time."""
        now = time.monotonic()
        refused = self._refused.pop(caller, None)
        # A backing file that is no longer what was verified is shared with nobody new.
        if mode.backing == 0 and refused is not None and now - refused < RETRY_S:
            return True
        if len(self._refused) >= _MOST_REFUSED:
            self._refused.clear()
        self._refused[caller] = now
        return False

    def _register(self, file: CachedFile) -> int:
        assert self._backings is not None
        try:
            return self._backings.register(file.fd)
        except OSError as error:
            if error.errno not in self._complained:
                self._complained.add(error.errno or 0)
                _log.warning("%s is not passed through: %s", file.path, error)
            return 0
