"""Is every range of a file what it was, and every file object what Python's own are?"""

from __future__ import annotations

import array
import io
import pickle
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.errors import CorruptDataError, FormatError, InvalidInputError, MissingObjectError, WrongKindError
from moorage.format.keys import pack_key
from moorage.format.recipe import encode_recipe
from moorage.format.stored import Bytes
from moorage.model.digest import ChunkId, ContentDigest, RecipeId, TreeId
from moorage.model.objects import PackLocation
from moorage.model.ranges import ByteRange
from moorage.model.recipe import Recipe
from moorage.model.tree import Entry, EntryKind
from moorage.read import file as file_module
from moorage.read import stream
from moorage.read.file import FileReader, open_file, part_of
from moorage.read.plan import ChunkSlice, slices_of
from moorage.repository.handle import RepositoryHandle
from tests.unit.native.backends import random_bytes
from tests.unit.repository.stores import in_memory, put_chunks
from tests.unit.versioning.build import leaf_entry

CONTENT = random_bytes("file", 40_000)
UNREPEATED = random.Random(1).randbytes(40_000)


def stored(data: bytes, chunk_bytes: int = 700) -> tuple[RepositoryHandle, Entry]:
    _, handle = in_memory()
    with handle.writer() as writer:
        entry = leaf_entry(writer, "model.bin", data, chunk_bytes)
        writer.finish()
    return handle, entry


@pytest.fixture(scope="module")
def file() -> tuple[RepositoryHandle, Entry]:
    return stored(CONTENT)


def tower(chunk_sizes: list[int], fan: int, levels: int) -> tuple[RepositoryHandle, Entry, bytes]:
    """A file whose recipes have this many levels, each of `fan` references."""
    _, handle = in_memory()
    raws = [random_bytes(f"tower {number}", size) for number, size in enumerate(chunk_sizes)]
    with handle.writer() as writer:
        ids: list[bytes] = list(put_chunks(writer, raws))
        sizes = list(chunk_sizes)
        for level in range(levels):
            step = fan if level < levels - 1 else len(ids)
            above: list[tuple[bytes, int]] = []
            for start in range(0, len(ids), step):
                some = sizes[start : start + step]
                raw = encode_recipe(Recipe(level, tuple(some), b"".join(ids[start : start + step])))
                writer.put(RecipeId.of(raw), raw)
                above.append((RecipeId.of(raw), sum(some)))
            ids, sizes = [id for id, _ in above], [size for _, size in above]
        writer.finish()
    content = b"".join(raws)
    entry = Entry("tower", EntryKind.FILE, ContentDigest.of(content), RecipeId(ids[0]), len(content), 0)
    return handle, entry, content


# -- where it lies -----------------------------------------------------------------------------------


def places_of(handle: RepositoryHandle, entry: Entry, start: int, stop: int) -> list[PackLocation]:
    return handle.locator.find([piece.id for piece in FileReader(handle, entry)._slices(start, stop)])


def holds(spans: list[tuple[str, ByteRange]], place: PackLocation) -> bool:
    """Whether all of an object is in one of them."""
    return any(
        key == pack_key(place.pack) and span.start <= place.offset_bytes and place.stop_bytes <= span.stop
        for key, span in spans
    )


@pytest.mark.parametrize(("offset", "size"), [(0, 1_000), (699, 3_000), (0, 3_500), (39_000, 5_000)])
def test_a_span_holds_what_will_be_read(offset: int, size: int) -> None:
    handle, entry = stored(UNREPEATED, 500)
    spans = FileReader(handle, entry).spans(offset, size)
    places = places_of(handle, entry, offset, min(offset + size, len(UNREPEATED)))
    assert all(holds(spans, place) for place in places)
    assert len(spans) == 1


def test_what_is_in_several_packs_has_a_span_in_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_module, "_LEAST_SPAN_BYTES", 2_000)
    handle, entry = stored(UNREPEATED, 500)
    spans = FileReader(handle, entry).spans(0, len(UNREPEATED))
    places = places_of(handle, entry, 0, len(UNREPEATED))
    assert {pack_key(place.pack) for place in places} == {key for key, _ in spans}
    # But for what is in the same small part as the end of a pack.
    assert sum(holds(spans, place) for place in places) > len(places) // 2


def test_what_lies_scattered_has_none() -> None:
    """What is between may be anything."""
    _, handle = in_memory()
    far = random.Random(2).randbytes(3_000)
    with handle.writer() as writer:
        for name, data in (("a", UNREPEATED[:200]), ("b", far), ("c", UNREPEATED[200:400])):
            leaf_entry(writer, name, data, 200)
        apart = leaf_entry(writer, "apart", UNREPEATED[:400], 200)
        backwards = leaf_entry(writer, "backwards", UNREPEATED[200:400] + UNREPEATED[:200], 200)
        writer.finish()
    assert [FileReader(handle, entry).spans(0, 400) for entry in (apart, backwards)] == [[], []]
    assert len(FileReader(handle, apart).spans(0, 200)) == 1


def test_what_no_pack_has_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    handle, entry = stored(UNREPEATED)
    monkeypatch.setattr(handle.locator, "lookup", lambda ids: [None] * len(ids))
    assert FileReader(handle, entry).spans(0, 3_000) == []


def test_a_span_is_prefetched_from_the_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    handle, entry = stored(UNREPEATED)
    asked: list[tuple[str, ByteRange]] = []
    monkeypatch.setattr(handle.storage, "prefetch", lambda *words: asked.append(words))
    reader = FileReader(handle, entry)
    (span,) = reader.spans(0, 3_000)
    reader.prefetch(span)
    assert asked == [span]


# -- ranges ------------------------------------------------------------------------------------------


@given(st.integers(0, 45_000), st.integers(0, 45_000))
def test_any_range(file: tuple[RepositoryHandle, Entry], offset: int, size: int) -> None:
    assert FileReader(*file).read_at(offset, size) == CONTENT[offset : offset + size]


@settings(max_examples=settings().max_examples // 2)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=30),
    st.integers(1, 4),
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 1_600), st.integers(0, 600)), min_size=1, max_size=6),
)
def test_any_range_through_recipes_of_any_level(
    chunk_sizes: list[int], fan: int, levels: int, ranges: list[tuple[int, int]]
) -> None:
    handle, entry, content = tower(chunk_sizes, fan, levels)
    reader = FileReader(handle, entry)
    for offset, size in ranges:
        assert reader.read_at(offset, size) == content[offset : offset + size]
    assert reader.read_at(0, len(content)) == content
    assert [size for _, size in reader.chunks()] == chunk_sizes


@given(st.lists(st.binary(max_size=5), max_size=6), st.integers(0, 30), st.integers(0, 30))
def test_part_of_parts(parts: list[bytes], start: int, stop: int) -> None:
    assert b"".join(part_of(parts, start, stop)) == b"".join(parts)[start:stop]


@pytest.mark.parametrize("data", [b"", b"1", b"one chunk"])
def test_files_without_a_recipe(data: bytes) -> None:
    handle, entry = stored(data)
    assert entry.object is None
    reader = FileReader(handle, entry)
    assert reader.read_at(0, 100) == data
    assert reader.read_at(1, 3) == data[1:4]
    assert [size for _, size in reader.chunks()] == ([len(data)] if data else [])


@pytest.mark.parametrize(("offset", "size"), [(-1, 5), (0, -1), (-5, -5)])
def test_ranges_that_are_none(file: tuple[RepositoryHandle, Entry], offset: int, size: int) -> None:
    with pytest.raises(InvalidInputError):
        FileReader(*file).read_at(offset, size)


def test_only_what_is_asked_for_is_fetched() -> None:
    handle, entry, _ = tower([100] * 64, 4, 3)
    storage = handle.storage
    reader = FileReader(handle, entry)
    reader.read_at(3_150, 10)
    handle.objects._chunks = type(handle.objects._chunks)(0)
    storage.done.clear()  # type: ignore[attr-defined]  # a wrapped one
    reader.read_at(3_150, 10)
    assert len(storage.done) == 1  # type: ignore[attr-defined]  # a wrapped one


def test_planning_is_pure_and_loads_only_what_it_touches() -> None:
    leaves = {RecipeId.of(b"%d" % n): Recipe(0, (10, 10), ChunkId.of(b"a") + ChunkId.of(b"b")) for n in range(5)}
    top = Recipe(1, (20,) * 5, b"".join(leaves))
    loaded: list[RecipeId] = []

    def load(id: RecipeId, size: int, level: int) -> Recipe:
        assert (size, level) == (20, 0)
        loaded.append(id)
        return leaves[id]

    slices = list(slices_of(top, 35, 62, load))
    assert loaded == list(leaves)[1:4]
    assert [(piece.start, piece.stop) for piece in slices] == [(5, 10), (0, 10), (0, 10), (0, 2)]
    assert slices[0] == ChunkSlice(ChunkId.of(b"b"), 10, 5, 10)


# -- what is wrong -----------------------------------------------------------------------------------


def test_what_is_no_file_is_not_opened() -> None:
    handle, _ = stored(b"x")
    for entry in (
        Entry("d", EntryKind.DIRECTORY, ContentDigest.of(b""), TreeId.of(b""), 0, 0),
        Entry("l", EntryKind.SYMLINK, ContentDigest.of(b"t"), None, 1, 0, target="t"),
    ):
        with pytest.raises(WrongKindError):
            FileReader(handle, entry)


def lying(change: Callable[[list[int], list[bytes]], None], level: int = 0) -> None:
    """A recipe that was tampered with before it was named is refused when its file is read."""
    _, handle = in_memory()
    raws = [b"first", b"second!"]
    with handle.writer() as writer:
        ids: list[bytes] = list(put_chunks(writer, raws))
        sizes = [5, 7]
        change(sizes, ids)
        raw = encode_recipe(Recipe(level, tuple(sizes), b"".join(ids)))
        writer.put(RecipeId.of(raw), raw)
        writer.finish()
    entry = Entry("f", EntryKind.FILE, ContentDigest.of(b"".join(raws)), RecipeId.of(raw), 12, 0)
    with pytest.raises((CorruptDataError, MissingObjectError, FormatError)):
        FileReader(handle, entry).read_at(0, 12)


def test_a_recipe_that_lies() -> None:
    lying(lambda sizes, ids: sizes.__setitem__(0, 6))
    lying(lambda sizes, ids: sizes.reverse())
    lying(lambda sizes, ids: ids.__setitem__(1, ChunkId.of(b"nowhere")))


def test_a_recipe_of_another_level_than_promised() -> None:
    _, handle = in_memory()
    with handle.writer() as writer:
        ids = put_chunks(writer, [b"first"])
        raw = encode_recipe(Recipe(0, (5,), ids[0]))
        writer.put(RecipeId.of(raw), raw)
        above = encode_recipe(Recipe(2, (5,), RecipeId.of(raw)))
        writer.put(RecipeId.of(above), above)
        writer.finish()
    entry = Entry("f", EntryKind.FILE, ContentDigest.of(b"first"), RecipeId.of(above), 5, 0)
    with pytest.raises(FormatError):
        FileReader(handle, entry).read_at(0, 5)


def test_a_recipe_of_itself_cannot_be_but_of_another_size_can() -> None:
    _, handle = in_memory()
    with handle.writer() as writer:
        ids = put_chunks(writer, [b"first"])
        raw = encode_recipe(Recipe(0, (5,), ids[0]))
        writer.put(RecipeId.of(raw), raw)
        writer.finish()
    for size in (4, 6, 2**62):
        entry = Entry("f", EntryKind.FILE, ContentDigest.of(b"first"), RecipeId.of(raw), size, 0)
        with pytest.raises(CorruptDataError):
            FileReader(handle, entry).read_at(0, 3)


# -- file objects ------------------------------------------------------------------------------------


def test_a_binary_file_is_like_any_other(file: tuple[RepositoryHandle, Entry]) -> None:
    with open_file(*file) as opened:
        assert opened.name == "model.bin"
        assert opened.mode == "rb"
        assert opened.readable()
        assert opened.seekable()
        assert not opened.writable()
        assert opened.read(10) == CONTENT[:10]
        assert opened.tell() == 10
        assert opened.seek(-5, io.SEEK_END) == 39_995
        assert opened.read() == CONTENT[-5:]
        assert opened.read() == b""
        assert opened.seek(100) == 100
        assert opened.seek(50, io.SEEK_CUR) == 150
        assert opened.read(3) == CONTENT[150:153]
        assert opened.seek(99_999) == 99_999
        assert opened.read(1) == b""
        opened.seek(0)
        buffer = bytearray(20_000)
        assert opened.readinto(buffer) == 20_000  # type: ignore[attr-defined]  # BinaryIO does not name it
        assert buffer == CONTENT[:20_000]
        with pytest.raises(OSError):
            opened.write(b"x")
        with pytest.raises(OSError):
            opened.fileno()
    assert opened.closed
    with pytest.raises(ValueError):
        opened.read()


@settings(max_examples=settings().max_examples // 2)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("read"), st.integers(-1, 3_000)),
            st.tuples(st.just("readline"), st.integers(-1, 500)),
            st.tuples(st.just("seek"), st.integers(0, 41_000)),
            st.tuples(st.just("read1"), st.integers(1, 2_000)),
            st.tuples(st.just("tell"), st.just(0)),
        ),
        max_size=15,
    )
)
def test_any_sequence_of_calls(file: tuple[RepositoryHandle, Entry], calls: list[tuple[str, int]]) -> None:
    ours, plain = open_file(*file), io.BytesIO(CONTENT)
    for name, argument in calls:
        if name == "read1":
            data = ours.read1(argument)  # type: ignore[attr-defined]  # as BufferedReader
            assert data == plain.read(len(data))
        elif name == "tell":
            assert ours.tell() == plain.tell()
        else:
            assert getattr(ours, name)(argument) == getattr(plain, name)(argument)


def test_raw_files_fill_any_buffer(file: tuple[RepositoryHandle, Entry]) -> None:
    opened = open_file(*file)
    raw = opened.raw  # type: ignore[attr-defined]  # as BufferedReader
    numbers = array.array("I", [0] * 25)
    assert raw.readinto(numbers) == 100
    assert numbers.tobytes() == CONTENT[:100]
    assert raw.tell() == 100
    assert raw.readall() == CONTENT[100:]
    for whence, offset in ((io.SEEK_SET, -1), (io.SEEK_END, -40_001), (9, 0)):
        with pytest.raises(ValueError):
            raw.seek(offset, whence)
    raw.close()
    for call in (raw.readall, lambda: raw.seek(0), lambda: raw.readinto(bytearray(1))):
        with pytest.raises(ValueError):
            call()


def test_text() -> None:
    handle, entry = stored("erste Zeile\r\nzweite \u00e9\n".encode())
    with open_file(handle, entry, "r") as text:
        assert text.read() == "erste Zeile\nzweite \u00e9\n"
        text.seek(0)
        assert list(text) == ["erste Zeile\n", "zweite \u00e9\n"]
    with open_file(handle, entry, "rt", newline="") as text:
        assert text.readline() == "erste Zeile\r\n"
    with open_file(handle, entry, "r", encoding="latin-1") as text:
        assert text.read().endswith("\u00c3\u00a9\n")
    with open_file(handle, entry, "r", encoding="ascii", errors="replace") as text:
        assert "\ufffd" in text.read()


@pytest.mark.parametrize("mode", ["w", "wb", "a", "r+", "rb+", "x", "", "br"])
def test_other_modes(file: tuple[RepositoryHandle, Entry], mode: str) -> None:
    with pytest.raises(InvalidInputError):
        open_file(*file, mode)


def test_pickles_load() -> None:
    value = {"weights": list(range(5_000)), "name": "model"}
    handle, entry = stored(pickle.dumps(value))
    with open_file(handle, entry) as opened:
        assert pickle.load(opened) == value


@pytest.mark.parametrize("mode", ["rb", "r"])
def test_who_waits_for_the_close_is_told_once(mode: str) -> None:
    handle, entry = stored(b"text")
    closed: list[int] = []
    opened = open_file(handle, entry, mode, on_close=lambda: closed.append(1))
    opened.close()
    opened.close()
    assert closed == [1]
    forgotten = open_file(handle, entry, mode, on_close=lambda: closed.append(2))
    forgotten.read()
    del forgotten
    assert closed == [1, 2]


# -- whole files, ahead of their reader ---------------------------------------------------------------


@pytest.mark.parametrize("piece_bytes", [1, 7, 5_000, 39_999, 40_000, 50_000])
def test_pieces_make_the_file(piece_bytes: int) -> None:
    data = CONTENT[:200] if piece_bytes < 10 else CONTENT
    pieces = list(stream.pieces(FileReader(*stored(data)), piece_bytes))
    assert b"".join(pieces) == data
    assert {len(piece) for piece in pieces[:-1]} <= {piece_bytes}


def test_an_empty_file_has_no_pieces() -> None:
    assert list(stream.pieces(FileReader(*stored(b"")))) == []


def test_pieces_may_be_left_unread() -> None:
    pieces = stream.pieces(FileReader(*stored(CONTENT)), 100)
    assert next(pieces) == CONTENT[:100]
    pieces.close()  # type: ignore[attr-defined]  # a generator


def damaged(number: int) -> tuple[FileReader, int]:
    """A reader of a file whose chunk of that number cannot be read, and where that chunk begins."""
    handle, entry = stored(CONTENT)
    chunks = list(FileReader(handle, entry).chunks())
    rotten, get = chunks[number][0], handle.objects.get_many

    def rotting(ids: list[ChunkId], places: list[PackLocation] | None = None) -> list[Bytes]:
        if rotten in ids:
            raise CorruptDataError("as if")
        return get(ids, places)

    handle.objects.get_many = rotting  # type: ignore[assignment,method-assign]  # a disk that rots
    return FileReader(handle, entry), sum(size for _, size in chunks[:number])


@pytest.mark.parametrize("piece_bytes", [7_000, 100_000])
@pytest.mark.parametrize("number", [0, 1, 30])
def test_of_a_damaged_file_all_before_the_damage_is_read(number: int, piece_bytes: int) -> None:
    reader, start = damaged(number)
    pieces, found = stream.pieces(reader, piece_bytes), bytearray()
    with pytest.raises(CorruptDataError):
        while True:
            found += next(pieces)
    assert found == CONTENT[:start]


@pytest.mark.parametrize("number", [0, 1, 30])
def test_a_file_object_gives_what_lies_before_the_damage_and_after_it(number: int) -> None:
    reader, start = damaged(number)
    size = list(reader.chunks())[number][1]
    with open_file(reader._handle, reader.entry) as file:
        assert isinstance(file, io.BufferedReader)
        found = b""
        with pytest.raises(CorruptDataError):
            while piece := file.read1(1000):
                found += piece
        assert found == CONTENT[:start]
        file.seek(start + size)
        assert file.read() == CONTENT[start + size :]
