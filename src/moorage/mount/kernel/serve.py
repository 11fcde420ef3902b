"""How does a mount by the kernel's protocol begin?

It ends when it is unmounted, by whomever: then the kernel closes the connection and the serving threads return. See
`ending` for signals.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from moorage.mount import given
from moorage.mount.driver import Place, Ready, Serving
from moorage.mount.host import mountinfo
from moorage.mount.kernel import connect
from moorage.mount.kernel.ending import SIGNALS, Wakeups, take_away, wait_for_end
from moorage.mount.kernel.operations import Operations
from moorage.mount.kernel.passthrough import KernelBackings, OpenModes, try_out
from moorage.mount.kernel.provenance import Provenance
from moorage.mount.kernel.session import THREADS, Negotiated, Session, handshake
from moorage.mount.kernel.tally import Tally
from moorage.mount.kernel.wire import InitFlag
from moorage.mount.shown.following import Standing
from moorage.mount.shown.inodes import InodeTable
from moorage.mount.shown.sticky import Holds
from moorage.mount.shown.view import View


def serve(view: View, place: Place, ready: Ready) -> None:
    """The kernel driver (see `driver.Driver`)."""
    with Wakeups(*SIGNALS) as wakeups:
        fd, agreed = begin(place)
        device = device_of(place)
        backings = backings_of(fd, agreed, place)
        operations = operations_of(view, place, InodeTable(view.folder), OpenModes(backings))
        session = Session(fd, operations, patience=place.patience)
        session.start(wakeups.ended)
        device, has_ended = device_of(place), False
        try:
            ready(serving_of(place, agreed, has_passthrough=backings is not None))
            has_ended = wait_for_end(wakeups, place.mountpoint, device)
        finally:
            if not has_ended:
                take_away(place.mountpoint, device)


def begin(place: Place) -> tuple[int, Negotiated]:
    """Mount, unless somebody has, and agree with the kernel; the descriptor to serve, which the caller closes. Raises
    `MountError`."""
    fd = given.descriptor(place.mountpoint)
    if fd is None:
        fd = connect.connect(place.mountpoint, place.source, allow_other=place.allow_other)
    else:
        os.set_inheritable(fd, False)
    try:
        return fd, handshake(fd, passthrough=place.cache is not None)
    except BaseException:
        os.close(fd)
        take_away(place.mountpoint, device_of(place))
        raise


def backings_of(fd: int, agreed: Negotiated, place: Place) -> KernelBackings | None:
    """Where backing files are registered, if the kernel lets us."""
    if place.cache is None or InitFlag.PASSTHROUGH not in agreed.flags:
        return None
    return try_out(fd, place.cache)


def operations_of(
    view: View, place: Place, table: InodeTable, modes: OpenModes, moments: Mapping[int, Standing] | None = None
) -> Operations:
    """What answers requests; `moments` as for `Operations`."""
    provenance = None if place.opens is None else Provenance(place.opens, place.mountpoint, table)
    holds = Holds() if place.sticky else None
    operations = Operations(view, table, place.owner, modes, provenance, moments, holds)
    if place.exporter is not None:
        Tally().watch(operations, place.exporter.metrics)
    return operations


def serving_of(place: Place, agreed: Negotiated, *, has_passthrough: bool) -> Serving:
    """What was mounted; raises its read-ahead, where that may be."""
    device = device_of(place)
    details = _details(agreed, connect.raise_read_ahead(device), has_passthrough=has_passthrough)
    return Serving(device, details, has_passthrough)


def device_of(place: Place) -> str:
    """major:minor of what is mounted there; empty where the system does not tell."""
    fd = given.descriptor(place.mountpoint)
    if fd is not None:
        return given.device(fd)
    entry = mountinfo.top_at(place.mountpoint)
    return "" if entry is None else entry.device


def _details(agreed: Negotiated, read_ahead_kib: int | None, *, has_passthrough: bool) -> str:
    ahead = "unknown" if read_ahead_kib is None else f"{read_ahead_kib} KiB"
    through = "passthrough" if has_passthrough else "no passthrough"
    spoken = f"FUSE 7.{agreed.minor} on a kernel of 7.{agreed.kernel_minor}"
    return f"{spoken}, {THREADS} threads, read-ahead {ahead}, {through}"
