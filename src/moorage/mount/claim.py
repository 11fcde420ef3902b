"""What do those behind a mount say about it in the registry?

One of them writes: the supervisor, or where there is none the process that serves. That no record can be written is no
reason not to mount.

Threads: any, one lock.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Self

from moorage.mount import registry
from moorage.mount.host import notify
from moorage.mount.journal.log_format import fields
from moorage.mount.registry import MountRecord
from moorage.mount.request import EVERYTHING, MountRequest

_log = logging.getLogger(__name__)
_SHORT = 12
"""Digits of a snapshot's id."""


class Claim:
    """The record of one mount, in memory and in the registry."""

    def __init__(self, record: MountRecord, *, is_made: bool = False) -> None:
        """Nothing is written before it `answers`, unless another process has claimed the mount (`is_made`)."""
        self._record = record
        self._is_made = is_made
        self._lock = threading.Lock()

    @classmethod
    def of(cls, request: MountRequest, path: str = "", ledger: int = -1) -> Self:
        """Claim a mount that is yet to be made."""
        return cls(
            MountRecord(
                mountpoint=path or request.mountpoint,
                repository=request.repository,
                revision=request.revision,
                pid=0,
                started_ns=0,
                driver=request.driver,
                log=request.log,
                pinned=request.pin,
                log_opens=request.log_opens,
                sticky=request.sticky,
                is_temporary=request.is_temporary,
                ledger=ledger,
            )
        )

    @property
    def record(self) -> MountRecord:
        """As it is now."""
        return self._record

    def shows(self, snapshot: str) -> None:
        """The snapshot (hex) that it shows from now on."""
        self._change(lambda record: replace(record, snapshot=snapshot))
        if self._is_made:
            notify.status(in_words(self._record))

    def notes(self, note: str) -> None:
        """What became of its branch (see `Following`); else empty."""
        self._change(lambda record: replace(record, note=note))

    def answers(self, mountpoint: str, device: str, details: str, *, passthrough: bool, server_pid: int = 0) -> None:
        """It is mounted, by this process or by a server under it."""
        with self._lock:
            self._is_made = True
            record = registry.of_this_process(
                replace(
                    self._record,
                    mountpoint=mountpoint,
                    device=device,
                    passthrough=passthrough,
                    started_ns=self._record.started_ns or time.time_ns(),
                )
            )
            self._record = record = registry.of_server(record, server_pid)
            self._write()
        shown = f" (snapshot {record.snapshot[:_SHORT]})" if record.snapshot else ""
        _log.info(
            "serving %s of %s%s at %s: %s",
            record.revision,
            record.repository,
            shown,
            mountpoint,
            details,
            extra=fields(
                mountpoint=mountpoint,
                repository=record.repository,
                revision=record.revision,
                snapshot=record.snapshot or None,
                passthrough=passthrough,
            ),
        )

    def served_by(self, pid: int) -> None:
        """Another server under this process serves it now, or is about to."""
        self._change(lambda record: replace(registry.of_server(record, pid), trouble=""))

    def died(self) -> None:
        """One server more has died."""
        self._change(lambda record: replace(record, restarts=record.restarts + 1))

    def failed(self, trouble: str) -> None:
        """A server could not do its work."""
        self._change(lambda record: replace(record, trouble=trouble))

    def upgraded(self, trouble: str = "") -> None:
        """A server was to be replaced on purpose."""
        self._change(lambda record: replace(record, upgrades=record.upgrades + 1, trouble=trouble))

    def drop(self) -> None:
        """Say that it is no more."""
        with self._lock:
            self._is_made = False
        try:
            registry.remove(self._record.mountpoint, os.getpid())
        except OSError as error:
            _log.warning("cannot remove the record of this mount: %s", error)

    def _change(self, change: Callable[[MountRecord], MountRecord]) -> None:
        """In memory and, if it is made, in the registry."""
        with self._lock:
            before = self._record
            self._record = change(before)
            if self._is_made and self._record != before:
                self._write()

    def _write(self) -> None:
        try:
            registry.write(self._record)
        except OSError as error:
            _log.warning("the mount works, but `moorage mounts` will know little of it: %s", error)


class Unlisted(Claim):
    """What is known of a mount that one program alone sees: the same, but in no registry."""

    def drop(self) -> None:
        """Nobody was told that it is."""

    def _write(self) -> None:
        """Nobody is told."""


def in_words(record: MountRecord) -> str:
    """What `systemctl status` shows of a mount."""
    what = "everything" if record.revision == EVERYTHING else record.revision
    snapshot = f" (snapshot {record.snapshot[:_SHORT]})" if record.snapshot else ""
    return f"serving {what} of {record.repository}{snapshot} at {record.mountpoint}"
