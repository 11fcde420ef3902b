"""How does a mount go on being served after the command that made it returned?

A new interpreter, not a fork of the one that asks: threads, locks and an open index do not survive a fork. `start`
runs the program of the driver, which forks once before it does anything else, so that it belongs to init. It reports
over a pipe, in one line of JSON, that the mount answers, or which error kept it from it; the one who asked raises that
error as if it had happened there.

It leaves the process group, and with it the terminal, when the mount answers, not before: an automounter lets only
those through to the mountpoint who are in its own, so a server that had left would wait for the mount that it is to
make.

The server's standard output and error are its log, so what the interpreter itself has to say is not lost. What keeps a
mount from being made is told to who asked for it, and not written down: a log that nobody has written to is removed.
"""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TypeAlias

from moorage.errors import MoorageError, MountError
from moorage.mount import given, registry
from moorage.mount.host import notify
from moorage.mount.journal import logs, reports
from moorage.mount.registry import MountRecord
from moorage.mount.request import KERNEL, LIBFUSE, MountRequest

_log = logging.getLogger(__name__)

Run: TypeAlias = Callable[[MountRequest, Callable[[MountRecord], None]], None]
"""Mounts, serves until it is unmounted, and calls its second argument when the mount answers."""
PROGRAMS = {KERNEL: "moorage.mount.supervise.supervisor", LIBFUSE: "moorage.mount.server"}
START_TIMEOUT_S = 60.0
"""Opening a repository may mean building its index."""


def start(request: MountRequest, module: str = "") -> MountRecord:
    """Serve in the background, by `module` or else that of the driver; returns when the mount answers. Raises
    what kept it from it, or `MountError`, and then nothing is mounted."""
    with logs.made_for_a_mount(request.log):
        return _start(request, module or PROGRAMS[request.driver])


def _start(request: MountRequest, module: str) -> MountRecord:
    reading, writing = os.pipe()
    words = [str(writing), json.dumps(asdict(request))]
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *words],
            pass_fds=[writing, *given.descriptors(request.mountpoint), *request.programs],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=notify.without_service(os.environ),
        )
    except OSError as error:
        os.close(reading)
        raise MountError(f"cannot start {sys.executable or 'Python'}: {error.strerror}") from error
    finally:
        os.close(writing)
    with open(reading, "rb", buffering=0) as pipe:
        process.wait()  # the first half ends as soon as it has forked
        return _reported(_line_of(pipe.fileno(), request), request)


def _line_of(fd: int, request: MountRequest) -> bytes:
    deadline = time.monotonic() + START_TIMEOUT_S
    line = b""
    while not line.endswith(b"\n"):
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([fd], [], [], left_s)[0]:
            raise MountError(
                f"the server did not answer within {START_TIMEOUT_S:g} s", hint=f"its log says more: {request.log}"
            )
        piece = os.read(fd, 65536)
        if not piece:
            break
        line += piece
    return line


def _reported(line: bytes, request: MountRequest) -> MountRecord:
    if not line:
        raise MountError("the server died while it started", hint=f"its log says more: {request.log}")
    report = json.loads(line)
    if "mounted" in report:
        return registry.from_fields(report["mounted"])
    error = reports.error_of(report["error"])
    if error.message.startswith(reports.UNFORESEEN):
        error.hint = f"its log says more: {request.log}"
    raise error


# -- in the new process ----------------------------------------------------------------------------


def main(arguments: list[str], run: Run) -> None:
    """Fork, run, report to the pipe whose descriptor is the first argument."""
    pipe = int(arguments[0])
    request = MountRequest(**json.loads(arguments[1]))
    if os.fork():
        os._exit(0)  # the caller waits for this half; nothing is buffered yet
    os.set_inheritable(pipe, False)
    logs.log_to(request.log, request.log_format, rotates=request.driver != KERNEL)
    reported = False

    def ready(record: MountRecord) -> None:
        nonlocal reported
        reported = True
        os.setsid()
        reports.send(pipe, {"mounted": registry.to_fields(record)})

    try:
        run(request, ready)
    except Exception as error:  # noqa: BLE001 - told to who asked for it
        is_told = not reported and _tell(pipe, error)
        if not is_told or not isinstance(error, MoorageError):
            logs.failed(_log, "the mount", error)
        sys.exit(1)


def _tell(pipe: int, error: Exception) -> bool:
    """Tell who asked for the mount; whether he was still there."""
    try:
        reports.send(pipe, {"error": reports.told(error)})
    except MountError as unheard:
        _log.error("%s", unheard)
        return False
    return True
