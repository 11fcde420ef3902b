"""What do a supervisor and its server say to each other?

One JSON object a packet, over a pair of sockets. Descriptors travel beside it, and errors as in `reports`.

    from the server    {"prepared": true}     all is open and well; told to `go`, it serves
                       {"mounted": {...}}     it has mounted; the descriptor of the connection comes with it
                       {"serving": true}      it answers
                       {"snapshot": id}       what it shows from now on
                       {"note": text}         why it does not follow its branch; empty if it does
                       {"error": {...}}       it cannot
    to the server      {"go": true}           mount, or go on where the last one was
                       {"stop": true}         finish what is being answered, and go

Whoever's other side is closed is alone.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
from typing import Any, TypeAlias

MOST_BYTES = 64 * 1024
Packet: TypeAlias = dict[str, Any]


class Channel:
    """One end."""

    def __init__(self, connection: socket.socket) -> None:
        """Own `connection`."""
        self._connection = connection

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """Our end, and theirs."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    @classmethod
    def of(cls, fd: int) -> Channel:
        """The end that was inherited as `fd`."""
        os.set_inheritable(fd, False)
        return cls(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=fd))

    def fileno(self) -> int:
        """To wait for it."""
        return self._connection.fileno()

    def say(self, packet: Packet, *fds: int) -> None:
        """Say it, if anybody is there. Never waits: what the other side has no time to hear is lost."""
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        with contextlib.suppress(OSError):
            self._connection.sendmsg([json.dumps(packet, default=str).encode()], beside, socket.MSG_DONTWAIT)

    def hear(self) -> tuple[Packet | None, int]:
        """The next packet and the descriptor beside it, or -1; None when the other side is gone."""
        room = array.array("i").itemsize
        try:
            data, beside, _, _ = self._connection.recvmsg(MOST_BYTES, socket.CMSG_SPACE(room))
        except OSError:
            return None, -1
        fd = -1
        for level, kind, raw in beside:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fd = array.array("i", raw[:room])[0]
                os.set_inheritable(fd, False)
        return (json.loads(data) if data else None), fd

    def close(self) -> None:
        """Be gone."""
        self._connection.close()
