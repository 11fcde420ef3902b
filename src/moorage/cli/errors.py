"""Which exit code does an error mean, and how is it told? The one table of the command line.

Every error is one line with what to do next; under --json one object on the standard error. What nobody foresaw is one
line, too, and MOORAGE_DEBUG=1 shows where it came from.
"""

from __future__ import annotations

import enum
import json
import os
import sys
import traceback
from collections.abc import Iterable
from difflib import get_close_matches

from typer._click.exceptions import ClickException, NoSuchOption  # see moorage.cli.options

from moorage.cli.output import write_error
from moorage.cli.style import Style, shown
from moorage.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    ConflictError,
    InvalidInputError,
    LockedError,
    MergeConflictError,
    MoorageError,
    MountDeniedError,
    ReadOnlyError,
    RepositoryNotFoundError,
    StorageDeniedError,
    UnreadableSourceError,
)

DEBUG_VARIABLE = "MOORAGE_DEBUG"
_OF_NUMBERS = {"is not a valid int range": "is not a whole number", "is not a valid float": "is not a number"}
"""What typer calls numbers, and what people do."""


class ExitCode(enum.IntEnum):
    """What the caller of `moorage` is told; documented in docs/cli.md, and never given a new meaning."""

    OK = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    CONFLICT = 4
    NO_REPOSITORY = 10
    LOCKED = 11
    DENIED = 12
    NOT_EXECUTABLE = 126
    COMMAND_NOT_FOUND = 127
    """These two as of a shell: the command that `run` was to become."""
    INTERRUPTED = 130
    READER_GONE = 141
    """As a shell sees a program that SIGPIPE ended: whoever read the output has stopped reading."""


EXIT_CODES: tuple[tuple[type[BaseException], ExitCode], ...] = (
    # The first that fits holds, so the special ones come first.
    (RepositoryNotFoundError, ExitCode.NO_REPOSITORY),
    (CommandNotFoundError, ExitCode.COMMAND_NOT_FOUND),
    (CommandNotExecutableError, ExitCode.NOT_EXECUTABLE),
    (LockedError, ExitCode.LOCKED),
    (MountDeniedError, ExitCode.DENIED),
    (StorageDeniedError, ExitCode.DENIED),
    (ReadOnlyError, ExitCode.DENIED),
    (UnreadableSourceError, ExitCode.DENIED),
    (ConflictError, ExitCode.CONFLICT),
    (InvalidInputError, ExitCode.USAGE),
    (ClickException, ExitCode.USAGE),
    (PermissionError, ExitCode.DENIED),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
    (Exception, ExitCode.FAILED),
)


def exit_code(error: BaseException) -> ExitCode:
    """What `moorage` ends with after this error."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def tell(error: Exception, *, as_json: bool) -> None:
    """Say on the standard error what went wrong, and what to do next."""
    told = _told(error)
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    if as_json:
        write_error(json.dumps(told, default=str))
        return
    style = Style.of(sys.stderr)
    message, hint = str(told["message"]), told["hint"]
    conflicts = _conflict_lines(error)
    if conflicts:
        message = message.partition(": ")[0]  # what follows are the first of those that are listed now
    lines = [f"moorage: {style.bad('error:')} {shown(message)}"]
    lines += [f"  {style.bad('C')}  {shown(line)}" for line in conflicts]
    if hint:
        lines.append(f"{style.faint('hint:')} {shown(str(hint))}")
    write_error("\n".join(lines))


def _told(error: Exception) -> dict[str, object]:
    """The error as one object: `kind`, `message`, `hint`, then its own fields."""
    if isinstance(error, MoorageError):
        told: dict[str, object] = {"kind": error.kind, "message": error.message, "hint": error.hint}
        return told | {name: value for name, value in error.fields.items() if name not in told}
    if isinstance(error, ClickException):
        return _usage(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return {"kind": "system", "message": f"{where}{error.strerror}", "hint": None, "errno": error.errno}
    return {
        "kind": "internal",
        "message": f"{type(error).__name__}: {error}" if str(error) else type(error).__name__,
        "hint": f"this is a mistake in moorage; {DEBUG_VARIABLE}=1 shows where it happened",
    }


def _usage(error: ClickException) -> dict[str, object]:
    """An error of typer's parser, in the words and the form of ours."""
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "moorage"
    told: dict[str, object] = {"kind": "usage", "message": message[:1].lower() + message[1:]}
    told["hint"] = f"`{command} --help` shows how it is used"
    for theirs, ours in _OF_NUMBERS.items():
        told["message"] = str(told["message"]).replace(theirs, ours)
    if " Did you mean " in message:
        told["message"], _, guess = str(told["message"]).partition(". Did you mean ")
        told["hint"] = f"did you mean {guess}"
    if isinstance(error, NoSuchOption):
        told["message"] = f"no such option: {error.option_name}"
        if guesses := _guesses(error.option_name, error.possibilities or ()):
            told["hint"] = f"did you mean {' or '.join(guesses)}?"
    return told


def _guesses(option: str, possibilities: Iterable[str]) -> list[str]:
    """Those that are like it, were there no dashes, which all have in common."""
    named = {possible.lstrip("-"): possible for possible in sorted(possibilities)}
    return [named[like] for like in get_close_matches(option.lstrip("-"), named)]


def _conflict_lines(error: Exception) -> list[str]:
    """Every conflict of a merge; its message names only the first few."""
    if not isinstance(error, MergeConflictError):
        return []
    conflicts = error.fields.get("conflicts")
    assert isinstance(conflicts, list)
    return [f"{conflict['path']}  ({conflict['kind']})" for conflict in conflicts]
