"""Which threads serve, who comes in the place of one that is held up, and when is the last one gone?

A crew is a few workers, each a thread that reads requests and answers them. One that is *relieved* finishes the request
that it has, however long that takes, and leaves; another serves in its place at once. So there are always as many at
the device as at the start, up to a bound on those that are relieved and still there: what blocks them may never end.

The crew has ended when nobody serves any more. Who is relieved is not waited for.

Threads: any.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from moorage.mount.kernel import wire

_log = logging.getLogger(__name__)

BUFFER_BYTES = 128 * 1024 + 4096
"""The kernel wants room for `session.MAX_WRITE_BYTES` and a page."""


class Worker:
    """A thread that serves."""

    __slots__ = ("buffer", "counts", "is_given_up", "is_reading", "thread")

    def __init__(self, run: Callable[[Worker], None], name: str) -> None:
        """A daemon thread, not yet begun, that calls `run`."""
        self.buffer = bytearray(BUFFER_BYTES)
        """Holds the request that it has, until it reads the next one."""
        self.counts = [0] * wire.OPCODE_LIMIT
        """Requests it had, by opcode."""
        self.is_reading = True
        """Whether it has no request, or has not looked at it yet. True before it begins: nobody waits for it."""
        self.is_given_up = False
        """Whether somebody else has answered the request that it has, which is its last one."""
        self.thread = threading.Thread(target=run, args=(self,), name=name, daemon=True)


class Crew:
    """The workers of one session."""

    def __init__(self, size: int, serve: Callable[[Worker], None], most_relieved: int) -> None:
        """`size` workers, each of which runs `serve` until that returns."""
        self._size = size
        self._serve = serve
        self._most_relieved = most_relieved
        self._serving: set[Worker] = set()
        self._relieved: set[Worker] = set()
        self._counts = [0] * wire.OPCODE_LIMIT
        """Of those that left."""
        self.is_over = False
        """Whether nobody comes in the place of who leaves."""
        self._is_told = False
        """Whether everybody is gone, and those who wanted to know it know."""
        self._number = 0
        self._changed = threading.Condition()
        self._on_end: Callable[[], None] = lambda: None
        self._on_empty: Callable[[], None] = lambda: None

    def start(self, on_end: Callable[[], None], on_empty: Callable[[], None]) -> None:
        """Begin. `on_end` is called once, when nobody serves any more, and `on_empty` once when those that were
        relieved are gone too, which may be never."""
        self._on_end, self._on_empty = on_end, on_empty
        with self._changed:
            for _ in range(self._size):
                self._add()

    def relieve(self, worker: Worker) -> None:
        """Let another serve in the place of `worker`, if there may be one more."""
        with self._changed:
            if worker in self._serving:
                self._serving.remove(worker)
                self._relieved.add(worker)
            self._fill()  # also where it has left already
        self._tell()

    def fill(self) -> None:
        """Let as many serve as at the start, as far as there is room."""
        with self._changed:
            self._fill()

    def _fill(self) -> None:
        try:
            while not self.is_over and self.has_room and len(self._serving) < self._size:
                self._add()
        except RuntimeError as error:  # this process has as many threads as it may have
            _log.warning("%d threads serve: %s", len(self._serving), error)

    def end(self) -> None:
        """There is nothing left to serve: nobody comes in the place of who leaves."""
        self.is_over = True
        self._tell()

    @property
    def has_room(self) -> bool:
        """Whether somebody would come in the place of who is relieved."""
        return len(self._relieved) <= self._most_relieved

    @property
    def serving(self) -> int:
        """How many serve."""
        return len(self._serving)

    def has(self, worker: Worker) -> bool:
        """Whether it has not left yet."""
        return worker in self._serving or worker in self._relieved

    @property
    def relieved(self) -> int:
        """How many were relieved and have not left yet."""
        return len(self._relieved)

    def join(self, timeout_s: float | None) -> bool:
        """Wait until everybody is gone; False when the time was over first."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not self._is_told:
                left_s = None if deadline is None else deadline - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return False
                self._changed.wait(left_s)
        return True

    def counts(self) -> list[int]:
        """How many requests they had, by opcode."""
        with self._changed:
            there = [worker.counts for worker in (*self._serving, *self._relieved)]
            return [sum(column) for column in zip(self._counts, *there, strict=True)]

    def workers(self) -> list[Worker]:
        """All that are there."""
        with self._changed:
            return [*self._serving, *self._relieved]

    def _add(self) -> None:
        worker = Worker(self._run, f"fuse-{self._number}")
        self._number += 1
        self._serving.add(worker)
        try:
            worker.thread.start()
        except RuntimeError:
            self._serving.remove(worker)
            raise

    def _run(self, worker: Worker) -> None:
        try:
            self._serve(worker)
        except Exception:  # noqa: BLE001 - what is left of the crew still serves
            _log.exception("a serving thread ended; the others go on")
        with self._changed:
            self._counts = [sum(pair) for pair in zip(self._counts, worker.counts, strict=True)]
            self._serving.discard(worker)
            if worker in self._relieved:
                self._relieved.remove(worker)
                self._fill()  # there may have been no room for it before
        self._tell()

    def _tell(self) -> None:
        """Call what is to be called when somebody was the last one."""
        with self._changed:
            on_end = on_empty = None
            if not self._serving and (self.is_over or not self._relieved):
                self.is_over = True
                on_end, self._on_end = self._on_end, _nothing
                if not self._relieved:
                    on_empty, self._on_empty = self._on_empty, _nothing
        if on_end is not None:
            on_end()
        if on_empty is not None:
            on_empty()
            with self._changed:
                self._is_told = True
                self._changed.notify_all()


def _nothing() -> None:
    """It was called before."""
