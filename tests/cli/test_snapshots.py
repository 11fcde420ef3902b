"""commit, log, show: what they print, on a terminal, in a pipe and as JSON."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest

from moorage.cli.main import run
from moorage.cli.options import Settings
from tests.cli.command_line import CommandLine, Outcome, make_export


def test_commit_prints_the_id_alone_where_no_terminal_reads_it(store: CommandLine) -> None:
    printed = store.ok("commit", "export", "-b", "prod").out
    assert re.fullmatch(r"[0-9a-f]{64}\n", printed)
    assert printed.strip() == store.ok("log", "prod", "--json").json_lines[0]["snapshot"]


def test_commit_sums_up_on_a_terminal(store: CommandLine, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["commit", "export", "-b", "prod", "-m", "again\nand again"], Settings(is_terminal=True)) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"[0-9a-f]{12}  prod  again", first)
    assert [line.split()[0] for line in rest] == ["files", "size", "new", "stored", "time"]


def test_commit_is_quiet_on_a_terminal_when_asked(store: CommandLine, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["commit", "export", "-b", "prod", "-q"], Settings(is_terminal=True)) == 0
    assert re.fullmatch(r"[0-9a-f]{64}\n", capsys.readouterr().out)


def test_commit_counts(cli: CommandLine, tmp_path: Path) -> None:
    make_export(tmp_path / "export")
    cli.ok("init")
    made = cli.ok("commit", "export", "-b", "prod", "--create", "--json").json
    assert (made["branch"], made["files"], made["unchanged"]) == ("prod", 5, False)
    assert made["logical_bytes"] == made["new_bytes"] + len("models/model.pkl") > 10_000
    assert made["stored_bytes"] > 0
    again = cli.ok("commit", "export", "-b", "prod", "--json").json
    assert (again["new_bytes"], again["unchanged"], again["blake3"]) == (0, True, made["blake3"])


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("accuracy=0.93", 0.93),
        ("n=1", 1),
        ("ok=true", True),
        ("nothing=null", None),
        ("tags=[1, {}]", [1, {}]),
        ("name=bert", "bert"),
        ("empty=", ""),
        ("formula=a=b", "a=b"),
        ('quoted="0.93"', "0.93"),
        ("loss=NaN", "NaN"),
        ("version=1.2.3", "1.2.3"),
    ],
)
def test_metadata_is_json_or_else_a_string(store: CommandLine, given: str, kept: object) -> None:
    store.ok("commit", "export", "-b", "prod", "--meta", given)
    assert store.ok("log", "prod", "-n", "1", "--json").json["metadata"] == {given.partition("=")[0]: kept}


def test_commit_of_an_unchanged_tree_says_so(cli: CommandLine, tmp_path: Path) -> None:
    make_export(tmp_path / "export")
    cli.ok("init")
    first = cli.ok("commit", "export", "-b", "prod", "--create").out.strip()
    again = cli("commit", "export", "-b", "prod")
    assert again.code == 0
    assert again.err == "unchanged: the tree of prod is the same as before\n"
    assert again.out.strip() not in ("", first)
    none = cli("commit", "export", "-b", "prod", "--if-changed")
    assert (none.code, none.out) == (0, again.out)
    assert none.err == "unchanged: the tree of prod is the same as before, and no snapshot is made\n"
    assert cli.ok("commit", "export", "-b", "prod", "--if-changed", "--quiet").out == again.out
    told = cli.ok("commit", "export", "-b", "prod", "--if-changed", "--json").json
    assert (told["unchanged"], told["committed"], told["snapshot"]) == (True, False, again.out.strip())
    assert len(cli.ok("log", "--json").lines) == 2


def test_commit_of_one_file_and_of_the_standard_input(store: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    store.ok("commit", "export/new.txt", "-b", "prod", "--at", "notes/one.txt")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"from a pipe\n")))
    store.ok("commit", "-", "-b", "prod", "--at", "notes/two.txt")
    assert store.ok("ls", "prod:notes").lines == ["one.txt", "two.txt"]
    assert store.ok("ls", "prod").lines == ["data", "latest", "models", "notes", "run.sh"]


def test_log_starts_at_every_branch(store: CommandLine) -> None:
    store.ok("commit", "export", "-b", "prod", "-m", "third")
    messages = [line["message"] for line in store.ok("log", "--json").json_lines]
    assert messages == ["third", "second model\n\nwith more data", "first model"]
    assert [line["message"] for line in store.ok("log", "--json", "prod").json_lines] == ["third", "first model"]
    assert len(store.ok("log", "--json", "-n", "2").json_lines) == 2
    assert store.ok("log", "-n", "0").out == ""


def test_log_for_people(store: CommandLine) -> None:
    second, first = store.ok("log").out.split("\n\n", 1)[0], store.ok("log", "v1").lines
    assert re.match(r"[0-9a-f]{12}  experiment/v2\n  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", second)
    assert re.fullmatch(r"[0-9a-f]{12}  prod, tag v1", first[0])
    assert first[2:] == ["  first model", "  accuracy = 0.91"]


def test_log_of_nothing(cli: CommandLine) -> None:
    cli.ok("init")
    assert cli.ok("log") == cli.ok("log", "--json") == Outcome(0, "", "")


def test_show_lists_what_changed(store: CommandLine) -> None:
    shown = store.ok("show", "experiment/v2").out
    assert "  second model\n  \n  with more data" in shown.replace("\n\n  with", "\n  \n  with")
    assert "1 added, 1 removed, 1 modified, 1 renamed since the first parent" in shown
    record = store.ok("show", "experiment/v2", "--json").json
    assert [(change["change"], change["path"]) for change in record["changes"]] == [
        ("renamed", "data/all.csv"),
        ("modified", "models/model.pkl"),
        ("added", "new.txt"),
        ("removed", "run.sh"),
    ]
    assert record["parents"] == [store.ok("show", "prod", "--json").json["snapshot"]]


def test_everything_of_a_first_snapshot_is_added(store: CommandLine) -> None:
    changes = store.ok("show", "v1", "--json").json["changes"]
    assert {change["change"] for change in changes} == {"added"}
    assert len(changes) == 5


def test_messages_cannot_steer_a_terminal(store: CommandLine) -> None:
    nasty = "\x1b[2Jgone\u202e\x9b"
    store.ok("commit", "export", "-b", "prod", "-m", nasty)
    for words in (["log", "prod"], ["show", "prod"], ["branch"], ["reflog", "prod"]):
        out = store.ok(*words).out
        assert "\\x1b[2Jgone\\u202e\\x9b" in out
        assert not set("\x1b\u202e\x9b") & set(out)
    assert json.loads(store.ok("log", "prod", "-n", "1", "--json").out)["message"] == nasty
