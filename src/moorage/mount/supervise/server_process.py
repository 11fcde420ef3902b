"""What is a server to its supervisor? A child with a channel to it.

Threads: one.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from moorage.errors import MountError
from moorage.mount import given
from moorage.mount.host import notify
from moorage.mount.journal import reports
from moorage.mount.request import MountRequest
from moorage.mount.supervise.control import Channel, Packet

END_S = 2.0
"""How long a server may take to go when it was killed, or when the mount is gone."""


class ServerProcess:
    """One server."""

    def __init__(self, request: MountRequest, ledger: int, device: int) -> None:
        """Start it. Raises `MountError`."""
        self.channel, theirs = Channel.pair()
        fds = [theirs.fileno(), ledger, *([device] if device >= 0 else given.descriptors(request.mountpoint))]
        fds += request.programs
        words = [str(theirs.fileno()), str(ledger), str(device), json.dumps(asdict(request))]
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "moorage.mount.supervise.supervised", *words],
                    pass_fds=fds,
                    stdin=subprocess.DEVNULL,
                    cwd="/",
                    env=notify.without_service(os.environ),
                )
            except OSError as error:
                self.channel.close()
                raise MountError(f"cannot start {sys.executable or 'Python'}: {error.strerror}") from error
        self._log = request.log
        self.end_fd = os.pidfd_open(self.pid)
        """Readable when it has ended."""
        self.began = time.monotonic()
        self.answers = False
        self.is_heard = True
        """Whether its end of the channel is open."""
        self.snapshot = ""
        """What it shows, if it has said so."""
        self.error: dict[str, Any] | None = None
        """Why it cannot serve, if it has said so."""

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it is no more."""
        return self._process.poll() is not None

    @property
    def how_it_ended(self) -> str:
        """By what."""
        code = self._process.returncode or 0
        if code < 0:
            with suppress(ValueError):
                return signal.Signals(-code).name
        return f"exit code {code}"

    def hear(self) -> tuple[Packet | None, int]:
        """What it says next, and the descriptor beside it; None when its end is closed."""
        packet, fd = self.channel.hear()
        if packet is None:
            self.is_heard = False
        else:
            self.answers |= "serving" in packet
            self.snapshot = packet.get("snapshot", self.snapshot)
            self.error = packet.get("error", self.error)
        return packet, fd

    def expect(self, word: str, timeout_s: float) -> tuple[Packet, int]:
        """Wait until it says that word; what comes with it. Raises what it could not do, or `MountError`."""
        deadline = time.monotonic() + timeout_s
        while select.select([self.channel], [], [], max(0.0, deadline - time.monotonic()))[0]:
            packet, fd = self.hear()
            if packet is None:
                raise MountError("the server died while it started", hint=self._hint)
            if self.error is not None:
                raise reports.error_of(self.error)
            if word in packet:
                return packet, fd
        raise MountError("the server did not answer in time", hint=self._hint)

    @property
    def _hint(self) -> str | None:
        return f"its log says more: {self._log}" if self._log else None

    def end(self, timeout_s: float = 0.0) -> bool:
        """Give it so long to go, then kill it; False for one that even that does not end (it waits for a disk)."""
        if self.end_fd < 0:
            return True
        try:
            for wait_s, is_first in ((timeout_s, True), (END_S, False)):
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(wait_s)
                    return True
                if is_first:
                    self._process.kill()
            return False
        finally:
            os.close(self.end_fd)
            self.end_fd = -1
            self.channel.close()  # last: a server whose supervisor is gone goes on alone
