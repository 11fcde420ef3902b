"""What only a process of its own shows: pipes that close, Ctrl-C, terminals, completion, and what is imported."""

from __future__ import annotations

import errno
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from moorage.cli.main import COMMANDS
from tests.cli.command_line import CommandLine, finished, python, spawn

_PIPE_BYTES = 1024 * 1024
"""More than a pipe holds: who has written so much knows that somebody reads."""


@pytest.fixture
def folder(store: CommandLine, tmp_path: Path) -> Path:
    """A directory with a repository."""
    assert store is not None
    return tmp_path


def test_a_reader_that_goes_away_is_no_error(folder: Path, store: CommandLine) -> None:
    many = folder / "many"
    many.mkdir()
    for number in range(3000):
        (many / f"{number:04}-{'x' * 60}").touch()
    store.ok("commit", "many", "-b", "many", "--create")
    for words in (["ls", "many"], ["ls", "many", "--json"], ["ls", "-l", "many"]):
        process = spawn(*words, cwd=folder)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b"", words
        assert process.wait() == 141, words
        process.stderr.close()
        assert process.stdin is not None
        process.stdin.close()


def test_an_output_that_is_closed_before_the_end(folder: Path) -> None:
    """Short enough to be written only when the process ends."""
    command = f"{' '.join(python('branch'))} | true; echo ${{PIPESTATUS[0]}}"
    for _ in range(3):
        done = subprocess.run(["bash", "-c", command], cwd=folder, check=True, capture_output=True, text=True)
        assert done.stdout.strip() in {"0", "141"}
        assert done.stderr == ""


def test_a_full_disk_is_an_error(folder: Path) -> None:
    for words in (["ls", "prod"], ["cat", "prod:models/model.pkl"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(python(*words), cwd=folder, check=False, stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 1, words
        assert done.stderr == b"moorage: error: the standard output: No space left on device\n", words


def test_streams_that_are_closed(folder: Path) -> None:
    """As a shell closes them with `>&-`; a descriptor that is free would be given to the next file that is opened."""

    def ended(words: str, closed: str) -> tuple[int, str]:
        command = f"{' '.join(python())} {words} {closed}"
        done = subprocess.run(["bash", "-c", command], cwd=folder, check=False, capture_output=True, text=True)
        assert done.stdout == ""
        return done.returncode, done.stderr

    for words in ("log", "cat prod:models/model.pkl", "branch", "--version"):
        told = (1, "moorage: error: the standard output: Bad file descriptor\n")
        assert ended(words, ">&-") == told, words
    assert json.loads(ended("log --json", ">&-")[1])["errno"] == errno.EBADF
    assert ended("branch create quiet --from prod -q", ">&-") == (0, "")
    assert ended("commit - -b prod --at x", "<&-")[0] == 1
    assert ended("ls nope", "2>&-") == (1, "")
    assert ended("ls nope", "<&- >&- 2>&-") == (1, "")
    assert ended("check --json > told", "2>&-") == (0, "")


def test_ctrl_c(folder: Path, store: CommandLine) -> None:
    before = store.ok("reflog", "prod", "--json").out
    process = spawn("commit", "-", "-b", "prod", "--at", "big", cwd=folder)
    assert process.stdin is not None
    process.stdin.write(b"x" * _PIPE_BYTES)
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert store.ok("reflog", "prod", "--json").out == before
    assert store.ok("check", "--json").json["ok"] is True


def _on_a_terminal(*words: str, cwd: Path, env: dict[str, str]) -> str:
    """Everything that a process writes to a terminal."""
    master, slave = pty.openpty()
    unset = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(python(*words), cwd=cwd, env={**unset, **env}, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    written = b""
    try:
        while piece := os.read(master, 65536):
            written += piece
    except OSError:
        pass  # the other side is closed, as Linux says it
    os.close(master)
    process.wait()
    return written.decode()


def test_colours_on_a_terminal(folder: Path) -> None:
    coloured = _on_a_terminal("ls", "-l", "prod", cwd=folder, env={"TERM": "xterm"})
    assert "\x1b[" in coloured
    for env in ({"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}):
        assert "\x1b" not in _on_a_terminal("ls", "-l", "prod", cwd=folder, env=env)
    assert "\x1b[1;31merror:" in _on_a_terminal("ls", "nope", cwd=folder, env={"TERM": "xterm"})
    assert "\x1b" not in finished("ls", "nope", cwd=folder).err


def test_a_terminal_gets_the_summary(folder: Path) -> None:
    summary = _on_a_terminal("commit", "export", "-b", "prod", cwd=folder, env={"TERM": "dumb"})
    assert [line.split()[0] for line in summary.splitlines()[1:6]] == ["files", "size", "new", "stored", "time"]


def test_what_a_start_imports(folder: Path) -> None:
    """--version and --help pay for none of the commands, and a command never pays for drawing."""
    code = "import sys; from moorage.cli.main import run; run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"

    def imported(*words: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=folder, check=True, capture_output=True, text=True
        )
        return set(done.stderr.split())

    package = imported("--version")
    commands = {f"moorage.cli.{name}" for name in ("session", "arguments", "records", "commands.files")}
    assert not {*commands, "rich"} & package
    assert not {*commands} & imported("--help")
    ls = imported("ls", "prod")
    assert commands <= ls
    assert not {name for name in ls if name.partition(".")[0] in {"rich", "numpy", "mfusepy"}}
    assert not {"moorage.cli.commands.demo", "moorage.cli.commands.mounts"} & ls


def test_help(cli: CommandLine) -> None:
    told = cli.ok("--help")
    assert cli.ok() == told
    for word, _, summary, _ in COMMANDS:
        assert word in told.out
        assert summary in told.out
        own = cli.ok(word, "--help").out
        assert f"Usage: moorage {word}" in own
        assert "--json" in own
        assert "{REV" not in own


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("moorage che", ["checkout", "check"]),
        ("moorage branch re", ["rename"]),
        ("moorage ls ", ["experiment/v2:", "prod:", "v1:"]),
        ("moorage show ex", ["experiment/v2"]),
        ("moorage cat v1:mo", ["v1:models/"]),
        ("moorage cat v1:models/", ["v1:models/model.pkl"]),
        ("moorage cat nope:models/", []),
        ("moorage commit . --br", ["--branch"]),
        ("moorage commit . -b p", ["prod"]),
        ("moorage tag delete v", ["v1"]),
        ("moorage -r /nowhere ls ", []),
    ],
)
def test_completion(folder: Path, typed: str, completed: list[str]) -> None:
    words = typed.split(" ")
    env = {"_MOORAGE_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    told = finished(cwd=folder, env=env)
    assert (told.code, told.err) == (0, "")
    assert told.out.split() == completed
