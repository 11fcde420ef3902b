"""Can a repository be made once, opened by anybody who may read it, and never by mistake?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moorage.errors import (
    AlreadyExistsError,
    CorruptDataError,
    FormatError,
    InvalidInputError,
    NewerFormatError,
    RepositoryNotFoundError,
    StorageDeniedError,
    StorageError,
)
from moorage.format import config as config_format
from moorage.format.config import encode_config
from moorage.format.keys import config_key
from moorage.format.record import encode_record
from moorage.index.memory import MemoryIndex
from moorage.model.config import ChunkingParams, RepositoryConfig
from moorage.repository.find import find_repository
from moorage.repository.handle import RepositoryHandle, cache_folder, derived_folders, new_config
from moorage.storage.memory import MemoryStorage
from tests.unit.repository.stores import TINY, put_chunks


def test_a_new_repository_is_what_was_asked_for(tmp_path: Path) -> None:
    config = RepositoryConfig("ab" * 16, 5, chunking=ChunkingParams(64, 128, 256), compression_level=7)
    with RepositoryHandle.create(tmp_path / "deep" / "er" / "store", config) as handle:
        assert handle.config == config
        assert handle.root == tmp_path / "deep" / "er" / "store"
    with RepositoryHandle.open(tmp_path / "deep" / "er" / "store") as handle:
        assert handle.config == config


def test_each_new_repository_has_an_id_of_its_own() -> None:
    assert new_config().repository_id != new_config().repository_id


def test_a_repository_is_made_once(tmp_path: Path) -> None:
    RepositoryHandle.create(tmp_path / "store").close()
    with pytest.raises(AlreadyExistsError):
        RepositoryHandle.create(tmp_path / "store")


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(AlreadyExistsError):
        RepositoryHandle.create(tmp_path)
    with pytest.raises(AlreadyExistsError):
        RepositoryHandle.create(tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("left", [[], ["tmp"], ["tmp", "config"]])
def test_what_an_interrupted_create_left_is_no_hindrance(left: list[str], tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir()
    for name in left:
        (root / name).mkdir()
    if "tmp" in left:
        (root / "tmp" / "0123").write_bytes(b"half a record")
    RepositoryHandle.create(root).close()
    RepositoryHandle.open(root).close()


def test_a_config_folder_with_something_in_it_is_no_leftover(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "0000000000000002").write_bytes(b"")
    with pytest.raises(AlreadyExistsError):
        RepositoryHandle.create(tmp_path)


def test_a_directory_that_cannot_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", denied)
    with pytest.raises(StorageDeniedError):
        RepositoryHandle.create(tmp_path)


def test_a_first_configuration_has_number_1(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError):
        RepositoryHandle.create(tmp_path / "store", RepositoryConfig("0" * 32, 0, number=2))
    assert not (tmp_path / "store").exists()


# -- opening -----------------------------------------------------------------------------------------


def test_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "empty", "file", "file/below"):
        with pytest.raises(RepositoryNotFoundError):
            RepositoryHandle.open(tmp_path / name)
    assert list((tmp_path / "empty").iterdir()) == []


def with_config(root: Path, number: int, data: bytes) -> Path:
    (root / "config").mkdir(parents=True, exist_ok=True)
    (root / config_key(number)).write_bytes(data)
    return root


def test_the_highest_configuration_holds(tmp_path: Path) -> None:
    with_config(tmp_path, 1, b"what is not read is not looked at")
    with_config(tmp_path, 3, encode_config(RepositoryConfig("0" * 32, 0, number=3, compression_level=9)))
    with RepositoryHandle.open(tmp_path) as handle:
        assert (handle.config.number, handle.config.compression_level) == (3, 9)


def test_a_configuration_under_another_number_is_damage(tmp_path: Path) -> None:
    with_config(tmp_path, 2, encode_config(TINY))
    with pytest.raises(CorruptDataError):
        RepositoryHandle.open(tmp_path)


def test_a_damaged_configuration_is_named(tmp_path: Path) -> None:
    data = bytearray(encode_config(TINY))
    data[30] ^= 1
    with_config(tmp_path, 1, bytes(data))
    with pytest.raises(CorruptDataError, match=config_key(1)):
        RepositoryHandle.open(tmp_path)


def test_a_foreign_file_among_the_configurations_is_named(tmp_path: Path) -> None:
    with_config(tmp_path, 1, encode_config(TINY))
    (tmp_path / "config" / "notes.txt").write_text("?")
    with pytest.raises(FormatError, match=r"notes\.txt"):
        RepositoryHandle.open(tmp_path)


@pytest.mark.parametrize(("field", "value"), [("format", 2), ("features", ["deltas"])])
def test_a_newer_repository_is_refused_and_not_touched(field: str, value: object, tmp_path: Path) -> None:
    fields = {
        "format": 1,
        "number": 1,
        "repository": "0" * 32,
        "created_ns": 0,
        "chunking": config_format._Chunking("gear64", 64, 64, 64),
        "compression_level": 1,
        "pack_target_bytes": 4096,
        "features": [],
        field: value,
    }
    with_config(tmp_path, 1, encode_record(config_format._Config(**fields)))  # type: ignore[arg-type]  # fields by name
    with pytest.raises(NewerFormatError):
        RepositoryHandle.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config"]


def test_on_any_storage() -> None:
    storage = MemoryStorage()
    first, second = RepositoryHandle.on(storage), RepositoryHandle.on(storage)
    assert first.config == second.config
    with first.writer() as writer:
        (id,) = put_chunks(writer, [b"shared"])
        writer.finish()
    assert second.objects.get(id) == b"shared"
    assert second.root is None


def test_closing_twice_is_fine(tmp_path: Path) -> None:
    handle = RepositoryHandle.create(tmp_path / "store")
    handle.close()
    handle.close()


def test_opening_writes_nothing_of_the_repository(tmp_path: Path) -> None:
    RepositoryHandle.create(tmp_path / "store").close()
    before = {path for path in (tmp_path / "store").rglob("*") if "derived" not in path.parts}
    RepositoryHandle.open(tmp_path / "store").close()
    assert {path for path in (tmp_path / "store").rglob("*") if "derived" not in path.parts} == before


# -- places ------------------------------------------------------------------------------------------


def test_the_nearest_repository_upwards(tmp_path: Path) -> None:
    RepositoryHandle.create(tmp_path / "project" / ".moorage").close()
    inside = tmp_path / "project" / "models" / "v2"
    inside.mkdir(parents=True)
    assert find_repository(inside) == tmp_path / "project" / ".moorage"
    assert find_repository(tmp_path / "project") == tmp_path / "project" / ".moorage"
    with pytest.raises(RepositoryNotFoundError):
        find_repository(tmp_path)


def test_derived_things_lie_beside_the_repository_or_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with RepositoryHandle.create(tmp_path / "store", TINY) as handle:
        beside, cached = derived_folders(handle, "stat")
    assert beside == tmp_path / "store" / "derived" / "stat"
    assert cached == tmp_path / "cache" / "moorage" / TINY.repository_id / "stat"


@pytest.mark.parametrize("cache", ["", "relative/path"])
def test_a_cache_that_is_not_set_is_in_the_home(cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("id") == tmp_path / ".cache" / "moorage" / "id"


def test_a_user_without_a_home_opens_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    with RepositoryHandle.create(tmp_path / "store") as handle:
        assert derived_folders(handle, "x") == [tmp_path / "store" / "derived" / "x"]
    with pytest.raises(StorageError):
        cache_folder("id")
    assert derived_folders(RepositoryHandle(MemoryStorage(), TINY, MemoryIndex()), "x") == []
