"""Does a transaction store each object once, in the right order, and leave nothing behind when it fails?"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from moorage.errors import ConflictError, CorruptDataError, StorageFullError
from moorage.format.keys import pack_key, parse_pack_key
from moorage.format.pack import MAX_PACK_OBJECTS
from moorage.format.stored import RAW, ZSTD, encode_stored
from moorage.model.digest import ChunkId, ObjectId, RecipeId, SnapshotId, TreeId
from moorage.model.objects import ObjectKind
from moorage.packs import writer as packs_writer
from moorage.packs.reader import read_entries
from moorage.packs.writer import StoredObject
from moorage.repository import writer as writer_module
from moorage.repository.handle import RepositoryHandle
from moorage.repository.writer import ObjectWriter
from moorage.storage.local import LocalStorage
from tests.unit.repository.stores import TINY, in_memory, opened, put_chunks, stored_chunk
from tests.unit.wrapped import Step, Wrapped


def noise(name: str | int, size: int = 300) -> bytes:
    return (ChunkId.of(str(name).encode()) * (size // 32 + 1))[:size]


@pytest.fixture
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every transaction makes packs of data and of metadata, and a segment."""
    monkeypatch.setattr(writer_module, "SMALL_COMMIT_BYTES", 0)


def created(storage: Wrapped) -> list[str]:
    """The first part of each key, in the order in which they became durable."""
    return [key.split("/")[0] for key in storage.keys_of("create", "publish")]


def kinds_of_packs(storage: Wrapped) -> list[set[ObjectKind]]:
    """What each pack holds, in the order in which they became durable."""
    packs = [parse_pack_key(key) for key in storage.keys_of("publish")]
    return [{entry.kind for entry in read_entries(storage.inner, pack)} for pack in packs]


# -- claims ------------------------------------------------------------------------------------------


def test_each_object_is_asked_for_once() -> None:
    _, handle = in_memory()
    ids: list[ObjectId] = [ChunkId.of(b"a"), ChunkId.of(b"b"), ChunkId.of(b"a"), TreeId.of(b"a")]
    with handle.writer() as writer:
        assert writer.claim(ids) == [0, 1, 3]
        assert writer.claim(ids) == []
        assert writer.has(ids) == [False] * 4


def test_what_is_stored_is_not_asked_for() -> None:
    _, handle = in_memory()
    with handle.writer() as writer:
        ids = put_chunks(writer, [b"a", b"b"])
        writer.finish()
    for other in (handle, opened(handle.storage)):
        with other.writer() as writer:
            assert writer.has([*ids, ChunkId.of(b"c")]) == [True, True, False]
            assert writer.claim([ids[0], ChunkId.of(b"c"), ids[1], ids[0], ChunkId.of(b"c")]) == [1]


def test_a_discarded_transaction_has_stored_nothing() -> None:
    storage, handle = in_memory()
    with handle.writer() as writer:
        ids = put_chunks(writer, [b"a"])
        writer.put(TreeId.of(b"tree"), b"tree")
    assert created(storage) == []
    with handle.writer() as writer:
        assert writer.claim(ids) == [0]


def test_threads_share_what_there_is_to_do() -> None:
    _, handle = in_memory()
    raws = [noise(number) for number in range(200)]
    ids = [ChunkId.of(raw) for raw in raws]
    told: list[int] = []
    with handle.writer() as writer:

        def work() -> None:
            for start in range(0, 200, 10):
                mine = [start + position for position in writer.claim(ids[start : start + 10])]
                writer.add_chunks([stored_chunk(raws[position]) for position in mine])
                told.extend(mine)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stats = writer.finish()
    assert sorted(told) == list(range(200))
    assert (stats.new_chunks, stats.new_bytes) == (200, 200 * 300)
    assert handle.objects.get_many(ids) == raws


# -- order -------------------------------------------------------------------------------------------


def test_a_small_transaction_is_one_pack_and_no_segment() -> None:
    storage, handle = in_memory()
    with handle.writer() as writer:
        writer.put(TreeId.of(b"a tree"), b"a tree")
        put_chunks(writer, [b"a", b"b"])
        writer.put(SnapshotId.of(b"a snapshot"), b"a snapshot")
        stats = writer.finish()
    assert created(storage) == ["packs"]
    assert kinds_of_packs(storage) == [{ObjectKind.CHUNK, ObjectKind.TREE, ObjectKind.SNAPSHOT}]
    assert (stats.packs, stats.new_chunks, stats.new_bytes) == (1, 2, 2)
    assert stats.stored_bytes == storage.inner.size(storage.keys_of("publish")[0])


@pytest.mark.usefixtures("_large")
def test_data_is_durable_before_metadata_and_that_before_the_segment() -> None:
    storage, handle = in_memory()
    with handle.writer() as writer:
        writer.put(RecipeId.of(b"a recipe"), b"a recipe")
        put_chunks(writer, [noise(number) for number in range(40)])
        writer.put(TreeId.of(b"a tree"), b"a tree")
        stats = writer.finish()
    assert created(storage) == ["packs"] * (stats.packs) + ["index"]
    kinds = kinds_of_packs(storage)
    assert len(kinds) >= 4
    assert kinds[:-1] == [{ObjectKind.CHUNK}] * (len(kinds) - 1)
    assert kinds[-1] == {ObjectKind.RECIPE, ObjectKind.TREE}
    sizes = [storage.inner.size(key) for key in storage.keys_of("publish", "create")]
    assert stats.stored_bytes == sum(sizes)


def test_a_transaction_that_grows_is_not_small() -> None:
    storage, handle = in_memory()
    with handle.writer() as writer:
        put_chunks(writer, [noise(number, 1_000) for number in range(10)])
        writer.put(TreeId.of(b"a tree"), b"a tree")
        writer.finish()
    assert created(storage) == ["packs"] * 3 + ["index"]


def test_much_metadata_goes_out_while_data_comes_in() -> None:
    storage, handle = in_memory()
    raw = noise("metadata", 600_000)
    with handle.writer() as writer:
        for number in range(4):
            writer.put(RecipeId.of(raw + bytes([number])), raw + bytes([number]))
        writer.finish()
    assert created(storage)[-1] == "index"
    with opened(storage).writer() as writer:
        assert writer.claim([RecipeId.of(raw + bytes([number])) for number in range(4)]) == []


def test_nothing_new_writes_nothing() -> None:
    storage, handle = in_memory()
    stats = []
    for _ in range(2):
        with handle.writer() as writer:
            put_chunks(writer, [b"a"])
            writer.put(TreeId.of(b"a tree"), b"a tree")
            stats.append(writer.finish())
    assert created(storage) == ["packs"]
    assert (stats[1].packs, stats[1].stored_bytes, stats[1].new_chunks) == (0, 0, 0)


def test_what_is_referred_to_is_confirmed_at_the_end() -> None:
    storage, handle = in_memory()
    with handle.writer() as writer:
        ids = put_chunks(writer, [b"a"])
        writer.finish()
    (pack,) = storage.keys_of("publish")
    storage.done.clear()
    with handle.writer() as writer:
        writer.claim(ids)
        put_chunks(writer, [b"b"])
        writer.finish()
    assert pack in storage.keys_of("confirm")
    assert storage.done.index(("confirm", pack)) > storage.done.index(("publish", storage.keys_of("publish")[0]))


def test_a_pack_that_vanishes_meanwhile_is_a_conflict() -> None:
    storage, handle = in_memory()
    with handle.writer() as writer:
        ids = put_chunks(writer, [b"a"])
        writer.finish()
    (pack,) = storage.keys_of("publish")
    with handle.writer() as writer:
        assert writer.claim(ids) == []
        storage.inner.delete(pack)
        with pytest.raises(ConflictError):
            writer.finish()


# -- bounds ------------------------------------------------------------------------------------------


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_PUBLISH_OBJECTS", 30)
    storage, handle = in_memory()
    most = 0
    with handle.writer() as writer:
        for number in range(300):
            put_chunks(writer, [noise(number)])
            most = max(most, len(writer._pending))
        writer.finish()
    segments = [position for position, part in enumerate(created(storage)) if part == "index"]
    assert len(segments) > 5
    assert most < 120
    assert writer._pending == set()
    assert handle.objects.get_many([ChunkId.of(noise(number)) for number in range(300)])


def test_an_object_is_asked_for_once_also_after_its_pack_was_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_PUBLISH_OBJECTS", 10)
    _, handle = in_memory()
    with handle.writer() as writer:
        for number in range(100):
            put_chunks(writer, [noise(number)])
        assert writer.claim([ChunkId.of(noise(number)) for number in range(100)]) == []
        assert writer.finish().new_chunks == 100


def test_a_pack_holds_no_more_objects_than_a_footer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs_writer, "MAX_PACK_OBJECTS", 5)
    storage, handle = in_memory()
    with handle.writer() as writer:
        put_chunks(writer, [bytes([number]) for number in range(23)])
        for number in range(13):
            writer.put(TreeId.of(bytes([number])), bytes([number]))
        writer.finish()
    counts = [len(read_entries(storage.inner, parse_pack_key(key))) for key in storage.keys_of("publish")]
    assert max(counts) <= 5
    assert sum(counts) == 36
    assert MAX_PACK_OBJECTS == 65_536


# -- metadata ----------------------------------------------------------------------------------------


def test_every_kind_comes_back(subtests: pytest.Subtests) -> None:
    _, handle = in_memory()
    raws: list[tuple[ObjectId, bytes]] = [
        (kind.of(b"some bytes " * 9), b"some bytes " * 9) for kind in (RecipeId, TreeId, SnapshotId)
    ]
    with handle.writer() as writer:
        for id, raw in raws:
            writer.put(id, raw)
        chunk = writer.put_chunk(b"some bytes " * 9)
        assert writer.put_chunk(b"some bytes " * 9) == chunk
        assert writer.finish().new_chunks == 1
    for id, raw in [*raws, (chunk, b"some bytes " * 9)]:
        with subtests.test(kind=type(id).__name__):
            assert handle.objects.get(id) == raw


# -- failures ----------------------------------------------------------------------------------------


@pytest.fixture
def on_disk(tmp_path: Path) -> tuple[Wrapped, RepositoryHandle, Path]:
    root = tmp_path / "store"
    with RepositoryHandle.create(root, TINY):
        pass
    storage = Wrapped(LocalStorage(root))
    return storage, opened(storage), root


def failing(what: str, at: int) -> Step:
    left = [at]

    def step(found: str, key: str) -> None:
        if found == what:
            left[0] -= 1
            if left[0] == 0:
                raise StorageFullError("no space left")

    return step


@pytest.mark.parametrize(
    ("what", "at"), [(what, at) for what in ("upload", "write", "publish") for at in (1, 2, 3)] + [("create", 1)]
)
def test_a_failure_is_said_and_leaves_no_file_behind(
    what: str, at: int, on_disk: tuple[Wrapped, RepositoryHandle, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "SMALL_COMMIT_BYTES", 0)
    storage, handle, root = on_disk
    storage.before = failing(what, at)
    with pytest.raises(StorageFullError), handle.writer() as writer:
        put_chunks(writer, [noise(number) for number in range(40)])
        writer.put(TreeId.of(b"a tree"), b"a tree")
        writer.finish()
    assert list((root / "tmp").iterdir()) == []
    storage.before = lambda what, key: None
    with handle.writer() as writer:
        ids = put_chunks(writer, [noise(number) for number in range(40)])
        writer.finish()
    assert len(handle.objects.get_many(ids)) == 40


def test_a_packs_worth_of_failures_is_said_while_more_is_added(
    on_disk: tuple[Wrapped, RepositoryHandle, Path],
) -> None:
    storage, handle, root = on_disk

    def always(what: str, key: str) -> None:
        if what == "publish":
            raise StorageFullError("no space left")

    storage.before = always
    with pytest.raises(StorageFullError), handle.writer() as writer:
        for number in range(10_000):
            put_chunks(writer, [noise(number)])
    assert list((root / "tmp").iterdir()) == []


def test_a_broken_encoder_is_noticed_before_anything_is_published() -> None:
    storage, handle = in_memory()
    good = stored_chunk(b"what was read")
    bad = StoredObject(ObjectKind.CHUNK, ChunkId.of(b"what was hashed"), good.stored, good.raw_bytes)
    with pytest.raises(CorruptDataError), handle.writer() as writer:
        writer.claim([bad.id])
        writer.add_chunks([bad])
        writer.finish()
    assert created(storage) == []


def test_the_same_pack_written_twice_at_once_is_written_once() -> None:
    storage, handle = in_memory()
    other = opened(storage.inner)
    with handle.writer() as writer, other.writer() as rival:
        for each in (writer, rival):
            put_chunks(each, [b"a", b"b"])
        rival.finish()
        writer.finish()
    assert len(list(storage.inner.list_keys("packs/"))) == 1
    assert handle.objects.get(ChunkId.of(b"a")) == b"a"


@pytest.mark.usefixtures("_large")
def test_the_same_segment_written_twice_at_once_is_written_once() -> None:
    storage, handle = in_memory()
    other = opened(storage.inner)
    with handle.writer() as writer, other.writer() as rival:
        for each in (writer, rival):
            put_chunks(each, [b"a", b"b"])
        rival.finish()
        writer.finish()
    assert len(list(storage.inner.list_keys("index/"))) == 1


def test_a_compressible_object_is_stored_compressed() -> None:
    storage, handle = in_memory()
    raw = b"compressible " * 500
    with handle.writer() as writer:
        writer.put_chunk(raw)
        stats = writer.finish()
    assert stats.stored_bytes < len(raw) // 4
    stored = encode_stored(raw, ObjectKind.CHUNK, ZSTD, level=1)
    assert len(stored) < len(encode_stored(raw, ObjectKind.CHUNK, RAW, level=1))
    (key,) = storage.keys_of("publish")
    assert pack_key(parse_pack_key(key)) == key


def test_the_writer_is_a_context_manager_that_discards() -> None:
    storage, handle = in_memory()
    with pytest.raises(RuntimeError), handle.writer() as writer:
        assert isinstance(writer, ObjectWriter)
        put_chunks(writer, [noise(number) for number in range(30)])
        raise RuntimeError
    assert "index" not in created(storage)
    assert writer._data is None
