"""Programs that `moorage run` has started, and those behind their mounts."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol

from moorage.mount.host import places
from moorage.repository.handle import RepositoryHandle
from tests.cli.command_line import python
from tests.mount.conftest import kill, kill_later

DEADLINE_S = 60


class Stored(Protocol):
    """Whatever has a repository with a branch `prod`."""

    @property
    def handle(self) -> RepositoryHandle:
        """That."""


@contextlib.contextmanager
def run(
    stored: Stored, *words: str | Path, options: Sequence[str | Path] = (), **settings: object
) -> Iterator[subprocess.Popen[str]]:
    """`moorage run --pin prod OPTIONS -- WORDS`, which is gone afterwards."""
    command = python("-r", str(stored.handle.root), "run", "--pin", "prod", *map(str, options), "--", *map(str, words))
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        **{"stdin": pipe, "stdout": pipe, "stderr": pipe, "text": True, **settings},  # type: ignore[call-overload]  # mypy does not look into **
    ) as process:
        watchdog = kill_later(process.pid)
        try:
            yield process
        finally:
            watchdog.cancel()
            kill(process.pid)


def lines(stream: IO[str] | None) -> str:
    """The next line."""
    assert stream is not None
    return stream.readline().rstrip("\n")


def behind(stored: Stored, what: str = "moorage.mount") -> list[int]:
    """The processes behind private mounts of this repository; of one module, or all."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            words = Path("/proc", name, "cmdline").read_text()
            if all(word in words for word in (what, str(stored.handle.root), places.programs_log().name)):
                found.append(int(name))
    return found


def supervisor_and_server(stored: Stored) -> tuple[int, int]:
    """Those behind the only private mount of this repository."""
    [supervisor] = behind(stored, "private.supervisor")
    [server] = behind(stored, "supervise.supervised")
    return supervisor, server
