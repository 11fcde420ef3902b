"""What does a reader get, and what does the log say, when answering a request failed?

A reader gets an errno and nothing else, so the log must have the rest: one line with what was asked, the path, and the
cause. A reader that tries the same damaged page again and again makes one line every few seconds, not thousands; nor
do a thousand readers of a disk that is gone.

Threads: any.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections import Counter

from moorage.errors import MoorageError, StorageError
from moorage.mount.journal.errno_map import errno_of
from moorage.mount.journal.log_format import fields

_log = logging.getLogger(__name__)

QUIET_S = 10.0
"""The same line is not written again within this time."""
MOST_LINES = 20
"""Nor are more lines than this; how many were left out is written when it is over."""


class Failures:
    """Turns exceptions into errno values and log lines."""

    def __init__(self) -> None:
        """Nothing failed yet."""
        self._begun = 0.0
        self._lines: set[str] = set()
        self._left_out = 0
        self.counts: Counter[tuple[str, str]] = Counter()
        """How often, by errno and kind of error."""
        self._lock = threading.Lock()

    def errno_of(self, what: str, path: str, error: Exception) -> int:
        """The errno for `error`, raised while doing `what` to `path`. Never raises.

        Not logged: what the reader asked wrongly (an absent name, a listing of a file). Logged with its traceback: what
        is neither ours nor the system's, which is a bug.
        """
        number = errno_of(error)
        is_expected = isinstance(error, MoorageError | OSError)
        if number == errno.EIO or not is_expected or isinstance(error, StorageError):
            name = errno.errorcode[number]
            cause = f"{type(error).__name__}: {error}"
            line = f"{what} {path}: {name} because of {cause}"
            named = fields(request=what, path=path, errno=name, cause=cause)
            with self._lock:
                self.counts[name, error.kind if isinstance(error, MoorageError) else type(error).__name__] += 1
            self._write(line, None if is_expected else error, named)
        return number

    def _write(self, line: str, unexpected: Exception | None, named: dict[str, object]) -> None:
        now = time.monotonic()
        left_out = 0
        with self._lock:
            if now - self._begun >= QUIET_S:
                left_out, self._left_out = self._left_out, 0
                self._begun, self._lines = now, set()
            is_written = line not in self._lines and len(self._lines) < MOST_LINES
            if is_written:
                self._lines.add(line)
            elif line not in self._lines:
                self._left_out += 1
        if left_out:
            _log.error("%d more requests failed than were written down", left_out)
        if is_written:
            _log.error("%s", line, exc_info=unexpected, extra=named)
