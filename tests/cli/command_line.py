"""How do these tests run a command, and on what?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from moorage.cli.main import run


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> dict[str, Any]:
        """The one object that was printed."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    @property
    def json_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    @property
    def error(self) -> dict[str, Any]:
        """The one object on the standard error."""
        assert self.out == ""
        found = json.loads(self.err)
        assert isinstance(found, dict)
        return found


class CommandLine:
    """Runs commands in this process, in the current directory of the test."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured

    def __call__(self, *words: str) -> Outcome:
        """Whatever comes of it."""
        self._captured.readouterr()
        code = run(words)
        return Outcome(code, *self._captured.readouterr())

    def ok(self, *words: str) -> Outcome:
        """What must succeed, and has nothing to say on the standard error."""
        outcome = self(*words)
        assert (outcome.code, outcome.err) == (0, ""), f"moorage {' '.join(words)}"
        return outcome


def spawn(*words: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """A process of its own, with pipes."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        python(*words), cwd=cwd, env={**os.environ, **(env or {})}, stdin=pipe, stdout=pipe, stderr=pipe
    )


def finished(*words: str, cwd: Path, env: Mapping[str, str] | None = None) -> Outcome:
    """Run a process of its own to its end."""
    process = spawn(*words, cwd=cwd, env=env)
    out, err = process.communicate()
    return Outcome(process.returncode, out.decode(), err.decode())


def python(*words: str) -> Sequence[str]:
    """`moorage` as this interpreter runs it."""
    return [sys.executable, "-m", "moorage", *words]


def make_export(folder: Path) -> Path:
    """A directory with one of everything."""
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "model.pkl").write_bytes(bytes(range(256)) * 40)
    (folder / "data").mkdir()
    (folder / "data" / "train.csv").write_text("amount,default\n12,0\n", encoding="utf-8")
    (folder / "data" / "größe des tests.txt").write_text("groß\n", encoding="utf-8")
    (folder / "run.sh").write_text("#!/bin/sh\n", encoding="utf-8")
    (folder / "run.sh").chmod(0o755)
    (folder / "latest").symlink_to("models/model.pkl")
    return folder
