"""`moorage mount --all`, `--log-opens` and `moorage who`: does the command line show who has opened what?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.mount import registry, serve
from moorage.mount.host import places
from tests.cli.command_line import CommandLine
from tests.needs import needs_fuse

pytestmark = needs_fuse

ONE = "./live/branches/prod/run.sh"


@pytest.fixture
def live(store: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Everything, mounted, with opens written down."""
    for name in ("CACHE", "CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    (tmp_path / "live").mkdir()
    outcome = store.ok("mount", "--all", "live", "--log-opens")
    assert "everything is mounted at" in outcome.out
    yield tmp_path / "live"
    if os.path.ismount(tmp_path / "live"):
        serve.umount(tmp_path / "live", lazy=True)


def read(path: Path) -> int:
    """Read a file in a process of its own; its number."""
    program = "import os, sys; open(sys.argv[1], 'rb').read(); print(os.getpid())"
    done = subprocess.run([sys.executable, "-c", program, path], check=True, capture_output=True, timeout=60)
    return int(done.stdout)


def end(store: CommandLine) -> None:
    """Unmount, after which nothing is still on its way to the log."""
    assert "everything is no longer mounted" in store.ok("umount", "live").out


def wait_for(store: CommandLine, number: int) -> None:
    """Wait until so many lines are written; the timeout of tests ends this if they never are."""
    while len(store.ok("who", "/", "--json").lines) < number:
        pass


def test_what_is_mounted(store: CommandLine, live: Path) -> None:
    [line] = [line for line in store.ok("mounts", "--json").json_lines if line["mountpoint"] == str(live)]
    assert (line["revision"], line["snapshot"], line["log_opens"]) == ("--all", None, True)
    assert Path(f"/proc/{line['server_pid']}").exists()
    assert (live / "branches/prod/run.sh").read_bytes() == b"#!/bin/sh\n"


def test_every_way_to_ask(store: CommandLine, live: Path) -> None:
    model, script = read(live / "tags/v1/models/model.pkl"), read(live / "branches/prod/run.sh")
    wait_for(store, 2)
    below, one = (store.ok("who", word, "--json").json_lines for word in (str(live / "tags/v1/models"), ONE))
    assert [[line["pid"] for line in lines] for lines in (below, one)] == [[model], [script]]
    snapshot = store.ok("stat", "v1:", "--json").json["snapshot"]
    head = store.ok("stat", "prod:", "--json").json["snapshot"]
    digest = store.ok("stat", "v1:models/model.pkl", "--json").json["blake3"]
    end(store)

    def pids(*words: str) -> list[int]:
        return [line["pid"] for line in store.ok("who", *words, "--json").json_lines]

    assert pids(str(live)) == [model, script]
    assert pids(digest) == pids(digest[:10]) == pids("v1:models/model.pkl") == pids("v1:models") == [model]
    assert model in pids("v1") == pids(snapshot)
    assert script in pids("prod") == pids(head)
    assert pids("prod:run.sh") == [script]
    assert pids("v1:data") == []
    assert pids(str(live), "--since", "2099-01-01") == []
    assert pids(str(live), "--since", "2020-01-01T00:00Z") == [model, script]


def test_for_people(store: CommandLine, live: Path) -> None:
    pid = read(live / "branches/prod/run.sh")
    end(store)
    with places.opens_file(str(live)).open("a") as file:
        file.write('{"time": "2099-01-01T00:00:00.000000Z", "dropped": 3}\n')
    first, last = store.ok("who", str(live)).lines
    assert f"pid {pid}" in first
    assert os.path.realpath(sys.executable) in first
    assert first.endswith("/run.sh")
    assert last.endswith("3 opens before this not written down")


def test_nobody(store: CommandLine, live: Path) -> None:
    outcome = store.ok("who", "/nowhere")
    assert outcome.out == ""


def test_where_nothing_is_written_down(store: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "empty"))
    told = store("who", "/nowhere")
    assert (told.code, told.out) == (0, "")
    assert told.err == "No mount of this user has been made with --log-opens, so nothing is written down.\n"
    assert store.ok("who", "/nowhere", "--json").out == ""


def test_mounts_where_there_are_none(store: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "mounts", list)
    told = store("mounts")
    assert (told.code, told.out, told.err) == (0, "", "Nothing is mounted.\n")
    assert store.ok("mounts", "--json").out == ""
