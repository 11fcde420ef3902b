"""How does systemd learn that a mount answers, what it shows, and that it is still well?

By datagrams to the socket that it names in NOTIFY_SOCKET (`Type=notify`): READY, STATUS, STOPPING, and where a watchdog
is asked for (WATCHDOG_USEC), WATCHDOG at half of its time, as long as the mount answers. Only `moorage mount
--foreground` is asked: a server in the background takes none of these variables along (`without_service`), so that who
starts a mount from within another service says nothing in its name.

Where there is no such socket nothing is done, and what cannot be sent is no error: it is systemd that misses it.

Threads: any. Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

_log = logging.getLogger(__name__)

SOCKET, WATCHDOG, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


def ready(status: str) -> None:
    """The mount answers, and is this process's."""
    _send("READY=1", f"STATUS={_line(status)}", f"MAINPID={os.getpid()}")


def status(text: str) -> None:
    """What `systemctl status` shows from now on."""
    _send(f"STATUS={_line(text)}")


def stopping() -> None:
    """The mount is being taken away."""
    _send("STOPPING=1", "STATUS=unmounting")


def alive() -> None:
    """The mount has answered a moment ago."""
    _send("WATCHDOG=1")


def interval_s() -> float | None:
    """How often `alive` is to be said; None where nobody waits for it."""
    usec, pid = os.environ.get(WATCHDOG, ""), os.environ.get(WATCHDOG_PID, "")
    if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2_000_000


def without_service(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for a process that is no longer the service."""
    return {name: value for name, value in environment.items() if name not in (SOCKET, WATCHDOG, WATCHDOG_PID)}


def _line(text: str) -> str:
    return text.replace("\n", " ")


def _send(*lines: str) -> None:
    where = os.environ.get(SOCKET, "")
    if not where.startswith(("/", "@")):
        return
    address = "\0" + where[1:] if where.startswith("@") else where
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto("\n".join(lines).encode("utf-8", "surrogateescape"), socket.MSG_DONTWAIT, address)
    except OSError as error:
        _log.warning("systemd was not told %s: %s", lines[0], error)
