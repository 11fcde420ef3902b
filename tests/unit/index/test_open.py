"""Where does an index go when its first place will not do?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moorage.index import open as opening
from moorage.index.lmdb_index import LmdbIndex
from moorage.index.memory import MemoryIndex
from moorage.index.open import open_index, open_stat_cache


def folder_of(folders: list[Path]) -> Path | None:
    index = open_index(folders)
    try:
        return index._folder if isinstance(index, LmdbIndex) else None
    finally:
        index.close()


def closed_to_us(monkeypatch: pytest.MonkeyPatch, *closed: Path) -> None:
    """These, and what is in them, cannot be written: root can write anything, so os.access is told what to say."""
    may = os.access

    def access(path: str | Path, mode: int) -> bool:
        inside = any(Path(path) == folder or folder in Path(path).parents for folder in closed)
        return not inside and may(path, mode)

    monkeypatch.setattr(os, "access", access)


def test_the_first_place_that_can_be_written(tmp_path: Path) -> None:
    beside, cache = tmp_path / "store" / "derived" / "index", tmp_path / "cache" / "index"
    assert folder_of([beside, cache]) == beside
    assert not cache.exists()


def test_what_cannot_be_written_is_passed_over_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    store.mkdir()
    closed_to_us(monkeypatch, store)
    assert folder_of([store / "derived" / "index", tmp_path / "cache" / "index"]) == tmp_path / "cache" / "index"
    assert list(store.iterdir()) == []


def test_files_of_somebody_else_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside, cache = tmp_path / "a", tmp_path / "b"
    assert folder_of([beside]) == beside
    closed_to_us(monkeypatch, beside / "lock.mdb")
    assert folder_of([beside, cache]) == cache


def test_without_any_place_it_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed_to_us(monkeypatch, tmp_path)
    index = open_index([tmp_path / "a", tmp_path / "b"])
    assert isinstance(index, MemoryIndex)
    assert open_stat_cache([tmp_path / "a"]) is None
    assert isinstance(open_index([]), MemoryIndex)


def test_a_file_in_the_way_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a file")
    assert folder_of([tmp_path / "a" / "index", tmp_path / "b"]) == tmp_path / "b"


def test_never_on_a_network_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    share, disk = tmp_path / "share", tmp_path / "disk"
    monkeypatch.setattr(opening, "is_shared", lambda path: "share" in str(path) or path == tmp_path)
    share.mkdir()
    disk.mkdir()
    assert folder_of([share / "derived" / "index", disk / "index"]) == disk / "index"
    assert list(share.iterdir()) == []
