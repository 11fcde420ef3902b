"""Is a file assembled whole or not at all, once for all who want it, and readable meanwhile?"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from moorage.api import Repository
from moorage.errors import DataError, StorageFullError
from moorage.format.stored import Bytes
from moorage.model.progress import NoProgress
from moorage.model.tree import Entry
from moorage.read import assembly as assembly_module
from moorage.read.assembly import Assembly
from moorage.read.cache import FileCache, Part
from moorage.read.cached_file import PIECE_BYTES, CachedFile
from moorage.read.file import FileReader
from moorage.read.hydrate import hydrate, try_hydrate
from moorage.read.resolve import locate, parse_location
from moorage.storage.writing import write_all_at
from tests.needs import needs_linux
from tests.unit.read.caches import MIB, Store, noise

DATA = noise(9 * MIB + 12345)
"""Stored as it is."""
PIECE = 256 * 1024


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path, {"big": DATA, "small": noise(1000, 1)})
    yield made
    made.handle.close()


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nothing were stored raw."""
    monkeypatch.setattr(FileReader, "is_raw_at", lambda *_: False)
    monkeypatch.setattr(FileReader, "copy_to", lambda *_: False)


def begin(store: Store) -> tuple[Part, Assembly]:
    entry = store.entry("big")
    part = store.cache.reserve(entry)
    assert isinstance(part, Part)
    return part, Assembly(FileReader(store.handle, entry), part, PIECE)


def read(assembly: Assembly, offset: int, size: int) -> bytes | None:
    parts = assembly.parts_at(offset, size)
    return None if parts is None else b"".join(parts)


def test_what_is_assembled_can_be_read_before_it_is_whole(store: Store) -> None:
    part, assembly = begin(store)
    assert read(assembly, 5 * MIB, 100) is None  # nobody has begun: the threads go on from here
    budget = iter(range(4))
    assert not assembly.run(lambda: next(budget, None) is not None)
    assert read(assembly, 5 * MIB, 100) == DATA[5 * MIB : 5 * MIB + 100]
    assert read(assembly, 0, 100) is None
    part.discard()


class Gate:
    """Holds up whoever comes through it first, and all after him."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        assert self.opened.wait(60)


def slow_reads(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Pieces that are not decoded until the gate opens."""
    gate, decode = Gate(), FileReader.parts_at

    def slow(self: FileReader, offset: int, size: int) -> list[Bytes]:
        gate()
        return decode(self, offset, size)

    monkeypatch.setattr(FileReader, "parts_at", slow)
    return gate


def slow_writes(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Pieces that do not get into the file until the gate opens."""
    gate = Gate()

    def slow(fd: int, parts: list[Bytes], offset: int, at_once_bytes: int) -> None:
        gate()
        write_all_at(fd, parts, offset, at_once_bytes)

    monkeypatch.setattr(assembly_module, "write_all_at", slow)
    return gate


def test_reads_wait_for_what_is_being_made(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    part, assembly = begin(store)
    gate = slow_reads(monkeypatch)
    results: list[bytes | None] = []
    runner = threading.Thread(target=assembly.run)
    runner.start()
    assert gate.entered.wait(60)
    reader = threading.Thread(target=lambda: results.append(read(assembly, 10, 100)))
    reader.start()
    gate.opened.set()
    reader.join(60)
    runner.join(60)
    assert results == [DATA[10:110]]
    assert read(assembly, len(DATA) - 5, 100) == DATA[-5:]
    assert read(assembly, len(DATA), 100) == b""
    part.discard()


@pytest.mark.usefixtures("encoded")
def test_what_is_decoded_can_be_read_before_it_is_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    part, assembly = begin(store)
    gate = slow_writes(monkeypatch)
    runner = threading.Thread(target=assembly.run)
    runner.start()
    assert gate.entered.wait(60)
    assert read(assembly, 10, 100) == DATA[10:110]
    assert os.pread(part.fd, 100, 10) != DATA[10:110]
    gate.opened.set()
    runner.join(60)
    assert os.pread(part.fd, 100, 10) == DATA[10:110]
    part.discard()


def test_no_piece_is_decoded_twice_for_a_reader_who_keeps_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is told to look in the chunks himself decodes what is decoded once more a moment later."""
    part, assembly = begin(store)
    decoded, decode = [], FileReader.parts_at

    def counted(self: FileReader, offset: int, size: int) -> list[Bytes]:
        decoded.append(offset)
        return decode(self, offset, size)

    started = threading.Event()

    def keep_going() -> bool:
        started.set()
        return True

    monkeypatch.setattr(FileReader, "parts_at", counted)
    runner = threading.Thread(target=assembly.run, args=[keep_going])
    runner.start()
    assert started.wait(60)
    found = [read(assembly, offset, PIECE // 4) for offset in range(0, len(DATA), PIECE // 4)]
    runner.join(60)
    part.discard()
    assert b"".join(piece or b"?" for piece in found) == DATA
    assert sorted(decoded) == list(range(0, len(DATA), PIECE))


@pytest.mark.usefixtures("encoded")
def test_few_pieces_are_in_memory_and_who_is_behind_reads_the_file(store: Store) -> None:
    part, assembly = begin(store)
    assert assembly.run()
    assert len(assembly._made) <= assembly_module.AHEAD
    assert 0 not in assembly._made
    assert read(assembly, 0, len(DATA)) == DATA
    part.discard()


@pytest.mark.parametrize("is_short", [True, False])
@pytest.mark.usefixtures("encoded")
def test_what_the_disk_does_not_give_back_is_looked_for_elsewhere(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, is_short: bool
) -> None:
    """A short answer would be the end of the file to the kernel, which shows zeros behind it."""
    part, assembly = begin(store)
    assert assembly.run()
    assert 0 not in assembly._made
    pread = os.pread

    def failing(fd: int, size: int, offset: int) -> bytes:
        if is_short:
            return pread(fd, size - 1, offset)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", failing)
    assert read(assembly, 10, 100) is None
    monkeypatch.undo()
    assert read(assembly, 10, 100) == DATA[10:110]
    part.discard()


@pytest.mark.usefixtures("encoded")
def test_what_was_decoded_and_not_written_is_not_read_from_the_file(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, assembly = begin(store)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(assembly_module, "write_all_at", full)
    with pytest.raises(OSError, match="No space"):
        assembly.run()
    assert {read(assembly, offset, 10) for offset in range(0, len(DATA), PIECE)} <= {
        None,
        *(DATA[offset : offset + 10] for offset in range(0, len(DATA), PIECE)),
    }
    assembly._made.clear()
    assert {read(assembly, offset, 10) for offset in range(0, len(DATA), PIECE)} == {None}
    part.discard()


def test_a_reader_who_stops_does_not_keep_it_from_becoming_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    part, assembly = begin(store)
    waits: list[float | None] = []
    wait = assembly._has_moved.wait

    def counted(timeout: float | None = None) -> bool:
        waits.append(timeout)
        return wait(timeout)

    monkeypatch.setattr(assembly._has_moved, "wait", counted)
    read(assembly, 0, 10)
    assert assembly.run()
    assert waits  # they were ahead of him, and waited for a moment
    assert all(timeout is not None and timeout <= assembly_module.PACE_S for timeout in waits)
    part.discard()


def test_a_piece_that_hangs_is_not_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    part, assembly = begin(store)
    gate = slow_reads(monkeypatch)
    monkeypatch.setattr(assembly_module, "PATIENCE_S", 0.01)
    runner = threading.Thread(target=assembly.run)
    runner.start()
    assert gate.entered.wait(60)
    assert read(assembly, 10, 100) is None
    gate.opened.set()
    runner.join(60)
    assert read(assembly, 10, 100) == DATA[10:110]
    part.discard()


def test_a_damaged_chunk_ends_it_and_lets_readers_go(store: Store) -> None:
    for pack in (store.handle.root or Path()).glob("packs/*/*"):
        if pack.stat().st_size > 2 * MIB:
            data = bytearray(pack.read_bytes())
            data[len(data) // 2] ^= 1
            pack.chmod(0o644)
            pack.write_bytes(data)
    part, assembly = begin(store)
    with pytest.raises(DataError):
        assembly.run()
    assert [read(assembly, offset, 1) for offset in range(0, len(DATA), PIECE)].count(None) > 0
    part.discard()
    with pytest.raises(DataError):
        hydrate(store.handle, store.cache, store.entry("big"))
    assert store.names() == []


def test_a_full_disk_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwritev", full)
    monkeypatch.setattr(os, "copy_file_range", full)
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


def read_along(
    assembly: Assembly, size_bytes: int, keep_going: Callable[[], bool] = lambda: True
) -> list[bytes | None]:
    """What a reader gets who reads from the first byte to the last while it is assembled."""
    started = threading.Event()

    def goes_on() -> bool:
        started.set()
        return keep_going()

    runner = threading.Thread(target=assembly.run, args=[goes_on])
    runner.start()
    assert started.wait(60)
    found = [read(assembly, offset, PIECE) for offset in range(0, size_bytes, PIECE)]
    runner.join(60)
    assert not runner.is_alive()
    return found


@needs_linux
def test_what_a_reader_waits_for_is_not_written_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    part, assembly = begin(store)
    written: list[int] = []
    monkeypatch.setattr(assembly_module, "write_all_at", lambda *words: written.append(words[2]))
    monkeypatch.setattr(assembly_module, "PACE_S", 60.0)
    assert read_along(assembly, len(DATA)) == [DATA[start : start + PIECE] for start in range(0, len(DATA), PIECE)]
    assert written == []
    assert os.pread(part.fd, len(DATA), 0) == DATA
    part.discard()


@needs_linux
def test_a_reader_gets_nothing_from_what_was_only_copied(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its chunks may have been damaged since they were verified; what he is not given here he reads from them."""
    part, assembly = begin(store)
    copy = os.copy_file_range

    def wrong(source: int, fd: int, count: int, start: int, place: int) -> int:
        return copy(source, fd, count, start ^ 1, place)

    monkeypatch.setattr(os, "copy_file_range", wrong)
    monkeypatch.setattr(assembly_module, "hash_of", lambda *_: None)
    found = read_along(assembly, len(DATA))
    assert os.pread(part.fd, len(DATA), 0) != DATA
    again = [read(assembly, start, PIECE) for start in range(0, len(DATA), PIECE)]
    assert again.count(None) > len(again) // 2
    for pieces in (found, again):
        right = (DATA[start : start + PIECE] for start in range(0, len(DATA), PIECE))
        assert all(piece in (None, wanted) for piece, wanted in zip(pieces, right, strict=True))
    part.discard()


@needs_linux
def test_a_copy_that_is_wrong_is_made_again_while_somebody_reads(
    store: Store, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    part, assembly = begin(store)
    copy = os.copy_file_range

    def wrong(source: int, fd: int, count: int, start: int, place: int) -> int:
        return copy(source, fd, count, start ^ 1, place)

    monkeypatch.setattr(os, "copy_file_range", wrong)
    read_along(assembly, len(DATA))
    assert os.pread(part.fd, len(DATA), 0) == DATA
    assert len(decoded) > len(range(0, len(DATA), PIECE))
    part.discard()


@needs_linux
def test_a_reader_who_never_ends_does_not_keep_it_from_becoming_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, assembly = begin(store)
    monkeypatch.setattr(assembly_module, "QUIET_S", 60.0)
    monkeypatch.setattr(assembly_module, "MOST_QUIET_WAIT_S", 0.05)
    read_along(assembly, len(DATA))
    assert os.pread(part.fd, len(DATA), 0) == DATA
    part.discard()


def test_what_may_be_copied_later_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the memory holds would be read from the disk again."""
    monkeypatch.setattr(assembly_module, "_memory_bytes", lambda: 16 * PIECE)
    part, assembly = begin(store)
    most = []
    becomes = assembly._becomes

    def counted(piece: int, state: int, made: list[Bytes] | None = None) -> None:
        becomes(piece, state, made)
        most.append(assembly._states.count(assembly_module._LATER))

    monkeypatch.setattr(assembly, "_becomes", counted)
    read_along(assembly, len(DATA))
    # Each of the threads may have looked before the other's was counted.
    assert 2 <= max(most) <= 3
    assert os.pread(part.fd, len(DATA), 0) == DATA
    part.discard()


def test_what_has_been_given_out_counts_as_done(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has read all of it and goes must not have it dropped."""
    part, assembly = begin(store)
    left = []
    monkeypatch.setattr(assembly, "_take_later", lambda: left.append(assembly.left_bytes))
    read_along(assembly, len(DATA))
    assert left[-1] == 0
    part.discard()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The offsets of the pieces that are made from chunks, one by one."""
    found: list[int] = []
    parts_at = FileReader.parts_at

    def noted(reader: FileReader, offset: int, size: int) -> list[bytes | memoryview]:
        found.append(offset)
        return parts_at(reader, offset, size)

    monkeypatch.setattr(FileReader, "parts_at", noted)
    return found


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
    def refused(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "copy_file_range", refused)
    assert content(store, "big") == DATA
    assert decoded


def test_without_that_call_it_is_decoded(store: Store, decoded: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "copy_file_range", raising=False)
    assert content(store, "big") == DATA
    assert decoded


@needs_linux
def test_a_copy_that_is_wrong_is_made_again_from_chunks(
    store: Store, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash of the whole is all that stands between what is copied and who reads it."""
    copy = os.copy_file_range

    def wrong(source: int, fd: int, count: int, start: int, place: int) -> int:
        return copy(source, fd, count, start ^ 1, place)

    monkeypatch.setattr(os, "copy_file_range", wrong)
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
