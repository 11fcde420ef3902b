"""Who tells systemd that a mount still answers?

A thread of the process that systemd has started, by asking the mount itself: a server that hangs, or whose supervisor
cannot start another, is not well however alive its process is. Then nothing is said, and systemd does what its unit
says.

Source: sd_watchdog_enabled(3).
"""

from __future__ import annotations

import errno
import logging
import subprocess
import threading

from moorage.mount import mountpoint
from moorage.mount.host import notify

_log = logging.getLogger(__name__)


class Watchdog:
    """Says `notify.alive` again and again, each time that the mount has answered."""

    def __init__(self, path: str, interval_s: float) -> None:
        """Ask what is mounted at `path`, by a child that may be left behind."""
        self._path = path
        self._interval_s = interval_s
        self._question: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Say no more; does not wait for an answer."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.is_set():
            if self._answers():
                notify.alive()
            self._over.wait(self._interval_s)

    def _answers(self) -> bool:
        """Whether there was an answer within the interval. A question that hangs is not asked a second time."""
        try:
            if self._question is None:
                self._question = mountpoint.question(self._path)
            code = self._question.wait(self._interval_s)
        except subprocess.TimeoutExpired:
            return False
        except OSError as error:
            _log.warning("cannot ask whether %s answers: %s", self._path, error)
            return False
        self._question = None
        return code != errno.ENOTCONN
