"""Is a file assembled whole or not at all, once for all who want it, and readable meanwhile?"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from moorage.api import Repository
from moorage.errors import DataError, StorageFullError
from moorage.model.progress import NoProgress
from moorage.model.tree import Entry
from moorage.read import assembly as assembly_module
from moorage.read.assembly import Assembly
from moorage.read.cache import FileCache
from moorage.read.cached_file import PIECE_BYTES, CachedFile
from moorage.read.file import FileReader
from moorage.read.hydrate import hydrate, try_hydrate
from moorage.read.resolve import locate, parse_location
from moorage.storage.writing import write_all_at
from tests.needs import needs_linux
from tests.unit.read.caches import MIB, Store, copies_wrongly, noise

DATA = noise(9 * MIB + 12345)
"""Stored as it is."""
PIECE = 256 * 1024


def test_a_full_disk_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwritev", full)
    monkeypatch.setattr(os, "splice", full, raising=False)
    with pytest.raises(StorageFullError):
        hydrate(store.handle, store.cache, store.entry("big"))
    assert store.names() == []


def test_the_whole_is_verified_not_only_its_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes a write and keeps something else."""
    write = write_all_at

    def wrong(fd: int, parts: list[bytes | memoryview], offset: int, at_once_bytes: int) -> None:
        write(fd, parts, offset, at_once_bytes)
        os.pwrite(fd, b"?", offset + 7)

    monkeypatch.setattr(assembly_module, "write_all_at", wrong)
    monkeypatch.setattr(FileReader, "copy_to", lambda *_: False)
    with pytest.raises(DataError, match="do not make the file"):
        hydrate(store.handle, store.cache, store.entry("big"))
    assert store.names() == []


# -- copied within the kernel --------------------------------------------------------------------------


def content(store: Store, path: str) -> bytes:
    with closing(hydrate(store.handle, store.cache, store.entry(path))) as file:
        return file.read_at(0, os.fstat(file.fd).st_size)


@needs_linux
def test_what_is_stored_raw_is_copied_and_not_decoded(store: Store, decoded: list[int]) -> None:
    assert content(store, "big") == DATA
    assert content(store, "small") == noise(1000, 1)
    assert decoded == []


def test_who_reads_meanwhile_gets_what_was_verified(store: Store, decoded: list[int]) -> None:
    assert try_hydrate(store.handle, store.cache, store.entry("big"), begun=lambda _: None, keep_going=lambda: True)
    assert sorted(decoded) == list(range(0, len(DATA), PIECE_BYTES))


def test_what_is_not_stored_raw_is_decoded(tmp_path: Path, decoded: list[int]) -> None:
    data = noise(5 * MIB) + noise(3 * MIB).hex().encode() + noise(5 * MIB, 1)
    with Repository.create(tmp_path / "repository", actor="tester") as repo:
        repo.commit(data, at="mixed", branch="prod", create=True)
        entry = locate(repo.handle, parse_location("prod:mixed")).file
        cache = FileCache(tmp_path / "cache", 64 * MIB)
        with closing(hydrate(repo.handle, cache, entry)) as file:
            assert file.read_at(0, len(data)) == data
    assert 0 < len(decoded) < -(-len(data) // PIECE_BYTES)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EINVAL, errno.EIO])
def test_where_it_cannot_be_copied_it_is_decoded(
    store: Store, decoded: list[int], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "splice", refused, raising=False)
    assert content(store, "big") == DATA
    assert decoded


def test_without_that_call_it_is_decoded(store: Store, decoded: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "splice", raising=False)
    assert content(store, "big") == DATA
    assert decoded


@needs_linux
def test_a_copy_that_is_wrong_is_made_again_from_chunks(
    store: Store, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash of the whole is all that stands between what is copied and who reads it."""
    copies_wrongly(monkeypatch)
    assert content(store, "big") == DATA
    assert decoded


@needs_linux
def test_a_pack_that_ends_too_soon_is_named(store: Store) -> None:
    (pack,) = [path for path in (store.handle.root or Path()).glob("packs/*/*") if path.stat().st_size > 2 * MIB]
    os.truncate(pack, 5 * MIB)
    with pytest.raises(DataError, match=pack.name):
        hydrate(store.handle, store.cache, store.entry("big"))
    assert store.names() == []


def test_stopping_leaves_nothing(store: Store) -> None:
    def begun(_: Assembly) -> None:
        pass

    entry = store.entry("big")
    assert try_hydrate(store.handle, store.cache, entry, begun=begun, keep_going=lambda: False) is None
    assert store.names() == []
    assert try_hydrate(store.handle, store.cache, entry, begun=begun, keep_going=lambda: True) is not None


def test_progress_counts_every_byte(store: Store) -> None:
    class Counter(NoProgress):
        total = 0

        def advance(self, *, size_bytes: int = 0, files: int = 0) -> None:
            self.total += size_bytes

    counter = Counter()
    hydrate(store.handle, store.cache, store.entry("big"), counter).close()
    assert counter.total == len(DATA)


def test_several_threads_want_it_and_one_makes_it(store: Store) -> None:
    inodes: list[int] = []
    start = threading.Barrier(4)

    def want() -> None:
        start.wait(60)
        file = hydrate(store.handle, FileCache(store.cache.folder, 64 * MIB), store.entry("big"))
        inodes.append(os.fstat(file.fd).st_ino)
        file.close()

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(inodes) == 4
    assert len(set(inodes)) == 1


def test_what_was_published_a_moment_ago_is_not_assembled_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = store.entry("big")
    with closing(hydrate(store.handle, store.cache, entry)) as first:
        # The look into the cache came just before the file had its name, the claim just after, and what stat said of
        # it is not written yet.
        first.path.with_name(first.path.name + ".seen").unlink()
        looks: list[bool] = []
        find = FileCache.find

        def look(cache: FileCache, entry: Entry, *, verify: bool) -> CachedFile | None:
            looks.append(verify)
            return find(cache, entry, verify=verify) if len(looks) > 1 else None

        monkeypatch.setattr(FileCache, "find", look)
        with closing(hydrate(store.handle, store.cache, entry)) as second:
            assert os.fstat(second.fd).st_ino == os.fstat(first.fd).st_ino
    assert len(looks) == 2


OTHER = """
import os, sys
from pathlib import Path
from moorage.read import assembly
from moorage.read.cache import FileCache
from moorage.read.file import FileReader
from moorage.read.hydrate import hydrate
from moorage.read.resolve import locate, parse_location
from moorage.repository.handle import RepositoryHandle
from moorage.storage.writing import write_all_at
handle = RepositoryHandle.open(Path(sys.argv[1]))
FileReader.copy_to = lambda *_: False
write = write_all_at
def slow(fd, parts, offset, at_once_bytes):
    if offset:
        os.write(1, b"half\\n")  # in one piece, whichever thread
        sys.stdin.readline()
    write(fd, parts, offset, at_once_bytes)
assembly.write_all_at = slow
file = hydrate(handle, FileCache(Path(sys.argv[2]), 1 << 26), locate(handle, parse_location("prod:big")).file)
print(os.fstat(file.fd).st_ino, flush=True)
"""


def other(store: Store) -> subprocess.Popen[str]:
    """A process that is in the middle of hydrating the same file."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(store.handle.root), str(store.cache.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    return process


def test_killed_in_the_middle_leaves_nothing_that_counts(store: Store) -> None:
    with other(store) as process:
        assert hydrated_now(store) is None  # it is at it: this one does not wait
        process.send_signal(signal.SIGKILL)
    assert store.cache.find(store.entry("big"), verify=True) is None
    assert hydrate(store.handle, store.cache, store.entry("big")).path.read_bytes() == DATA
    assert store.names() == store.short("big")


def hydrated_now(store: Store) -> object:
    return try_hydrate(store.handle, store.cache, store.entry("big"), begun=lambda _: None, keep_going=lambda: True)


def test_two_processes_make_it_once(store: Store) -> None:
    with other(store) as process:
        inodes: list[int] = []
        waiter = threading.Thread(
            target=lambda: inodes.append(hydrate(store.handle, store.cache, store.entry("big")).seen.inode)
        )
        waiter.start()
        out, _ = process.communicate("\n" * 1000, timeout=60)
        waiter.join(60)
    assert [int(line) for line in out.split() if line != "half"] == inodes
