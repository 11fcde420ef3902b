"""init, check, stats, doctor, mounts: a repository and a machine as a whole."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cli.command_line import CommandLine


def test_init(cli: CommandLine, tmp_path: Path) -> None:
    made = cli.ok("init", "--json").json
    assert made["repository"] == str(tmp_path / ".moorage")
    assert re.fullmatch(r"[0-9a-f]{32}", made["id"])
    assert cli.ok("init", "store").lines[0] == f"Made a repository in {tmp_path / 'store'}"
    assert "moorage -r store commit" in cli.ok("-r", "third", "init").out.replace("third", "store")
    assert (tmp_path / "third" / "config").is_dir()
    assert cli.ok("init", "fourth", "-q").out == ""
    assert cli("init").code == 1


def test_check_of_a_sound_repository(store: CommandLine) -> None:
    lines = store.ok("check").lines
    assert lines[0].startswith("ok  2 branches" if "branch" in lines[0] else "ok  3 refs, 2 snapshots, ")
    assert lines[1] == "stored bytes were not read: `moorage check --data` does that"
    assert "every byte was read and hashed" in store.ok("check", "--data").out
    assert store.ok("check", "--quiet").out == ""
    assert store.ok("check", "--json").json["ok"] is True


def test_check_names_what_is_damaged(store: CommandLine, tmp_path: Path) -> None:
    packs = sorted((tmp_path / ".moorage" / "packs").glob("*/*"), key=lambda path: path.stat().st_size)
    biggest = packs[-1]
    biggest.chmod(0o644)
    data = bytearray(biggest.read_bytes())
    data[200] ^= 1
    biggest.write_bytes(data)
    found = store("check", "--data")
    assert (found.code, found.err) == (1, "")
    assert biggest.name in found.out
    assert "touches" in found.out
    record = store("check", "--data", "--json")
    assert record.code == 1
    assert record.json["ok"] is False
    assert record.json["problems"][0]["severity"] == "error"
    assert biggest.name in store("check", "--data", "--quiet").out


def test_stats(store: CommandLine) -> None:
    record = store.ok("stats", "--json").json
    assert record["logical_bytes"] > record["unique_bytes"] > 0
    assert record["dedup_ratio"] == record["logical_bytes"] / record["unique_bytes"]
    assert (record["branches"], record["tags"], record["by_branch"]) == (2, 1, [])
    assert [line.split()[0] for line in store.ok("stats").lines[:3]] == ["logical", "unique", "stored"]
    one = store.ok("stats", "v1", "--json").json
    assert (one["revision"], one["snapshots"], one["branches"]) == ("v1", 1, None)
    named = store.ok("stats", "--by-branch", "--json").json["by_branch"]
    assert [branch["branch"] for branch in named] == ["experiment/v2", "prod"]
    assert "experiment/v2" in store.ok("stats", "--by-branch").out


def test_doctor_and_mounts_need_no_repository(cli: CommandLine) -> None:
    found = cli("doctor", "--json")
    assert found.code in (0, 1)
    assert found.code == int(any(line["status"] == "fail" for line in found.json_lines))
    assert {"fuse-device", "fusermount"} <= {line["name"] for line in found.json_lines}
    people = cli("doctor")
    assert people.code == found.code
    assert all(line["found"] in people.out for line in found.json_lines)
    assert cli.ok("mounts", "--json").err == ""
