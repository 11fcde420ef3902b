"""How far is it, how fast, and how long will it take? One line on the standard error of a terminal.

Work reports every piece it has done, from several threads; here that is an addition under a lock. Drawing is rich's,
ten times a second at most, and starts only when the work has taken a moment: what is done at once leaves no trace.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from moorage.cli.formatting import count, duration, rate, size
from moorage.cli.options import Settings
from moorage.model.progress import SILENT, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

QUIET_S = 0.3
"""Work that takes no longer than this shows nothing."""
REDRAW_S = 0.1


@contextmanager
def shown_progress(settings: Settings) -> Iterator[Progress]:
    """A bar where somebody is looking at the standard error and wants one; else nothing. Gone when the work ends,
    whichever way it does."""
    if settings.quiet or settings.json or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield SILENT
        return
    bar = TerminalProgress()
    try:
        yield bar
    finally:
        bar.finish()


class TerminalProgress:
    """Draws one bar for the phase that is running. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._what = ""
        self._total_bytes: int | None = None
        self._total_files: int | None = None
        self._done_bytes = 0
        self._done_files = 0
        self._begun = 0.0
        self._next_draw = 0.0

    def begin(self, what: str, *, total_bytes: int | None, total_files: int | None) -> None:
        """See `Progress.begin`."""
        with self._lock:
            self._stop()
            self._what, self._total_bytes, self._total_files = what, total_bytes, total_files
            self._done_bytes = self._done_files = 0
            self._begun = time.monotonic()
            self._next_draw = self._begun + QUIET_S

    def advance(self, *, size_bytes: int = 0, files: int = 0) -> None:
        """See `Progress.advance`."""
        with self._lock:
            self._done_bytes += size_bytes
            self._done_files += files
            now = time.monotonic()
            if now >= self._next_draw:
                self._next_draw = now + REDRAW_S
                self._draw(now)

    def finish(self) -> None:
        """See `Progress.finish`."""
        with self._lock:
            self._stop()

    def _draw(self, now: float) -> None:
        is_new = self._bar is None
        if self._bar is None or self._task is None:
            self._bar, self._task = _new_bar(self._what)
        by_bytes = self._total_bytes is not None or self._total_files is None
        done, total = (self._done_bytes, self._total_bytes) if by_bytes else (self._done_files, self._total_files)
        seconds = now - self._begun
        told = told_of_bytes(done, total, seconds) if by_bytes else told_of_files(done, total, seconds)
        self._bar.update(self._task, completed=done, total=total, told=told)
        if is_new:
            self._bar.start()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None


def told_of_bytes(done: int, total: int | None, seconds: float) -> str:
    """`768 MiB of 1.1 GiB, 231 MiB/s, 2 s left`, as far as it is known."""
    amount = size(done) if total is None else f"{size(done)} of {size(total)}"
    return ", ".join(part for part in (amount, rate(done, seconds), _left(done, total, seconds)) if part)


def told_of_files(done: int, total: int | None, seconds: float) -> str:
    """`12,000 of 20,000 files, 1 s left`, as far as it is known."""
    amount = count(done, "file") if total is None else f"{count(done)} of {count(total, 'file')}"
    return ", ".join(part for part in (amount, _left(done, total, seconds)) if part)


def _left(done: int, total: int | None, seconds: float) -> str:
    if not total or done <= 0 or done >= total:
        return ""
    left = seconds * (total - done) / done
    return f"{max(1, left):.0f} s left" if left < 59.5 else f"{duration(left)} left"


def _new_bar(what: str) -> tuple[Bar, TaskID]:
    """A bar of rich, which is imported only now: most commands never draw one."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"))
    bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
    return bar, bar.add_task(what, total=None, told="")
