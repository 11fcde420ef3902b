"""Does `mount` understand its options, and does `umount --all` say what became of each?"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorage.mount.host import mountinfo
from tests.cli.command_line import CommandLine
from tests.mount.conftest import kill, wait_for_end
from tests.needs import needs_fuse


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory to mount on; nothing is left there, and no record of other tests is seen."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    place = tmp_path / "live"
    place.mkdir()
    yield place
    while mountinfo.top_at(str(place)) is not None:
        subprocess.run(["umount", "-l", place], check=True)


def listed(store: CommandLine, place: Path) -> dict[str, Any]:
    """The one line of `mounts` about a place."""
    [found] = [line for line in store.ok("mounts", "--json").json_lines if line["mountpoint"] == str(place)]
    return found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--uid", "no such one"], "there is no user 'no such one'"),
        (["--gid", "no such one"], "there is no group 'no such one'"),
        (["--umask", "8"], "'8' is not a umask"),
        (["--log-format", "xml"], "invalid value for '--log-format'"),
        (["--cache-size", "much"], "--cache-size is not a size: 'much'"),
    ],
)
def test_an_option_that_can_never_be_right(store: CommandLine, tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "live").mkdir()
    outcome = store("mount", "prod", "live", *words)
    assert outcome.code == 2
    assert outcome.err.startswith(f"moorage: error: {message}")
    assert os.listdir(tmp_path / "live") == []


def test_umount_takes_a_directory_or_all(store: CommandLine) -> None:
    assert "missing argument 'DIR'" in store("umount").err
    both = store("umount", "live", "--all")
    assert (both.code, "'live' is one too many" in both.err) == (2, True)


@needs_fuse
def test_the_hint_to_unmount_can_be_pasted(store: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever that is done, and whatever the directory is called."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "with blanks").mkdir()
    told = store.ok("mount", "prod", "with blanks").lines[-1]
    assert told == f"  unmount it with: moorage umount '{tmp_path}/with blanks'"
    store.ok(*shlex.split(told.partition("moorage ")[2]))
    (tmp_path / "with blanks").rename(tmp_path / "live")
    monkeypatch.chdir(tmp_path / "live")
    try:
        assert store.ok("mount", "prod", ".", "-r", str(tmp_path)).out.endswith(f"moorage umount {tmp_path}/live\n")
    finally:
        monkeypatch.chdir(tmp_path)
        store.ok("umount", "live")


@needs_fuse
def test_umount_all(store: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))  # nothing of other tests
    for name in ("live", "busy"):
        (tmp_path / name).mkdir()
        store.ok("mount", "prod", name, "--uid", "1234", "--umask", "077")
    assert os.stat("live").st_uid == 1234
    try:
        with open("busy/run.sh", "rb"):
            outcome = store("umount", "--all")
            assert outcome.code == 11
            assert outcome.lines == [f"prod is no longer mounted at {tmp_path}/live"]
            assert outcome.err.startswith(f"moorage: error: {tmp_path}/busy is in use by ")
            assert [line["kind"] for line in [store("umount", "--all", "--json").error]] == ["locked"]
    finally:
        last = store.ok("umount", "--all", "--json").json
    assert last["mountpoint"] == str(tmp_path / "busy")
    assert store.ok("umount", "--all").out == ""


@needs_fuse
def test_processes_that_are_gone_are_not_named(store: CommandLine, live: Path) -> None:
    mounted = store.ok("mount", "prod", "live", "--json").json
    supervisor, server = mounted["supervisor_pid"], mounted["server_pid"]
    assert f"supervisor {supervisor}, server {server}, " in store.ok("mounts").out
    kill(supervisor)
    wait_for_end(supervisor)
    found = listed(store, live)
    assert (found["state"], found["supervisor_pid"], found["server_pid"]) == ("unsupervised", None, server)
    told = store.ok("mounts").out
    assert (f"server {server}, " in told, str(supervisor) in told) == (True, False)
    kill(server)
    wait_for_end(server)
    found = listed(store, live)
    assert (found["state"], found["supervisor_pid"], found["server_pid"]) == ("stale", None, None)
    assert str(server) not in store.ok("mounts").out


@needs_fuse
def test_a_server_that_is_still_ending_is_the_one_that_is_named(store: CommandLine, live: Path) -> None:
    mounted = store.ok("mount", "prod", "live", "--json").json
    with (live / "run.sh").open("rb"):
        told = store.ok("umount", "--lazy", "live").out
    assert f"its server ({mounted['server_pid']}) is still ending" in told


@needs_fuse
def test_of_another_users_mount_only_what_the_kernel_tells(
    store: CommandLine, live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = store.ok("mount", "prod", "live", "--json").json
    with monkeypatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
        found = listed(store, live)
    assert set(found) == set(mounted)
    assert {key: value for key, value in found.items() if value is not None} == {
        "mountpoint": str(live),
        "repository": str(tmp_path / ".moorage"),
        "revision": "prod",
        "state": "serving",
    }
    store.ok("umount", "live")
