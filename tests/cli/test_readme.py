"""Every command and every line of Python in README.md runs as it is written, in an empty directory, in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from moorage.cli.main import COMMANDS
from tests.needs import fuse_missing, needs_fuse

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code."""

    language: str
    is_mounting: bool
    code: str


def _blocks() -> list[Block]:
    found = re.findall(r"^```(sh|python)( mount)?\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [Block(language, bool(mount), code) for language, mount, code in found]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Where `moorage` and `python3` are this project's."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, words in (("moorage", '-m moorage "$@"'), ("python3", '"$@"')):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}\n')
        (programs / name).chmod(0o755)
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}


def _run(blocks: list[Block], folder: Path, environment: dict[str, str]) -> str:
    """Run them one after the other, and return what they printed."""
    folder.mkdir()
    words = {"sh": ["/bin/sh", "-eu", "-c"], "python": [sys.executable, "-W", "error", "-c"]}
    printed = ""
    try:
        for block in blocks:
            done = subprocess.run(
                [*words[block.language], block.code],
                cwd=folder,
                env=environment,
                check=False,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert done.returncode == 0, f"{block.code}\n{done.stdout}"
            printed += done.stdout
    finally:
        live = folder / "live"
        if os.path.ismount(live):
            subprocess.run(["moorage", "umount", "live"], cwd=folder, env=environment, check=False)
    return printed


@needs_fuse
def test_the_readme_runs_as_written(tmp_path: Path, environment: dict[str, str]) -> None:
    printed = _run(_blocks(), tmp_path / "empty", environment)
    models = re.findall(r"\{'version': (\d), 'bias'", printed)
    assert models == ["1", "2"], "the program reads version 1, and after the merge version 2"
    assert printed.endswith("less bias\namount,default\n\n")


@pytest.mark.skipif(fuse_missing() is None, reason="test_the_readme_runs_as_written runs all of it")
def test_the_readme_runs_without_a_mount(tmp_path: Path, environment: dict[str, str]) -> None:
    _run([block for block in _blocks() if not block.is_mounting], tmp_path / "empty", environment)


def test_the_readme_names_only_commands_that_exist() -> None:
    code = "".join(block.code for block in _blocks() if block.language == "sh")
    used = set(re.findall(r"^moorage (\S+)", code, flags=re.MULTILINE))
    assert {"init", "commit", "branch", "diff", "merge", "mount", "umount"} <= used <= {word for word, *_ in COMMANDS}


def test_a_command_that_fails_is_noticed(tmp_path: Path, environment: dict[str, str]) -> None:
    """The control: an error in the middle of a block, and one in Python."""
    for number, block in enumerate((Block("sh", False, "moorage comit\ntrue\n"), Block("python", False, "1 / 0\n"))):
        with pytest.raises(AssertionError):
            _run([block], tmp_path / str(number), environment)


def test_every_link_leads_somewhere() -> None:
    root = Path(__file__).parents[2]
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (root / link).exists()] == []
