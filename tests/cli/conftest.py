"""Directories and repositories that commands work on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.command_line import CommandLine, make_export


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Commands, run in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return CommandLine(capsys)


@pytest.fixture
def store(cli: CommandLine, tmp_path: Path) -> CommandLine:
    """Commands in a directory with a repository: `prod` with one snapshot, `experiment/v2` one further, tag `v1`."""
    export = make_export(tmp_path / "export")
    cli.ok("init")
    cli.ok("commit", "export", "-b", "prod", "-m", "first model", "--meta", "accuracy=0.91", "--create")
    cli.ok("branch", "create", "experiment/v2", "--from", "prod")
    cli.ok("tag", "create", "v1", "prod")
    (export / "models" / "model.pkl").write_bytes(bytes(range(255, -1, -1)) * 50)
    os.rename(export / "data" / "train.csv", export / "data" / "all.csv")
    (export / "run.sh").unlink()
    (export / "new.txt").write_text("new\n", encoding="utf-8")
    cli.ok("commit", "export", "-b", "experiment/v2", "-m", "second model\n\nwith more data")
    return cli
