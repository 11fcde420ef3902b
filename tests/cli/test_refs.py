"""branch, tag, reflog: what they do to the names, and what they print of them."""

from __future__ import annotations

from tests.cli.command_line import CommandLine


def _heads(store: CommandLine) -> dict[str, str]:
    return {line["branch"]: line["snapshot"] for line in store.ok("branch", "--json").json_lines}


def test_branch_lists_where_each_stands(store: CommandLine) -> None:
    lines = [line.split(maxsplit=4) for line in store.ok("branch").lines]
    assert [(words[0], words[4]) for words in lines] == [("experiment/v2", "second model"), ("prod", "first model")]
    assert list(_heads(store)) == ["experiment/v2", "prod"]


def test_create_move_rename_delete(store: CommandLine) -> None:
    heads = _heads(store)
    made = store.ok("branch", "create", "a/b", "--from", "v1", "--json").json
    assert (made["branch"], made["snapshot"]) == ("a/b", heads["prod"])
    assert store.ok("branch", "move", "a/b", "experiment/v2").out.startswith("a/b stands at ")
    assert _heads(store)["a/b"] == heads["experiment/v2"]
    assert store.ok("branch", "rename", "a/b", "c").out.startswith("c is what a/b was, at ")
    assert store.ok("branch", "delete", "c", "--quiet").out == ""
    assert _heads(store) == heads


def test_a_branch_starts_at_the_only_one(cli: CommandLine) -> None:
    cli.ok("init")
    missing = cli("branch", "create", "x", "--json")
    assert (missing.code, missing.error["kind"]) == (2, "invalid_input")
    cli.ok("commit", ".", "-b", "main", "--create")
    assert cli.ok("branch", "create", "x", "--json").json["reason"] == "branch create from main"
    several = cli("branch", "create", "y", "--json")
    assert (several.code, several.error["branches"]) == (2, ["main", "x"])


def test_tags(store: CommandLine) -> None:
    assert store.ok("tag", "create", "releases/2", "experiment/v2").out.startswith("releases/2 is a new tag at ")
    assert [line["tag"] for line in store.ok("tag", "--json").json_lines] == ["releases/2", "v1"]
    assert [line.split()[0] for line in store.ok("tag").lines] == ["releases/2", "v1"]
    assert store("tag", "create", "v1", "experiment/v2").code == 1
    store.ok("tag", "delete", "v1")
    assert [line["tag"] for line in store.ok("--json", "tag").json_lines] == ["releases/2"]


def test_reflog_leads_back(store: CommandLine) -> None:
    store.ok("merge", "experiment/v2", "--into", "prod")
    lines = store.ok("reflog", "prod", "--json").json_lines
    assert [line["selector"] for line in lines] == ["prod@{0}", "prod@{1}"]
    assert lines[0]["reason"] == "merge experiment/v2: fast-forward"
    for line in lines:
        assert store.ok("show", line["selector"], "--json").json["snapshot"] == line["snapshot"]
    store.ok("branch", "move", "prod", "prod@{1}")
    assert _heads(store)["prod"] == lines[1]["snapshot"]


def test_reflog_of_the_newest_alone(store: CommandLine) -> None:
    store.ok("merge", "experiment/v2", "--into", "prod")
    everything = store.ok("reflog", "prod", "--json").json_lines
    assert len(everything) == 2
    assert store.ok("reflog", "prod", "-n", "1", "--json").json_lines == everything[:1]
    assert len(store.ok("reflog", "prod", "-n", "5").lines) == 2
    assert store.ok("reflog", "prod", "-n", "0").out == ""


def test_reflog_of_what_is_gone(store: CommandLine) -> None:
    store.ok("branch", "rename", "prod", "main")
    gone = store.ok("reflog", "prod", "--json").json_lines
    assert [(line["action"], line["selector"], line["other"]) for line in gone] == [
        ("renamed-to", None, "main"),
        ("set", None, None),
    ]
    assert [line.split()[2:5] for line in store.ok("reflog", "main").lines] == [["renamed", "from", "prod"]]
    store.ok("branch", "create", "prod", "--from", "v1")
    again = store.ok("reflog", "prod", "--json").json_lines
    assert [line["selector"] for line in again] == ["prod@{0}", None, "prod@{1}"]
    for line in again:
        if line["selector"]:
            assert store.ok("show", line["selector"], "--json").json["snapshot"] == line["snapshot"]
