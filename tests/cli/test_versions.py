"""diff and merge: what they print, and that a conflict writes nothing."""

from __future__ import annotations

from pathlib import Path

from tests.cli.command_line import CommandLine


def test_diff_for_people(store: CommandLine) -> None:
    assert [line.split() for line in store.ok("diff", "prod", "experiment/v2").lines] == [
        ["R", "20", "B", "data/train.csv", "->", "data/all.csv"],
        ["M", "12.5", "KiB", "+2.5", "KiB", "models/model.pkl"],
        ["A", "4", "B", "new.txt"],
        ["D", "10", "B", "run.sh"],
    ]
    assert store.ok("diff", "prod", "experiment/v2", "models").lines[0].endswith("  models/model.pkl")
    assert store.ok("diff", "prod", "v1").out == ""


def test_diff_as_json(store: CommandLine) -> None:
    changes = store.ok("diff", "experiment/v2", "prod", "models/model.pkl", "--json").json_lines
    assert [(change["change"], change["old"]["size_bytes"], change["new"]["size_bytes"]) for change in changes] == [
        ("modified", 12800, 10240)
    ]


def test_merge_forward(store: CommandLine) -> None:
    planned = store.ok("merge", "experiment/v2", "--into", "prod", "--dry-run")
    assert "prod would move from" in planned.out
    assert "fast-forward, 1 added, 1 removed, 1 modified, 1 renamed" in planned.out
    plan = store.ok("merge", "experiment/v2", "--into", "prod", "--dry-run", "--json").json
    assert (plan["kind"], plan["dry_run"], len(plan["changes"])) == ("fast-forward", True, 4)
    assert len(store.ok("reflog", "prod").lines) == 1
    done = store.ok("merge", "experiment/v2", "--into", "prod", "--json").json
    assert done == plan | {"dry_run": False}
    assert store.ok("ls", "prod").out == store.ok("ls", "experiment/v2").out
    again = store.ok("merge", "experiment/v2", "--into", "prod")
    assert again.out == "prod has everything of experiment/v2 already.\n"


def test_merge_of_two_lines(store: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "hot.fix").write_text("fix\n")
    store.ok("commit", "hot.fix", "-b", "prod", "--at", "hot.fix")
    plan = store.ok("merge", "experiment/v2", "--into", "prod", "--dry-run", "--json").json
    assert (plan["kind"], plan["snapshot"]) == ("three-way", None)
    done = store.ok("merge", "experiment/v2", "--into", "prod", "-m", "both", "--json").json
    assert store.ok("ls", "prod").lines == ["data", "hot.fix", "latest", "models", "new.txt"]
    top = store.ok("log", "prod", "-n", "1", "--json").json
    assert (top["snapshot"], top["message"], len(top["parents"])) == (done["snapshot"], "both", 2)
    assert "merge of" in store.ok("log", "prod", "-n", "1").out
    assert store.ok("merge", "v1", "--into", "prod", "--quiet").out == ""


def test_a_change_of_the_mode_alone_is_told(store: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh\n", encoding="utf-8")
    store.ok("commit", "run.sh", "-b", "prod", "--at", "run.sh")
    assert store.ok("diff", "v1", "prod").lines == ["M  10 B    run.sh  not executable any more"]
    assert store.ok("diff", "prod", "v1").lines == ["M  10 B    run.sh  executable now"]


def test_a_conflict_is_listed_and_writes_nothing(store: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"other")
    store.ok("commit", "other", "-b", "prod", "--at", "models/model.pkl")
    before = store.ok("reflog", "prod").out
    refused = store("merge", "experiment/v2", "--into", "prod")
    assert (refused.code, refused.out) == (4, "")
    assert refused.err.startswith(
        "moorage: error: experiment/v2 and branch 'prod' changed the same path differently\n"
        "  C  models/model.pkl  (both-modified)\n"
    )
    error = store("merge", "experiment/v2", "--into", "prod", "--json").error
    assert error["kind"] == "merge_conflict"
    assert [(conflict["path"], conflict["kind"]) for conflict in error["conflicts"]] == [
        ("models/model.pkl", "both-modified")
    ]
    assert store.ok("reflog", "prod").out == before
