"""Is what goes into a pack what comes out, fetched in few reads, and is a pack that is wrong in any place refused?"""

from __future__ import annotations

import itertools
import struct
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import CorruptDataError, InvalidInputError, MissingObjectError, StorageError, StorageFullError
from moorage.format.keys import pack_key
from moorage.format.stored import RAW, ZSTD, checksum, encode_stored
from moorage.model.digest import ChunkId, ObjectId, PackId, RecipeId, SnapshotId, TreeId
from moorage.model.objects import Codec, ObjectKind, PackEntry, PackLocation
from moorage.model.ranges import ByteRange
from moorage.packs import reader
from moorage.packs import reader as reader_module
from moorage.packs.reader import read_entries, read_footer, read_object, read_objects
from moorage.packs.writer import SAMPLE_EVERY, FinishedPack, PackWriter, StoredObject
from moorage.storage.memory import MemoryStorage
from tests.unit.native.backends import random_bytes
from tests.unit.wrapped import Wrapped

TYPES: dict[ObjectKind, type[ObjectId]] = {
    ObjectKind.CHUNK: ChunkId,
    ObjectKind.RECIPE: RecipeId,
    ObjectKind.TREE: TreeId,
    ObjectKind.SNAPSHOT: SnapshotId,
}


def stored(raw: bytes, kind: ObjectKind = ObjectKind.CHUNK, encoding: object = RAW) -> StoredObject:
    data = encode_stored(raw, kind, RAW if encoding is RAW else ZSTD, level=1)
    return StoredObject(kind, TYPES[kind].of(raw), data, len(raw))


def written(storage: Wrapped, objects: Sequence[StoredObject]) -> FinishedPack:
    with PackWriter(storage) as writer:
        for each in objects:
            writer.add(each)
        return writer.finish()


def places(pack: FinishedPack) -> list[tuple[ObjectId, PackLocation]]:
    return [(entry.id, location(pack.pack, entry)) for entry in pack.entries]


def location(pack: PackId, entry: PackEntry) -> PackLocation:
    return PackLocation(pack, entry.offset_bytes, entry.stored_bytes, entry.raw_bytes, entry.codec)


@pytest.fixture
def storage() -> Wrapped:
    return Wrapped(MemoryStorage())


# -- writing -----------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.binary(min_size=1, max_size=60), st.sampled_from(ObjectKind), st.sampled_from([RAW, ZSTD])),
        min_size=1,
        max_size=12,
    )
)
def test_what_goes_in_comes_out(contents: list[tuple[bytes, ObjectKind, object]]) -> None:
    storage = Wrapped(MemoryStorage())
    pack = written(storage, [stored(*content) for content in contents])
    assert storage.inner.size(pack_key(pack.pack)) == pack.size_bytes
    assert read_footer(storage, pack.pack) == pack.footer
    assert read_entries(storage, pack.pack) == list(pack.entries)
    assert read_objects(storage, places(pack)) == [raw for raw, _, _ in contents]


def test_an_entry_says_how_its_object_is_stored(storage: Wrapped) -> None:
    raws = [b"compressible " * 90, bytes(range(256))]
    pack = written(storage, [stored(raw, encoding=ZSTD) for raw in raws])
    assert [entry.codec for entry in pack.entries] == [Codec.ZSTD, Codec.RAW]
    assert [entry.raw_bytes for entry in pack.entries] == [len(raw) for raw in raws]
    data = storage.get(pack_key(pack.pack))
    for entry in pack.entries:
        assert data[entry.offset_bytes] == entry.codec
        assert data[entry.offset_bytes + 1] == entry.kind


def test_nothing_is_visible_before_it_is_finished(storage: Wrapped) -> None:
    with PackWriter(storage) as writer:
        for number in range(300):
            writer.add(stored(bytes([number % 256]) * 100_000))
        assert list(storage.inner.list_keys("")) == []
        assert len(storage.keys_of("write")) >= 5  # streamed out as it came
        assert len(writer) == 300


def test_left_unfinished_it_is_discarded(storage: Wrapped) -> None:
    with pytest.raises(RuntimeError), PackWriter(storage) as writer:
        writer.add(stored(b"a"))
        raise RuntimeError
    assert storage.keys_of("publish") == []
    assert "discard" in [what for what, _ in storage.done]


FLUSHED = 5 * 1024 * 1024
"""A stored object so long that it is written at once."""


def large(number: int) -> StoredObject:
    return stored(bytes([number]) * 3 + random_bytes("pack", FLUSHED))


def test_what_is_written_in_the_background_is_in_order() -> None:
    storage = Wrapped(MemoryStorage())
    objects = [large(number) if number % 3 else stored(b"%d" % number) for number in range(14)]
    pack = written(storage, objects)
    data = storage.get(pack_key(pack.pack))
    for each, entry in zip(objects, pack.entries, strict=True):
        assert data[entry.offset_bytes : entry.offset_bytes + entry.stored_bytes] == each.stored
    whats = [what for what, _ in storage.done]
    assert whats.index("publish") > max(at for at, what in enumerate(whats) if what == "write")


def test_adding_does_not_wait_for_the_disk() -> None:
    """Two writes may wait while a third is under way; only who adds more than that is held up."""
    go = threading.Event()

    def wait(what: str, key: str) -> None:
        if what == "write":
            go.wait(60)

    storage = Wrapped(MemoryStorage(), before=wait)
    with PackWriter(storage) as writer:
        for number in range(2):
            writer.add(large(number))
        assert storage.keys_of("write") == []
        go.set()
        pack = writer.finish()
    assert len(read_entries(storage, pack.pack)) == 2


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_write_that_fails_in_the_background_fails_the_pack(failing: int) -> None:
    """Whoever adds next or finishes is told, and nothing appears."""
    writes = itertools.count(1)

    def fail(what: str, key: str) -> None:
        if what == "write" and next(writes) == failing:
            raise StorageFullError("the disk is full")

    storage = Wrapped(MemoryStorage(), before=fail)
    with pytest.raises(StorageFullError), PackWriter(storage) as writer:
        for number in range(3):
            writer.add(large(number))
        writer.finish()
    assert storage.keys_of("publish") == []
    assert storage.done[-1][0] == "discard"


def test_what_is_discarded_is_not_written_to_any_more() -> None:
    under_way, go = threading.Event(), threading.Event()

    def slow(what: str, key: str) -> None:
        if what == "write":
            under_way.set()
            go.wait(60)

    storage = Wrapped(MemoryStorage(), before=slow)
    writer = PackWriter(storage)
    for number in range(2):
        writer.add(large(number))
    under_way.wait(60)
    threading.Timer(0, go.set).start()
    writer.discard()
    whats = [what for what, _ in storage.done]
    assert whats[-1] == "discard"
    assert whats.count("discard") == 1


def test_a_pack_holds_something(storage: Wrapped) -> None:
    with pytest.raises(InvalidInputError), PackWriter(storage) as writer:
        writer.finish()
    assert storage.keys_of("publish") == []


def test_the_same_objects_make_the_same_pack_once(storage: Wrapped) -> None:
    first, second = (written(storage, [stored(b"a"), stored(b"b")]) for _ in range(2))
    assert first.pack == second.pack
    assert len(list(storage.inner.list_keys(""))) == 1
    assert written(storage, [stored(b"b"), stored(b"a")]).pack != first.pack


def test_a_broken_encoder_is_found_on_a_sample(storage: Wrapped) -> None:
    """The first object of each pack, and one in so many after it, is decoded and hashed before it is taken."""
    good = stored(b"good")
    bad = StoredObject(ObjectKind.CHUNK, ChunkId.of(b"other"), good.stored, good.raw_bytes)
    lying = StoredObject(ObjectKind.CHUNK, good.id, good.stored, good.raw_bytes + 1)
    for wrong in (bad, lying):
        with PackWriter(storage) as writer, pytest.raises(CorruptDataError):
            writer.add(wrong)
    with PackWriter(storage) as writer:
        for number in range(SAMPLE_EVERY):
            writer.add(stored(b"%d" % number))
        with pytest.raises(CorruptDataError) as caught:
            writer.add(bad)
    assert caught.value.fields["id"] == bad.id.hex()


def test_between_samples_it_is_the_reader_who_finds_out(storage: Wrapped) -> None:
    good = stored(b"good")
    bad = StoredObject(ObjectKind.CHUNK, ChunkId.of(b"other"), good.stored, good.raw_bytes)
    pack = written(storage, [good, bad])
    with pytest.raises(CorruptDataError):
        read_objects(storage, places(pack))


# -- reading -----------------------------------------------------------------------------------------


def ranges_of(storage: Wrapped, wanted: Sequence[tuple[ObjectId, PackLocation]]) -> int:
    storage.done.clear()
    read_objects(storage, wanted)
    return len(storage.keys_of("get_ranges"))


def test_neighbours_are_fetched_together_in_any_order(storage: Wrapped) -> None:
    pack = written(storage, [stored(bytes([number]) * 1_000) for number in range(50)])
    assert ranges_of(storage, places(pack)) == 1
    assert ranges_of(storage, places(pack)[::-1]) == 1
    assert ranges_of(storage, places(pack)[::7] * 2) == 1


def test_what_is_far_apart_is_fetched_apart(storage: Wrapped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_GAP_BYTES", 1_000)
    pack = written(storage, [stored(bytes([number]) * 600) for number in range(40)])
    assert ranges_of(storage, places(pack)[::2]) == 1
    assert ranges_of(storage, places(pack)[::3]) == 14


def test_no_read_is_without_bound(storage: Wrapped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_MAX_READ_BYTES", 5_000)
    spans: list[ByteRange] = []
    pack = written(storage, [stored(bytes([number]) * 1_000) for number in range(20)] + [stored(b"x" * 9_000)])
    get_ranges = storage.inner.get_ranges

    def noted(key: str, asked: Sequence[ByteRange]) -> list[bytes]:
        spans.extend(asked)
        return get_ranges(key, asked)

    monkeypatch.setattr(storage.inner, "get_ranges", noted)
    assert len(read_objects(storage, places(pack))) == 21
    assert max(span.size_bytes for span in spans[:-1]) <= 5_000
    assert spans[-1].size_bytes > 9_000
    assert len(spans) == 6


def test_several_packs_at_once(storage: Wrapped) -> None:
    packs = [written(storage, [stored(b"%d/%d" % (n, m)) for m in range(3)]) for n in range(3)]
    wanted = [place for pack in packs for place in places(pack)][::-1]
    assert read_objects(storage, wanted) == [b"%d/%d" % (n, m) for n in (2, 1, 0) for m in (2, 1, 0)]
    assert ranges_of(storage, wanted) == 3
    assert read_objects(storage, []) == []


def replace(storage: Wrapped, pack: PackId, data: bytes) -> None:
    storage.inner.delete(pack_key(pack))
    storage.inner.create(pack_key(pack), data)


def test_what_is_stored_raw_is_not_taken_apart(storage: Wrapped, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is most of what is read where speed is wanted."""
    monkeypatch.delattr(reader_module, "decode_many")
    pack = written(storage, [stored(b"first object"), stored(b"second", ObjectKind.TREE)])
    assert read_objects(storage, places(pack)) == [b"first object", b"second"]


def test_every_flipped_bit_is_found_or_means_nothing(storage: Wrapped) -> None:
    """Of the objects when they are read, of footer and trailer when those are, of the magic by nobody's need.

    A few bits of a zstd frame mean nothing to its decoder: the right bytes come out. Their checksum is another all the
    same.
    """
    pack = written(storage, [stored(b"first object"), stored(b"second " * 20, ObjectKind.TREE, ZSTD)])
    data = storage.get(pack_key(pack.pack))
    right = read_objects(storage, places(pack))
    last = pack.entries[-1]
    end = last.offset_bytes + last.stored_bytes
    without_meaning = 0
    for bit in range(64, 8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        replace(storage, pack.pack, bytes(changed))
        if bit // 8 >= end:
            with pytest.raises(CorruptDataError):
                read_footer(storage, pack.pack)
            continue
        try:
            assert read_objects(storage, places(pack)) == right
        except CorruptDataError:
            continue
        without_meaning += 1
        assert any(
            checksum(bytes(changed[each.offset_bytes : each.offset_bytes + each.stored_bytes])) != each.checksum
            for each in pack.entries
        )
    assert without_meaning < 8


def test_every_other_length_is_found(storage: Wrapped) -> None:
    pack = written(storage, [stored(b"first object"), stored(b"second")])
    data = storage.get(pack_key(pack.pack))
    for changed in [*(data[:length] for length in range(len(data))), data + b"\0", data[:8] + b"\0" + data[8:]]:
        replace(storage, pack.pack, changed)
        with pytest.raises(CorruptDataError):
            read_footer(storage, pack.pack)
    replace(storage, pack.pack, data[:15])
    with pytest.raises(CorruptDataError) as caught:
        read_objects(storage, places(pack))
    assert caught.value.fields["pack"] == pack.pack.hex()


def test_a_pack_under_anothers_key_is_found(storage: Wrapped) -> None:
    pack, other = written(storage, [stored(b"a")]), written(storage, [stored(b"b")])
    replace(storage, pack.pack, storage.get(pack_key(other.pack)))
    with pytest.raises(CorruptDataError):
        read_footer(storage, pack.pack)
    with pytest.raises(CorruptDataError):
        read_objects(storage, places(pack))


def test_a_footer_that_claims_another_length(storage: Wrapped) -> None:
    pack = written(storage, [stored(b"a" * 200)])
    data = storage.get(pack_key(pack.pack))
    for length in (len(pack.footer) - 1, len(pack.footer) + 1, len(data), 2**40):
        replace(storage, pack.pack, data[:-48] + struct.pack("<Q", length) + data[-40:])
        with pytest.raises(CorruptDataError):
            read_footer(storage, pack.pack)


def test_a_pack_that_is_gone(storage: Wrapped) -> None:
    pack = written(storage, [stored(b"a")])
    storage.inner.delete(pack_key(pack.pack))
    with pytest.raises(MissingObjectError) as caught:
        read_footer(storage, pack.pack)
    assert caught.value.fields["pack"] == pack.pack.hex()
    with pytest.raises(MissingObjectError):
        read_object(storage, *places(pack)[0])


def test_a_storage_that_fails_is_said_with_the_pack(storage: Wrapped) -> None:
    pack = written(storage, [stored(b"a")])

    def fails(what: str, key: str) -> None:
        raise StorageError("the disk is gone")

    storage.before = fails
    with pytest.raises(StorageError) as caught:
        read_object(storage, *places(pack)[0])
    assert caught.value.fields["pack"] == pack.pack.hex()


@pytest.mark.parametrize("change", ["offset_bytes", "stored_bytes", "raw_bytes"])
def test_a_place_that_is_wrong_gives_no_wrong_bytes(storage: Wrapped, change: str) -> None:
    pack = written(storage, [stored(b"first"), stored(b"other")])
    for by in (-5, -1, 1, 5):
        (id, place), _ = places(pack)
        fields = {name: getattr(place, name) for name in PackLocation.__struct_fields__}
        fields[change] = max(0, fields[change] + by)
        with pytest.raises(CorruptDataError):
            read_object(storage, id, PackLocation(**fields))


def test_another_kind_of_object_in_its_place(storage: Wrapped) -> None:
    pack = written(storage, [stored(b"bytes", ObjectKind.TREE)])
    (_, place) = places(pack)[0]
    with pytest.raises(CorruptDataError):
        read_object(storage, ChunkId.of(b"bytes"), place)
