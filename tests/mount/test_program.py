"""Does the mount of one program survive its server, and is nothing left of it, whichever process dies?"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from moorage.mount.host import mountinfo, places
from moorage.repository.handle import RepositoryHandle
from tests.mount import build
from tests.mount.conftest import eventually, kill, wait_for_end
from tests.mount.programs import DEADLINE_S, behind, lines, run, supervisor_and_server
from tests.mount.supervised import FILES, LIMITS, READING, died, resend_missing, wait_until
from tests.needs import needs_root, require

pytestmark = [*LIMITS, needs_root]  # what an ordinary user gets is in test_ordinary_user


@dataclass(frozen=True)
class Ground:
    """A repository that is mounted nowhere, and what is in it."""

    handle: RepositoryHandle
    plain: Path
    place: Path
    """To be mounted on."""


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    require(resend_missing)
    for name in ("tmp", "plain", "place"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    build.write_out(FILES, tmp_path / "plain")
    with build.create(tmp_path / "repository") as handle:
        build.branch(handle, "prod", FILES)
        yield Ground(handle, tmp_path / "plain", tmp_path / "place")
        eventually(lambda: not behind(Ground(handle, tmp_path, tmp_path)))
    assert os.listdir(tmp_path / "tmp") == []


def reader(ground: Ground) -> list[str | Path]:
    """A program that reads all the time, and at the end says what it found."""
    return [sys.executable, READING, ground.place, ground.plain, "1"]


def found_by(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What that says."""
    out, _ = process.communicate("", timeout=DEADLINE_S)
    found: dict[str, Any] = json.loads(out) if out else died(process.returncode)
    return found


def replaced(ground: Ground, server: int) -> bool:
    """Whether another server is in the place of this one."""
    now = behind(ground, "supervise.supervised")
    return len(now) == 1 and now != [server]


def test_servers_that_are_killed_cost_no_read(ground: Ground) -> None:
    with run(ground, *reader(ground), options=["--at", ground.place]) as process:
        assert lines(process.stdout) == "ready"
        for _ in range(3):
            _, server = supervisor_and_server(ground)
            kill(server)
            wait_until(lambda server=server: replaced(ground, server))
        found = found_by(process)
    assert (found["errors"], found["wrong"]) == ([], 0)
    assert found["operations"] > 0


def test_control_without_a_supervisor_they_do(ground: Ground) -> None:
    with run(ground, *reader(ground), options=["--at", ground.place]) as process:
        assert lines(process.stdout) == "ready"
        for pid in supervisor_and_server(ground):
            kill(pid)
            wait_for_end(pid)
        found = found_by(process)
    assert any(os.strerror(errno.ENOTCONN) in error or "SIGBUS" in error for error in found["errors"])
    assert found["wrong"] == 0


@pytest.mark.parametrize("victims", [(), ("server",), ("supervisor",)])
@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "ends"])
@pytest.mark.parametrize("where", ["temporary", "place"])
def test_nothing_is_left(ground: Ground, victims: tuple[str, ...], is_killed: bool, where: str) -> None:
    """However the program ends, and whoever is still there to see it."""
    program = "echo $MOORAGE_MOUNT; read line; cat $MOORAGE_MOUNT/top3 | wc -c; read line"
    with run(ground, "sh", "-c", program, options=["--at", ground.place] if where == "place" else []) as process:
        place = lines(process.stdout)
        supervisor, server = supervisor_and_server(ground)
        for pid in [{"server": server, "supervisor": supervisor}[victim] for victim in victims]:
            kill(pid)
            wait_for_end(pid)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert lines(process.stdout) == str(ground.plain.joinpath("top3").stat().st_size)
        if is_killed:
            kill(process.pid)
        process.communicate("", timeout=DEADLINE_S)
    eventually(lambda: not behind(ground))
    assert os.path.exists(place) == (where == "place")
    assert mountinfo.top_at(place) is None


def test_what_the_next_server_cannot_go_on_with_is_mounted_anew_for_the_program(ground: Ground) -> None:
    program = "echo started; read line; until cat $MOORAGE_MOUNT/top3 2>/dev/null; do :; done | wc -c"
    with run(ground, "sh", "-c", program) as process:
        assert lines(process.stdout) == "started"
        supervisor, server = supervisor_and_server(ground)
        [ledger] = [fd for fd in Path(f"/proc/{supervisor}/fd").iterdir() if os.readlink(fd).startswith("/memfd:")]
        with ledger.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), b"\x63", 8)  # its version
        kill(server)
        wait_for_end(server)
        eventually(lambda: "is mounted anew" in places.programs_log().read_text())
        out, err = process.communicate("\n", timeout=DEADLINE_S)
    assert (out.strip(), err) == (str(ground.plain.joinpath("top3").stat().st_size), "")


def test_a_file_that_a_child_has_open_does_not_hold_those_behind_it_for_ever(ground: Ground) -> None:
    program = "exec 3<$MOORAGE_MOUNT/top3; exec 4<&0; (read line <&4) & echo started"
    with run(ground, "sh", "-c", program) as process:
        assert lines(process.stdout) == "started"
        process.wait(DEADLINE_S)
        eventually(lambda: not behind(ground))
        process.communicate("\n", timeout=DEADLINE_S)
