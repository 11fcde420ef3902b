"""Is every request answered in time and exactly once, and does what is stuck cost nobody else anything?"""

from __future__ import annotations

import errno
import itertools
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from moorage.mount.host.owner import Owner
from moorage.mount.kernel import deadline, wire
from moorage.mount.kernel.crew import Worker
from moorage.mount.kernel.deadline import Deadlines
from moorage.mount.kernel.operations import Operations
from moorage.mount.kernel.session import Session
from moorage.mount.kernel.wire import Opcode
from moorage.mount.shown.inodes import ROOT, InodeTable
from moorage.mount.shown.patience import Patience
from tests.mount.fakes import FakeRepository
from tests.unit.mount.kernel.test_session import TIMEOUT_S, answer, request

REQUESTS = 20_000 if os.environ.get("MOORAGE_SOAK") == "1" else 400
LONG_S = 1e9
"""A time that is over for every request."""


class Stuck:
    """A handler that waits until it is let go."""

    def __init__(self, inner: Callable[..., Any]) -> None:
        self.free = threading.Event()
        self.entered = threading.Semaphore(0)
        self._inner = inner

    def __call__(self, nodeid: int, buffer: wire.Buffer, length: int) -> Any:
        reply = self._inner(nodeid, buffer, length)
        self.entered.release()
        assert self.free.wait(TIMEOUT_S)
        return reply


class Bench:
    """A session whose watchdog looks when the test says so."""

    def __init__(self, threads: int, *, is_watched: bool = True) -> None:
        self.kernel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.kernel.settimeout(TIMEOUT_S)
        view = FakeRepository().fixed_view({"f": b"data", "d": {}})
        self.table = InodeTable(view.folder)
        self.operations = Operations(view, self.table, Owner(0, 0))
        self.patience = Patience(10)
        patience = self.patience if is_watched else None
        self.session = Session(theirs.detach(), self.operations, threads=threads, patience=patience)
        self.stuck = Stuck(self.operations.handlers[Opcode.LOOKUP])
        self.operations.handlers[Opcode.LOOKUP] = self.stuck
        self.ended = threading.Event()
        self._now = itertools.count(step=LONG_S)
        self.session._crew.start(self.ended.set, self.session._close)

    def look(self) -> None:
        """Time goes by; what was there at the last look is over at this one."""
        assert self.session._watchdog is not None
        self.session._watchdog.look(next(self._now))

    def look_at_once(self) -> None:
        """No time goes by."""
        assert self.session._watchdog is not None
        self.session._watchdog.look(0.0)

    def ask(self, *uniques: int, opcode: int = Opcode.LOOKUP) -> None:
        """Ask for something that is stuck, and wait until each of these is."""
        for unique in uniques:
            self.kernel.send(request(opcode, ROOT, b"f\0", unique))
        for _ in uniques:
            assert self.stuck.entered.acquire(timeout=TIMEOUT_S)

    def works(self, unique: int) -> bool:
        """Whether something else is answered."""
        self.kernel.send(request(Opcode.STATFS, unique=unique))
        return answer(self.kernel)[:2] == (0, unique)

    def is_exhausted(self) -> bool:
        """Whether the repository fails at once."""
        return self.patience.is_exhausted

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what is going to be so."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline
            os.sched_yield()


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(threads: int = 1, *, is_watched: bool = True) -> Bench:
        made.append(Bench(threads, is_watched=is_watched))
        return made[-1]

    yield make
    for one in made:
        one.stuck.free.set()
        one.kernel.close()
        assert one.session.join(TIMEOUT_S)
        assert one.ended.is_set()


def test_an_overdue_request_is_eio_in_one_line(bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture) -> None:
    one = bench()
    one.ask(7)
    one.look()
    one.look()
    assert answer(one.kernel)[:2] == (-errno.EIO, 7)
    assert [record.message.partition(" (")[0] for record in caplog.records] == [
        "LOOKUP /f: EIO because there was no answer within 10 s: still in Session._serve"
    ]
    assert one.works(8)


def test_what_comes_too_late_is_taken_back(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.ask(7)
    assert len(one.table) == 1
    one.look()
    one.look()
    assert answer(one.kernel)[:2] == (-errno.EIO, 7)
    one.stuck.free.set()
    one.until(lambda: len(one.session._crew.workers()) == 1)
    assert len(one.table) == 0
    assert one.works(8)  # and nothing else is in the socket


def test_control_without_a_watchdog_there_is_no_answer(bench: Callable[..., Bench]) -> None:
    one = bench(is_watched=False)
    one.ask(7)
    one.kernel.settimeout(0.5)
    with pytest.raises(TimeoutError):
        answer(one.kernel)
    one.stuck.free.set()
    assert answer(one.kernel)[:2] == (0, 7)


def test_who_is_held_up_is_relieved_and_still_answers(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.ask(7)
    one.look_at_once()
    one.look_at_once()
    assert one.works(8)
    one.stuck.free.set()
    assert answer(one.kernel)[:2] == (0, 7)
    assert len(one.table) == 1
    one.until(lambda: len(one.session._crew.workers()) == 1)
    assert one.session.counts() == {"LOOKUP": 1, "STATFS": 1}


def test_a_request_that_needs_no_answer_gets_none(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.operations.handlers[Opcode.FORGET] = Stuck(one.operations.handlers[Opcode.FORGET])
    one.stuck = one.operations.handlers[Opcode.FORGET]  # type: ignore[assignment]  # it is one
    one.ask(7, opcode=Opcode.FORGET)
    one.look()
    one.look()
    assert one.works(8)


def test_at_most_so_many_wait_and_the_repository_fails_fast(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "MOST_WAITING", 3)
    monkeypatch.setattr(deadline, "MOST_GIVEN_UP", 3)
    one = bench()
    for unique in range(4):
        one.ask(unique)  # each finds a worker only because the one before was relieved
        one.look_at_once()
        one.look_at_once()
    assert len(one.session._crew.workers()) == 4
    assert not one.is_exhausted()
    one.look()
    one.look()
    assert sorted(answer(one.kernel)[:2] for _ in range(4)) == [(-errno.EIO, unique) for unique in range(4)]
    assert one.is_exhausted()
    assert one.works(9)
    one.stuck.free.set()
    one.until(lambda: len(one.session._crew.workers()) == 1)
    one.look()
    assert not one.is_exhausted()


def test_where_no_worker_is_left_the_watchdog_refuses(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bench()
    monkeypatch.setattr(one.session._crew, "_most_relieved", 0)
    one.ask(1)
    one.look()
    one.look()
    assert answer(one.kernel)[:2] == (-errno.EIO, 1)
    assert one.session._crew.serving == 0
    one.kernel.send(request(Opcode.STATFS, unique=2))
    one.kernel.send(request(Opcode.FORGET, 12345, wire.FORGET_IN.pack(3)))
    one.look()
    assert answer(one.kernel)[:2] == (-errno.EIO, 2)
    one.stuck.free.set()
    one.until(lambda: one.session._crew.serving == 1)
    assert one.works(3)


def test_a_process_that_may_have_no_more_threads(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = bench()
    one.ask(1)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        one.look()
        one.look()
        assert answer(one.kernel)[:2] == (-errno.EIO, 1)
        assert one.session._crew.serving == 0
        one.kernel.send(request(Opcode.STATFS, unique=2))
        one.look()
        assert answer(one.kernel)[:2] == (-errno.EIO, 2)
        assert "can't start new thread" in caplog.text
    one.kernel.send(request(Opcode.STATFS, unique=3))
    one.look()
    assert answer(one.kernel)[:2] == (0, 3)


def test_the_end_does_not_wait_for_who_is_stuck(bench: Callable[..., Bench]) -> None:
    one = bench(2)
    one.ask(1, 2)  # nobody is left to see the end
    one.kernel.close()
    one.look()
    assert not one.ended.is_set()
    one.look_at_once()
    assert one.ended.is_set()
    assert len(one.session._crew.workers()) == 2


def test_the_thread_looks_by_itself(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.session._deadlines.timeout_s, one.session._deadlines.look_s = 0.2, 0.01
    assert one.session._watchdog is not None
    one.session._watchdog.start()
    one.ask(7)
    assert answer(one.kernel)[:2] == (-errno.EIO, 7)


def test_under_load_every_request_is_answered_once(bench: Callable[..., Bench]) -> None:
    """Handlers that take about as long as they may, so that worker and watchdog come at the same moment."""
    one = bench(4)
    deadlines, choose = one.session._deadlines, random.Random(1)
    deadlines.timeout_s, deadlines.look_s = 0.06, 0.001
    lookup, pauses = one.stuck._inner, [choose.uniform(0.04, 0.07) for _ in range(REQUESTS)]

    def slow(nodeid: int, buffer: wire.Buffer, length: int) -> Any:
        reply = lookup(nodeid, buffer, length)
        threading.Event().wait(pauses[wire.HEADER_IN.unpack_from(buffer)[2]])
        return reply

    one.operations.handlers[Opcode.LOOKUP] = slow
    assert one.session._watchdog is not None
    one.session._watchdog.start()
    sender = threading.Thread(
        target=lambda: [one.kernel.send(request(Opcode.LOOKUP, ROOT, b"f\0", unique)) for unique in range(REQUESTS)]
    )
    sender.start()
    found = [answer(one.kernel)[:2] for _ in range(REQUESTS)]
    sender.join(TIMEOUT_S)
    assert sorted(unique for _, unique in found) == list(range(REQUESTS))
    one.until(lambda: len(one.session._crew.workers()) == 4)
    one.kernel.setblocking(False)
    with pytest.raises(BlockingIOError):  # no second answer to any
        answer(one.kernel)
    one.kernel.setblocking(True)
    # As many lookups count as the kernel was told of.
    assert sum(map(one.table.lookups, one.table._places)) == sum(error == 0 for error, _ in found)


# -- who may answer ---------------------------------------------------------------------------------------


class Hooked(dict[int, Worker]):
    """A dictionary before whose every step something else happens."""

    def __init__(self, step: Callable[[], None]) -> None:
        super().__init__()
        self._step = step

    def __setitem__(self, unique: int, worker: Worker) -> None:
        self._step()
        super().__setitem__(unique, worker)

    def get(self, unique: int, default: Any = None) -> Any:
        self._step()
        return super().get(unique, default)

    def pop(self, unique: int, *default: Any) -> Any:
        self._step()
        return super().pop(unique, *default)


def answers(watchdog: list[str], worker_at: int, second_at: int) -> list[str]:
    """Who answers when the worker's two steps happen before those two steps of the watchdog."""
    steps = itertools.count()
    found: list[str] = []
    deadlines = Deadlines(10)
    is_done = False

    def step() -> None:
        number = next(steps)
        if number == worker_at:
            first()
        if number == second_at:
            second()

    def first() -> None:
        nonlocal is_done
        if dict.pop(deadlines.pending, 7, None) is not None:
            is_done = True
            found.append("worker")

    def second() -> None:
        nonlocal is_done
        if not is_done and dict.pop(deadlines._late, 7, None) is not None:
            found.append("worker")
        is_done = True

    deadlines.pending, deadlines._late = Hooked(step), Hooked(step)
    dict.__setitem__(deadlines.pending, 7, Worker(lambda _: None, "x"))
    for what in watchdog:
        if what == "relieve":
            deadlines.relieve(7)
        elif deadlines.give_up(7) is not None:
            found.append("watchdog")
    if next(steps) <= worker_at:
        first()
    if not is_done:
        second()
    assert not deadlines.pending
    assert not deadlines._late
    return found


@pytest.mark.parametrize("watchdog", [["relieve"], ["give up"], ["relieve", "give up"]])
def test_exactly_one_answers(watchdog: list[str]) -> None:
    for first in range(9):
        for second in range(first, 9):
            assert len(answers(watchdog, first, second)) == 1, (first, second)
