"""What happens when the server of a mount dies, hangs, or is to be replaced?

A keeper holds the two things that must outlive a server: the connection to the kernel, and the ledger of what the
kernel was told. It starts the server as a child, and another one when that exits or does not answer. Whatever was in
flight the kernel is asked to send again, so who reads sees a pause and no error. It ends when the mount does, or the
program that it is for; whatever else ends a mount is its owner's, who is woken for it.

It never opens anything on its own mount: whether the mount answers is asked by a child that may be left behind. It
never clones the connection: requests in flight on a clone die with it.

Without FUSE_NOTIFY_RESEND (before Linux 6.9) what was in flight cannot be had again: then a server that died is
unmounted and another mounts anew, and those who had files open get ENOTCONN.

Threads: one. Source: `fs/fuse/dev.c` of Linux for the notification, and for POLLERR where the mount is gone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from moorage.errors import MoorageError, MountError
from moorage.mount import given, mountpoint
from moorage.mount.claim import Claim
from moorage.mount.host import mountinfo
from moorage.mount.journal.log_format import fields
from moorage.mount.kernel import wire
from moorage.mount.kernel.ending import GRACE_S, PROGRAM_ENDED, put_away, take_away, unmount
from moorage.mount.ledger import file as ledger_file
from moorage.mount.registry import MountRecord
from moorage.mount.request import MountRequest
from moorage.mount.supervise.server_process import ServerProcess

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long what may take."""

    start_s: float = 60.0
    """From the start of a server until it answers; opening a repository may mean building its index."""
    ask_every_s: float = 10.0
    answer_s: float = 60.0
    """How long the mount may not answer before its server is killed; reads from a slow disk are no reason to."""
    stop_s: float = 15.0
    """... and a server that was told to stop."""
    tick_s: float = 1.0


GONE_S = 3.0
"""How long a server may take to go by itself when the mount is gone: it has things to put away."""
BURST = 10
BURST_S = 3.0
"""More deaths than that within this time, or a server that says that it cannot serve, and the next start waits: for a
second, then longer and longer."""
MOST_BACKOFF_S = 30.0


class Keeper:
    """Keeps one mount served."""

    def __init__(self, request: MountRequest, claim: type[Claim] = Claim, limits: Limits | None = None) -> None:
        """Nothing is started yet; `claim` is told what becomes of it."""
        self._request = request
        self._limits = limits or Limits()
        self._ledger = ledger_file.create()
        self.claim = claim.of(request, ledger=self._ledger)
        self._wakers: dict[int, Callable[[], None]] = dict.fromkeys(request.programs, self._program_ended)
        self._device = -1
        self._resends = False
        self._deaths: deque[float] = deque(maxlen=BURST)
        self._backoff_s = 0.0
        self._leave_at = float("inf")
        self._question: subprocess.Popen[bytes] | None = None
        self._asked = time.monotonic()

    def run(self, ready: Callable[[MountRecord], None], wakers: Mapping[int, Callable[[], None]]) -> None:
        """Mount, and see to it that it is served until it is over; `ready` is called when it answers, and each of
        `wakers` whenever its descriptor can be read from.

        Raises `MoorageError` for whatever keeps it from being mounted.
        """
        self._wakers.update(wakers)
        try:
            self._server = self._first()
            self._keep(ready)
        finally:
            if self._request.is_temporary:
                put_away(self._request.mountpoint)

    def _keep(self, ready: Callable[[MountRecord], None]) -> None:
        """Until it is over."""
        path = self._record.mountpoint
        _log.info("process %d supervises %s", os.getpid(), path)
        is_gone = False
        try:
            ready(self._record)
            is_gone = self._supervise()
        finally:
            if not is_gone:
                take_away(path, self._record.device)
            self._server.end(GONE_S if is_gone else 0.0)
            self._close()
            self.claim.drop()
        _log.info("%s is unmounted", path, extra=fields(mountpoint=path))

    def leave(self, why: str) -> None:
        """Unmount, and serve those who still have files open for a moment; asked a second time, not even that."""
        _log.info("%s: unmounting %s", why, self._record.mountpoint)
        is_second = self._leave_at != float("inf")
        self._leave_at = time.monotonic() + (0.0 if is_second else GRACE_S)
        unmount(self._record.mountpoint, self._record.device)

    def _program_ended(self) -> None:
        del self._wakers[self._request.program]  # it stays readable
        self.leave(PROGRAM_ENDED)

    def _close(self) -> None:
        """Let go of the connection."""
        device, self._device = self._device, -1
        if device >= 0:
            os.close(device)

    @property
    def program(self) -> int:
        """The descriptor of the program that it is for, or -1."""
        return self._request.program

    @property
    def _record(self) -> MountRecord:
        return self.claim.record

    # -- the first server ----------------------------------------------------------------------------

    def _first(self) -> ServerProcess:
        """A server that has mounted, and answers."""
        server = ServerProcess(self._request, self._ledger, -1)
        try:
            server.expect("prepared", self._limits.start_s)
            server.channel.say({"go": True})
            packet, self._device = server.expect("mounted", self._limits.start_s)
            server.expect("serving", self._limits.start_s)
        except BaseException:
            server.end()
            raise
        mounted = packet["mounted"]
        self._resends = bool(mounted["resends"])
        self._request = replace(self._request, mountpoint=mounted["mountpoint"])
        self.claim.shows(server.snapshot or mounted["snapshot"])
        self.claim.answers(
            mounted["mountpoint"],
            mounted["device"],
            mounted["details"],
            passthrough=mounted["passthrough"],
            server_pid=server.pid,
        )
        return server

    # -- the loop ------------------------------------------------------------------------------------

    def _supervise(self) -> bool:
        """Until the mount is gone (True), or must be left all the same (False)."""
        while time.monotonic() < self._leave_at:
            server = self._server
            sources = [*self._wakers, server.end_fd]
            if server.is_heard:
                sources.append(server.channel.fileno())
            ready = self._wait(self._limits.tick_s, sources)
            if self._device in ready:
                return True
            woken = ready & self._wakers.keys()
            if woken:
                for fd in woken:
                    self._wakers[fd]()
            elif server.is_heard and server.channel.fileno() in ready:
                self._listen()
            elif server.end_fd in ready:
                self._replace(f"died ({server.how_it_ended})" if server.has_ended else "died")
            elif not ready:
                self._look()
        _log.warning("%s is still in use; leaving all the same", self._record.mountpoint)
        return False

    def _wait(self, seconds: float, sources: list[int]) -> set[int]:
        """Which of these can be read from, waiting no longer than this; with the connection when the kernel has ended
        it: nothing is mounted any more, and nobody has a file open."""
        poll = select.poll()
        poll.register(self._device, 0)
        for fd in sources:
            poll.register(fd, select.POLLIN)
        return {fd for fd, _ in poll.poll(seconds * 1000)}

    def _listen(self) -> None:
        server = self._server
        packet, _ = server.hear()
        if packet is None:
            return
        if "serving" in packet:
            self._backoff_s = 0.0
            self.claim.served_by(server.pid)
        elif "snapshot" in packet:
            self.claim.shows(server.snapshot)
        elif "note" in packet:
            self.claim.notes(packet["note"])
        elif server.error is not None:
            _log.error("the server of %s cannot serve: %s", self._record.mountpoint, server.error["message"])
            self.claim.failed(str(server.error["message"]))

    # -- death ---------------------------------------------------------------------------------------

    def _replace(self, why: str) -> None:
        """Start another server in the place of one that is no more."""
        old = self._server
        _log.warning("server process %d of %s %s", old.pid, self._record.mountpoint, why)
        if not old.end():
            _log.error("server process %d cannot be killed: it is left behind", old.pid)
        self.claim.died()
        is_of_another_version = old.error is not None and ledger_file.VERSION_FIELD in old.error["fields"]
        if not self._resends or is_of_another_version:
            self._mount_again()
            return
        self._pause(has_said_why=old.error is not None)
        self._resend()
        self._server = self._another()
        self._server.channel.say({"go": True})
        self._asked = time.monotonic()
        self.claim.served_by(self._server.pid)

    def _another(self) -> ServerProcess:
        """A server more. If the system cannot start one now, it is tried again until the mount is gone."""
        while True:
            try:
                return ServerProcess(self._request, self._ledger, self._device)
            except MountError as error:
                _log.error("%s", error)
                if self._device in self._wait(MOST_BACKOFF_S, []):
                    raise

    def _pause(self, *, has_said_why: bool) -> None:
        """Do not start servers that die at once as fast as the machine can."""
        now = time.monotonic()
        is_burst = len(self._deaths) == BURST and now - self._deaths[0] < BURST_S
        self._deaths.append(now)
        if is_burst or has_said_why:
            self._backoff_s = min(max(1.0, self._backoff_s * 2), MOST_BACKOFF_S)
            _log.error("the next server is started in %g s", self._backoff_s)
            self._wait(self._backoff_s, list(self._wakers))

    def _resend(self) -> None:
        """Ask the kernel for what was read by a server that is dead and was not answered."""
        try:
            os.write(self._device, wire.HEADER_OUT.pack(wire.HEADER_OUT.size, wire.NOTIFY_RESEND, 0))
        except OSError as error:
            _log.error("the kernel would not send again what was in flight: %s", error)

    def _mount_again(self) -> None:
        path = self._record.mountpoint
        if given.descriptor(path) is None and not mountinfo.is_at(path, self._record.device):
            _log.error("%s was out of sight, and those who still read there get errors", path)
            self._leave_at = 0.0
            return
        _log.warning(
            "what was in flight cannot be had again: %s is mounted anew, and files that are open there fail",
            path,
            extra=fields(mountpoint=path),
        )
        take_away(path, self._record.device)
        self._close()
        ledger = ledger_file.create()
        os.dup2(ledger, self._ledger, inheritable=False)  # the descriptor is in the record
        os.close(ledger)
        self._server = self._first()

    # -- does it answer? -----------------------------------------------------------------------------

    def _look(self) -> None:
        """Nothing has happened for a while: see whether it still serves."""
        now = time.monotonic()
        if not self._server.answers:
            if now - self._server.began > self._limits.start_s:
                self._replace("did not begin to answer")
        elif self._question is not None:
            if self._question.poll() is not None:
                self._question = None
            elif now - self._asked > self._limits.answer_s:
                # The child is not killed: it waits in the kernel, and goes when the next server answers it.
                self._asked = now
                self._replace("does not answer")
        elif now - self._asked > self._limits.ask_every_s:
            self._asked = now
            entry = mountinfo.top_at(self._record.mountpoint)
            if entry is not None and entry.device == self._record.device:
                with contextlib.suppress(OSError):
                    self._question = mountpoint.question(self._record.mountpoint)

    # -- on purpose ----------------------------------------------------------------------------------

    def hand_over(self) -> None:
        """Replace the server by one of the version that is installed now: let that get ready, then the old one stop,
        then the new one go on. If the new one cannot start, the old one never hears of it. Raises `MoorageError`."""
        if not self._resends:
            raise MountError("this kernel cannot hand requests from one server to the next")
        old, new = self._server, ServerProcess(self._request, self._ledger, self._device)
        try:
            new.expect("prepared", self._limits.start_s)
        except MoorageError:
            new.end()
            raise
        _log.info("process %d takes over from process %d", new.pid, old.pid)
        old.channel.say({"stop": True})
        old.end(self._limits.stop_s)
        self._resend()
        new.channel.say({"go": True})
        self._server = new
        self._asked = time.monotonic()
        self.claim.served_by(new.pid)
        new.expect("serving", self._limits.start_s)
