"""How is a demonstration shown? Commands as a user would type them, what they print, and how long each took; in a place
of its own, of which nothing is left afterwards, whatever happens.

moorage's own commands run in this process, as `moorage.cli.main.run` runs them; other programs run as programs.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from moorage.cli.errors import ExitCode
from moorage.cli.formatting import Cell, duration, plain, rate, table
from moorage.cli.main import run
from moorage.cli.options import REPOSITORY_VARIABLE, Settings
from moorage.cli.output import flush, write, write_error
from moorage.cli.style import Style
from moorage.errors import MoorageError
from moorage.mount import registry, serve

_WIDTH = 78
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class SceneFailed(Exception):
    """A command of the demonstration did not do what it should; it has said why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a step took."""

    what: str
    seconds: float
    size_bytes: int
    """That went through it; 0 where bytes say nothing."""


@dataclass(slots=True)
class Stage:
    """Where the commands are shown."""

    style: Style
    timings: list[Timing] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """A new scene."""
        rule = "─" if (sys.stdout.encoding or "").lower() == "utf-8" else "-"
        write("")
        write(f"{self.style.bold(text)}  {self.style.faint(rule * max(3, _WIDTH - len(text) - 2))}")

    def say(self, *lines: str) -> None:
        """Something to know."""
        for line in lines:
            write(self.style.faint(f"# {line}"))

    def prompt(self, text: str) -> None:
        """A command, as it would be typed."""
        first, *rest = text.splitlines()
        write(f"{self.style.good('$')} {self.style.bold(first)}")
        for line in rest:
            write(f"  {self.style.bold(line)}")
        flush()

    def moorage(self, *words: str, what: str = "", size_bytes: int = 0) -> None:
        """Run a command of moorage. Raises `SceneFailed`, `KeyboardInterrupt`."""
        code = self.attempt(*words, what=what, size_bytes=size_bytes)
        if code:
            raise SceneFailed(code)

    def attempt(self, *words: str, what: str = "", size_bytes: int = 0) -> int:
        """The same, when it may fail: returns the exit code. Raises `KeyboardInterrupt`."""
        self.prompt(f"moorage {shlex.join(words)}")
        begun = time.monotonic()
        code = run(words, Settings(is_terminal=True))
        if code == ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        if code == ExitCode.OK:
            self._timed(what, begun, size_bytes)
        return code

    def program(self, shown: str, words: Sequence[str], what: str = "", size_bytes: int = 0) -> str:
        """Run another program, shown as `shown`, and return what it printed. Raises `SceneFailed`."""
        self.prompt(shown)
        begun = time.monotonic()
        done = subprocess.run(words, check=False, capture_output=True, stdin=subprocess.DEVNULL)
        self._timed(what, begun, size_bytes)
        text = done.stdout.decode("utf-8", "replace").rstrip("\n")
        for line in text.splitlines():
            write(line)
        if done.returncode:
            write_error(done.stderr.decode("utf-8", "replace").rstrip("\n"))
            raise SceneFailed(1)
        return text

    def _timed(self, what: str, begun: float, size_bytes: int) -> None:
        if what:
            self.timings.append(Timing(what, time.monotonic() - begun, size_bytes))

    def show_timings(self) -> None:
        """How fast each step was."""
        rows: list[list[Cell]] = [
            [
                (timing.what, plain),
                (duration(timing.seconds), self.style.bold),
                (rate(timing.size_bytes, timing.seconds), self.style.good),
            ]
            for timing in self.timings
        ]
        for line in table(rows, "<>>"):
            write(line)


@contextmanager
def own_place() -> Iterator[Path]:
    """A temporary directory to work in, with the user's caches, records and settings out of reach.

    Afterwards whatever is mounted below it is unmounted and all of it is removed: on success, on failure, on Ctrl-C,
    and when the terminal or the machine goes away (SIGHUP, SIGTERM).
    """
    before, folder = os.getcwd(), os.path.realpath(tempfile.mkdtemp(prefix="moorage-demo-"))
    hidden = {"XDG_CACHE_HOME": f"{folder}/.cache", "XDG_STATE_HOME": f"{folder}/.state", REPOSITORY_VARIABLE: None}
    kept = {name: os.environ.get(name) for name in hidden}
    handlers = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
    try:
        _set_environment(hidden)
        os.chdir(folder)
        yield Path(folder)
    finally:
        for number in (*_SIGNALS, signal.SIGINT):  # a second Ctrl-C would leave half of it behind
            handlers.setdefault(number, signal.getsignal(number))
            signal.signal(number, signal.SIG_IGN)
        try:
            os.chdir(before)
            _unmount_below(folder)
            shutil.rmtree(folder)
        finally:
            _set_environment(kept)
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _set_environment(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _unmount_below(folder: str) -> None:
    for record in registry.mounts():
        if record.mountpoint.startswith(folder + os.sep):
            try:
                serve.umount(Path(record.mountpoint))
            except MoorageError:
                with suppress(MoorageError):
                    serve.umount(Path(record.mountpoint), lazy=True)
