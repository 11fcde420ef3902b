"""Does the cache keep to its size, and to what it has promised about each file in it?"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.errors import StorageDeniedError, StorageError, StorageFullError, WrongKindError
from moorage.model.digest import ContentDigest
from moorage.model.tree import Entry, EntryKind
from moorage.read import cached_file
from moorage.read.cache import FileCache, Part, Refusal, default_limit_bytes
from moorage.read.cached_file import CachedFile
from moorage.read.hydrate import hydrate
from tests.mount.build import Program
from tests.needs import needs_root
from tests.unit.read.caches import MIB, Store, noise, room_for

FILES = {name: noise(MIB, seed) for seed, name in enumerate("abcd")}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path, {**FILES, "run": Program(noise(5000, 9)), "empty": b"", "other": noise(9, 99)})
    yield made
    made.handle.close()


def bring(store: Store, *paths: str) -> None:
    """Hydrate, one after the other, each used later than the one before."""
    for moment, path in enumerate(paths):
        file = hydrate(store.handle, store.cache, store.entry(path))
        os.utime(f"{file.path}.seen", (moment, moment))
        file.close()


def corrupt(file: Path) -> None:
    """Change one byte, as somebody who is root, or a disk, may."""
    file.chmod(0o644)
    with open(file, "r+b") as opened:
        opened.seek(1000)
        opened.write(bytes([opened.read(1)[0] ^ 1]))
    file.chmod(0o444)


def test_a_hydrated_file_is_a_plain_read_only_file(store: Store) -> None:
    for path, mode in (("a", 0o444), ("run", 0o555)):
        file = hydrate(store.handle, store.cache, store.entry(path))
        assert stat.S_IMODE(file.path.stat().st_mode) == mode
        file.close()
    assert (store.cache.folder / "usage").exists()
    assert stat.S_IMODE(store.cache.folder.stat().st_mode) == 0o700
    assert hydrate(store.handle, store.cache, store.entry("a")).path.read_bytes() == FILES["a"]


def test_an_empty_file_has_a_path(store: Store) -> None:
    assert hydrate(store.handle, store.cache, store.entry("empty")).path.read_bytes() == b""


def test_it_is_not_made_twice(store: Store) -> None:
    first = hydrate(store.handle, store.cache, store.entry("a"))
    inode = first.path.stat().st_ino
    second = hydrate(store.handle, FileCache(store.cache.folder, 64 * MIB), store.entry("a"))
    assert second.path.stat().st_ino == inode


def test_a_folder_that_others_may_read_is_closed(store: Store) -> None:
    store.cache.folder.mkdir(parents=True)
    store.cache.folder.chmod(0o755)
    bring(store, "a")
    assert stat.S_IMODE(store.cache.folder.stat().st_mode) == 0o700


def test_a_folder_that_others_may_write_is_not_believed(store: Store) -> None:
    bring(store, "a")
    store.cache.folder.chmod(0o777)
    another = FileCache(store.cache.folder, 64 * MIB)
    with pytest.raises(StorageDeniedError):
        another.find(store.entry("a"), verify=False)
    with pytest.raises(StorageDeniedError):
        another.reserve(store.entry("other"))


@needs_root
def test_a_folder_of_somebody_else_is_not_believed(store: Store) -> None:
    bring(store, "a")
    os.chown(store.cache.folder, 65534, 65534)
    another = FileCache(store.cache.folder, 64 * MIB)
    with pytest.raises(StorageDeniedError):
        another.find(store.entry("a"), verify=True)
    with pytest.raises(StorageDeniedError):
        another.reserve(store.entry("other"))


# -- what goes -------------------------------------------------------------------------------------


def test_what_was_not_used_for_longest_goes(store: Store) -> None:
    store.cache.limit_bytes = room_for(MIB, MIB, MIB)
    bring(store, "a", "b", "c")
    bring(store, "d")
    assert store.names() == store.short("b", "c", "d")


def test_using_a_file_keeps_it(store: Store) -> None:
    store.cache.limit_bytes = room_for(MIB, MIB, MIB)
    bring(store, "a", "b", "c")
    found = store.cache.find(store.entry("a"), verify=False)
    assert found is not None
    found.close()
    bring(store, "d")
    assert store.names() == store.short("a", "c", "d")


def test_a_held_file_stays_and_goes_when_let_go(store: Store) -> None:
    store.cache.limit_bytes = room_for(MIB, MIB)
    held = hydrate(store.handle, store.cache, store.entry("a"))
    os.utime(f"{held.path}.seen", (0, 0))
    bring(store, "b", "c")
    assert store.names() == store.short("a", "c")
    held.close()
    bring(store, "d")
    assert store.names() == store.short("c", "d")


def test_a_cache_full_of_held_files_takes_no_more(store: Store) -> None:
    store.cache.limit_bytes = room_for(MIB)
    held = hydrate(store.handle, store.cache, store.entry("a"))
    assert store.cache.reserve(store.entry("b")) is Refusal.FULL
    with pytest.raises(StorageFullError):
        hydrate(store.handle, store.cache, store.entry("b"))
    assert store.names() == store.short("a")
    assert held.is_intact()


def test_a_file_larger_than_the_cache_is_refused(store: Store) -> None:
    store.cache.limit_bytes = MIB
    with pytest.raises(StorageError, match="do not fit"):
        hydrate(store.handle, store.cache, store.entry("a"))


def test_the_count_is_made_anew_where_it_is_too_high(store: Store) -> None:
    store.cache.limit_bytes = room_for(MIB, MIB)
    bring(store, "a", "b")
    for path in store.cache.folder.glob("*/*"):
        path.unlink()
    bring(store, "c", "d")
    assert store.names() == store.short("c", "d")


def test_usage_counts_what_is_there(store: Store) -> None:
    bring(store, "a", "b")
    assert store.cache.usage()[:2] == (2, 2 * MIB)


def test_the_size_unasked_is_a_tenth_of_the_disk_at_most(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    assert default_limit_bytes(tmp_path / "not" / "there") <= status.f_blocks * status.f_frsize // 10


# -- what is left by somebody who was killed ---------------------------------------------------------


def leave_part(store: Store, path: str) -> Entry:
    """As a process leaves it that is killed while it assembles."""
    entry = store.entry(path)
    part = store.cache.reserve(entry)
    assert isinstance(part, Part)
    os.pwrite(part.fd, b"half of it", 0)
    part.close()
    return entry


def test_what_a_killed_process_left_is_never_served_and_is_overwritten(store: Store) -> None:
    entry = leave_part(store, "a")
    assert store.cache.find(entry, verify=True) is None
    assert hydrate(store.handle, store.cache, entry).path.read_bytes() == FILES["a"]
    assert store.names() == store.short("a")


def test_what_a_killed_process_left_goes_when_room_is_made(store: Store) -> None:
    store.cache.limit_bytes = room_for(MIB, MIB)
    leave_part(store, "a")
    bring(store, "b", "c")
    assert store.names() == store.short("b", "c")


def test_what_is_being_assembled_stays(store: Store) -> None:
    store.cache.limit_bytes = room_for(MIB, MIB)
    part = store.cache.reserve(store.entry("a"))
    assert isinstance(part, Part)
    bring(store, "b", "c")
    assert [name for name in store.names() if name.endswith(".part")]
    assert store.cache.reserve(store.entry("a")) is Refusal.BUSY
    part.discard()


# -- what is no longer what was verified -------------------------------------------------------------


def found(store: Store, path: str, *, verify: bool) -> CachedFile | None:
    return store.cache.find(store.entry(path), verify=verify)


def test_a_damaged_file_is_never_served(store: Store) -> None:
    file = hydrate(store.handle, store.cache, store.entry("a"))
    corrupt(file.path)
    assert not file.is_intact()
    assert found(store, "a", verify=False) is None
    assert hydrate(store.handle, store.cache, store.entry("a")).path.read_bytes() == FILES["a"]


def test_control_damage_that_stat_does_not_show_is_served(store: Store) -> None:
    """What is compared is stat: a file whose record is forged to fit is taken as it is."""
    file = hydrate(store.handle, store.cache, store.entry("a"))
    corrupt(file.path)
    cached_file.remember(file.path, file.fd)
    served = found(store, "a", verify=True)
    assert served is not None
    assert served.read_at(0, MIB) != FILES["a"]


def test_another_boot_means_hash_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(store, "a")
    monkeypatch.setattr(cached_file, "_this_boot", "another")
    assert found(store, "a", verify=False) is None
    assert found(store, "a", verify=True) is not None
    assert found(store, "a", verify=False) is not None


def test_another_boot_finds_what_was_lost(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    file = hydrate(store.handle, store.cache, store.entry("a"))
    corrupt(file.path)
    monkeypatch.setattr(cached_file, "_this_boot", "another")
    assert found(store, "a", verify=True) is None
    assert store.names() == []


def test_where_boots_cannot_be_told_apart_it_is_always_hashed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_file, "_this_boot", "")
    bring(store, "a")
    assert found(store, "a", verify=False) is None
    assert found(store, "a", verify=True) is not None


DATA = FILES["a"]


@pytest.mark.parametrize(
    "data", [b"", DATA[:-1], DATA + b"x", DATA[:100] + b"?" + DATA[101:], bytes(MIB)], ids=range(5)
)
def test_a_changed_file_is_noticed_and_made_anew(store: Store, data: bytes) -> None:
    path = hydrate(store.handle, store.cache, store.entry("a")).path
    path.chmod(0o644)
    path.write_bytes(data)
    with open(path, "rb") as opened:
        assert hydrate(store.handle, store.cache, store.entry("a")).path.read_bytes() == DATA
        assert opened.read() == data  # replaced by another inode, never changed in place


def test_a_file_that_was_touched_only_is_hashed_and_kept(store: Store) -> None:
    file = hydrate(store.handle, store.cache, store.entry("a"))
    os.utime(file.path, ns=(5, 5))
    assert not file.is_intact()
    assert found(store, "a", verify=False) is None
    again = found(store, "a", verify=True)
    assert again is not None
    assert again.seen.inode == file.seen.inode


@pytest.mark.parametrize("note", [b"", b"{}", b"\xff", b"null"])
def test_a_damaged_note_means_hashing(store: Store, note: bytes) -> None:
    file = hydrate(store.handle, store.cache, store.entry("a"))
    cached_file.seen_of(file.path).write_bytes(note)
    assert found(store, "a", verify=False) is None
    assert found(store, "a", verify=True) is not None
    assert found(store, "a", verify=False) is not None


def test_a_file_that_lost_its_bytes_in_a_power_cut(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name, the length and the times are there, the bytes are not."""
    file = hydrate(store.handle, store.cache, store.entry("a"))
    file.path.chmod(0o644)
    file.path.write_bytes(bytes(MIB))
    cached_file.remember(file.path, file.fd)
    monkeypatch.setattr(cached_file, "_this_boot", "another")
    assert found(store, "a", verify=False) is None
    assert hydrate(store.handle, store.cache, store.entry("a")).path.read_bytes() == DATA


def test_what_is_no_file(store: Store) -> None:
    link = Entry("l", EntryKind.SYMLINK, ContentDigest.of(b"t"), None, 1, 0, target="t")
    with pytest.raises(WrongKindError):
        hydrate(store.handle, store.cache, link)
