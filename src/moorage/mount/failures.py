"""What does a reader get, and what does the log say, when answering a request failed?

A reader gets an errno and nothing else, so the log must have the rest: one line with what was asked, the path, and the
cause. A reader that tries the same damaged page again and again makes one line every few seconds, not thousands.

Threads: any. Two threads that fail at once may both log.
"""

from __future__ import annotations

import errno
import logging
import time

from moorage.errors import MoorageError
from moorage.mount.errno_map import errno_of
from moorage.mount.log_format import fields

_log = logging.getLogger(__name__)

QUIET_S = 10.0
"""The same line is not written again within this time."""


class Failures:
    """Turns exceptions into errno values and log lines."""

    def __init__(self) -> None:
        """Nothing failed yet."""
        self._last_line = ""
        self._last_time = 0.0

    def errno_of(self, what: str, path: str, error: Exception) -> int:
        """The errno for `error`, raised while doing `what` to `path`. Never raises.

        Not logged: what the reader asked wrongly (an absent name, a listing of a file). Logged with its traceback: what
        is neither ours nor the system's, which is a bug.
        """
        number = errno_of(error)
        is_expected = isinstance(error, MoorageError | OSError)
        if number == errno.EIO or not is_expected:
            name = errno.errorcode[number]
            cause = f"{type(error).__name__}: {error}"
            line = f"{what} {path}: {name} because of {cause}"
            named = fields(request=what, path=path, errno=name, cause=cause)
            self._write(line, None if is_expected else error, named)
        return number

    def _write(self, line: str, unexpected: Exception | None, named: dict[str, object]) -> None:
        now = time.monotonic()
        if line == self._last_line and now - self._last_time < QUIET_S:
            return
        self._last_line, self._last_time = line, now
        _log.error("%s", line, exc_info=unexpected, extra=named)
