"""What does an interactive bash make of a word and a tab? Typed on a terminal, and asked of the shell itself."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from typer._completion_shared import COMPLETION_SCRIPT_BASH

from moorage.cli.bash import SCRIPT
from tests.cli.command_line import CommandLine
from tests.needs import needs_tool

pytestmark = needs_tool("bash")

TO_START, TO_END = "\x01", "\x05"
"""Keys of readline."""
NAMES = {"complete_func": "_moorage_completion", "prog_name": "moorage", "autocomplete_var": "_MOORAGE_COMPLETE"}


@pytest.fixture
def folder(store: CommandLine, tmp_path: Path) -> Path:
    """A directory with a repository, and a `moorage` that bash finds."""
    (tmp_path / "with blanks").mkdir()
    (tmp_path / "with blanks" / "a b").write_text("x")
    store.ok("commit", "with blanks", "-b", "prod", "--at", "with blanks")
    store.ok("branch", "create", "bad name", "--from", "v1")
    command = tmp_path / "bin" / "moorage"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m moorage "$@"\n')
    command.chmod(0o755)
    return tmp_path


def typed(keys: str, folder: Path, script: str = SCRIPT) -> tuple[list[str], str]:
    """The words that bash sees after these keys, and all that it has written to the terminal."""
    (folder / "rc").write_text(f"PS1='$ '\nbind 'set bell-style none'\n{script % NAMES}\n")
    master, slave = pty.openpty()
    env = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(
        ["bash", "--noprofile", "--rcfile", "rc", "-i"],
        cwd=folder,
        env=env,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    os.write(master, f"{keys}{TO_START}printf '%s\\n' {TO_END} > words\nexit\n".encode())
    written = b""
    try:
        while piece := os.read(master, 65536):
            written += piece
    except OSError:
        pass  # bash is gone, as Linux says it
    os.close(master)
    process.wait()
    return (folder / "words").read_text("utf-8").splitlines(), written.decode()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("moorage che\to\tX", ["moorage", "checkout", "X"]),
        ("moorage ls pro\tX", ["moorage", "ls", "prod:X"]),
        ("moorage cat prod:mod\tX", ["moorage", "cat", "prod:models/X"]),
        ("moorage cat prod:models/mo\tX", ["moorage", "cat", "prod:models/model.pkl", "X"]),
        ("moorage cat prod:models/\tX", ["moorage", "cat", "prod:models/model.pkl", "X"]),
        ("moorage cat experiment/v2:n\tX", ["moorage", "cat", "experiment/v2:new.txt", "X"]),
        ("moorage cat prod:wi\ta\t", ["moorage", "cat", "prod:with blanks/a b"]),
        ("moorage cat 'prod:wi\ta", ["moorage", "cat", "prod:with blanks/a"]),
        ("moorage cat bad\\ n\tmo\t", ["moorage", "cat", "bad name:models/"]),
        ("moorage branch delete ba\tX", ["moorage", "branch", "delete", "bad name", "X"]),
        ("moorage commit export -b p\tX", ["moorage", "commit", "export", "-b", "prod", "X"]),
        ("moorage commit exp\tX", ["moorage", "commit", "export/X"]),
    ],
)
def test_a_tab(folder: Path, keys: str, words: list[str]) -> None:
    assert typed(keys, folder)[0] == words


def test_after_the_colon_come_paths_of_the_revision(folder: Path) -> None:
    words, written = typed("moorage ls v1:\t\t", folder)
    assert words == ["moorage", "ls", "v1:"]
    assert "models/" in written
    assert "export" not in written


def test_a_script_that_knows_no_colons_is_noticed(folder: Path) -> None:
    """Negative control."""
    assert typed("moorage cat prod:mod\tX", folder, COMPLETION_SCRIPT_BASH)[0] == ["moorage", "cat", "prod:modX"]


def test_it_is_the_script_that_is_installed(folder: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", "bin/moorage --show-completion bash; exit $?"],  # typer looks for a shell among its parents
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == (SCRIPT % NAMES).strip()
