"""Which snapshot has this process been shown, and is it still reading it?

With `--sticky` a mount goes on answering the same snapshot to one process, however often the branch moves meanwhile, so
that a program which opens the files of a set one after another by their full paths has all of them of one snapshot. It
is let go, and shown the newest at its next walk, when it has no file open and `GRACE_NS` have passed since it last
opened or closed one (or since it was first answered, if it opened none). Looking alone (`stat`, a listing) does not
prolong it: a program that polls for a change sees it.

A process is its number and when it started, so a number that is used again is another process. A thread is its process,
a child is not its parent. Who cannot be told from others, because the kernel names him by 0 (another pid namespace), or
because `/proc` does not show him, is answered the newest each time.

Of the server's memory only, and bounded: who has nothing open and is let go is forgotten when the next process comes.
After a restart of the server everybody is answered the newest at his next walk.

Threads: any.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from moorage.model.refs import RefName, RefRecord
from moorage.mount.shown.following import Standing
from moorage.repository.lru import LruCache

GRACE_NS = 30_000_000_000
"""More than a program takes between two files of a set, also where it starts up a GPU in between."""
_MOST_THREADS = 4096
_MOST_RECORDS = 1024
"""Of one process that walks through more refs than this, those that it has not used for longest are let go."""

Process: TypeAlias = tuple[int, int]
"""Its number, and when it started in ticks since the start of the machine."""


class Hold:
    """What one process is shown."""

    def __init__(self, now_ns: int) -> None:
        """Nothing yet."""
        self.opens = 0
        """Files that it has open."""
        self.used_ns = now_ns
        """When it last opened or closed one."""
        self.standing: Standing | None = None
        """Of the root; None before the first walk, and in a mount of everything."""
        self._records: LruCache[RefName, RefRecord] = LruCache(_MOST_RECORDS)
        self._lock = threading.Lock()

    def stand(self, newest: Standing) -> Standing:
        """Where the root stands for this process, which is at `newest` if it never asked."""
        with self._lock:
            if self.standing is None:
                self.standing = newest
            return self.standing

    def record(self, ref: RefName, newest: Callable[[], RefRecord | None]) -> RefRecord | None:
        """Where a ref stands for this process; `newest` is asked if it never asked, or if there was no such ref."""
        with self._lock:
            record = self._records.get(ref)
            if record is None:
                record = newest()
                if record is not None:
                    self._records.put(ref, record)
            return record


class Holds:
    """What each process is shown."""

    def __init__(
        self,
        process_of: Callable[[int], Process | None] | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Nobody has asked yet. `process_of` tells a thread's process."""
        self._process_of = Processes().of if process_of is None else process_of
        self._clock_ns = clock_ns
        self._holds: dict[Process, Hold] = {}
        self._open: dict[int, Hold] = {}
        """By handle, one of each open file."""
        self._swept_ns = clock_ns()
        # Other numbers than those of an earlier server, whose handles are closed here.
        self._handles = itertools.count(time.monotonic_ns())
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many processes are remembered."""
        return len(self._holds)

    def of(self, thread: int) -> Hold | None:
        """What the process of that thread is shown from now on; None where it is not known which one it is."""
        process = self._process_of(thread) if thread else None
        if process is None:
            return None
        now_ns = self._clock_ns()
        with self._lock:
            hold = self._holds.get(process)
            if hold is None or _is_over(hold, now_ns):
                self._sweep(now_ns)
                hold = self._holds[process] = Hold(now_ns)
            return hold

    def opened(self, thread: int) -> int:
        """The process opens a file; returns a handle of that open, 0 where it is not known which process it is."""
        process = self._process_of(thread) if thread else None
        with self._lock:
            hold = None if process is None else self._holds.get(process)
            if hold is None:
                return 0
            handle = next(self._handles)
            self._open[handle] = hold
            hold.opens += 1
            hold.used_ns = self._clock_ns()
            return handle

    def closed(self, handle: int) -> None:
        """The file of that handle is closed, by whomever it had been passed on to."""
        with self._lock:
            hold = self._open.pop(handle, None)
            if hold is not None:
                hold.opens -= 1
                hold.used_ns = self._clock_ns()

    def _sweep(self, now_ns: int) -> None:
        """Forget who is let go, once a grace time at most."""
        if now_ns - self._swept_ns >= GRACE_NS:
            self._swept_ns = now_ns
            self._holds = {process: hold for process, hold in self._holds.items() if not _is_over(hold, now_ns)}


def _is_over(hold: Hold, now_ns: int) -> bool:
    return not hold.opens and now_ns - hold.used_ns >= GRACE_NS


class _Known(NamedTuple):
    start: int
    process: Process


class Processes:
    """Tells which process a thread belongs to."""

    def __init__(self) -> None:
        """None is known."""
        self._known: LruCache[int, _Known] = LruCache(_MOST_THREADS)

    def of(self, thread: int) -> Process | None:
        """The process of a thread that waits for an answer, so that it is there; None if `/proc` does not show it.

        A small read in `/proc`, which takes no lock of the process; another one for a thread that is new.
        """
        start = _start_of(thread)
        if start is None:
            return None
        known = self._known.get(thread)
        if known is None or known.start != start:
            pid = _pid_of(thread)
            began = _start_of(pid)
            if began is None:
                return None
            known = _Known(start, (pid, began))
            self._known.put(thread, known)
        return known.process


def _start_of(thread: int) -> int | None:
    """When it started, in ticks since the start of the machine."""
    try:
        fd = os.open(f"/proc/{thread}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # The name, in brackets, may hold anything.
        return int(os.read(fd, 1024).rpartition(b")")[2].split(None, 21)[19])
    except (OSError, ValueError, IndexError):
        return None
    finally:
        os.close(fd)


def _pid_of(thread: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{thread}/status", "rb") as file:
        return int(file.read().partition(b"\nTgid:")[2].split(maxsplit=1)[0])
    return thread
