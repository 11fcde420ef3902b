"""Is what is stored of a file one state of it, and is what has not changed not read again?"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from moorage.errors import SourceChangedError, UnreadableSourceError
from moorage.format.keys import parse_pack_key
from moorage.index.lmdb_index import LmdbIndex
from moorage.index.stat_cache import StatCache
from moorage.ingest import files as files_module
from moorage.ingest import reading
from moorage.ingest.scan import FoundFile
from moorage.model.objects import ObjectKind
from moorage.model.refs import RefKind, RefName
from moorage.packs.reader import read_entries
from moorage.repository.handle import RepositoryHandle
from tests.unit.ingest.sources import LONG_AGO_NS, committed, entry_at, held, lay_out, write
from tests.unit.native.backends import random_bytes
from tests.unit.repository.stores import opened
from tests.unit.versioning.build import Exe, Leaf, Link

DATA = random_bytes("changes", 30_000)


class Opened:
    """Which files of a source were opened to be read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        call = reading._open

        def noted(file: FoundFile) -> int:
            self.names.append(file.name)
            return call(file)

        monkeypatch.setattr(reading, "_open", noted)

    def taken(self) -> list[str]:
        names, self.names = sorted(self.names), []
        return names


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Opened:
    return Opened(monkeypatch)


# -- what is known is not read -----------------------------------------------------------------------


@pytest.mark.usefixtures("_well_after")
def test_an_unchanged_tree_is_not_read(handle: RepositoryHandle, tmp_path: Path, reads: Opened) -> None:
    files: dict[str, Leaf] = {"a": DATA, "b": b"small", "c": b"", "d/e": Exe(b"x"), "l": Link("a")}
    source = lay_out(tmp_path / "s", files)
    first = committed(handle, source)
    assert reads.taken() == ["a", "b", "c", "e"]
    again = committed(handle, source)
    assert reads.taken() == []
    assert (again.read_files, again.unchanged, again.logical_bytes) == (0, True, first.logical_bytes)
    other = committed(handle, source, branch="other")
    assert reads.taken() == []
    assert held(handle, other) == files


@pytest.mark.usefixtures("_well_after")
def test_only_what_changed_is_read(handle: RepositoryHandle, tmp_path: Path, reads: Opened) -> None:
    source = lay_out(tmp_path / "s", {"a": DATA, "b": b"2", "c": b"3"})
    committed(handle, source)
    reads.taken()
    write(source / "b", b"4")
    (source / "new").write_bytes(b"5")
    result = committed(handle, source)
    assert reads.taken() == ["b", "new"]
    assert held(handle, result) == {"a": DATA, "b": b"4", "c": b"3", "new": b"5"}


def test_a_file_written_just_now_is_read_again(
    handle: RepositoryHandle, tmp_path: Path, reads: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice within one tick of the file system's clock, it would look the same after the second time."""
    source = lay_out(tmp_path / "s", {"a": b"old"})
    committed(handle, source)
    committed(handle, source)
    assert reads.taken() == ["a", "a"]
    later = time.time_ns() + 10 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    committed(handle, source)
    committed(handle, source)
    assert reads.taken() == ["a"]


def test_other_bytes_of_the_same_length_and_time_are_noticed(
    handle: RepositoryHandle, tmp_path: Path, reads: Opened
) -> None:
    """By the time at which the inode changed, which nobody can set."""
    source = lay_out(tmp_path / "s", {"a": b"old"})
    committed(handle, source)
    write(source / "a", b"new", LONG_AGO_NS)
    assert held(handle, committed(handle, source)) == {"a": b"new"}


def test_a_file_that_took_anothers_place(handle: RepositoryHandle, tmp_path: Path) -> None:
    source = lay_out(tmp_path / "s", {"a": b"one", "b": b"two"})
    committed(handle, source)
    os.rename(source / "a", source / "c")
    os.rename(source / "b", source / "a")
    os.rename(source / "c", source / "b")
    assert held(handle, committed(handle, source)) == {"a": b"two", "b": b"one"}


def test_a_mode_that_changed_needs_no_reading(handle: RepositoryHandle, tmp_path: Path) -> None:
    source = lay_out(tmp_path / "s", {"a": b"#!"})
    committed(handle, source)
    (source / "a").chmod(0o755)
    assert held(handle, committed(handle, source)) == {"a": Exe(b"#!")}


def test_without_a_stat_cache_everything_is_read(
    handle: RepositoryHandle, tmp_path: Path, reads: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorage.ingest.commit.open_stat_cache", lambda folders: None)
    source = lay_out(tmp_path / "s", {"a": b"1", "b": b"2"})
    for _ in range(2):
        committed(handle, source)
        assert reads.taken() == ["a", "b"]


def test_a_stat_cache_in_trouble_is_nobodys_trouble(
    handle: RepositoryHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = lay_out(tmp_path / "s", {"a": b"1"})

    def broken(self: StatCache, work: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("moorage.index.environment.Environment._write", broken)
    assert held(handle, committed(handle, source)) == {"a": b"1"}


@pytest.mark.usefixtures("_well_after")
def test_files_from_before_1970(handle: RepositoryHandle, tmp_path: Path, reads: Opened) -> None:
    source = lay_out(tmp_path / "s", {"a": b"old"})
    os.utime(source / "a", ns=(-(10**18), -(10**18)))
    committed(handle, source)
    committed(handle, source)
    assert reads.taken() == ["a"]


# -- what the cache says and the store no longer has ---------------------------------------------------


@pytest.mark.parametrize("lost", ["chunks", "recipes", "everything"])
def test_what_a_collection_took_is_read_and_stored_again(
    handle: RepositoryHandle, tmp_path: Path, reads: Opened, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorage.repository.writer.SMALL_COMMIT_BYTES", 0)
    source = lay_out(tmp_path / "s", {"a": DATA, "b": b"small"})
    committed(handle, source)
    handle.refs.delete(RefName(RefKind.BRANCH, "prod"), actor="t", reason="")
    reads.taken()
    for info in list(handle.storage.list_keys("packs/")):
        is_data = read_entries(handle.storage, parse_pack_key(info.key))[0].kind is ObjectKind.CHUNK
        if lost == "everything" or (lost == "chunks") == is_data:
            handle.storage.delete(info.key)
    with RepositoryHandle.open(handle.root) as fresh:  # type: ignore[arg-type]  # it has a root
        result = committed(fresh, source)
        assert "a" in reads.taken()
        assert held(fresh, result) == {"a": DATA, "b": b"small"}


# -- files that will not keep still -----------------------------------------------------------------


def while_read(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None], times: int, *, large: bool) -> None:
    """Do something after the first bytes of a file have been read, so many times."""
    left = [times]

    def step() -> None:
        if left[0]:
            left[0] -= 1
            meanwhile()

    if large:
        monkeypatch.setattr(files_module, "LARGE_BYTES", 0)
        fill = reading.fill

        def filled(readinto: Callable[[memoryview], int], room: memoryview) -> tuple[int, bool]:
            result = fill(readinto, room)
            step()
            return result

        monkeypatch.setattr(files_module, "fill", filled)
    else:
        read = reading._read_to_end

        def read_to_end(fd: int, expected: int) -> bytes:
            result = read(fd, expected)
            step()
            return result

        monkeypatch.setattr(reading, "_read_to_end", read_to_end)


def grow(file: Path) -> Callable[[], None]:
    def more() -> None:
        with open(file, "ab") as opened_file:
            opened_file.write(b"more")

    return more


@pytest.mark.parametrize("large", [False, True])
def test_a_file_that_changed_meanwhile_is_read_again(
    handle: RepositoryHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    source = lay_out(tmp_path / "s", {"a": DATA, "z": b"last"})
    while_read(monkeypatch, grow(source / "a"), 1, large=large)
    assert held(handle, committed(handle, source)) == {"a": DATA + b"more", "z": b"last"}


@pytest.mark.parametrize("large", [False, True])
def test_a_file_that_keeps_changing_is_refused(
    handle: RepositoryHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    source = lay_out(tmp_path / "s", {"a": DATA, "z": b"last"})
    while_read(monkeypatch, grow(source / "a"), 100, large=large)
    with pytest.raises(SourceChangedError, match="keeps changing") as caught:
        committed(handle, source)
    assert caught.value.fields["path"] == str(source / "a")
    assert handle.refs.last(RefName(RefKind.BRANCH, "prod")) is None


@pytest.mark.parametrize("large", [False, True])
def test_a_file_that_is_touched_meanwhile_is_read_again(
    handle: RepositoryHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    source = lay_out(tmp_path / "s", {"a": DATA})
    while_read(monkeypatch, lambda: os.utime(source / "a"), 2, large=large)
    assert held(handle, committed(handle, source)) == {"a": DATA}


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("becomes", ["nothing", "a fifo", "a directory"])
def test_a_file_that_is_none_any_more(
    handle: RepositoryHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool, becomes: str
) -> None:
    """A fifo must not be waited for."""
    source = lay_out(tmp_path / "s", {"a": DATA})
    if large:
        monkeypatch.setattr(files_module, "LARGE_BYTES", 0)
    call = reading._open

    def replaced(file: FoundFile) -> int:
        (source / "a").unlink(missing_ok=True)
        if becomes == "a fifo":
            os.mkfifo(source / "a")
        elif becomes == "a directory":
            (source / "a").mkdir()
        return call(file)

    monkeypatch.setattr(reading, "_open", replaced)
    with pytest.raises(SourceChangedError):
        committed(handle, source)


@pytest.mark.parametrize("large", [False, True])
def test_a_file_that_may_not_be_read(
    handle: RepositoryHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    source = lay_out(tmp_path / "s", {"a": DATA})
    if large:
        monkeypatch.setattr(files_module, "LARGE_BYTES", 0)
    call = os.open

    def denied(path: str, *rest: int, **options: int) -> int:
        if path == str(source / "a"):
            raise PermissionError(13, "Permission denied")
        return call(path, *rest, **options)

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(UnreadableSourceError, match="Permission denied"):
        committed(handle, source)


def test_a_small_file_that_has_become_huge_is_not_read_whole(
    handle: RepositoryHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = lay_out(tmp_path / "s", {"a": b"small"})
    call = reading._open

    def huge(file: FoundFile) -> int:
        os.truncate(source / "a", 1 << 40)
        return call(file)

    monkeypatch.setattr(reading, "_open", huge)
    with pytest.raises(SourceChangedError):
        committed(handle, source)


def test_the_cache_remembers_what_was_read_not_what_was_found(
    handle: RepositoryHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that changed between the look at the source and its reading is stored and remembered as it was read."""
    source = lay_out(tmp_path / "s", {"a": b"found"})
    call = reading._open

    def changed(file: FoundFile) -> int:
        write(source / "a", b"and read")
        return call(file)

    monkeypatch.setattr(reading, "_open", changed)
    assert held(handle, committed(handle, source)) == {"a": b"and read"}
    monkeypatch.setattr(reading, "_open", call)
    assert held(handle, committed(handle, source)) == {"a": b"and read"}


# -- when content came first -------------------------------------------------------------------------


class Clock:
    """Time that goes as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = time.time_ns()
        monkeypatch.setattr(time, "time_ns", lambda: self.now_ns)

    def later(self) -> int:
        self.now_ns += 1_000_000_000
        return self.now_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def first_stored(handle: RepositoryHandle, path: str) -> int:
    return entry_at(handle, f"prod:{path}").first_stored_ns


def test_content_keeps_its_time(handle: RepositoryHandle, tmp_path: Path, clock: Clock) -> None:
    source = lay_out(tmp_path / "s", {"a": b"1", "d/b": b"2", "l": Link("a")})
    first = clock.later()
    committed(handle, source)
    second = clock.later()
    write(source / "d" / "b", b"new")
    committed(handle, source)
    assert [first_stored(handle, path) for path in ("a", "l", "d/b", "d")] == [first, first, second, second]


def test_renamed_content_keeps_its_time(handle: RepositoryHandle, tmp_path: Path, clock: Clock) -> None:
    source = lay_out(tmp_path / "s", {"a": b"1", "d/x": b"2", "d/y": b"3"})
    first = clock.later()
    committed(handle, source)
    clock.later()
    os.rename(source / "a", source / "b")
    os.rename(source / "d", source / "e")
    committed(handle, source)
    assert [first_stored(handle, path) for path in ("b", "e", "e/x")] == [first] * 3


def test_content_at_several_paths_has_the_earliest_time(handle: RepositoryHandle, tmp_path: Path, clock: Clock) -> None:
    source = lay_out(tmp_path / "s", {"z/a": b"same"})
    first = clock.later()
    committed(handle, source / "z", at="z")
    clock.later()
    committed(handle, b"same", at="b")  # of what lies beside `b` nothing is known when only `b` is committed
    clock.later()
    lay_out(source, {"b": b"same", "c": b"same"})
    committed(handle, source)
    assert first_stored(handle, "c") == first


def test_content_that_comes_back_after_it_was_gone_is_new(
    handle: RepositoryHandle, tmp_path: Path, clock: Clock
) -> None:
    source = lay_out(tmp_path / "s", {"a": b"1", "keep": b"x"})
    clock.later()
    committed(handle, source)
    write(source / "a", b"2")
    clock.later()
    committed(handle, source)
    write(source / "a", b"1")
    third = clock.later()
    committed(handle, source)
    assert first_stored(handle, "a") == third


def test_the_directories_above_a_path(handle: RepositoryHandle, clock: Clock) -> None:
    first = clock.later()
    committed(handle, b"1", at="d/e/a")
    second = clock.later()
    committed(handle, b"2", at="d/f/b")
    assert [first_stored(handle, path) for path in ("d/e", "d/e/a", "d", "d/f")] == [first, first, second, second]
    clock.later()
    committed(handle, b"2", at="d/f/b")
    assert [first_stored(handle, path) for path in ("d", "d/f")] == [second, second]


def test_other_handles_see_the_same(handle: RepositoryHandle, tmp_path: Path) -> None:
    committed(handle, lay_out(tmp_path / "s", {"a": DATA}))
    other = opened(handle.storage)
    assert entry_at(other, "prod:a") == entry_at(handle, "prod:a")
    assert isinstance(handle.locator._index, LmdbIndex)
