"""-r, --json and --quiet stand before the command's word or after it; the repository is found as the manual says."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.cli.command_line import CommandLine, make_export


@pytest.mark.parametrize(
    "words",
    [
        "--json branch",
        "branch --json",
        "--json branch create x --from v1",
        "branch --json create x --from v1",
        "branch create --json x --from v1",
        "branch create x --from v1 --json",
    ],
)
def test_json_anywhere(store: CommandLine, words: str) -> None:
    assert store.ok(*words.split()).json_lines[0].keys() == {"branch", "snapshot", "time", "actor", "reason"}


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_anywhere(store: CommandLine, flag: str) -> None:
    words = ["branch", "move", "experiment/v2", "prod"]
    for place in range(len(words) + 1):
        assert store.ok(*words[:place], flag, *words[place:]).out == ""


def test_what_looks_like_an_option_may_be_a_value(store: CommandLine) -> None:
    store.ok("commit", "export", "-b", "prod", "-m", "--json")
    assert store.ok("log", "prod", "-n", "1").lines[2] == "  --json"


def test_the_repository_is_the_nearest_upwards(
    store: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "export" / "models")
    assert "prod" in store.ok("branch").out


def test_r_before_the_variable_before_the_nearest(
    store: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        export = make_export(tmp_path / f"{name}-export")
        store.ok("init", name)
        store.ok("-r", name, "commit", str(export), "-b", name, "--create")

    def branch(*words: str) -> str:
        return str(store.ok(*words, "--json").json_lines[-1]["branch"])

    assert branch("branch") == "prod"
    monkeypatch.setenv("MOORAGE_REPO", "one")
    assert branch("branch") == "one"
    for option, place in itertools.product(("-r", "--repo"), (0, 1)):
        words = ["branch"]
        words[place:place] = [option, "two"]
        assert branch(*words) == "two"
    assert branch("-r", "one", "branch", "-r", "two") == "two"
    monkeypatch.setenv("MOORAGE_REPO", "")
    assert branch("branch") == "prod"


def test_r_takes_the_directory_around_it(store: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert store.ok("-r", str(tmp_path), "branch").out == store.ok("-r", str(tmp_path / ".moorage"), "branch").out != ""
