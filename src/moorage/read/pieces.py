"""Which piece of a file is made next, who waits for which, and which can be had?

The rules of `assembly`, where several threads make the pieces of one file while somebody reads it; nothing is read or
written here.

* A piece is given out once. The next one is one that somebody waits for, or the next from where a reader last looked
  for one that nobody had begun: so they are ahead of a reader wherever he starts.
* Who comes to a piece that is being made, or is the next to be, waits for it, and is woken for it alone. Who comes to
  another is told to look elsewhere, and moves the threads there.
* The last few pieces stay in memory, those longest that a reader who comes to them finds nowhere else.
* Nobody gets far ahead of a reader who keeps up, since what is ahead of him takes the processors that he waits for; but
  nobody waits for one who takes his time.

Threads: everything here may be called from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import IntEnum

from moorage.format.stored import Bytes

AHEAD = 6
"""Pieces that are kept in memory, beside those just being written; and the most that are made for a reader who keeps
up, from where he is."""
FETCHED_AHEAD = 16
"""The most pieces, from the next one, that are got into the page cache before their turn. Never more than were made in
a row, so that little is read for a reader who jumps about."""
FETCHED_TOGETHER = 8
"""Got into the page cache at once, so that who does it seldom wants the interpreter."""
PACE_S = 0.004
"""How long a thread that is ahead waits for the reader before it makes a piece all the same: so files are assembled at
some 300 MB/s a thread, whatever their readers do."""
PATIENCE_S = 2.0
"""A piece takes a few milliseconds. If it takes this long, something hangs, and perhaps not where the reader looks."""
QUIET_S = 0.05
"""A reader who asks for nothing for so long is done, or takes his time."""
MOST_QUIET_WAIT_S = 1.0
"""After the last piece was made what is left is copied, whoever still reads."""


class State(IntEnum):
    """Of a piece. From `MADE` on it may be in memory."""

    EMPTY = 0
    """Nobody has begun."""
    BUSY = 1
    """It is being decoded."""
    MADE = 2
    """It was decoded, and is being written."""
    LATER = 3
    """It was decoded, and is copied later."""
    COPIED = 4
    """It is being copied, or was, and nobody may read it from the file."""
    DONE = 5
    """It was decoded, and is in the file."""


class Pieces:
    """Of one file."""

    def __init__(self, count: int, *, is_read_meanwhile: bool) -> None:
        """So many, none of them begun. Unless the file `is_read_meanwhile`, nobody calls `find`."""
        self._states = bytearray(count)
        self._made: dict[int, list[Bytes]] = {}
        """Those in memory, oldest first."""
        self._next = self._row = self._fetch = 0
        """The next piece; where its row began; and the next that should be got into the page cache."""
        self._reached = 0 if is_read_meanwhile else count + AHEAD
        """The piece in which a reader was last; far behind all of them where there is none."""
        self._read_s = time.monotonic() if is_read_meanwhile else 0.0
        """When that was."""
        self._threads = 0
        """That take the next pieces as soon as they are done with theirs."""
        self._has_ended = False
        self._lock = threading.Lock()
        self._awaited: dict[int, threading.Condition] = {}
        """By piece: it can be read, or no more will come. Each its own, so that nobody is woken for another's."""
        self._has_moved = threading.Condition(self._lock)
        """A reader has got to another piece, or all is over."""
        self._is_quiet = threading.Condition(self._lock)
        """Nobody reads any more, or all is over."""
        self._wants_fetch = threading.Condition(self._lock)
        """More should be got into the page cache, or all is over."""

    def __len__(self) -> int:
        """How many there are."""
        return len(self._states)

    def count(self, state: State) -> int:
        """How many are in this state."""
        return self._states.count(state)

    # -- for who reads -------------------------------------------------------------------------------------

    def find(self, first: int, last: int) -> list[tuple[int, list[Bytes] | None]] | None:
        """The state of each piece from `first` up to `last`, none of them below `MADE`, and its bytes where they are in
        memory. Waits for those that are being made, or are about to be; None where one is not, or does not come."""
        with self._lock:
            self._read_s = time.monotonic()
            if self._reached != first:
                self._reached = first
                self._has_moved.notify_all()
            while (missing := self._missing(first, last)) >= 0:
                if self._states[missing] == State.EMPTY and not 0 <= missing - self._next < self._threads:
                    self._jump(missing)
                    return None
                if self._has_ended or not self._wait_for(missing):
                    return None
            return [(self._states[piece], self._made.get(piece)) for piece in range(first, last)]

    def reader_left(self) -> None:
        """Nobody reads any more, and nobody is waited for. Whoever reads again is."""
        with self._lock:
            self._reached, self._read_s = len(self._states) + AHEAD, 0.0
            self._has_moved.notify_all()
            self._is_quiet.notify_all()

    def _wait_for(self, piece: int) -> bool:
        """Under the lock, which is let go meanwhile: until it can be read, or is known not to come; False where nothing
        happens to it for too long."""
        state = self._states[piece]
        awaited = self._awaited.setdefault(piece, threading.Condition(self._lock))
        return awaited.wait(PATIENCE_S) or self._states[piece] != state

    def _missing(self, first: int, last: int) -> int:
        """Under the lock: the first of these pieces that is not there; -1 where all are."""
        return next((piece for piece in range(first, last) if self._states[piece] < State.MADE), -1)

    # -- for who makes them --------------------------------------------------------------------------------

    def work_with(self, threads: int) -> None:
        """So many threads will `take` pieces."""
        self._threads = threads

    def take(self) -> int | None:
        """The next piece, which nobody else has; None where there is none, or all is over."""
        with self._lock:
            patient_until = time.monotonic() + PACE_S
            while not self._has_ended:
                piece = awaited = next((piece for piece in self._awaited if self._states[piece] == State.EMPTY), -1)
                if piece < 0:
                    piece = self._empty_after(self._next)
                if piece == len(self._states):
                    return None
                left_s = patient_until - time.monotonic()
                if piece == awaited or piece < self._reached + AHEAD or left_s <= 0:
                    self._states[piece] = State.BUSY
                    if piece != awaited:
                        if piece < self._next:
                            self._jump(piece)
                        self._next = piece + 1
                    self._next = self._empty_from(self._next)
                    if self._to_fetch():
                        self._wants_fetch.notify()
                    return piece
                self._has_moved.wait(left_s)
            return None

    def take_fetch(self) -> range | None:
        """The next pieces that should be got into the page cache, which waits until there are some; None when there are
        none that nobody has begun, or all is over."""
        with self._lock:
            while not self._has_ended and State.EMPTY in self._states:
                some = self._to_fetch()
                if some:
                    self._fetch = some.stop
                    return some
                self._wants_fetch.wait()
            return None

    def _to_fetch(self) -> range:
        """Under the lock: what should be got into the page cache now, perhaps nothing."""
        ahead = min(FETCHED_AHEAD, self._next - self._row)
        start, stop = max(self._fetch, self._next), min(self._next + ahead, len(self._states))
        if stop < len(self._states) and stop - start < min(FETCHED_TOGETHER, ahead):
            return range(0)
        return range(start, min(stop, start + FETCHED_TOGETHER))

    def _jump(self, piece: int) -> None:
        """Under the lock: go on there, as if nothing had been before it."""
        self._next = self._row = self._fetch = piece

    def take_later(self) -> int | None:
        """The next piece that was left for later, as `take`."""
        with self._lock:
            piece = -1 if self._has_ended else self._states.find(State.LATER)
            if piece < 0:
                return None
            self._states[piece] = State.COPIED
            return piece

    def becomes(self, piece: int, state: State, made: list[Bytes] | None = None) -> None:
        """It has got so far, and `made` is what is in it; who waits for it is told."""
        with self._lock:
            if made is not None:
                self._made[piece] = made
            awaited = self._awaited.pop(piece, None)
            if awaited is not None:
                awaited.notify_all()
            self._states[piece] = state
            self._drop()

    def is_near(self, piece: int) -> bool:
        """Whether it is made for the reader who moved last, who may have got further while he waits for it."""
        return -AHEAD < piece - self._reached < AHEAD

    def is_left_behind(self, piece: int) -> bool:
        """Whether no reader is near to it, waits for it, or is about to come to it."""
        return piece < self._reached and not self.is_near(piece) and piece not in self._awaited

    def wait_for_quiet(self, keep_going: Callable[[], bool]) -> None:
        """Until the reader is done, or has had time enough; not at all where nothing was left for later."""
        with self._lock:
            patient_until = time.monotonic() + MOST_QUIET_WAIT_S
            while State.LATER in self._states and not self._has_ended and keep_going():
                wait_s = min(self._read_s + QUIET_S, patient_until) - time.monotonic()
                if wait_s <= 0:
                    return
                self._is_quiet.wait(wait_s)

    def is_over(self) -> bool:
        """Whether no more will come."""
        return self._has_ended

    def end(self) -> None:
        """No more will come: nobody waits any longer."""
        with self._lock:
            self._has_ended = True
            for awaited in self._awaited.values():
                awaited.notify_all()
            for other in (self._has_moved, self._is_quiet, self._wants_fetch):
                other.notify_all()

    def _empty_after(self, piece: int) -> int:
        """Under the lock: the first from there, or else of all, that nobody has begun; the number of all where there is
        none."""
        found = self._empty_from(piece)
        return found if found < len(self._states) else self._empty_from(0)

    def _empty_from(self, piece: int) -> int:
        """Under the lock: the first from there that nobody has begun; the number of all where there is none."""
        found = self._states.find(State.EMPTY, piece)
        return len(self._states) if found < 0 else found

    def _drop(self) -> None:
        """Under the lock: keep few pieces in memory, and those that a reader who comes to them finds nowhere else."""
        unneeded = [
            piece
            for piece in self._made
            if self._states[piece] == State.DONE or (self._states[piece] != State.MADE and not self._is_ahead(piece))
        ]
        for piece in unneeded[: max(0, len(self._made) - AHEAD)]:
            del self._made[piece]

    def _is_ahead(self, piece: int) -> bool:
        """Whether a reader is there, or about to come there."""
        return 0 <= piece - self._reached < AHEAD
