"""Where do results go? Lines for people or JSON for programs, on the standard output and nothing else there.

Under --json a command's result is one object, or one a line where it is a list; `Output` writes whichever was asked
for. Notes, which explain and never are a result, go to the standard error; most of them only where that is a terminal.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping

from moorage.cli.options import Settings
from moorage.cli.style import Style

_STANDARD_OUTPUT = "the standard output"

_STREAMS = (("stdin", 0, "r", os.O_WRONLY), ("stdout", 1, "w", os.O_RDONLY), ("stderr", 2, "w", os.O_WRONLY))

Record = Mapping[str, object]


class Output:
    """What one command prints."""

    def __init__(self, settings: Settings) -> None:
        """Look at the standard output once, now."""
        self.is_json = settings.json
        self.is_quiet = settings.quiet
        self.is_terminal = sys.stdout.isatty() if settings.is_terminal is None else settings.is_terminal
        self.style = Style.of(sys.stdout, is_terminal=sys.stdout.isatty())
        self._is_unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"

    def record(self, record: Record, lines: Iterable[str]) -> None:
        """A result: `record` under --json, else `lines`."""
        if self.is_json:
            self.json(record)
        else:
            self.lines(lines)

    def json(self, record: Record) -> None:
        """One object on one line."""
        write(json.dumps(record, ensure_ascii=not self._is_unicode))

    def lines(self, lines: Iterable[str]) -> None:
        """Lines of a result."""
        for line in lines:
            write(line)

    def done(self, record: Record, *lines: str) -> None:
        """What a command that changes something says afterwards: nothing when quiet."""
        if self.is_json:
            self.json(record)
        elif not self.is_quiet:
            self.lines(lines)

    def note(self, *lines: str) -> None:
        """An explanation, for somebody who is looking."""
        if sys.stderr.isatty():
            self.explain(*lines)

    def explain(self, *lines: str) -> None:
        """The same where a result alone would be taken for something else: in the log of a script, too."""
        if not self.is_json and not self.is_quiet:
            write_error("\n".join(lines))


def write(line: str) -> None:
    """One line on the standard output. Raises `OSError`."""
    with writing():
        sys.stdout.write(line + "\n")


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Let an error of the standard output say whose it is; that its reader has gone is another matter."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, _STANDARD_OUTPUT) from error


def write_error(line: str) -> None:
    """One line on the standard error; a closed one is not worth another error."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def prepare_streams() -> None:
    """Let no name stop a listing: what the terminal's encoding lacks is written as an escape.

    An input or output that was closed (`moorage log >&-`) is one that fails when it is used; errors then go nowhere. In
    any case the number is taken, so that no file of a repository gets it.
    """
    for name, number, mode, way in _STREAMS:
        if getattr(sys, name) is None:
            null = os.open(os.devnull, way)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush() -> None:
    """Have everything written, so that an error of it is met here and not at the exit. Raises `OSError`."""
    with writing():
        sys.stdout.flush()


def let_go() -> None:
    """The standard output takes no more: what is still buffered for it goes nowhere, quietly."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
