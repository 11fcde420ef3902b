"""docs/cli.md says what a program may rely on: every command, every key of its JSON, every exit code, and no other."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_group

from moorage.cli.commands import mount
from moorage.cli.errors import ExitCode
from moorage.cli.main import COMMANDS
from tests.cli.command_line import CommandLine, Outcome
from tests.needs import needs_fuse, needs_tool

REFERENCE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
OPAQUE = {"metadata", "changes"}
"""Whose own keys are the user's, or listed elsewhere."""


def _sections() -> dict[str, str]:
    parts = re.split(r"^### (.+)\n", REFERENCE.partition("\n## JSON\n")[2], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _documented(command: str) -> set[str]:
    return set(re.findall(r"^\| `([^-`][^`]*)` \|", _sections()[command], flags=re.MULTILINE))


def _documented_options(command: str) -> set[str]:
    """Those with a line of their own."""
    cells = re.findall(r"^\| (`--[^|]+) \|", _sections()[command], flags=re.MULTILINE)
    return {option for cell in cells for option in re.findall(r"--[a-z-]+", cell)}


def _keys(value: object, prefix: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield prefix + key
            if key not in OPAQUE:
                yield from _keys(below, f"{prefix}{key}.")
    elif isinstance(value, list):
        for item in value:
            yield from _keys(item, f"{prefix.removesuffix('.')}[].")


def _printed(outcomes: list[dict[str, Any]]) -> set[str]:
    """The keys of all of them; each must have the same at the top."""
    assert outcomes
    assert len({frozenset(outcome) for outcome in outcomes}) == 1
    return {key for outcome in outcomes for key in _keys(outcome)}


def test_every_command_has_its_section() -> None:
    assert sorted(_sections()) == sorted(word for word, *_ in COMMANDS)


def test_the_exit_codes() -> None:
    table = re.findall(r"^\| (\d+) \| ([a-z ]+) \|", REFERENCE, flags=re.MULTILINE)
    assert [(int(code), name) for code, name in table] == [
        (code.value, code.name.lower().replace("_", " ")) for code in ExitCode
    ]


RUNS: list[tuple[str, str]] = [
    ("init", "init other"),
    ("commit", "commit export -b prod"),
    ("log", "log"),
    ("show", "show prod"),
    ("reflog", "reflog prod"),
    ("branch", "branch"),
    ("branch", "branch create x --from v1"),
    ("branch", "branch move experiment/v2 v1"),
    ("branch", "branch rename experiment/v2 y"),
    ("branch", "branch delete experiment/v2"),
    ("tag", "tag"),
    ("tag", "tag create v2 prod"),
    ("tag", "tag delete v1"),
    ("diff", "diff v1 experiment/v2"),
    ("merge", "merge experiment/v2 --into prod --dry-run"),
    ("merge", "merge experiment/v2 --into prod"),
    ("ls", "ls v1 -R"),
    ("stat", "stat v1:run.sh"),
    ("stat", "stat v1:"),
    ("checkout", "checkout v1 there"),
    ("warm", "warm v1"),
    ("stats", "stats --by-branch"),
    ("doctor", "doctor"),
]


@pytest.mark.parametrize(("command", "words"), RUNS)
def test_the_keys_are_those_documented(store: CommandLine, command: str, words: str) -> None:
    assert _printed(store(*words.split(), "--json").json_lines) == _documented(command)


def test_the_keys_of_a_revisions_stats(store: CommandLine) -> None:
    top = {key for key in _documented("stats") if "[]" not in key}
    assert _printed([store.ok("stats", "v1", "--json").json]) == top


def test_the_keys_of_check(store: CommandLine, tmp_path: Path) -> None:
    sound = {key for key in _documented("check") if "[]" not in key}
    assert _printed([store.ok("check", "--json").json]) == sound
    for pack in (tmp_path / ".moorage" / "packs").glob("*/*"):
        pack.unlink()
    assert _printed([store("check", "--json").json]) == _documented("check")


@needs_fuse
def test_the_keys_of_mounts(store: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    mounted = store.ok("mount", "prod", "live", "--json").json
    try:
        listed = [
            line for line in store.ok("mounts", "--json").json_lines if line["mountpoint"] == str(tmp_path / "live")
        ]
        upgraded = store.ok("upgrade", "live", "--json").json
    finally:
        gone = store.ok("umount", "live", "--json").json
    assert listed == [mounted]
    assert _printed([mounted]) == _documented("mount") == _documented("mounts")
    assert _printed([gone]) == _documented("umount")
    assert _printed([upgraded]) == _documented("upgrade")
    assert upgraded["server_pid"] != mounted["server_pid"]


def test_the_options_of_mount_are_those_documented() -> None:
    command = get_group(mount.app).commands["mount"]
    taken = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    everywhere = {"--help", "--json", "--quiet", "--repo"}
    assert taken - everywhere == {*_documented_options("mount"), "--all"}


@needs_tool("systemd-analyze")
def test_systemd_has_nothing_against_the_unit(store: CommandLine, tmp_path: Path) -> None:
    printed = store.ok("doctor", "--unit", "--json").out
    assert "/usr/local/bin" not in printed  # but this installation
    path = tmp_path / "moorage@srv-models.service"
    path.write_text(printed)
    done = subprocess.run(["systemd-analyze", "verify", path], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    path.write_text(printed.replace("Type=notify", "Type=notice"))
    done = subprocess.run(["systemd-analyze", "verify", path], check=False, capture_output=True, text=True)
    assert "notice" in done.stderr  # the control


def test_nothing_is_documented_for_cat() -> None:
    assert _documented("cat") == set()


def test_a_missing_key_would_be_seen(store: CommandLine) -> None:
    """The control: the comparison is of sets that are not empty, and sees one key too few."""
    record = store.ok("stat", "v1:run.sh", "--json").json
    del record["executable"]
    assert _documented("stat") - _printed([record]) == {"executable"}
    with pytest.raises(AssertionError):
        _printed([record, store.ok("stat", "v1:run.sh", "--json").json])


def test_the_outcome_of_json_is_one_line(store: CommandLine) -> None:
    for words in (["stat", "v1:run.sh"], ["show", "v1"], ["stats"], ["check"]):
        outcome: Outcome = store.ok(*words, "--json")
        assert len(outcome.lines) == 1
