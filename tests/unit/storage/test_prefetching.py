"""Is what is prefetched in the page cache, and is nothing lost where it cannot be?"""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

import pytest

from moorage.model.ranges import ByteRange
from moorage.storage import prefetching
from moorage.storage.local import LocalStorage
from moorage.storage.prefetching import WINDOW_BYTES, prefetch
from tests.needs import needs_linux, require
from tests.page_cache import drop, resident

MIB = 1024 * 1024
WINDOWS = 4
PAGES = WINDOW_BYTES // mmap.PAGESIZE


@pytest.fixture
def cold(tmp_path: Path) -> Path:
    """A file that is not in memory."""
    path = tmp_path / "objects" / "file"
    path.parent.mkdir()
    path.write_bytes(os.urandom(MIB) * (WINDOWS * WINDOW_BYTES // MIB))
    drop(path)
    require(lambda: f"{tmp_path} is on a file system that lives in memory" if any(resident(path)) else None)
    return path


def no_huge_pages() -> str | None:
    return None if os.path.exists("/sys/kernel/mm/transparent_hugepage") else "the kernel has no huge pages"


def in_memory(path: Path) -> list[float]:
    """The part of each window that is."""
    pages = resident(path)
    return [sum(pages[start : start + PAGES]) / PAGES for start in range(0, len(pages), PAGES)]


@needs_linux
def test_a_byte_brings_its_window_and_no_other(cold: Path) -> None:
    require(no_huge_pages)
    LocalStorage(cold.parent.parent).prefetch("objects/file", ByteRange(WINDOW_BYTES + 5, WINDOW_BYTES + 6))
    assert in_memory(cold) == [0, 1, 0, 0]


@needs_linux
def test_each_window_that_is_touched_is_brought(cold: Path) -> None:
    require(no_huge_pages)
    LocalStorage(cold.parent.parent).prefetch("objects/file", ByteRange(2 * WINDOW_BYTES - 1, 3 * WINDOW_BYTES + 1))
    assert in_memory(cold) == [0, 1, 1, 1]


@needs_linux
def test_who_may_not_know_what_is_there_has_it_brought_all_the_same(
    cold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells him that everything is."""
    require(no_huge_pages)
    monkeypatch.setattr(os, "geteuid", lambda: cold.stat().st_uid + 1)
    monkeypatch.setattr(prefetching, "_is_there", lambda _: True)
    LocalStorage(cold.parent.parent).prefetch("objects/file", ByteRange(0, 1))
    assert in_memory(cold) == [1, 0, 0, 0]


@needs_linux
def test_what_is_there_is_not_waited_for(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gives the interpreter away waits for it longer than for anything else here."""
    cold.read_bytes()
    monkeypatch.setattr(prefetching, "_waiting", None)
    LocalStorage(cold.parent.parent).prefetch("objects/file", ByteRange(0, cold.stat().st_size))


@needs_linux
def test_the_end_of_the_file_is_no_obstacle(cold: Path) -> None:
    size = cold.stat().st_size
    storage = LocalStorage(cold.parent.parent)
    storage.prefetch("objects/file", ByteRange(size - 1, size + 100 * WINDOW_BYTES))
    assert any(resident(cold))


def test_what_cannot_be_prefetched_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = LocalStorage(tmp_path)
    wanted = ByteRange(0, 10)
    storage.prefetch("no/such", wanted)
    (tmp_path / "folder").mkdir()
    storage.prefetch("folder", wanted)
    (tmp_path / "empty").touch()
    storage.prefetch("empty", wanted)
    with pytest.raises(OSError, match="Bad file"):
        prefetch(-1, wanted)
    (tmp_path / "file").write_bytes(b"0123456789")
    monkeypatch.setattr(sys, "platform", "darwin")
    storage.prefetch("file", wanted)


@needs_linux
def test_it_leaves_no_map_and_no_descriptor(cold: Path) -> None:
    before = Path("/proc/self/maps").read_text("ascii").count(str(cold)), len(os.listdir("/proc/self/fd"))
    storage = LocalStorage(cold.parent.parent)
    for _ in range(50):
        storage.prefetch("objects/file", ByteRange(0, 10))
    assert (Path("/proc/self/maps").read_text("ascii").count(str(cold)), len(os.listdir("/proc/self/fd"))) == before
