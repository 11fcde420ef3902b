"""What does the kernel get when a worker does not answer in time?

A read that is blocked in the kernel cannot be taken back. So a *watchdog* looks at the requests every so often:

* A worker that has had the same request for a look or two is relieved (`crew`), so that others are served meanwhile.
* A walk that waits in vain to be told where the branch stands is answered from what is at hand.
* A request whose time is over is answered EIO in the worker's place, with one line in the log that says what was waited
  for. Whatever the worker finds later is taken back and thrown away.
* While too many were given up and have not come back, what would touch the repository fails at once, and what is at
  hand is served (`patience`).
* Where even that does not leave a worker, the watchdog itself takes requests, to refuse them.

Exactly one of worker and watchdog answers. A request is in one of three places:

    pending    a worker has it and serves
    late       a worker has it and was relieved
    nowhere    somebody answers it, or has

and who *pops* it from where it is, which under the interpreter's lock one thread does and no other, is the one who may.
A worker that finds its request gone from `pending` asks `may_answer`. On its way from one place to the next a request
is in both. The kernel never uses a request's number again on one connection, so nobody pops what he does not mean.

What the worker pays for it is one entry in a dictionary and one pop: it looks at no clock. The watchdog knows only when
it saw a request first, and is early rather than late.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import sys
import threading
import time
from typing import Protocol

from moorage.mount.journal.log_format import fields
from moorage.mount.kernel import wire
from moorage.mount.kernel.crew import BUFFER_BYTES, Crew, Worker
from moorage.mount.kernel.unthinking import Handler
from moorage.mount.kernel.wire import Opcode
from moorage.mount.shown.patience import Patience

_log = logging.getLogger(__name__)

LOOKS = 60
"""How often the watchdog looks within the time that a request has."""
LONGEST_LOOK_S = 0.5
EARLY_LOOKS = 3
"""A request may have come just after one look, is answered at another, and the looks are not exactly in time."""
MOST_WAITING = 32
"""Workers that were relieved and are still awaited: more requests than that wait their turn."""
MOST_GIVEN_UP = 32
"""Workers whose requests were given up, and which have not come back: then the repository counts as gone."""
MOST_RELIEVED = MOST_WAITING + MOST_GIVEN_UP
_HEAD_BYTES = 512
"""Of a request: has room for the longest name."""


class Deadlines:
    """Which requests are unanswered, since when, and who may answer each."""

    def __init__(self, timeout_s: float) -> None:
        """Every request is answered within `timeout_s`."""
        self.timeout_s = timeout_s
        self.look_s = min(LONGEST_LOOK_S, timeout_s / LOOKS)
        self.pending: dict[int, Worker] = {}
        """By number. A worker puts a request in before it begins, and pops it before it answers."""
        self._late: dict[int, Worker] = {}
        self._since: dict[int, float] = {}
        """When the watchdog saw a request first; only of those that are still there."""

    def may_answer(self, unique: int) -> bool:
        """For a worker whose request was gone from `pending`: whether it is still the one to answer."""
        return self._late.pop(unique, None) is not None

    def unanswered(self) -> list[int]:
        """The requests that nobody answered until the last look."""
        return list(self._since)

    def look(self, now: float) -> tuple[list[int], list[int]]:
        """The requests that were there at the last look already and whose workers still serve; and all whose time is
        over. Only the watchdog calls this."""
        since = self._since
        try:
            pending, late = list(self.pending), list(self._late)
        except RuntimeError:
            return [], []  # it changed meanwhile; there is another look soon
        self._since = {unique: since.get(unique, now) for unique in (*pending, *late)}
        latest = now - self.timeout_s + EARLY_LOOKS * self.look_s
        overdue = [unique for unique, then in self._since.items() if then <= latest]
        return [unique for unique in pending if unique in since], overdue

    def relieve(self, unique: int) -> Worker | None:
        """Let the worker of a pending request leave when it is done; None when it was quicker."""
        worker = self.pending.get(unique)
        if worker is None:
            return None
        self._late[unique] = worker  # before it goes there: a worker that finds it nowhere would not answer
        if self.pending.pop(unique, None) is None:
            self._late.pop(unique, None)
            return None
        return worker

    def worker_of(self, unique: int) -> Worker | None:
        """Who has an unanswered request."""
        return self.pending.get(unique) or self._late.get(unique)

    def give_up(self, unique: int) -> Worker | None:
        """Take a request away from its worker, which leaves when it is done; None when it was quicker. The caller must
        answer."""
        worker = self.pending.pop(unique, None)
        return self._late.pop(unique, None) if worker is None else worker


class Answers(Protocol):
    """What the watchdog needs of `Operations`. Nothing here may wait for anything but the repository."""

    handlers: list[Handler]

    def unanswered(self, opcode: int, nodeid: int, reply: bytes) -> None:
        """Take back what a reply promised."""
        ...

    def about(self, opcode: int, nodeid: int, buffer: wire.Buffer, length: int) -> str:
        """What a request asks, in words."""
        ...

    def refused(self, opcode: int, nodeid: int, buffer: wire.Buffer, length: int) -> int | None:
        """The answer to a request for which there is no worker."""
        ...


class Watchdog:
    """Answers what is overdue. One thread."""

    def __init__(self, fd: int, deadlines: Deadlines, crew: Crew, answers: Answers, patience: Patience) -> None:
        """Watch over the requests of `deadlines`, which come from `fd`."""
        self._fd = fd
        self._deadlines = deadlines
        self._crew = crew
        self._answers = answers
        self._patience = patience
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._given_up: set[Worker] = set()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fuse-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._is_over.set()

    def join(self) -> None:
        """Wait until it has stopped."""
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(self._deadlines.look_s):
            try:
                self.look(time.monotonic())
            except Exception:  # noqa: BLE001 - nobody watches the watchdog
                _log.exception("the watchdog stumbled")

    def look(self, now: float) -> None:
        """Do what is due at `now`."""
        crew = self._crew
        self._patience.look(now)
        held_up, overdue = self._deadlines.look(now)
        for unique in overdue:
            self._give_up(unique)
        if self._patience.in_vain:
            for unique in self._deadlines.unanswered():
                self._answer_from_memory(unique)
        for unique in held_up:
            awaited = crew.relieved - len(self._given_up)
            if crew.is_over or (awaited < MOST_WAITING and crew.has_room):
                worker = self._deadlines.relieve(unique)
                if worker is not None:
                    crew.relieve(worker)
        self._given_up = {worker for worker in self._given_up if crew.has(worker)}
        self._patience.is_exhausted = len(self._given_up) >= MOST_GIVEN_UP
        self._look_at_device()

    def _answer_from_memory(self, unique: int) -> None:
        """Answer a LOOKUP in the place of a worker that waits in vain, where that is possible."""
        worker = self._deadlines.worker_of(unique)
        if worker is None or not self._patience.is_in_vain(worker.thread.ident or 0):
            return
        header = bytes(worker.buffer[:_HEAD_BYTES])
        length, opcode, _, nodeid, *_ = wire.HEADER_IN.unpack_from(header)
        if opcode != Opcode.LOOKUP or length > len(header):
            return
        try:
            with self._patience.hasty():
                reply = self._answers.handlers[opcode](nodeid, header, length)
        except Exception:  # noqa: BLE001 - it is not at hand, and the worker may still be told
            return
        if self._deadlines.give_up(unique) is None:
            if isinstance(reply, bytes):
                self._answers.unanswered(opcode, nodeid, reply)
            return
        self._leave_behind(worker)
        if isinstance(reply, int):
            self._refuse(unique, reply)
        elif isinstance(reply, bytes):
            try:
                os.writev(self._fd, [wire.HEADER_OUT.pack(wire.HEADER_OUT.size + len(reply), 0, unique), reply])
            except OSError:
                self._answers.unanswered(opcode, nodeid, reply)

    def _leave_behind(self, worker: Worker) -> None:
        worker.is_given_up = True
        self._given_up.add(worker)
        self._crew.relieve(worker)

    def _give_up(self, unique: int) -> None:
        worker = self._deadlines.worker_of(unique)
        if worker is None:
            return
        # The worker reads nothing else into its buffer before it has found its request gone.
        header = bytes(worker.buffer[:_HEAD_BYTES])
        if self._deadlines.give_up(unique) is None:
            return
        length, opcode, _, nodeid, *_ = wire.HEADER_IN.unpack_from(header)
        cause = f"there was no answer within {self._deadlines.timeout_s:g} s: {self._waits_for(worker)}"
        if opcode not in wire.NEVER_ANSWERED:
            self._refuse(unique, errno.EIO)  # after what it waits for is in vain, or the next one waits for it, too
        self._leave_behind(worker)
        what, _, path = self._answers.about(opcode, nodeid, header, min(length, len(header))).partition(" ")
        named = fields(request=what, path=path, errno="EIO", cause=cause)
        _log.error("%s %s%s: EIO because %s", what, path, _part(opcode, header), cause, extra=named)

    def _waits_for(self, worker: Worker) -> str:
        call = self._patience.give_up(worker.thread.ident or 0)
        return f"still {call}" if call else _where(worker)

    def _refuse(self, unique: int, number: int) -> None:
        with contextlib.suppress(OSError):  # nobody waits for it any more
            os.writev(self._fd, [wire.HEADER_OUT.pack(wire.HEADER_OUT.size, -number, unique)])

    def _look_at_device(self) -> None:
        """Workers that are all held up do not see the end, nor what else is asked."""
        buffer = bytearray()
        while ready := self._poll.poll(0):
            if ready[0][1] & ~select.POLLIN:
                self._crew.end()
                return
            if not self._crew.serving:
                self._crew.fill()
            if self._crew.serving:
                return
            buffer = buffer or bytearray(BUFFER_BYTES)
            try:
                length = os.readv(self._fd, [buffer])
            except OSError:
                return  # it was taken back, or this is the end: the next look sees
            _, opcode, unique, nodeid, *_ = wire.HEADER_IN.unpack_from(buffer)
            number = self._answers.refused(opcode, nodeid, buffer, length)
            if number is not None:
                self._refuse(unique, number)


def _part(opcode: int, header: bytes) -> str:
    """Which part of a file is asked for."""
    if opcode != Opcode.READ:
        return ""
    _, offset, size = wire.READ_IN.unpack_from(header, wire.BODY)
    return f" from {offset} to {offset + size}"


def _where(worker: Worker) -> str:
    """What a worker is doing, for people: the innermost function of ours that it is in."""
    frame = sys._current_frames().get(worker.thread.ident or 0)  # noqa: SLF001 - the documented name of it
    while frame is not None and not frame.f_globals.get("__name__", "").startswith("moorage."):
        frame = frame.f_back
    if frame is None:
        return "nobody knows what it waited for"
    return f"still in {frame.f_code.co_qualname} ({frame.f_globals['__name__']}, line {frame.f_lineno})"
