"""Is a hydrated file always the right bytes, whatever happened to the cache since?"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from moorage.errors import CorruptDataError, StorageError, WrongKindError
from moorage.model.digest import ContentDigest
from moorage.model.tree import Entry, EntryKind
from moorage.read import hydrate as hydrating
from moorage.read.hydrate import hydrate
from moorage.repository.handle import RepositoryHandle, cache_folder
from tests.unit.native.backends import random_bytes
from tests.unit.repository.stores import TINY, in_memory
from tests.unit.versioning.build import Exe, leaf_entry

CONTENT = random_bytes("hydrate", 5_000)


class Hydrated:
    """A repository with some files, a cache of its own, and a count of how often a file was put together."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _, self.handle = in_memory()
        self.assembled = 0
        assemble = hydrating._assemble

        def counted(*arguments: object) -> None:
            self.assembled += 1
            assemble(*arguments)  # type: ignore[arg-type]  # as they came

        monkeypatch.setattr(hydrating, "_assemble", counted)

    def entry(self, data: bytes | Exe) -> Entry:
        with self.handle.writer() as writer:
            entry = leaf_entry(writer, "model.bin", data)
            writer.finish()
        return entry


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hydrated:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Hydrated(monkeypatch)


def change(path: Path, data: bytes) -> None:
    """Overwrite a file in place, whatever its mode."""
    path.chmod(0o644)
    path.write_bytes(data)


def test_the_file_is_there_verified_and_read_only(cache: Hydrated) -> None:
    path = hydrate(cache.handle, cache.entry(CONTENT))
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    folder = cache_folder(TINY.repository_id) / "files"
    assert path.is_relative_to(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_executable_file_is_executable_and_a_file_of_its_own(cache: Hydrated) -> None:
    plain, program = (hydrate(cache.handle, cache.entry(data)) for data in (CONTENT, Exe(CONTENT)))
    assert plain != program
    assert stat.S_IMODE(program.stat().st_mode) == 0o555


def test_an_empty_file(cache: Hydrated) -> None:
    assert hydrate(cache.handle, cache.entry(b"")).read_bytes() == b""


def test_the_second_time_it_is_there(cache: Hydrated) -> None:
    entry = cache.entry(CONTENT)
    first = hydrate(cache.handle, entry)
    assert hydrate(cache.handle, entry) == first
    assert cache.assembled == 1


def test_what_is_no_file(cache: Hydrated) -> None:
    link = Entry("l", EntryKind.SYMLINK, ContentDigest.of(b"t"), None, 1, 0, target="t")
    with pytest.raises(WrongKindError):
        hydrate(cache.handle, link)


@pytest.mark.parametrize(
    "data", [b"", CONTENT[:-1], CONTENT + b"x", CONTENT[:100] + b"?" + CONTENT[101:], bytes(5_000)], ids=range(5)
)
def test_a_changed_file_is_noticed_and_made_anew(cache: Hydrated, data: bytes) -> None:
    entry = cache.entry(CONTENT)
    change(hydrate(cache.handle, entry), data)
    path = hydrate(cache.handle, entry)
    assert path.read_bytes() == CONTENT
    assert cache.assembled == 2


def test_a_file_that_was_touched_only_is_hashed_and_kept(cache: Hydrated) -> None:
    entry = cache.entry(CONTENT)
    path = hydrate(cache.handle, entry)
    os.utime(path, ns=(5, 5))
    assert hydrate(cache.handle, entry).read_bytes() == CONTENT
    assert cache.assembled == 1


def test_who_has_the_old_one_open_keeps_it(cache: Hydrated) -> None:
    entry = cache.entry(CONTENT)
    path = hydrate(cache.handle, entry)
    change(path, b"spoilt")
    with open(path, "rb") as opened:
        hydrate(cache.handle, entry)
        assert opened.read() == b"spoilt"  # replaced by another inode, never changed in place
    assert path.read_bytes() == CONTENT


def test_after_another_boot_it_is_hashed_anew(cache: Hydrated, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut may leave a name, its length and its times, and not its bytes."""
    entry = cache.entry(CONTENT)
    path = hydrate(cache.handle, entry)
    hashed: list[Path] = []
    hash_of = hydrating._hash_of

    def counted(target: Path) -> bytes:
        hashed.append(target)
        return hash_of(target)

    monkeypatch.setattr(hydrating, "_hash_of", counted)
    hydrate(cache.handle, entry)
    assert hashed == []
    monkeypatch.setattr(hydrating, "_boot", lambda: "another boot")
    assert hydrate(cache.handle, entry) == path
    assert hashed == [path]
    hydrate(cache.handle, entry)
    assert hashed == [path]
    monkeypatch.setattr(hydrating, "_boot", lambda: "")
    hydrate(cache.handle, entry)
    assert hashed == [path] * 2  # where boots cannot be told apart, always


def test_a_file_that_lost_its_bytes_in_a_power_cut(cache: Hydrated, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = cache.entry(CONTENT)
    path = hydrate(cache.handle, entry)
    seen = hydrating._seen_file(path).read_bytes()
    times = path.stat()
    change(path, bytes(len(CONTENT)))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    hydrating._seen_file(path).write_bytes(seen)
    monkeypatch.setattr(hydrating, "_boot", lambda: "another boot")
    assert hydrate(cache.handle, entry).read_bytes() == CONTENT


@pytest.mark.parametrize("seen", [b"", b"{}", b"\xff", b"null"])
def test_a_damaged_note_means_hashing(cache: Hydrated, seen: bytes) -> None:
    entry = cache.entry(CONTENT)
    path = hydrate(cache.handle, entry)
    hydrating._seen_file(path).write_bytes(seen)
    assert hydrate(cache.handle, entry) == path
    assert cache.assembled == 1


def test_chunks_that_do_not_make_the_file(cache: Hydrated) -> None:
    entry = cache.entry(CONTENT)
    wrong = Entry(entry.name, entry.kind, ContentDigest.of(b"else"), entry.object, entry.size_bytes, 0)
    with pytest.raises(CorruptDataError):
        hydrate(cache.handle, wrong)
    folder = cache_folder(TINY.repository_id) / "files"
    assert [path for path in folder.rglob("*") if path.is_file()] == []


# -- room --------------------------------------------------------------------------------------------


def used(cache: Hydrated, *numbers: int) -> list[Path]:
    """Hydrate files of 1,000 bytes, one after the other."""
    paths = []
    for number in numbers:
        paths.append(hydrate(cache.handle, cache.entry(bytes([number]) * 1_000)))
        os.utime(hydrating._seen_file(paths[-1]), ns=(number, number))
    return paths


def test_what_was_not_used_for_longest_goes_first(cache: Hydrated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hydrating, "_MOST_BYTES", 3_500)
    first, second, third = used(cache, 1, 2, 3)
    hydrate(cache.handle, cache.entry(b"\1" * 1_000))  # used again
    used(cache, 4)
    assert [path.exists() for path in (first, second, third)] == [True, False, True]
    assert not hydrating._seen_file(second).exists()


def test_a_file_larger_than_the_cache(cache: Hydrated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hydrating, "_MOST_BYTES", 3_500)
    (kept,) = used(cache, 1)
    with pytest.raises(StorageError):
        hydrate(cache.handle, cache.entry(CONTENT))
    assert kept.exists()


def test_what_a_killed_hydration_left_is_cleared_away(cache: Hydrated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hydrating, "_MOST_BYTES", 2_500)
    (kept,) = used(cache, 1)
    abandoned, at_work = kept.with_name(".abandoned"), kept.with_name(".at-work")
    for file in (abandoned, at_work):
        file.write_bytes(bytes(1_000))
    long_ago = time.time_ns() - 2 * hydrating._ABANDONED_AFTER_NS
    os.utime(abandoned, ns=(long_ago, long_ago))
    used(cache, 2)
    assert not abandoned.exists()
    assert at_work.exists()
    assert kept.exists()


def test_two_repositories_share_nothing(cache: Hydrated) -> None:
    other = RepositoryHandle.on(cache.handle.storage)
    assert other.config == cache.handle.config
    path = hydrate(cache.handle, cache.entry(CONTENT))
    assert TINY.repository_id in path.parts
