"""What happens in the process that serves the mount of one program (see `private`)?

It is of a session and a parent of its own, so that neither a terminal nor the program has to do with it, and takes no
signal of those that end programs: a service manager sends them to all it has started, and then the program still reads.
It ends when the process that it serves ends, which the kernel says (a process descriptor, opened while that process is
known to wait). No record is made of such a mount: nobody else can see it.

Problems while it serves go to `logs/run.log` in the state directory.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from moorage.errors import MoorageError
from moorage.mount import server
from moorage.mount.driver import Serving
from moorage.mount.host import places
from moorage.mount.journal import logs, reports
from moorage.mount.kernel import connect
from moorage.mount.kernel import serve as kernel
from moorage.mount.request import DEFAULT_TIMEOUT_S, MountRequest
from moorage.mount.shown.revision import of_revision
from moorage.read.resolve import resolve

_log = logging.getLogger(__name__)

_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_END_TIMEOUT_S = 2.0
"""How long the server waits for its threads when all is over."""


@dataclass(frozen=True, slots=True)
class PrivateRequest:
    """What one program is to see."""

    repository: str
    """A real path."""
    revision: str
    mountpoint: str
    """A real path."""
    pid: int
    """Whom it is for."""
    is_private: bool
    """Whether it runs in a mount namespace of its own: then it may cover what is mounted there."""
    is_temporary: bool
    """Whether the mountpoint is removed at the end."""
    cache_bytes: int | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S


def log_file() -> Path:
    """Where the servers of all such mounts log."""
    return places.state_directory() / "logs" / "run.log"


def main(arguments: list[str]) -> None:
    """Fork, serve, report to the pipe whose descriptor is the first argument."""
    pipe = int(arguments[0])
    request = PrivateRequest(**json.loads(arguments[1]))
    if os.fork():
        os._exit(0)  # the caller waits for this half; nothing is buffered yet
    os.set_inheritable(pipe, False)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    try:
        program = os.pidfd_open(request.pid)
        _log_problems()
        serve(request, program, pipe)
    except Exception as error:  # noqa: BLE001 - told to who started this
        logs.failed(_log, f"the private mount at {request.mountpoint}", error)
        with contextlib.suppress(OSError):
            reports.send(pipe, {"error": reports.told(error)})
        sys.exit(1)


def _log_problems() -> None:
    """To one file for all such servers: each of them has little to say, and most have nothing."""
    path = str(log_file())
    logs.open_log(path)
    if os.path.getsize(path) > logs.LOG_BYTES:
        os.replace(path, path + ".1")
    logs.log_to(path, "text", rotates=False)
    logging.getLogger().setLevel(logging.WARNING)


def serve(request: PrivateRequest, program: int, pipe: int) -> None:
    """Mount, report to `pipe`, and serve until the process behind the descriptor `program` has ended."""
    wanted = MountRequest(
        request.repository,
        request.revision,
        request.mountpoint,
        pin=True,
        allow_other=request.is_private,  # who else could see it is what the program starts, as whatever user
        cache_bytes=request.cache_bytes,
        timeout_s=request.timeout_s,
    )
    with contextlib.ExitStack() as stack:
        handle, patience = stack.enter_context(server.repository_of(wanted))
        resolved = resolve(handle, request.revision)
        path = server.prepare(wanted, covers=request.is_private)
        hydration, place = stack.enter_context(server.resources(handle, wanted, path, patience))
        view = of_revision(resolved, pin=True).view(handle, hydration)
        ended, ending = os.pipe()

        def ready(_serving: Serving) -> None:
            reports.send(pipe, {"mounted": {"mountpoint": path, "snapshot": resolved.id.hex()}})

        def work() -> None:
            try:
                kernel.serve(view, place, ready)
            except Exception as error:  # noqa: BLE001 - the last word of a thread, and it is told
                logs.failed(_log, f"the private mount at {path}", error)
                with contextlib.suppress(OSError):
                    reports.send(pipe, {"error": reports.told(error)})
            finally:
                os.close(ending)

        thread = threading.Thread(target=work, name="private-mount", daemon=True)  # only the main one takes signals
        thread.start()
        select.select([program, ended], [], [])
        _end(request, path)
        thread.join(_END_TIMEOUT_S)


def _end(request: PrivateRequest, path: str) -> None:
    with contextlib.suppress(MoorageError):
        connect.detach(path, lazy=True)
    if request.is_temporary:
        with contextlib.suppress(OSError):
            os.rmdir(path)


if __name__ == "__main__":
    main(sys.argv[1:])
