"""Does what ends a mount end it, and nothing else?"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from moorage.mount.host import mountinfo
from moorage.mount.host.mountinfo import MountEntry
from moorage.mount.kernel import connect, ending
from tests.needs import needs_linux

pytestmark = needs_linux

SIGNALLED = """
import json, os, signal, sys
from moorage.mount.kernel.ending import SIGNALS, Wakeups, signals_of
program = int(sys.argv[1])
with Wakeups(*signals_of(program)) as wakeups:
    for number in SIGNALS:
        os.kill(os.getpid(), number)
    print(json.dumps([wakeups.wait(0) for _ in SIGNALS]))
if program >= 0:
    for number in (signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(os.getpid(), number)
"""


@pytest.mark.parametrize(("program", "woken_by"), [(-1, [*sorted(ending.SIGNALS)]), (7, [None] * 3)])
def test_signals_do_nothing_to_the_mount_of_a_program(program: int, woken_by: list[int | None]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(program)], check=True, capture_output=True, text=True, timeout=60
    )
    assert sorted(json.loads(done.stdout), key=lambda number: number or 0) == woken_by


def test_the_end_of_a_program_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    unmounted: list[tuple[str, str]] = []
    with ending.Wakeups() as wakeups, subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        program = os.pidfd_open(process.pid)

        def unmount(mountpoint: str, device: str) -> None:
            unmounted.append((mountpoint, device))
            wakeups.ended()  # as the kernel does it

        monkeypatch.setattr(ending, "unmount", unmount)
        process.communicate()
        assert ending.wait_for_end(wakeups, "/srv/models", "0:99", program)
        os.close(program)
    assert unmounted == [("/srv/models", "0:99")]


@pytest.mark.parametrize("device", ["0:99", "0:98"])
def test_only_its_own_is_taken_away(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """Another mount of ours may lie at the same place by now."""
    taken: list[str] = []
    entry = MountEntry(device, "/srv/models", "fuse.moorage", "/srv/store#prod", "ro")
    monkeypatch.setattr(mountinfo, "top_at", lambda _path: entry)
    monkeypatch.setattr(connect, "detach", lambda path, lazy: taken.append(path))
    ending.take_away("/srv/models", "0:99")
    assert taken == (["/srv/models"] if device == "0:99" else [])
