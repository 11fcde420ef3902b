"""Is what is prefetched in the page cache, and is nothing lost where it cannot be?"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

import pytest

from moorage.model.ranges import ByteRange
from moorage.storage import local, prefetching
from moorage.storage.local import LocalStorage
from moorage.storage.prefetching import WINDOW_BYTES as WINDOW
from moorage.storage.prefetching import prefetch
from tests.needs import needs_linux, require
from tests.page_cache import drop, resident

MIB = 1024 * 1024
WINDOWS = 4
PAGES = WINDOW // mmap.PAGESIZE
KEY = "objects/file"


def no_large_reads() -> str | None:
    """Why this kernel does not read so much at a touch."""
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    if release < (5, 18):
        return f"Linux {os.uname().release} reads little at a touch"
    return None if prefetching._is_possible() else "the kernel has no huge pages of 2 MiB"


@pytest.fixture
def cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is not in memory, where this could be changed, on a disk of which little is read ahead."""
    monkeypatch.setattr(prefetching, "_read_ahead_bytes", lambda _: 128 * 1024)
    require(no_large_reads)
    path = tmp_path / KEY
    path.parent.mkdir()
    path.write_bytes(os.urandom(MIB) * (WINDOWS * WINDOW // MIB))
    drop(path)
    require(lambda: f"{tmp_path} is on a file system that lives in memory" if any(resident(path)) else None)
    return path


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def in_memory(path: Path) -> list[float]:
    """The part of each window that is."""
    pages = resident(path)
    return [sum(pages[start : start + PAGES]) / PAGES for start in range(0, len(pages), PAGES)]


def comes_to(path: Path, expected: list[float]) -> bool:
    """Whether it does: where folios are small, the call returns before all of them have come."""
    deadline = time.monotonic() + 10
    while in_memory(path) != expected:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@needs_linux
@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (WINDOW, 2 * WINDOW, [0, 1, 0, 0]),
        (WINDOW // 2, 5 * WINDOW // 2, [1, 1, 0, 0]),
        (WINDOW // 2 + 1, 7 * WINDOW // 2 + 1, [0, 1, 1, 1]),
        (5, WINDOW // 2, [0, 0, 0, 0]),
        (0, 0, [0, 0, 0, 0]),
    ],
)
def test_windows_are_brought_whose_middle_is_wanted(
    cold: Path, storage: LocalStorage, start: int, stop: int, expected: list[float]
) -> None:
    storage.prefetch(KEY, ByteRange(start, stop))
    assert comes_to(cold, expected), in_memory(cold)


@needs_linux
def test_the_end_of_the_file_is_no_obstacle(cold: Path, storage: LocalStorage) -> None:
    size = cold.stat().st_size
    storage.prefetch(KEY, ByteRange(size - WINDOW, size + 100 * WINDOW))
    assert comes_to(cold, [0, 0, 0, 1])


class Untouchable:
    """What may be called, and what may not."""

    def __init__(self, inner: object, *refused: str) -> None:
        self._inner, self._refused = inner, refused

    def __getattr__(self, name: str) -> object:
        assert name not in self._refused, name
        return getattr(self._inner, name)


@needs_linux
def test_what_is_there_is_not_waited_for(cold: Path, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gives the interpreter away waits for it longer than for anything else here."""
    cold.read_bytes()
    waiting, quick = prefetching._calls()
    monkeypatch.setattr(prefetching, "_calls", lambda: (Untouchable(waiting, "madvise"), quick))
    storage.prefetch(KEY, ByteRange(0, cold.stat().st_size))
    drop(cold)
    with pytest.raises(AssertionError, match="madvise"):
        storage.prefetch(KEY, ByteRange(0, cold.stat().st_size))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The flags of what is opened."""
    flags: list[int] = []
    real = os.open

    def noted(path: str, flag: int, *rest: int) -> int:
        flags.append(flag)
        return real(path, flag, *rest)

    monkeypatch.setattr(os, "open", noted)
    return flags


@needs_linux
def test_the_time_of_access_stays_what_it_was(cold: Path, storage: LocalStorage) -> None:
    """Else mmap might wait for the disk, with a lock that every page fault needs."""
    os.utime(cold, (1, cold.stat().st_mtime))
    storage.prefetch(KEY, ByteRange(0, cold.stat().st_size))
    assert cold.stat().st_atime == 1
    assert comes_to(cold, [1, 1, 1, 1])


@needs_linux
def test_nothing_happens_for_who_may_not_leave_the_time_of_access(
    cold: Path, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refused(path: str, flags: int, *rest: int) -> int:
        if flags & os.O_NOATIME:
            raise PermissionError(path)
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", refused)
    prefetch(str(cold), ByteRange(0, cold.stat().st_size))
    assert in_memory(cold) == [0, 0, 0, 0]


@needs_linux
@pytest.mark.parametrize(("read_ahead_bytes", "part"), [(0, 1), (WINDOW - 1024, 1), (WINDOW, 0), (2 * WINDOW, 0)])
def test_a_disk_that_reads_ahead_as_much_is_left_to_it(
    cold: Path, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, read_ahead_bytes: int, part: float
) -> None:
    monkeypatch.setattr(prefetching, "_read_ahead_bytes", lambda _: read_ahead_bytes)
    storage.prefetch(KEY, ByteRange(0, WINDOW))
    assert comes_to(cold, [part, 0, 0, 0])


def test_the_read_ahead_of_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel lays it out: numbers that link to devices, a partition within its disk."""
    disk, strange = tmp_path / "devices" / "sda", tmp_path / "devices" / "sdb"
    for folder in (disk / "sda1", disk / "bdi", strange / "bdi"):
        folder.mkdir(parents=True)
    (disk / "bdi" / "read_ahead_kb").write_text("8192\n", "ascii")
    (strange / "bdi" / "read_ahead_kb").write_text("?\n", "ascii")
    (tmp_path / "8:0").symlink_to(disk)
    (tmp_path / "8:1").symlink_to(disk / "sda1")
    (tmp_path / "8:16").symlink_to(strange)
    monkeypatch.setattr(prefetching, "_DISKS", str(tmp_path))
    found = [prefetching._read_ahead_bytes(os.makedev(*number)) for number in ((8, 0), (8, 1), (8, 16), (0, 45))]
    assert found == [8 * MIB, 8 * MIB, 0, 0]


@needs_linux
def test_the_read_ahead_of_this_disk(tmp_path: Path) -> None:
    """Where the kernel says it in another place as well."""
    device = tmp_path.stat().st_dev
    said = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    if not os.major(device) or not said.exists():
        pytest.skip(f"{tmp_path} is not on a whole disk")
    assert prefetching._read_ahead_bytes(device) == int(said.read_text("ascii")) * 1024


def test_nothing_is_opened_where_it_is_not_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[int]
) -> None:
    """No huge pages, larger ones, or another system."""
    is_possible = prefetching._is_possible.__wrapped__
    for there in ("", "536870912", "never"):
        (tmp_path / "size").write_text(there, "ascii")
        monkeypatch.setattr(prefetching, "_HUGE_PAGE", str(tmp_path / ("size" if there else "absent")))
        monkeypatch.setattr(prefetching, "_is_possible", is_possible)
        prefetch(str(tmp_path / "size"), ByteRange(0, WINDOW))
    assert opened == []


def test_nothing_is_opened_on_a_network(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, opened: list[int]
) -> None:
    monkeypatch.setattr(local, "is_shared", lambda _: True)
    storage.prefetch(KEY, ByteRange(0, WINDOW))
    assert opened == []


def test_what_cannot_be_prefetched_is_left(tmp_path: Path, storage: LocalStorage) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    for key in ("no/such", "folder", "empty", "empty/below"):
        storage.prefetch(key, ByteRange(0, WINDOW))


@needs_linux
def test_it_leaves_no_map_and_no_descriptor(cold: Path, storage: LocalStorage) -> None:
    def held() -> tuple[int, int]:
        return Path("/proc/self/maps").read_text("ascii").count(str(cold)), len(os.listdir("/proc/self/fd"))

    before = held()
    for _ in range(50):
        storage.prefetch(KEY, ByteRange(0, WINDOW))
    assert held() == before
