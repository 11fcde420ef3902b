"""Is every object found, whatever has happened to the index, the segments and the packs?"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import pytest

from moorage.errors import MissingObjectError, NewerFormatError, StorageError
from moorage.format.keys import pack_key, parse_pack_key, segment_key
from moorage.format.pack import decode_footer
from moorage.format.segment import decode_segment, encode_segment
from moorage.index.base import IndexDamaged, IndexUnwritable
from moorage.index.memory import MemoryIndex
from moorage.model.digest import ChunkId, ObjectId, PackId, SegmentId
from moorage.model.objects import ObjectKind, PackEntry, PackLocation
from moorage.packs.reader import read_entries, read_footer
from moorage.repository import locator as locator_module
from moorage.repository import writer as writer_module
from moorage.repository.handle import RepositoryHandle
from moorage.storage.base import Storage
from tests.unit.repository.stores import in_memory, opened, put_chunks
from tests.unit.wrapped import Wrapped

RAWS = [bytes([number]) * 100 for number in range(20)]
IDS: list[ObjectId] = [ChunkId.of(raw) for raw in RAWS]


@pytest.fixture(params=["segments", "footers"])
def filled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Wrapped:
    """A storage with a few packs, listed by a segment or found by their footers."""
    if request.param == "segments":
        monkeypatch.setattr(writer_module, "SMALL_COMMIT_BYTES", 0)
    storage, handle = in_memory()
    for half in (RAWS[:10], RAWS[10:]):
        with handle.writer() as writer:
            put_chunks(writer, half)
            writer.finish()
    return storage


def packs_of(storage: Wrapped) -> list[PackId]:
    return sorted(parse_pack_key(info.key) for info in storage.inner.list_keys("packs/"))


def segments_of(storage: Wrapped) -> list[str]:
    return sorted(info.key for info in storage.inner.list_keys("index/"))


class Counting(MemoryIndex):
    """Counts how often it is built anew."""

    def __init__(self) -> None:
        super().__init__()
        self.cleared = 0

    def clear(self) -> None:
        self.cleared += 1
        super().clear()


# -- reading -----------------------------------------------------------------------------------------


def test_a_miss_takes_in_what_is_new(filled: Wrapped) -> None:
    index = Counting()
    locator = opened(filled, index=index).locator
    assert locator.lookup(IDS) == [None] * 20
    found = locator.find(IDS)
    assert {place.pack for place in found} == set(packs_of(filled))
    assert index.cleared == 0
    assert locator.lookup(IDS) == found


def test_what_is_known_costs_nothing(filled: Wrapped) -> None:
    locator = opened(filled).locator
    locator.find(IDS)
    filled.done.clear()
    locator.find(IDS)
    assert filled.done == []


def test_with_segments_no_footer_is_fetched(filled: Wrapped) -> None:
    locator = opened(filled).locator
    locator.refresh()
    fetched = {key for key in filled.keys_of("get_ranges") if key.startswith("packs/")}
    assert len(fetched) == (0 if segments_of(filled) else len(packs_of(filled)))


def test_what_another_process_writes_is_found(filled: Wrapped) -> None:
    reader, writer_handle = opened(filled), opened(filled)
    reader.locator.find(IDS)
    with writer_handle.writer() as writer:
        (late,) = put_chunks(writer, [b"late"])
        writer.finish()
    assert reader.locator.find([late])[0].raw_bytes == 4


def test_what_is_in_no_pack_is_missing_and_costs_one_rebuilding(filled: Wrapped) -> None:
    index = Counting()
    locator = opened(filled, index=index).locator
    nowhere = ChunkId.of(b"nowhere")
    with pytest.raises(MissingObjectError) as caught:
        locator.find([IDS[0], nowhere])
    for _ in range(3):
        with pytest.raises(MissingObjectError):
            locator.find([nowhere])
    assert caught.value.fields == {"id": nowhere.hex(), "object_kind": "chunk"}
    assert index.cleared == 1
    with opened(filled).writer() as writer:
        put_chunks(writer, [b"nowhere"])
        writer.finish()
    assert locator.find([nowhere])[0].raw_bytes == 7


def test_an_index_that_lacks_something_is_built_anew(filled: Wrapped) -> None:
    index = Counting()
    locator = opened(filled, index=index).locator
    locator.find(IDS)
    del index._places[(ObjectKind.CHUNK, IDS[3])]
    assert len(locator.find(IDS)) == 20
    assert index.cleared == 1


def test_a_pack_that_is_gone_means_building_anew(filled: Wrapped) -> None:
    index = Counting()
    handle = opened(filled, index=index)
    handle.locator.find(IDS)
    gone = handle.locator.find(IDS[:1])[0].pack
    filled.delete(pack_key(gone))
    handle.locator.refresh()
    assert index.cleared == 1
    assert gone not in index.packs()
    with pytest.raises(MissingObjectError):
        handle.locator.find(IDS[:1])


def test_when_all_is_gone_the_index_stays_for_when_it_is_back(
    filled: Wrapped, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that is not mounted looks empty."""
    index = Counting()
    locator = opened(filled, index=index).locator
    places = locator.find(IDS)
    cleared = index.cleared
    kept = {info.key: filled.inner.get(info.key) for info in filled.inner.list_keys("")}
    for key in kept:
        filled.inner.delete(key)
    with pytest.raises(MissingObjectError):
        locator.find([ChunkId.of(b"new")])
    assert locator.find(IDS) == places
    assert index.cleared == cleared
    assert "not one pack is there any more" in caplog.text
    for key, data in kept.items():
        filled.inner.create(key, data)
    assert locator.find(IDS) == places


def test_a_segment_that_is_gone_means_building_anew_and_loses_nothing(filled: Wrapped) -> None:
    index = Counting()
    locator = opened(filled, index=index).locator
    before = locator.find(IDS)
    for key in segments_of(filled):
        filled.delete(key)
    locator.refresh()
    assert index.cleared == (1 if filled.keys_of("delete") else 0)
    assert sorted(locator.find(IDS), key=repr) == sorted(before, key=repr)


def test_a_damaged_segment_is_passed_over(filled: Wrapped, caplog: pytest.LogCaptureFixture) -> None:
    keys = segments_of(filled)
    for key in keys:
        data = bytearray(filled.get(key))
        data[-1] ^= 1
        filled.delete(key)
        filled.create(key, bytes(data))
    with caplog.at_level(logging.WARNING):
        assert None not in opened(filled).locator.find(IDS)
    assert sum("damaged" in record.getMessage() for record in caplog.records) == len(keys)


def test_a_damaged_pack_hides_only_its_own_objects(filled: Wrapped) -> None:
    for key in segments_of(filled):
        filled.delete(key)
    damaged = packs_of(filled)[0]
    lost = {entry.id for entry in decode_entries(filled, damaged)}
    data = bytearray(filled.get(pack_key(damaged)))
    data[-20] ^= 1
    filled.delete(pack_key(damaged))
    filled.create(pack_key(damaged), bytes(data))
    locator = opened(filled).locator
    assert None not in locator.find([id for id in IDS if id not in lost])
    with pytest.raises(MissingObjectError):
        locator.find(sorted(lost)[:1])


def decode_entries(storage: Wrapped, pack: PackId) -> Sequence[PackEntry]:
    return decode_footer(read_footer(storage.inner, pack), pack=pack)


def test_what_is_no_pack_and_no_segment_is_ignored(filled: Wrapped) -> None:
    for key in ("packs/readme.txt", "packs/aa/bb", "index/readme", "index/" + "A" * 64):
        filled.create(key, b"?")
    assert None not in opened(filled).locator.find(IDS)


def test_a_segment_of_a_newer_version_is_said(filled: Wrapped) -> None:
    data = bytearray(encode_segment([]))
    data[8] = 2
    filled.create(segment_key(SegmentId.of(data)), bytes(data))
    with pytest.raises(NewerFormatError):
        opened(filled).locator.find(IDS)


def test_storage_that_fails_is_said(filled: Wrapped) -> None:
    def fails(what: str, key: str) -> None:
        if what == "list":
            raise StorageError("the disk is gone")

    locator = opened(filled).locator
    filled.before = fails
    with pytest.raises(StorageError):
        locator.find(IDS)
    filled.before = lambda what, key: None
    assert None not in locator.find(IDS)


def test_a_large_index_is_built_in_batches(filled: Wrapped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locator_module, "_BATCH_OBJECTS", 3)
    index = MemoryIndex()
    batches: list[int] = []
    add = index.add

    def counted(packs: Sequence[tuple[PackId, Sequence[object]]], *rest: Sequence[object]) -> None:
        batches.append(sum(len(entries) for _, entries in packs))
        add(packs, *rest)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(index, "add", counted)
    assert None not in opened(filled, index=index).locator.find(IDS)
    assert len(batches) >= 2
    assert sum(batches) == 20


def test_whether_a_pack_agrees_with_the_index(filled: Wrapped) -> None:
    locator = opened(filled).locator
    first, second = locator.find(IDS[:2])
    assert locator.confirms([(IDS[0], first), (IDS[1], second)])
    assert not locator.confirms([(IDS[0], second)])
    assert not locator.confirms([(IDS[1], second), (ChunkId.of(b"other"), first)])
    filled.delete(pack_key(first.pack))
    assert not locator.confirms([(IDS[0], first)])


def test_a_footer_is_read_once_for_all_that_it_is_asked(filled: Wrapped, monkeypatch: pytest.MonkeyPatch) -> None:
    locator = opened(filled).locator
    wanted = list(zip(IDS, locator.find(IDS), strict=True))
    read: list[PackId] = []

    def counted(storage: Storage, pack: PackId) -> list[PackEntry]:
        read.append(pack)
        return read_entries(storage, pack)

    monkeypatch.setattr(locator_module, "read_entries", counted)
    for _ in range(3):
        assert locator.confirms(wanted)
    assert len(read) == len(set(read)) == len({location.pack for _, location in wanted})


def test_another_process_that_was_quick_is_no_reason_to_build_anew(filled: Wrapped) -> None:
    """What it adds to the shared index after we have listed must not look like a pack that is gone."""
    index = Counting()
    reader, other = opened(filled, index=index), opened(filled.inner, index=index)
    reader.locator.refresh()
    left = [True]

    def meanwhile(what: str, key: str) -> None:
        if left[0] and (what, key) == ("list", "packs/"):
            left[0] = False
            with other.writer() as writer:
                put_chunks(writer, [b"quick"])
                writer.finish()

    filled.after = meanwhile
    reader.locator.refresh()
    assert index.cleared == 0
    filled.after = lambda what, key: None
    reader.locator.refresh()
    assert index.cleared == 0


# -- an index that breaks ---------------------------------------------------------------------------


class Breaking(MemoryIndex):
    """Damaged, or full, as often as it is told."""

    def __init__(self, damaged: int = 0, unwritable: int = 0) -> None:
        super().__init__()
        self.damaged, self.unwritable = damaged, unwritable
        self.is_closed = False

    def find(self, ids: Sequence[ObjectId]) -> list[PackLocation | None]:
        if self.damaged:
            self.damaged -= 1
            raise IndexDamaged("as if")
        return super().find(ids)

    def with_prefix(self, kind: ObjectKind, hex_prefix: str, limit: int) -> list[bytes]:
        self.find([])
        return super().with_prefix(kind, hex_prefix, limit)

    def add(self, *what: Sequence[object]) -> None:  # type: ignore[override]  # handed on as it came
        if self.unwritable:
            self.unwritable -= 1
            raise IndexUnwritable("as if")
        super().add(*what)  # type: ignore[arg-type]  # handed on as it came

    def close(self) -> None:
        self.is_closed = True


ASKS: dict[str, Callable[[RepositoryHandle], bool]] = {
    "find": lambda handle: None not in handle.locator.find(IDS),
    "prefix": lambda handle: handle.locator.with_prefix(ObjectKind.CHUNK, IDS[5].hex()) == [bytes(IDS[5])],
}


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("damaged", [1, 2, 3, 100])
def test_a_damaged_index_is_built_anew_or_left_alone(filled: Wrapped, damaged: int, ask: str) -> None:
    index = Breaking()
    handle = opened(filled, index=index)
    handle.locator.refresh()
    index.damaged = damaged
    assert ASKS[ask](handle)
    handle.close()
    assert index.is_closed


@pytest.mark.parametrize("unwritable", [1, 2, 100])
def test_a_full_disk_under_the_index_stops_nobody(filled: Wrapped, unwritable: int) -> None:
    index = Breaking(unwritable=unwritable)
    handle = opened(filled, index=index)
    assert None not in handle.locator.find(IDS)
    with handle.writer() as writer:
        (late,) = put_chunks(writer, [b"late"])
        writer.finish()
    assert handle.objects.get(late) == b"late"


def test_an_index_that_fills_up_during_a_commit_stops_nobody(filled: Wrapped) -> None:
    index = Breaking()
    handle = opened(filled, index=index)
    with handle.writer() as writer:
        (late,) = put_chunks(writer, [b"late"])
        index.unwritable = 100
        writer.finish()
    assert handle.objects.get(late) == b"late"
    assert None not in handle.locator.find(IDS)


# -- writing -----------------------------------------------------------------------------------------


def retire(storage: Wrapped, pack: PackId) -> None:
    data = encode_segment([read_footer(storage.inner, pack)], retired=[pack])
    storage.create(segment_key(SegmentId.of(data)), data)


@pytest.mark.parametrize("knows_the_segment", [False, True])
def test_a_retired_pack_is_read_but_never_referred_to(filled: Wrapped, knows_the_segment: bool) -> None:
    """Also by a process that finds the segment in the index of the one before."""
    pack = packs_of(filled)[0]
    retire(filled, pack)
    index = MemoryIndex()
    if knows_the_segment:
        opened(filled, index=index).locator.refresh()
    handle = opened(filled, index=index)
    inside = [id for id, place in zip(IDS, handle.locator.find(IDS), strict=True) if place.pack == pack]
    assert inside
    assert handle.objects.get_many(inside)
    with handle.writer() as writer:
        assert not handle.locator.may_reuse(pack)
        assert writer.has(inside) == [False] * len(inside)
        assert writer.claim(inside) == list(range(len(inside)))
    others = [id for id in IDS if id not in inside]
    with handle.writer() as writer:
        assert writer.claim(others) == []


def test_a_pack_that_is_gone_is_not_referred_to(filled: Wrapped) -> None:
    handle = opened(filled)
    with handle.writer() as writer:
        place = handle.locator.find(IDS[:1])[0]
        filled.delete(pack_key(place.pack))
        assert writer.claim(IDS[:1]) == [0]


def test_segments_say_what_the_packs_say(filled: Wrapped) -> None:
    listed = {}
    for key in segments_of(filled):
        segment = decode_segment(filled.get(key), segment=SegmentId.parse(key.removeprefix("index/")))
        listed.update({pack: segment.entries(number) for number, (pack, _) in enumerate(segment.packs)})
    for pack, entries in listed.items():
        assert entries == decode_entries(filled, pack)
    assert not segments_of(filled) or set(listed) == set(packs_of(filled))
