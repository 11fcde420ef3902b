"""How is a mount served by the process that was asked for it, for systemd and for containers?

Until it is unmounted, or a signal ends it. systemd is told what it wants to know (see `notify`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from moorage.model.digest import SHORT_HEX_LENGTH
from moorage.mount import notify
from moorage.mount.registry import MountRecord
from moorage.mount.request import EVERYTHING, MountRequest
from moorage.mount.watchdog import Watchdog

Run: TypeAlias = Callable[[MountRequest, Callable[[MountRecord], None]], None]
"""Mounts, serves until it is unmounted, and calls its second argument when the mount answers."""


def serve_here(request: MountRequest, run: Run) -> MountRecord:
    """Mount and serve; returns, when it is over, what was mounted. Raises what kept it from being mounted."""
    records: list[MountRecord] = []
    watchdogs: list[Watchdog] = []

    def ready(record: MountRecord) -> None:
        records.append(record)
        notify.ready(told(record))
        interval_s = notify.interval_s()
        if interval_s is not None:
            watchdogs.append(Watchdog(record.mountpoint, interval_s))
            watchdogs[0].start()

    try:
        run(request, ready)
    except Exception as error:
        notify.status(f"failed: {error}")
        raise
    finally:
        if records:
            notify.stopping()
        for watchdog in watchdogs:
            watchdog.stop()
    return records[0]


def told(record: MountRecord) -> str:
    """What `systemctl status` shows."""
    what = "everything" if record.revision == EVERYTHING else record.revision
    snapshot = f" (snapshot {record.snapshot[:SHORT_HEX_LENGTH]})" if record.snapshot else ""
    return f"serving {what} of {record.repository}{snapshot} at {record.mountpoint}"
