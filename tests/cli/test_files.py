"""ls, cat, stat, checkout: what they print, and the bytes that they hand out."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from moorage.cli.main import run
from moorage.cli.options import Settings
from tests.cli.command_line import CommandLine


def test_ls_prints_names_from_where_it_was_asked(store: CommandLine) -> None:
    assert store.ok("ls", "v1").lines == ["data", "latest", "models", "run.sh"]
    assert store.ok("ls", "v1:data/").lines == ["größe des tests.txt", "train.csv"]
    assert store.ok("ls", "v1:run.sh").lines == ["run.sh"]
    assert store.ok("ls", "-R", "v1").lines == [
        "data",
        "data/größe des tests.txt",
        "data/train.csv",
        "latest",
        "models",
        "models/model.pkl",
        "run.sh",
    ]
    assert store.ok("ls", "-R", "v1:models").lines == ["model.pkl"]


def test_ls_marks_directories_on_a_terminal(store: CommandLine, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ls", "v1"], Settings(is_terminal=True)) == 0
    assert capsys.readouterr().out.splitlines() == ["data/", "latest", "models/", "run.sh"]


def test_ls_long(store: CommandLine) -> None:
    moment = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    lines = store.ok("ls", "-l", "v1").lines
    assert re.fullmatch(rf"dir  +\d+ B  {moment}  data", lines[0])
    assert re.fullmatch(rf"link +16 B  {moment}  latest -> models/model.pkl", lines[1])
    assert re.fullmatch(rf"dir  +10.0 KiB  {moment}  models", lines[2])
    assert re.fullmatch(rf"exec +10 B  {moment}  run.sh", lines[3])
    assert len({line.index(":") for line in lines}) == 1


def test_stat_says_what_b3sum_says(store: CommandLine, tmp_path: Path) -> None:
    data = (tmp_path / "export/models/model.pkl").read_bytes()
    record = store.ok("stat", "experiment/v2:models/model.pkl", "--json").json
    assert (record["type"], record["size_bytes"], record["blake3"]) == ("file", len(data), blake3(data).hexdigest())
    assert store.ok("stat", "v1:latest", "--json").json["target"] == "models/model.pkl"
    assert store.ok("stat", "v1:run.sh", "--json").json["executable"] is True
    root = store.ok("stat", "v1:", "--json").json
    assert (root["type"], root["path"]) == ("directory", "")
    assert root["blake3"] == store.ok("log", "v1", "--json").json["blake3"]


def test_stat_for_people(store: CommandLine) -> None:
    lines = dict(line.split(maxsplit=1) for line in store.ok("stat", "v1:models/model.pkl").lines)
    assert lines["size"] == "10.0 KiB (10,240 bytes)"
    assert lines["path"] == "models/model.pkl"
    assert "executable" in store.ok("stat", "v1:run.sh").out


@pytest.mark.parametrize("words", [["cat"], ["cat", "--json"]])
def test_cat_writes_the_bytes(
    store: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written))
    assert run([*words, "experiment/v2:models/model.pkl"]) == 0
    assert written.getvalue() == (tmp_path / "export/models/model.pkl").read_bytes()


def test_checkout(store: CommandLine, tmp_path: Path) -> None:
    record = store.ok("checkout", "experiment/v2", "restored", "--json").json
    assert (record["files"], record["symlinks"], record["directories"]) == (4, 1, 2)
    assert record["target"] == str(tmp_path / "restored")
    for path in ("models/model.pkl", "data/all.csv", "latest"):
        assert (tmp_path / "restored" / path).read_bytes() == (tmp_path / "export" / path).read_bytes()
    assert re.fullmatch(r"Wrote 1 file, 10 B, to one in .*\n", store.ok("checkout", "v1:run.sh", "one").out)
    assert store.ok("checkout", "-q", "v1:data", "two").out == ""
    again = store("checkout", "v1:run.sh", "one")
    assert again.code == 1
    assert again.err == (
        "moorage: error: one exists already\nhint: replace it with --force, or check out to another place\n"
    )
    assert store.ok("checkout", "v1:latest", "link").out.startswith("Wrote 1 symlink, to link in ")
    assert re.match(r"Wrote 4 files, \S+ KiB, 1 symlink, to all in ", store.ok("checkout", "v1", "all").out)
    assert store.ok("checkout", "v1:run.sh", "one", "--force").code == 0


def test_names_in_an_encoding_that_lacks_them(store: CommandLine, capsys: pytest.CaptureFixture[str]) -> None:
    sys.stdout.reconfigure(encoding="ascii")  # type: ignore[union-attr]  # captured, and a TextIOWrapper
    assert run(["ls", "v1:data"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "gr\\xf6\\xdfe des tests.txt"
    sys.stdout.reconfigure(encoding="ascii")  # type: ignore[union-attr]  # as above
    assert run(["ls", "v1:data", "--json"]) == 0
    assert '"data/gr\\u00f6\\u00dfe des tests.txt"' in capsys.readouterr().out
