"""Does `mount` understand its options, and does `umount --all` say what became of each?"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from tests.cli.command_line import CommandLine
from tests.needs import needs_fuse


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
