"""Do all indexes answer alike?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moorage.index.base import Index
from moorage.index.lmdb_index import LmdbIndex
from moorage.index.memory import MemoryIndex
from moorage.model.objects import ObjectKind
from tests.unit.index.made import entries, location, object_id, pack, pack_id, segment_id

MAKERS: dict[str, Callable[[Path], Index]] = {
    "lmdb": lambda folder: LmdbIndex(folder / "index"),
    "memory": lambda folder: MemoryIndex(),
}


@pytest.fixture(params=MAKERS)
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Index]:
    made = MAKERS[request.param](tmp_path)
    yield made
    made.close()


def test_a_new_index_knows_nothing(index: Index) -> None:
    assert index.find([object_id("a"), object_id("b", ObjectKind.TREE)]) == [None, None]
    assert index.find([]) == []
    assert (index.packs(), index.segments(), index.retired()) == (set(), set(), set())
    assert index.with_prefix(ObjectKind.CHUNK, "", 5) == []
    assert list(index.ids(ObjectKind.SNAPSHOT)) == []


def test_every_kind_is_found_where_it_lies(index: Index) -> None:
    ids = [object_id(f"object {number}", kind) for number in range(5) for kind in ObjectKind]
    index.add([pack("one", ids[:7]), pack("two", ids[7:])])
    expected = [location(pack_id("one"), entry) for entry in entries(ids[:7])]
    expected += [location(pack_id("two"), entry) for entry in entries(ids[7:])]
    assert index.find(ids) == expected
    assert index.find([ids[9], object_id("no"), ids[0]]) == [expected[9], None, expected[0]]


def test_kinds_are_apart(index: Index) -> None:
    index.add([pack("one", [object_id("same", ObjectKind.CHUNK)])])
    assert index.find([object_id("same", ObjectKind.TREE)]) == [None]


def test_an_object_of_two_packs_is_found_in_the_first(index: Index) -> None:
    index.add([pack("one", [object_id("a")])])
    index.add([pack("two", [object_id("b"), object_id("a")])])
    found = [place.pack if place else None for place in index.find([object_id("a"), object_id("b")])]
    assert found == [pack_id("one"), pack_id("two")]


def test_taking_in_twice_changes_nothing(index: Index) -> None:
    for _ in range(2):
        index.add([pack("one", [object_id("a")])], [segment_id("s")], [pack_id("old")])
    assert index.packs() == {pack_id("one")}
    assert index.segments() == {segment_id("s")}
    assert index.retired() == {pack_id("old")}


def test_what_was_taken_in_is_remembered(index: Index) -> None:
    index.add([pack("one", [object_id("a")])], [segment_id("s")])
    index.add([], [segment_id("t")], [pack_id("x"), pack_id("y")])
    assert index.packs() == {pack_id("one")}
    assert index.segments() == {segment_id("s"), segment_id("t")}
    assert index.retired() == {pack_id("x"), pack_id("y")}


def test_prefixes(index: Index) -> None:
    ids = sorted(object_id(number, ObjectKind.SNAPSHOT) for number in range(300))
    index.add([pack("one", ids), pack("two", [object_id(number) for number in range(300)])])
    for length in (1, 2, 3, 4, 63, 64):
        for id in ids[::50]:
            prefix = id.hex()[:length]
            expected = [bytes(other) for other in ids if other.hex().startswith(prefix)]
            assert index.with_prefix(ObjectKind.SNAPSHOT, prefix, 500) == expected
            assert index.with_prefix(ObjectKind.SNAPSHOT, prefix, 1) == expected[:1]
            assert index.with_prefix(ObjectKind.TREE, prefix, 1) == []


def test_ids_of_one_kind_in_order(index: Index) -> None:
    chunks = [object_id(number) for number in range(5_000)]
    trees = [object_id(number, ObjectKind.TREE) for number in range(10)]
    index.add([pack("one", chunks), pack("two", trees)])
    assert list(index.ids(ObjectKind.CHUNK)) == sorted(chunks)
    assert list(index.ids(ObjectKind.TREE)) == sorted(trees)
    assert list(index.ids(ObjectKind.SNAPSHOT)) == []


def test_while_ids_are_read_the_index_may_change(index: Index) -> None:
    index.add([pack("one", [object_id(number) for number in range(5_000)])])
    seen = 0
    for number, _ in enumerate(index.ids(ObjectKind.CHUNK)):
        if number % 1_000 == 0:
            index.add([pack(f"more {number}", [object_id(f"more {number}")])])
        seen += 1
    assert 5_000 <= seen <= 5_006


def test_clearing(index: Index) -> None:
    index.add([pack("one", [object_id("a")])], [segment_id("s")], [pack_id("old")])
    index.clear()
    assert index.find([object_id("a")]) == [None]
    assert (index.packs(), index.segments(), index.retired()) == (set(), set(), set())
    index.add([pack("two", [object_id("a")])])
    assert [place.pack if place else None for place in index.find([object_id("a")])] == [pack_id("two")]


def test_several_threads_at_once(index: Index) -> None:
    failures: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for number in range(20):
                ids = [object_id(f"{name}/{number}/{item}") for item in range(10)]
                index.add([pack(f"{name}/{number}", ids)])
                assert None not in index.find(ids)
        except BaseException as error:  # noqa: BLE001  # told to the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(index.packs()) == 80
