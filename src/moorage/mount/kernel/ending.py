"""How does a mount end?

It ends when it is unmounted, by whomever. SIGTERM, SIGINT and SIGHUP unmount: a mount in use is taken out of sight at
once, those who use it are served for a few seconds more, and then the process goes, whatever they do; a second signal
does not wait.

The mount of one program ends with that in the same way, and by no signal: a service manager sends them to all that it
has started, and then the program still reads.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from moorage.errors import LockedError, MoorageError, MountNotFoundError
from moorage.mount.host import mountinfo, notify
from moorage.mount.kernel import connect

_log = logging.getLogger(__name__)

GRACE_S = 5.0
"""How long those who still have files open are served after a signal."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Those that unmount."""
_OTHERS = (signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""More of those that end programs, or tell them that they will be."""
PROGRAM_ENDED = "its program has ended"
ENDED = 0
"""What `Wakeups.wait` gives when it is no signal."""


class Wakeups:
    """What the waiting thread is woken by: signals, and the end of the session.

    A pipe, because a signal handler must not touch a lock that the code it interrupts may hold.
    """

    def __init__(self, *signals: signal.Signals) -> None:
        """Be woken by these."""
        self._signals = signals

    def __enter__(self) -> Self:
        """Take over the signals; only the main thread can."""
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._takes_signals = threading.current_thread() is threading.main_thread()
        if self._takes_signals:
            self._before = {number: signal.signal(number, _nothing) for number in self._signals}
            self._before_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        if self._takes_signals:
            signal.set_wakeup_fd(self._before_fd)
            for number, handler in self._before.items():
                signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def ended(self) -> None:
        """Wake the waiting thread, from any other."""
        with contextlib.suppress(OSError):  # it no longer waits
            os.write(self._write, bytes([ENDED]))

    def fileno(self) -> int:
        """To wait for this and for something else."""
        return self._read

    def wait(self, timeout_s: float | None) -> int | None:
        """A signal's number, `ENDED`, or None when the time is over."""
        ready, _, _ = select.select([self._read], [], [], timeout_s)
        return os.read(self._read, 1)[0] if ready else None


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """A handler there must be, or the signal would not be noticed; the pipe does the rest."""


def signals_of(program: int) -> tuple[signal.Signals, ...]:
    """Which signals unmount: where it is for a program (its descriptor) none, and all that end programs are ignored
    from now on."""
    if program < 0:
        return SIGNALS
    for number in (*SIGNALS, *_OTHERS):
        signal.signal(number, signal.SIG_IGN)
    return ()


def wait_for_end(wakeups: Wakeups, mountpoint: str, device: str, program: int = -1) -> bool:
    """Wait for the end; True when it was unmounted, False when a signal, or the end of the program that it is for
    (its descriptor), wants us gone before that."""
    sources: list[Wakeups | int] = [wakeups, program] if program >= 0 else [wakeups]
    is_stopping = False
    while True:
        ready, _, _ = select.select(sources, [], [], GRACE_S if is_stopping else None)
        woken_by = wakeups.wait(0)
        if woken_by == ENDED:
            return True
        if not ready or is_stopping:
            _log.warning("%s is still in use; leaving all the same", mountpoint)
            return False
        is_stopping = True
        sources = [wakeups]  # the program's stays readable
        notify.stopping()
        _log.info("%s: unmounting %s", signal.Signals(woken_by).name if woken_by else PROGRAM_ENDED, mountpoint)
        unmount(mountpoint, device)


def unmount(mountpoint: str, device: str) -> None:
    """Unmount that file system, and no other; what is in use is taken out of sight."""
    entry = mountinfo.top_at(mountpoint)
    if entry is not None and entry.device != device:
        _log.error("something else (%s) was mounted over %s; it stays", entry.source, mountpoint)
        return
    try:
        connect.detach(mountpoint)
    except LockedError:
        _log.info("%s is in use: taken out of sight, serving what is open for %g s more", mountpoint, GRACE_S)
        take_away(mountpoint, device)
    except MountNotFoundError:
        pass  # somebody else was quicker
    except MoorageError as error:
        _log.error("%s", error)


def take_away(mountpoint: str, device: str) -> None:
    """Unmount that file system, and no other, without a word: nothing more can be done about it."""
    entry = mountinfo.top_at(mountpoint)
    if entry is not None and entry.device == device:
        with contextlib.suppress(MoorageError):
            connect.detach(mountpoint, lazy=True)


def put_away(mountpoint: str) -> None:
    """Remove a directory that was made to be mounted on, unless something is in it or on it."""
    with contextlib.suppress(OSError):
        os.rmdir(mountpoint)
