"""What does a server do that a supervisor has started?

It opens everything, says that it is prepared, and waits. Told to go, the first one mounts and hands the connection to
the supervisor; each later one reads in the ledger what the kernel holds, and answers from there on as if it had never
been another.

It holds the connection too, so when the supervisor dies it serves on. Only then do signals unmount, or the end of the
program that the mount is for, and it keeps the record in the registry itself, if there is one.

    python -m moorage.mount.supervise.supervised CONTROL LEDGER DEVICE REQUEST

The first three are descriptors (DEVICE is -1 for the first server), the last is a `MountRequest` in JSON.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from moorage.errors import MoorageError, MountError
from moorage.mount import given, registry, server
from moorage.mount.claim import Claim
from moorage.mount.driver import Place, Serving
from moorage.mount.host import mountinfo
from moorage.mount.journal import logs, reports
from moorage.mount.journal.log_format import fields
from moorage.mount.kernel import serve as kernel
from moorage.mount.kernel.ending import ENDED, Wakeups, put_away, signals_of, take_away, wait_for_end
from moorage.mount.kernel.passthrough import KernelBackings, OpenModes
from moorage.mount.kernel.session import Negotiated, Session
from moorage.mount.kernel.wire import InitFlag
from moorage.mount.ledger import file as ledger_file
from moorage.mount.ledger.ledger import Ledger
from moorage.mount.ledger.records import Begun, Followed, open_mode
from moorage.mount.request import MountRequest
from moorage.mount.shown import revision as shown
from moorage.mount.shown.following import Standing
from moorage.mount.shown.hydration import Hydration
from moorage.mount.shown.inodes import InodeTable
from moorage.mount.shown.patience import Patience
from moorage.mount.shown.revision import Shown
from moorage.mount.supervise.control import Channel
from moorage.repository.handle import RepositoryHandle

_log = logging.getLogger("moorage.mount.supervise.supervised")  # run as a program it is called __main__

STOP_TIMEOUT_S = 10.0
"""How long what is being answered may take when it is to stop; the next server then answers the rest."""


def main(arguments: list[str]) -> None:
    """Serve until it is unmounted, or told to stop."""
    control_fd, ledger_fd, device = (int(argument) for argument in arguments[:3])
    request = MountRequest(**json.loads(arguments[3]))
    for fd in (ledger_fd, device, request.program):
        if fd >= 0:
            os.set_inheritable(fd, False)
    if request.log:
        logs.log_to(request.log, request.log_format, rotates=True)
    else:
        logs.log_in_foreground("", request.log_format)
    channel = Channel.of(control_fd)
    try:
        with Wakeups(*signals_of(request.program)) as wakeups, server.repository_of(request) as (handle, patience):
            _Supervised(request, channel, wakeups, handle, patience).run(ledger_fd, device)
    except Exception as error:  # noqa: BLE001 - told to who started this, and he says it or writes it down
        if not isinstance(error, MoorageError):
            logs.failed(_log, "the server", error)
        channel.say({"error": reports.told(error)})
        sys.exit(1)


class _Served(NamedTuple):
    """A session that is about to answer, and what it is of."""

    session: Session
    ledger: Ledger
    place: Place
    device: str


class _Supervised:
    """One server."""

    def __init__(
        self,
        request: MountRequest,
        channel: Channel,
        wakeups: Wakeups,
        handle: RepositoryHandle,
        patience: Patience,
    ) -> None:
        self._request = request
        self._channel = channel
        self._wakeups = wakeups
        self._handle = handle
        self._patience = patience
        self._standing: Standing | None = None
        self._note = ""
        self._claim: Claim | None = None
        """Of a server whose supervisor is gone."""

    def run(self, ledger_fd: int, device: int) -> None:
        """Prepare, wait, serve."""
        what: Shown | None = None
        path = self._request.mountpoint
        if device < 0:
            what = shown.of_request(self._handle, self._request)
            path = server.prepare(self._request)
        else:
            ledger_file.start_of(ledger_fd)  # of another version: refused while the last server still serves
        with server.resources(self._handle, self._request, path, self._patience) as (hydration, place):
            self._wait_for_go()
            if place.exporter is not None and what is not None:
                place.exporter.start()  # where it cannot, nothing is mounted
            if what is None:
                served = self._next(place, hydration, ledger_fd, device)
            else:
                served = self._first(what, place, hydration, Ledger(ledger_fd))
            _put_out(served, is_first=what is not None)
            served.session.start(self._wakeups.ended)
            if what is not None:
                os.setsid()  # only now: see `daemon`
            self._channel.say({"serving": True})
            self._channel.say({"note": self._note})  # also that there is none: what the last server said is over
            _log.info("process %d serves %s", os.getpid(), path)
            self._wait(served)

    def _wait_for_go(self) -> None:
        self._channel.say({"prepared": True})
        packet, _ = self._channel.hear()
        if packet is None or "go" not in packet:
            _log.error("the supervisor has gone before this server was told to go on")
            raise MountError("the supervisor has gone")

    def _first(self, what: Shown, place: Place, hydration: Hydration, ledger: Ledger) -> _Served:
        """Mount."""
        view = what.view(self._handle, hydration, self._moved(ledger), self._noted)
        fd, agreed = kernel.begin(place)
        backings = kernel.backings_of(fd, agreed, place)
        serving = kernel.serving_of(place, agreed, has_passthrough=backings is not None)
        ledger.begun(_begun(what, serving, agreed, backings))
        if what.standing is not None:
            ledger.stands(what.standing)
        mounted = {
            "mountpoint": place.mountpoint,
            "device": serving.device,
            "details": serving.details,
            "passthrough": serving.passthrough,
            "snapshot": "" if what.standing is None else what.standing.snapshot.hex(),
            "resends": InitFlag.HAS_RESEND in agreed.flags,
        }
        self._channel.say({"mounted": mounted}, fd)
        operations = kernel.operations_of(view, place, InodeTable(view.folder, ledger), OpenModes(backings, ledger))
        return _Served(Session(fd, operations, patience=place.patience), ledger, place, serving.device)

    def _next(self, place: Place, hydration: Hydration, ledger_fd: int, device: int) -> _Served:
        """Go on where the last server was."""
        ledger, known = Ledger.load(ledger_fd)
        begun, moments = known.begun, known.standings
        standing = moments.get(known.now)
        if begun is None or (standing is None and not self._request.is_everything):
            raise MountError("the last server died before it had mounted")
        what = Shown(standing, None if begun.followed is None else begun.followed.record())
        view = what.view(self._handle, hydration, self._moved(ledger), self._noted)
        table = InodeTable(view.folder, ledger)
        table.restore(known.remembered)
        has_backings = begun.takes_direct is not None and place.cache is not None
        modes = OpenModes(
            KernelBackings(device, takes_direct=bool(begun.takes_direct)) if has_backings else None, ledger
        )
        modes.restore({nodeid: open_mode(record) for nodeid, record in known.modes.items()})
        operations = kernel.operations_of(view, place, table, modes, moments)
        return _Served(Session(device, operations, patience=place.patience), ledger, place, begun.device)

    def _moved(self, ledger: Ledger) -> Callable[[Standing], None]:
        """What is done about each move, before anybody is served from it."""

        def moved(standing: Standing) -> None:
            ledger.stands(standing)
            self._standing = standing
            if self._claim is None:
                self._channel.say({"snapshot": standing.snapshot.hex()})
            else:
                self._claim.shows(standing.snapshot.hex())

        return moved

    def _noted(self, note: str) -> None:
        """What keeps the root from following."""
        self._note = note
        if self._claim is None:
            self._channel.say({"note": note})
        else:
            self._claim.notes(note)

    def _wait(self, served: _Served) -> None:
        """Until it is unmounted, told to stop, or, without a supervisor, signalled."""
        while True:
            sources: list[Wakeups | Channel] = [self._wakeups, self._channel]
            ready, _, _ = select.select(sources, [], [])
            if self._wakeups in ready and self._wakeups.wait(0) == ENDED:
                return
            # A signal is the supervisor's business: those who stop a service signal both.
            if self._channel not in ready:
                continue
            packet, _ = self._channel.hear()
            if packet is None:
                break
            if "stop" in packet:
                _stop(served)
        self._alone(served)

    def _alone(self, served: _Served) -> None:
        """Serve on without a supervisor."""
        path = served.place.mountpoint
        _log.error("the supervisor of %s is gone; it is served on, unsupervised", path, extra=fields(mountpoint=path))
        record = registry.find(served.device)
        if record is not None:
            self._claim = Claim(record, is_made=True)
            if self._standing is not None:
                self._claim.shows(self._standing.snapshot.hex())
            self._claim.notes(self._note)
        served.ledger.close()
        if not wait_for_end(self._wakeups, path, served.device, self._request.program):
            take_away(path, served.device)
        if self._request.is_temporary:
            put_away(path)
        registry.remove_of_server(path, os.getpid())
        _log.info("%s is unmounted", path, extra=fields(mountpoint=path))


def _begun(what: Shown, serving: Serving, agreed: Negotiated, backings: KernelBackings | None) -> Begun:
    return Begun(
        serving.device,
        agreed.kernel_minor,
        agreed.minor,
        agreed.max_readahead_bytes,
        int(agreed.offered),
        int(agreed.flags),
        None if backings is None else backings.takes_direct,
        None if what.followed is None else Followed.of(what.followed),
    )


def _put_out(served: _Served, *, is_first: bool) -> None:
    """Numbers, if they are wanted, until the mount is out of sight."""
    exporter, path = served.place.exporter, served.place.mountpoint
    if exporter is None:
        return
    is_given = given.descriptor(path) is not None  # perhaps in a namespace that cannot be seen from here
    if not is_first and (is_given or mountinfo.is_at(path, served.device)):
        exporter.start(is_first=False)
    if not is_given:
        exporter.end_with(path, served.device)


def _stop(served: _Served) -> NoReturn:
    """Answer what was begun, and go. The connection must not be closed, and nobody's bytes depend on anything that is
    left undone here."""
    served.session.stop(STOP_TIMEOUT_S)
    if served.place.opens is not None:
        served.place.opens.close()
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
