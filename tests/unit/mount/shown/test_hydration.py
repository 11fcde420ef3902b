"""When is a file assembled, when not, and does whoever reads it notice nothing?"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.mount.shown import hydration as hydration_module
from moorage.mount.shown.hydration import Hydration
from moorage.read import assembly, pieces
from moorage.read.assembly import Assembly
from moorage.read.hydrate import hydrate
from tests.unit.read.caches import MIB, Store, noise

BIG = noise(8 * MIB + 77)
FILES = {"big": BIG, "same": BIG, "small": noise(MIB // 2, 1), "other": noise(2 * MIB, 2)}
STEP = 128 * 1024


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path, FILES)
    yield made
    made.handle.close()


@pytest.fixture
def hydration(store: Store) -> Iterator[Hydration]:
    made = Hydration(store.handle, store.cache)
    yield made
    made.close()


def finish(hydration: Hydration) -> None:
    """Have everything that was asked for assembled."""
    if hydration._thread is not None:
        hydration._waiting.put(None)
        hydration._thread.join(60)
        hydration._thread = None


def read(reader: hydration_module.HydratingReader, start: int, stop: int) -> bytes:
    return b"".join(reader.read_at(offset, STEP) for offset in range(start, stop, STEP))


def test_who_reads_in_a_row_has_it_assembled(store: Store, hydration: Hydration) -> None:
    with_file = hydration.open(store.entry("big"))
    assert with_file.hydrated() is None
    assert read(with_file, 0, len(BIG)) == BIG
    finish(hydration)
    assert store.names() == store.short("big")
    assert with_file.hydrated() is not None
    assert read(with_file, 0, len(BIG)) == BIG
    with_file.close()
    assert hydration._contents == {}
    again = hydration.open(store.entry("same"))
    assert again.hydrated() is not None
    again.close()


def test_who_jumps_about_has_not(store: Store, hydration: Hydration) -> None:
    reader = hydration.open(store.entry("big"))
    for offset in range(len(BIG) - 4096, 0, -MIB):
        assert reader.read_at(offset, 4096) == BIG[offset : offset + 4096]
    finish(hydration)
    reader.close()
    assert store.names() == []


def test_who_jumps_about_long_enough_has(store: Store, hydration: Hydration) -> None:
    reader = hydration.open(store.entry("big"))
    for _ in range(2):
        for offset in range(7 * MIB, 0, -MIB):
            reader.read_at(offset, STEP * 2)
    finish(hydration)
    reader.close()
    assert store.names() == store.short("big")


def test_a_small_file_stays_as_it_is(store: Store, hydration: Hydration) -> None:
    reader = hydration.open(store.entry("small"))
    for _ in range(5):
        assert read(reader, 0, MIB // 2) == FILES["small"]
    finish(hydration)
    reader.close()
    assert store.names() == []


def test_a_file_larger_than_the_cache_stays_as_it_is(store: Store, hydration: Hydration) -> None:
    store.cache.limit_bytes = MIB
    reader = hydration.open(store.entry("big"))
    assert read(reader, 0, len(BIG)) == BIG
    finish(hydration)
    reader.close()
    assert hydration._waiting.empty()
    assert store.names() == []


def test_without_a_cache_bytes_are_the_same(store: Store) -> None:
    hydration = Hydration(store.handle, None)
    reader = hydration.open(store.entry("big"))
    assert read(reader, 0, len(BIG)) == BIG
    reader.close()
    hydration.close()
    assert store.names() == []


def test_it_is_dropped_when_the_last_reader_leaves_early(
    store: Store, hydration: Hydration, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = hydration.open(store.entry("big"))
    run = Assembly.run

    def leaving(self: Assembly, *arguments: object, **options: object) -> bool:
        reader.close()
        return run(self, *arguments, **options)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(Assembly, "run", leaving)
    read(reader, 0, 3 * MIB)
    finish(hydration)
    assert store.names() == []
    assert hydration._contents == {}


def test_a_large_file_is_finished_when_its_last_reader_leaves(
    store: Store, hydration: Hydration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when he has been quiet for so long: the next file waits for the same thread."""
    monkeypatch.setattr(assembly, "LEAST_LATER_BYTES", 0)
    for name in ("QUIET_S", "MOST_QUIET_WAIT_S"):
        monkeypatch.setattr(pieces, name, 600.0)
    one, other = hydration.open(store.entry("big")), hydration.open(store.entry("same"))
    assert read(one, 0, len(BIG)) == BIG
    one.close()
    assert store.names() == [] or store.names()[0].endswith(".part")
    other.close()
    finish(hydration)
    assert store.names() == store.short("big")


def test_a_file_changed_under_us_is_dropped_and_made_anew(store: Store, hydration: Hydration) -> None:
    hydrate(store.handle, store.cache, store.entry("big")).close()
    reader = hydration.open(store.entry("big"))
    file = reader.hydrated()
    assert file is not None
    file.path.chmod(0o644)
    with open(file.path, "r+b") as opened:
        opened.write(b"damage")
    assert read(reader, 0, len(BIG)) == BIG  # which is enough to have it made anew
    finish(hydration)
    made = reader.hydrated()
    assert made is not None
    assert made.seen != file.seen
    assert made.read_at(0, len(BIG)) == BIG
    reader.close()


def test_what_cannot_be_assembled_is_left_for_a_while(
    store: Store, hydration: Hydration, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hydration_module, "try_hydrate", full)
    reader = hydration.open(store.entry("big"))
    assert read(reader, 0, len(BIG)) == BIG
    finish(hydration)
    assert "reads go on from chunks" in caplog.text
    assert read(reader, 0, len(BIG)) == BIG
    assert hydration._waiting.empty()
    reader.close()


def test_a_long_queue_takes_no_more(store: Store, hydration: Hydration) -> None:
    hydration._waiting = queue.Queue(1)
    hydration._waiting.put(None)
    hydration._is_closing = False
    reader = hydration.open(store.entry("big"))
    assert read(reader, 0, len(BIG)) == BIG
    assert hydration._thread is None
    reader.close()
    assert hydration._contents == {}
