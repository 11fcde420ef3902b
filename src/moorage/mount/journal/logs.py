"""Where do the processes behind a mount log?

A file that several of them append to, or the standard error of one that runs in the foreground.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from moorage.errors import MoorageError, MountError
from moorage.mount.host import places
from moorage.mount.journal.log_format import formatter

LOG_BYTES = 4 * 1024 * 1024
LOG_GENERATIONS = 2


def open_log(path: str) -> None:
    """Make the log and its directory, so that a place that cannot be written is an error here."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(path, "ab"):
            pass
    except OSError as error:
        raise MountError(f"cannot log to {path}: {error.strerror}", hint="name another file with --log") from error


@contextlib.contextmanager
def made_for_a_mount(path: str) -> Iterator[None]:
    """Make the log as `open_log` (an empty path makes none). If the mount is refused within the block it goes again,
    unless it was there before, somebody has written to it, or the error points to it."""
    is_new = bool(path) and not os.path.lexists(path)
    if path:
        open_log(path)
    try:
        yield
    except MoorageError as error:
        if is_new and path not in (error.hint or ""):
            with contextlib.suppress(OSError):
                if os.path.getsize(path) == 0:
                    os.unlink(path)
        raise


def failed(logger: logging.Logger, what: str, error: Exception) -> None:
    """Write down that `what` failed. What moorage raises on purpose is a line; only what nobody foresaw, which is a
    mistake of ours, has a traceback."""
    unforeseen = None if isinstance(error, MoorageError) else error
    logger.error("%s failed: %s", what, error, exc_info=unforeseen)


def log_to(path: str, log_format: str, *, rotates: bool) -> None:
    """Send what is logged, in that format, and whatever the interpreter says, to `path`; of several processes one makes
    a new file when it has grown, and the others follow. To `places.programs_log` go problems alone, and each who begins
    looks whether it has grown: those that log there do not know of each other."""
    is_shared = path == str(places.programs_log())
    if is_shared and os.path.exists(path) and os.path.getsize(path) > LOG_BYTES:
        os.replace(path, f"{path}.1")
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    handler: logging.Handler = logging.handlers.WatchedFileHandler(path)
    if rotates and not is_shared:
        handler = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_GENERATIONS)
    _handle(logging.getLogger(), handler, log_format, logging.WARNING if is_shared else logging.INFO)


def log_in_foreground(path: str, log_format: str) -> None:
    """Log to `path`, or to the standard error if nobody has set up anything else."""
    logger = logging.getLogger("moorage")
    if path:
        _handle(logger, logging.handlers.WatchedFileHandler(path), log_format)
    elif not logger.hasHandlers():
        _handle(logger, logging.StreamHandler(sys.stderr), log_format)


def _handle(logger: logging.Logger, handler: logging.Handler, log_format: str, level: int = logging.INFO) -> None:
    handler.setFormatter(formatter(log_format))
    logger.addHandler(handler)
    logger.setLevel(level)
