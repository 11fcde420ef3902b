"""Is what never answers waited for once, and not again and again, and is everything else left alone?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from moorage.errors import KeyNotFoundError, StorageError
from moorage.index.memory import MemoryIndex
from moorage.model.digest import ChunkId
from moorage.model.ranges import ByteRange
from moorage.mount.shown.patience import Patience, WatchedIndex, WatchedStorage
from moorage.storage.memory import MemoryStorage

TIMEOUT_S = 30
PACK, REF = "packs/ab/abcd", "refs/branches/prod/0000000000000002"


class Hanging(MemoryStorage):
    """Does not answer about these keys."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: set[str] = set()
        self.entered = threading.Semaphore(0)
        self.free = threading.Event()

    def _wait(self, key: str) -> None:
        if key in self.keys:
            self.entered.release()
            assert self.free.wait(TIMEOUT_S)

    def get(self, key: str) -> bytes:
        self._wait(key)
        return super().get(key)

    def get_ranges(self, key: str, ranges: object) -> list[bytes]:
        self._wait(key)
        return super().get_ranges(key, ranges)  # type: ignore[arg-type]  # handed on as it came

    def copy_ranges(self, key: str, ranges: object, fd: int) -> bool:
        self._wait(key)
        return True


class Bench:
    """A storage that hangs, and somebody who reads from it."""

    def __init__(self) -> None:
        self.inner = Hanging()
        self.inner.create(PACK, bytes(100))
        self.patience = Patience(10)
        self.storage = WatchedStorage(self.inner, self.patience)
        self.threads: list[threading.Thread] = []

    def hang(self, key: str, do: Callable[[], object]) -> int:
        """Do it elsewhere, until it hangs at `key`; the thread's number."""
        self.inner.keys.add(key)

        def run() -> None:
            try:
                do()
            except StorageError:
                pass
            except KeyNotFoundError:
                pass

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()
        assert self.inner.entered.acquire(timeout=TIMEOUT_S)
        self.inner.keys.discard(key)
        assert self.threads[-1].ident is not None
        return self.threads[-1].ident

    def free(self) -> None:
        self.inner.free.set()
        for thread in self.threads:
            thread.join(TIMEOUT_S)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.free()


def test_what_hangs_is_not_waited_for_again_until_it_answers(bench: Bench) -> None:
    bench.hang(PACK, lambda: bench.storage.get_range(PACK, 10, 20))
    bench.patience.look(0)
    bench.patience.look(9.9)
    assert bench.storage.get_range(PACK, 15, 25) == bytes(10)  # not yet in vain
    bench.patience.look(10)
    with pytest.raises(StorageError, match=r"does not answer: still reading packs/ab/abcd from 10 to 20"):
        bench.storage.get_range(PACK, 15, 25)
    with pytest.raises(StorageError):
        bench.storage.get(PACK)
    assert bench.storage.get_range(PACK, 20, 30) == bytes(10)  # other bytes of the same pack
    with pytest.raises(KeyNotFoundError):
        bench.storage.get("packs/ab/other")
    bench.free()
    assert bench.storage.get_range(PACK, 15, 25) == bytes(10)
    assert not bench.patience.calls


def test_a_copy_that_hangs_keeps_nobody_from_reading(bench: Bench) -> None:
    """It may be the disk that is copied to."""
    wanted = [(ByteRange(10, 20), 0)]
    bench.hang(PACK, lambda: bench.storage.copy_ranges(PACK, wanted, -1))
    bench.patience.look(0)
    bench.patience.look(100)
    assert bench.storage.get_range(PACK, 15, 25) == bytes(10)


def test_nothing_is_copied_from_where_reading_is_in_vain(bench: Bench) -> None:
    assert bench.storage.copy_ranges(PACK, [(ByteRange(10, 20), 0)], -1)
    bench.hang(PACK, lambda: bench.storage.get_range(PACK, 10, 20))
    bench.patience.look(0)
    bench.patience.look(100)
    with pytest.raises(StorageError, match="does not answer"):
        bench.storage.copy_ranges(PACK, [(ByteRange(15, 25), 0)], -1)


def test_a_ref_is_given_up_earlier(bench: Bench) -> None:
    bench.hang(REF, lambda: bench.storage.get(REF))
    bench.patience.look(0)
    bench.patience.look(2)
    with pytest.raises(StorageError, match="still reading refs"):
        bench.storage.get(REF)


def test_who_is_given_up_says_what_it_waits_for(bench: Bench) -> None:
    index = WatchedIndex(MemoryIndex(), bench.patience)
    ids = [ChunkId.of(b"one"), ChunkId.of(b"two")]

    def read() -> object:
        index.find(ids)
        return bench.storage.get_range(PACK, 10, 20)

    thread = bench.hang(PACK, read)
    bench.patience.look(0)
    said = bench.patience.give_up(thread)
    assert said == f"reading packs/ab/abcd from 10 to 20 (chunk {ids[0].hex()} and 1 more)"
    bench.patience.look(1)
    with pytest.raises(StorageError):
        bench.storage.get_range(PACK, 0, 100)
    assert bench.patience.give_up(threading.get_ident()) == ""


def test_who_is_hasty_waits_for_nothing_while_something_is_in_vain(bench: Bench) -> None:
    thread = bench.hang(REF, lambda: bench.storage.get(REF))
    with bench.patience.hasty():
        assert bench.storage.get(PACK) == bytes(100)
    bench.patience.look(0)
    assert not bench.patience.is_in_vain(thread)
    bench.patience.look(2)
    assert bench.patience.is_in_vain(thread)
    with bench.patience.hasty(), pytest.raises(StorageError, match="no time"):
        bench.storage.get(PACK)
    assert bench.storage.get(PACK) == bytes(100)


def test_when_too_much_hangs_all_of_it_fails_at_once(bench: Bench) -> None:
    index = WatchedIndex(MemoryIndex(), bench.patience)
    bench.patience.is_exhausted = True
    for ask in (
        lambda: bench.storage.get(PACK),
        lambda: bench.storage.get_ranges(PACK, [ByteRange(0, 1)]),
        lambda: bench.storage.size(PACK),
        lambda: bench.storage.exists(PACK),
        lambda: list(bench.storage.list_keys("packs/")),
        lambda: bench.storage.list_names("packs/ab/"),
        lambda: bench.storage.list_folders("packs/"),
        lambda: index.find([ChunkId.of(b"x")]),
    ):
        with pytest.raises(StorageError, match="too many reads"):
            ask()
    bench.patience.is_exhausted = False
    assert bench.storage.get(PACK) == bytes(100)


def test_control_where_nobody_looks_nothing_is_in_vain(bench: Bench) -> None:
    bench.hang(PACK, lambda: bench.storage.get(PACK))
    assert bench.storage.get(PACK) == bytes(100)


def test_what_is_in_vain_is_not_prefetched(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ByteRange]] = []
    monkeypatch.setattr(bench.inner, "prefetch", lambda *words: asked.append(words))
    thread = bench.hang(PACK, lambda: bench.storage.get_range(PACK, 10, 20))
    bench.patience.give_up(thread)
    with pytest.raises(StorageError):
        bench.storage.prefetch(PACK, ByteRange(15, 25))
    bench.storage.prefetch(PACK, ByteRange(20, 30))
    assert asked == [(PACK, ByteRange(20, 30))]


def test_nobody_is_refused_what_is_being_prefetched(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Much more may be prefetched than anybody needs."""
    calls: list[object] = []
    monkeypatch.setattr(bench.inner, "prefetch", lambda *_: calls.extend(bench.patience.calls))
    bench.storage.prefetch(PACK, ByteRange(0, 100))
    assert calls == []
