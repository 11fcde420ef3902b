"""Does `moorage warm` bring what was asked for into the cache, once, and say what found no room?"""

from __future__ import annotations

from pathlib import Path

import pytest

from moorage.read.cache import FileCache
from tests.cli.command_line import CommandLine

MODEL = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileCache:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return FileCache()


def test_a_directory_twice(store: CommandLine, cache: FileCache) -> None:
    first = store.ok("warm", "v1:models", "--json").json
    assert (first["files"], first["hydrated_files"], first["hydrated_bytes"]) == (1, 1, len(MODEL))
    second = store.ok("warm", "v1:models", "--json").json
    assert (second["files"], second["hydrated_files"], second["left_out"]) == (1, 0, [])
    assert [path.read_bytes() for path in cache.folder.glob("*/*") if not path.suffix] == [MODEL]


def test_several_locations_and_a_whole_revision(store: CommandLine, cache: FileCache) -> None:
    assert store.ok("warm", "v1:models/model.pkl", "v1:run.sh", "v1", "--json").json["files"] == 4
    assert cache.usage().files == 4
    assert "4 files already there" in store.ok("warm", "v1").out


def test_what_does_not_fit_is_named_and_the_rest_is_there(store: CommandLine, cache: FileCache) -> None:
    outcome = store("warm", "v1:data", "v1:models", "--cache-size", "20K", "--json")
    assert outcome.code == 3
    assert outcome.json["left_out"] == ["models/model.pkl"]
    assert cache.usage().files == 2
    assert "no room for 1 file:\n    models/model.pkl\n" in store("warm", "v1:models", "--cache-size", "8K").out


def test_what_is_there_needs_no_room(store: CommandLine, cache: FileCache) -> None:
    store.ok("warm", "v1")
    outcome = store.ok("warm", "v1", "--cache-size", "8K", "--json").json
    assert (outcome["hydrated_files"], outcome["left_out"]) == (0, [])
    assert "4 files already there" in store.ok("warm", "v1", "--cache-size", "8K").out


def test_many_that_find_no_room_are_a_summary(store: CommandLine, tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / "export" / f"{number:02}").write_bytes(b"%d" % number * 5000)
    store.ok("commit", "export", "-b", "prod")
    lines = store("warm", "prod", "--cache-size", "8K").lines
    assert [line.strip() for line in lines if "no room" in line or "more" in line] == [
        "no room for 34 files:",
        "and 24 more",
    ]
    assert len(lines) < 15


def test_a_symlink_is_told_where_it_leads(store: CommandLine) -> None:
    told = store("warm", "v1:latest", "--json").error
    assert told["message"] == "latest is a symlink, not a file"
    assert told["hint"] == "it points to v1:models/model.pkl"


def test_the_size_is_taken_from_the_settings(store: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "config" / "moorage").mkdir(parents=True)
    (tmp_path / "config" / "moorage" / "config.toml").write_text('[cache]\nsize = "8 KiB"\n', encoding="utf-8")
    assert store("warm", "v1:models").code == 3
    assert store("warm", "v1:models", "--cache-size", "1M").code == 0


def test_a_cache_that_is_off_cannot_be_warmed(store: CommandLine) -> None:
    outcome = store("warm", "v1", "--cache-size", "0", "--json")
    assert outcome.code == 2
    assert outcome.error["kind"] == "invalid_input"


def test_what_is_not_there(store: CommandLine) -> None:
    assert store("warm", "v1:nothing", "--json").error["kind"] == "path_not_found"
