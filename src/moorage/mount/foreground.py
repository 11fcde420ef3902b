"""How is a mount served by the process that was asked for it, for systemd and for containers?

Until it is unmounted, or a signal ends it. systemd is told what it wants to know (see `notify`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from moorage.mount.claim import in_words
from moorage.mount.host import notify
from moorage.mount.registry import MountRecord
from moorage.mount.request import MountRequest
from moorage.mount.watchdog import Watchdog

Run: TypeAlias = Callable[[MountRequest, Callable[[MountRecord], None]], None]
"""Mounts, serves until it is unmounted, and calls its second argument when the mount answers."""


def serve_here(request: MountRequest, run: Run) -> MountRecord:
    """Mount and serve; returns, when it is over, what was mounted. Raises what kept it from being mounted."""
    records: list[MountRecord] = []
    watchdogs: list[Watchdog] = []

    def ready(record: MountRecord) -> None:
        records.append(record)
        notify.ready(in_words(record))
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
