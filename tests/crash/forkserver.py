"""How can a test run thousands of short processes, each from the same warm start, and see how each one ended?

A server process, single-threaded, imports what is needed once and forks a child for each function that it is asked to
run: 10 ms instead of 150. The child is watched to its end, traced where that is asked for (see `tracer`), and killed
when it is late. What it says on its way is kept in memory that outlives it, so that an acknowledgement given just
before a SIGKILL is not lost.

    with ForkServer() as server:
        ended = server.run(operations.commit, folder, trace=Trace(folder, at=17))

The function must lie in a module that both processes can import; it is called with `say` and the arguments.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import io
import os
import pickle
import platform
import signal
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn, Self

from tests.crash.tracer import Touch, Trace, follow, submit_to_tracing

ROOT = Path(__file__).resolve().parents[2]
_LENGTH = struct.Struct("<Q")
_RAISED = 70
"""Exit code of a child whose function raised (EX_SOFTWARE)."""

Say = Callable[[Any], None]
"""Leaves something that can be pickled for the test to find, whatever becomes of the process."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended, and what it left."""

    status: int
    """0; 70 when the function raised; minus the signal that killed it."""
    late: bool
    """Whether it was killed because it took too long."""
    said: tuple[Any, ...]
    """What the function said, in order."""
    touches: tuple[Touch, ...]
    """The system calls that were counted, the last one being the one acted on."""
    printed: str
    """Its standard output and error, with the traceback of what was raised."""
    meanwhile: Ended | None = None
    """How the process ended that ran while this one was paused; None where none did."""

    @property
    def killed(self) -> bool:
        """Whether it ended by SIGKILL, and not for being late."""
        return self.status == -signal.SIGKILL and not self.late


class ForkServer:
    """The test's end. Not thread-safe; one run at a time."""

    def __init__(self) -> None:
        """Start the server."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from tests.crash.forkserver import serve; serve()"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )

    def run(
        self,
        function: Callable[..., None],
        *args: object,
        trace: Trace | None = None,
        timeout_s: float = 60,
        meanwhile: Callable[[Say], None] | None = None,
        **kwargs: object,
    ) -> Ended:
        """Run `function(say, *args, **kwargs)` in a child of its own; `meanwhile` in another, while it is paused."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        _send(self._process.stdin, (function, args, kwargs, trace, timeout_s, meanwhile))
        ended = _receive(self._process.stdout)
        assert isinstance(ended, Ended), "the fork server is gone"
        return ended

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _send(stream: IO[bytes], value: object) -> None:
    data = pickle.dumps(value)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _receive(stream: IO[bytes]) -> object:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    return pickle.loads(stream.read(_LENGTH.unpack(head)[0]))


@functools.cache
def tracing_missing() -> str | None:
    """Tracing of system calls, for `tests.needs`."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "system calls are traced on Linux on x86-64 only"
    with ForkServer() as server:
        ended = server.run(_nothing, trace=Trace("/nowhere"))
    return None if ended.status == 0 else f"ptrace or seccomp is not allowed here: {ended.printed[-200:]}"


def _nothing(say: Say) -> None:
    """Say nothing."""


# -- the server ------------------------------------------------------------------------------------


def serve() -> None:
    """Answer requests on standard input until it ends."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # the answers are nobody else's to write to
    while True:
        request = _receive(requests)
        if request is None:
            return
        assert isinstance(request, tuple)
        _send(answers, _run(*request))


def _run(
    function: Callable[..., None],
    args: Sequence[object],
    kwargs: dict[str, object],
    trace: Trace | None,
    timeout_s: float,
    meanwhile: Callable[[Say], None] | None,
) -> Ended:
    said, printed = _memory_file("said"), _memory_file("printed")
    other: list[Ended] = []
    pid = os.fork()
    if pid == 0:
        _be_child(lambda: function(functools.partial(_say, said), *args, **kwargs), printed, trace)

    def run_other() -> None:
        assert meanwhile is not None
        other.append(_run(meanwhile, (), {}, None, timeout_s / 2, None))

    os.setpgid(pid, pid)
    with _alarm(timeout_s, pid) as late:
        status, touches = follow(pid, trace, run_other) if trace is not None else (os.waitpid(pid, 0)[1], [])
    return Ended(
        os.waitstatus_to_exitcode(status),
        bool(late),
        tuple(_all_said(_contents(said))),
        tuple(touches),
        _contents(printed).decode(errors="replace"),
        other[0] if other else None,
    )


@contextlib.contextmanager
def _alarm(timeout_s: float, pid: int) -> Iterator[list[int]]:
    """Kill the process and its children when the time is over, which the list then tells. May be nested."""
    late: list[int] = []

    def on_alarm(number: int, frame: object) -> None:
        late.append(number)
        os.killpg(pid, signal.SIGKILL)

    handler = signal.signal(signal.SIGALRM, on_alarm)
    left_s, _ = signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        yield late
    finally:
        signal.setitimer(signal.ITIMER_REAL, left_s)
        signal.signal(signal.SIGALRM, handler)


def _be_child(call: Callable[[], None], printed: int, trace: Trace | None) -> NoReturn:
    status = _RAISED
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        os.setpgid(0, 0)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        if trace is not None:
            submit_to_tracing(trace)
        call()
        status = 0
    except BaseException:  # noqa: BLE001  # whatever it was, the server's code must not go on in this process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _memory_file(name: str) -> int:
    """Appended to, else processes that share its descriptor would write over one another: a memfd has no lock on its
    position."""
    fd = os.memfd_create(name)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    return fd


def _say(said: int, value: object) -> None:
    data = pickle.dumps(value)
    os.write(said, _LENGTH.pack(len(data)) + data)


def _contents(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read()


def _all_said(data: bytes) -> list[object]:
    """What was said in full; a process killed in the middle of a word leaves half of one."""
    found: list[object] = []
    stream = io.BytesIO(data)
    while len(head := stream.read(_LENGTH.size)) == _LENGTH.size:
        (length,) = _LENGTH.unpack(head)
        word = stream.read(length)
        if len(word) < length:
            break
        found.append(pickle.loads(word))
    return found
