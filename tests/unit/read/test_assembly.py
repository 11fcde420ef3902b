"""Can a file be read while it is assembled, and is it whole in the end, whoever reads it how?"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from moorage.errors import DataError, StorageError
from moorage.format.stored import Bytes
from moorage.model.ranges import ByteRange
from moorage.read import assembly as assembly_module
from moorage.read import pieces as pieces_module
from moorage.read.assembly import Assembly
from moorage.read.cache import Part
from moorage.read.file import FileReader
from moorage.read.hydrate import hydrate
from moorage.read.pieces import State
from moorage.storage.writing import write_all_at
from tests.needs import needs_linux
from tests.unit.read.caches import DATA, MIB, Store, copies_wrongly

PIECE = 256 * 1024
STARTS = range(0, len(DATA), PIECE)


def begin(store: Store) -> tuple[Part, Assembly]:
    entry = store.entry("big")
    part = store.cache.reserve(entry)
    assert isinstance(part, Part)
    return part, Assembly(FileReader(store.handle, entry), part, PIECE)


def read(assembly: Assembly, offset: int, size: int) -> bytes | None:
    parts = assembly.parts_at(offset, size)
    return None if parts is None else b"".join(parts)


def read_along(assembly: Assembly, size: int = PIECE) -> list[bytes | None]:
    """What a reader gets who reads from the first byte to the last, so much at a time, while it is assembled."""
    started = threading.Event()

    def keep_going() -> bool:
        started.set()
        return True

    runner = threading.Thread(target=assembly.run, args=[keep_going])
    runner.start()
    assert started.wait(60)
    found = [read(assembly, offset, size) for offset in range(0, len(DATA), size)]
    runner.join(60)
    assert not runner.is_alive()
    return found


class Gate:
    """Holds up whoever comes through it first, and all after him."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        assert self.opened.wait(60)


def slow_reads(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Pieces that are not decoded until the gate opens."""
    gate, decode = Gate(), FileReader.parts_and_form_at

    def slow(self: FileReader, offset: int, size: int) -> tuple[list[Bytes], bool]:
        gate()
        return decode(self, offset, size)

    monkeypatch.setattr(FileReader, "parts_and_form_at", slow)
    return gate


class Permits:
    """Each piece is decoded when it may be, and not sooner."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._changed = threading.Condition()
        self._allowed: set[int] = set()
        self.begun: list[int] = []
        """In the order in which threads came to them."""
        decode = FileReader.parts_and_form_at

        def slow(reader: FileReader, offset: int, size: int) -> tuple[list[Bytes], bool]:
            piece = offset // PIECE
            with self._changed:
                self.begun.append(piece)
                self._changed.notify_all()
                assert self._changed.wait_for(lambda: piece in self._allowed, 60)
            return decode(reader, offset, size)

        monkeypatch.setattr(FileReader, "parts_and_form_at", slow)

    def give(self, pieces: Iterable[int]) -> None:
        """These may be."""
        with self._changed:
            self._allowed.update(pieces)
            self._changed.notify_all()

    def wait_for(self, *pieces: int) -> None:
        """Until threads have come to these."""
        with self._changed:
            assert self._changed.wait_for(lambda: set(pieces) <= set(self.begun), 60), self.begun


class Waiter(threading.Thread):
    """Somebody who reads a little of a piece; made when he waits for it."""

    def __init__(self, assembly: Assembly, piece: int) -> None:
        super().__init__(daemon=True)
        self._assembly, self._piece = assembly, piece
        self.start()
        deadline = time.monotonic() + 60
        while piece not in assembly._pieces._awaited:
            assert self.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def run(self) -> None:
        self.found = read(self._assembly, self._piece * PIECE, 10)

    def has_it(self) -> bool:
        """Whether he got his bytes in the end."""
        self.join(60)
        return not self.is_alive() and self.found == DATA[self._piece * PIECE : self._piece * PIECE + 10]


def cores(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """So many threads assemble; and nobody loses his patience because the machine is busy."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)), raising=False)
    monkeypatch.setattr(pieces_module, "PATIENCE_S", 600.0)


def slow_writes(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Pieces that do not get into the file until the gate opens."""
    gate = Gate()

    def slow(fd: int, parts: list[Bytes], offset: int, at_once_bytes: int) -> None:
        gate()
        write_all_at(fd, parts, offset, at_once_bytes)

    monkeypatch.setattr(assembly_module, "write_all_at", slow)
    return gate


def test_what_is_assembled_can_be_read_before_it_is_whole(store: Store) -> None:
    part, assembly = begin(store)
    assert read(assembly, 5 * MIB, 100) is None  # nobody has begun: the threads go on from here
    budget = iter(range(4))
    assert not assembly.run(lambda: next(budget, None) is not None)
    assert read(assembly, 5 * MIB, 100) == DATA[5 * MIB : 5 * MIB + 100]
    assert read(assembly, 0, 100) is None
    part.discard()


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


def test_no_piece_is_decoded_twice_for_a_reader_who_keeps_up(store: Store, decoded: list[int]) -> None:
    """Whoever is told to look in the chunks himself decodes what is decoded once more a moment later."""
    part, assembly = begin(store)
    found = read_along(assembly, PIECE // 4)
    part.discard()
    assert b"".join(piece or b"?" for piece in found) == DATA
    assert sorted(decoded) == list(STARTS)


def test_a_piece_that_somebody_waits_for_comes_next(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another reader has sent the threads elsewhere while he waited."""
    cores(monkeypatch, 1)
    part, assembly = begin(store)
    permits = Permits(monkeypatch)
    runner = threading.Thread(target=assembly.run)
    runner.start()
    permits.wait_for(0)
    waiter = Waiter(assembly, 1)
    assert read(assembly, 20 * PIECE, 10) is None
    permits.give(range(len(STARTS)))
    assert waiter.has_it()
    runner.join(60)
    assert permits.begun[:3] == [0, 1, 20]
    part.discard()


def test_who_comes_to_a_piece_that_is_about_to_be_made_waits_in_whatever_order_they_come(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(monkeypatch, 2)
    part, assembly = begin(store)
    permits = Permits(monkeypatch)
    runner = threading.Thread(target=assembly.run)
    runner.start()
    permits.wait_for(0, 1)
    waiters = [Waiter(assembly, 3), Waiter(assembly, 2)]
    permits.give([0, 1])
    permits.wait_for(2, 3)
    waiters.append(Waiter(assembly, 5))
    permits.give(range(len(STARTS)))
    assert all(waiter.has_it() for waiter in waiters)
    runner.join(60)
    part.discard()


@needs_linux
@pytest.mark.usefixtures("large")
def test_what_was_waited_for_is_there_although_another_reader_is_elsewhere(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not left for later, out of memory before he who waited has been woken."""
    cores(monkeypatch, 1)
    part, assembly = begin(store)
    permits = Permits(monkeypatch)
    assert read(assembly, 20 * PIECE, 10) is None
    runner = threading.Thread(target=assembly.run)
    runner.start()
    permits.give(range(20, 25))
    permits.wait_for(25)
    waiter = Waiter(assembly, 26)
    assert read(assembly, 20 * PIECE, 10) == DATA[20 * PIECE : 20 * PIECE + 10]
    permits.give([25, 26])
    assert waiter.has_it()
    assembly.reader_left()
    permits.give(range(len(STARTS)))
    runner.join(60)
    part.discard()


def test_patience_begins_anew_when_a_piece_is_begun(store: Store) -> None:
    """On a slow disk the one before it may take as long."""
    part, assembly = begin(store)

    class Begun(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            assembly._pieces._states[1] = State.BUSY
            return False

    assembly._pieces._awaited[1] = Begun(assembly._pieces._lock)
    assert assembly._pieces._wait_for(1)
    assert not assembly._pieces._wait_for(1)
    part.discard()


@pytest.mark.usefixtures("encoded")
def test_few_pieces_are_in_memory_and_who_is_behind_reads_the_file(store: Store) -> None:
    part, assembly = begin(store)
    assert assembly.run()
    assert len(assembly._pieces._made) <= pieces_module.AHEAD
    assert 0 not in assembly._pieces._made
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
    assert 0 not in assembly._pieces._made
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
    assert {read(assembly, offset, 10) for offset in STARTS} <= {
        None,
        *(DATA[offset : offset + 10] for offset in STARTS),
    }
    assembly._pieces._made.clear()
    assert {read(assembly, offset, 10) for offset in STARTS} == {None}
    part.discard()


@pytest.mark.usefixtures("encoded")
def test_a_reader_who_stops_does_not_keep_it_from_becoming_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    part, assembly = begin(store)
    waits: list[float | None] = []
    wait = assembly._pieces._has_moved.wait

    def counted(timeout: float | None = None) -> bool:
        waits.append(timeout)
        return wait(timeout)

    monkeypatch.setattr(assembly._pieces._has_moved, "wait", counted)
    read(assembly, 0, 10)
    assert assembly.run()
    assert waits  # they were ahead of him, and waited for a moment
    assert all(timeout is not None and timeout <= pieces_module.PACE_S for timeout in waits)
    part.discard()


def test_a_piece_that_hangs_is_not_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    part, assembly = begin(store)
    gate = slow_reads(monkeypatch)
    monkeypatch.setattr(pieces_module, "PATIENCE_S", 0.01)
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
    assert [read(assembly, offset, 1) for offset in STARTS].count(None) > 0
    part.discard()
    with pytest.raises(DataError):
        hydrate(store.handle, store.cache, store.entry("big"))
    assert store.names() == []


# -- got into the page cache ahead ---------------------------------------------------------------------


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The pieces of which it was looked up where they lie, in order."""
    found: list[int] = []

    def spans(_: FileReader, offset: int, size: int) -> list[tuple[str, ByteRange]]:
        assert offset % PIECE == size % PIECE == 0
        found.extend(range(offset // PIECE, (offset + size) // PIECE))
        return []

    monkeypatch.setattr(FileReader, "spans", spans)
    return found


def test_what_the_threads_will_come_to_is_fetched_before(
    store: Store, monkeypatch: pytest.MonkeyPatch, fetched: list[int]
) -> None:
    cores(monkeypatch, 1)
    part, assembly = begin(store)
    permits = Permits(monkeypatch)
    runner = threading.Thread(target=assembly.run)
    runner.start()
    permits.give(range(3))
    permits.wait_for(3)
    deadline = time.monotonic() + 60
    while 7 not in fetched:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    permits.give(range(len(STARTS)))
    runner.join(60)
    assert fetched == sorted(set(fetched))  # each once
    part.discard()


def test_where_each_thread_makes_one_piece_nothing_is_fetched(
    store: Store, monkeypatch: pytest.MonkeyPatch, fetched: list[int]
) -> None:
    cores(monkeypatch, 3)
    monkeypatch.setattr(Assembly, "_begin_to_fetch", lambda _: fetched.append(-1))
    entry = store.entry("big")
    part = store.cache.reserve(entry)
    assert isinstance(part, Part)
    assert Assembly(FileReader(store.handle, entry), part, -(-len(DATA) // 3)).run()
    assert fetched == []
    part.discard()
    hydrate(store.handle, store.cache, entry).close()
    assert fetched == [-1]


@pytest.mark.parametrize("error", [StorageError("nobody answers"), OSError(errno.EBADF, "whatever"), ValueError()])
@pytest.mark.parametrize("name", ["spans", "prefetch"])
def test_what_cannot_be_fetched_is_made_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception, name: str
) -> None:
    tried: list[object] = []

    def failing(_: FileReader, *words: object) -> None:
        tried.append(words)
        raise error

    monkeypatch.setattr(FileReader, name, failing)
    part, assembly = begin(store)
    assembly._pieces._row = -pieces_module.FETCHED_AHEAD  # at once
    assert assembly.run()
    deadline = time.monotonic() + 60
    while not tried:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert len(tried) == 1
    part.discard()


def test_a_fetch_that_hangs_is_waited_for_by_nobody(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it look anything up when it comes back: the repository may be closed by then."""
    gate = Gate()
    monkeypatch.setattr(FileReader, "prefetch", lambda *_: gate())
    part, assembly = begin(store)
    assembly._pieces._row = -pieces_module.FETCHED_AHEAD
    permits = Permits(monkeypatch)
    runner = threading.Thread(target=assembly.run)
    runner.start()
    assert gate.entered.wait(60)
    permits.give(range(len(STARTS)))
    runner.join(60)
    assert not runner.is_alive()
    monkeypatch.setattr(FileReader, "spans", lambda *_: pytest.fail("it looks something up"))
    hanging = [thread for thread in threading.enumerate() if thread.name == "moorage-prefetch"]
    assert hanging
    gate.opened.set()
    for thread in hanging:
        thread.join(60)
    part.discard()


def test_who_looks_up_what_to_fetch_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the assembly is over, the index may be closed."""
    gate = Gate()

    def slow(*_: object) -> list[tuple[str, ByteRange]]:
        gate()
        return []

    monkeypatch.setattr(FileReader, "spans", slow)
    part, assembly = begin(store)
    assembly._pieces._row = -pieces_module.FETCHED_AHEAD
    runner = threading.Thread(target=assembly.run)
    runner.start()
    assert gate.entered.wait(60)
    while not assembly._pieces.is_over():
        time.sleep(0.001)
    runner.join(0.05)
    assert runner.is_alive()
    gate.opened.set()
    runner.join(60)
    assert not runner.is_alive()
    part.discard()


def test_without_a_thread_to_be_had_nothing_is_fetched(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    cores(monkeypatch, 1)

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    part, assembly = begin(store)
    assert assembly.run()
    assert assembly._pieces.is_over()
    part.discard()


# -- left for later, and copied ------------------------------------------------------------------------


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the file were large, and nobody ever made to wait for a reader who is slow today."""
    monkeypatch.setattr(assembly_module, "LEAST_LATER_BYTES", 0)
    monkeypatch.setattr(pieces_module, "PACE_S", 60.0)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where something is written, not copied."""
    found: list[int] = []

    def noted(fd: int, parts: list[Bytes], offset: int, at_once_bytes: int) -> None:
        found.append(offset)
        write_all_at(fd, parts, offset, at_once_bytes)

    monkeypatch.setattr(assembly_module, "write_all_at", noted)
    return found


def pieces() -> Iterator[bytes]:
    """What the file is made of."""
    return (DATA[start : start + PIECE] for start in STARTS)


@needs_linux
@pytest.mark.usefixtures("large")
def test_what_a_reader_waits_for_is_not_written_meanwhile(store: Store, decoded: list[int], written: list[int]) -> None:
    part, assembly = begin(store)
    assert read_along(assembly) == list(pieces())
    assert written == []
    assert sorted(decoded) == list(STARTS)
    assert os.pread(part.fd, len(DATA), 0) == DATA
    part.discard()


@needs_linux
def test_a_small_file_is_written_at_once(store: Store, written: list[int]) -> None:
    """The next one waits for the same thread."""
    part, assembly = begin(store)
    read_along(assembly)
    assert sorted(written) == list(STARTS)
    part.discard()


@needs_linux
@pytest.mark.usefixtures("large")
def test_a_reader_gets_nothing_from_what_was_only_copied(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its chunks may have been damaged since they were verified; what he is not given here he reads from them."""
    part, assembly = begin(store)
    copies_wrongly(monkeypatch)
    monkeypatch.setattr(assembly_module, "hash_of", lambda *_: None)
    assert read_along(assembly) == list(pieces())
    assert os.pread(part.fd, len(DATA), 0) != DATA
    again = [read(assembly, start, PIECE) for start in STARTS]
    assert again.count(None) > len(again) // 2
    assert all(piece in (None, right) for piece, right in zip(again, pieces(), strict=True))
    part.discard()


@needs_linux
@pytest.mark.usefixtures("large")
def test_a_copy_that_is_wrong_is_made_again_while_somebody_reads(
    store: Store, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    part, assembly = begin(store)
    copies_wrongly(monkeypatch)
    monkeypatch.setattr(pieces_module, "PACE_S", 0.004)
    read_along(assembly)
    assert os.pread(part.fd, len(DATA), 0) == DATA
    assert len(decoded) > len(STARTS)
    part.discard()


@pytest.mark.usefixtures("large")
def test_where_nothing_can_be_copied_nothing_is_left_for_later(
    store: Store, decoded: list[int], written: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be decoded twice."""

    def refused(*_: object, **__: object) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "splice", refused, raising=False)
    part, assembly = begin(store)
    assert read_along(assembly) == list(pieces())
    assert sorted(decoded) == sorted(written) == list(STARTS)
    part.discard()


def read_all(assembly: Assembly) -> threading.Thread:
    """Assemble it, and read all of it; the thread that may not be done yet."""
    runner = threading.Thread(target=assembly.run)
    runner.start()
    for start in STARTS:
        while read(assembly, start, PIECE) is None:
            time.sleep(0.001)  # nobody has begun yet
    return runner


@needs_linux
@pytest.mark.usefixtures("large")
def test_a_reader_who_never_ends_does_not_keep_it_from_becoming_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, assembly = begin(store)
    monkeypatch.setattr(pieces_module, "QUIET_S", 600.0)
    monkeypatch.setattr(pieces_module, "MOST_QUIET_WAIT_S", 0.5)
    runner = read_all(assembly)
    begun = time.monotonic()
    while runner.is_alive() and time.monotonic() - begun < 60:
        read(assembly, len(DATA) - 10, 10)
        time.sleep(0.001)
    # It waits once, and not for each of 37 pieces.
    assert time.monotonic() - begun < 37 * 0.5 / 2
    assert os.pread(part.fd, len(DATA), 0) == DATA
    part.discard()


@needs_linux
@pytest.mark.usefixtures("large")
def test_a_reader_who_leaves_is_not_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    part, assembly = begin(store)
    monkeypatch.setattr(pieces_module, "QUIET_S", 600.0)
    monkeypatch.setattr(pieces_module, "MOST_QUIET_WAIT_S", 600.0)
    runner = read_all(assembly)
    assert runner.is_alive()
    assembly.reader_left()
    runner.join(60)
    assert not runner.is_alive()
    assert os.pread(part.fd, len(DATA), 0) == DATA
    part.discard()


@needs_linux
@pytest.mark.usefixtures("large")
def test_what_nobody_reads_any_more_is_copied_and_not_decoded(store: Store, decoded: list[int]) -> None:
    part, assembly = begin(store)
    read(assembly, 0, 10)
    assembly.reader_left()
    assert assembly.run()
    assert decoded == []
    part.discard()


@needs_linux
@pytest.mark.usefixtures("large")
def test_a_piece_that_is_copied_stays_in_memory_for_its_reader(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be read from the file, so it must not go before those that can."""
    part, assembly = begin(store)
    monkeypatch.setattr(pieces_module, "QUIET_S", 0.0)
    monkeypatch.setattr(pieces_module, "PACE_S", 0.0)
    assert assembly.run()
    assert read(assembly, 10, 100) == DATA[10:110]
    part.discard()


@needs_linux
@pytest.mark.usefixtures("large")
def test_what_may_be_copied_later_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the memory holds would be read from the disk again."""
    monkeypatch.setattr(assembly_module, "_memory_bytes", lambda: 16 * PIECE)
    part, assembly = begin(store)
    most = []
    becomes = assembly._pieces.becomes

    def counted(piece: int, state: State, made: list[Bytes] | None = None) -> None:
        becomes(piece, state, made)
        most.append(assembly._pieces.count(State.LATER))

    monkeypatch.setattr(assembly._pieces, "becomes", counted)
    read_along(assembly)
    # Each of the threads may have looked before those of the others were counted.
    assert 2 <= max(most) < 2 + assembly._pieces._threads
    assert os.pread(part.fd, len(DATA), 0) == DATA
    part.discard()


@pytest.mark.usefixtures("large")
def test_what_has_been_given_out_counts_as_done(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has read all of it and goes must not have it dropped."""
    part, assembly = begin(store)
    monkeypatch.setattr(assembly._pieces, "take_later", lambda: None)
    read_along(assembly)
    assert assembly.left_bytes == 0
    part.discard()
