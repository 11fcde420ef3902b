"""Recipes, trees, snapshots, packs and segments: what only a closer look shows."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import CorruptDataError, FormatError, InvalidInputError, NewerFormatError
from moorage.format.pack import (
    MAX_FOOTER_BYTES,
    MAX_PACK_OBJECTS,
    MIN_PACK_BYTES,
    data_end,
    decode_footer,
    decode_trailer,
    encode_footer,
    encode_trailer,
)
from moorage.format.recipe import decode_recipe, encode_recipe, ends_run
from moorage.format.segment import decode_segment, encode_segment
from moorage.format.snapshot import canonical_json, decode_snapshot, encode_snapshot
from moorage.format.tree import decode_tree, directory_digest, encode_fork, encode_tree, split_points
from moorage.model.digest import ChunkId, ContentDigest, PackId, RecipeId, SegmentId, SnapshotId, TreeId
from moorage.model.objects import Codec, ObjectKind, PackEntry
from moorage.model.recipe import Recipe
from moorage.model.snapshot import Snapshot
from moorage.model.tree import Entry, EntryKind, Tree, TreeFork, TreeSpan
from tests.unit.format.values import TREES, entries, footers

# -- recipes -----------------------------------------------------------------------------------------


def reference(zero_bits: int) -> bytes:
    return (1 << (255 - zero_bits)).to_bytes(32, "big")


@pytest.mark.parametrize(
    ("length", "zero_bits", "ends"),
    [
        (1, 12, False),
        (1_023, 200, False),
        (1_024, 11, False),
        (1_024, 12, True),
        (1_024, 13, True),
        (5_000, 11, False),
        (8_191, 11, False),
        (8_192, 0, True),
    ],
)
def test_where_a_run_of_references_ends(length: int, zero_bits: int, ends: bool) -> None:
    assert ends_run(length, reference(zero_bits)) is ends


def test_an_empty_run_does_not_end() -> None:
    assert not ends_run(0, None)


def test_sizes_that_no_file_can_have() -> None:
    huge = struct.pack("<B3xI2Q", 1, 2, 2**63, 2**63) + bytes(64)
    with pytest.raises(FormatError):
        decode_recipe(huge)
    assert decode_recipe(struct.pack("<B3xIQ", 1, 1, 2**63 - 1) + bytes(32)).size_bytes == 2**63 - 1


@pytest.mark.parametrize("size", [0, 16 * 1024 * 1024 + 1])
def test_sizes_that_no_chunk_can_have(size: int) -> None:
    with pytest.raises(FormatError):
        decode_recipe(struct.pack("<B3xII", 0, 1, size) + bytes(32))


@pytest.mark.parametrize("level", [9, 255])
def test_a_recipe_that_is_too_deep(level: int) -> None:
    with pytest.raises(FormatError):
        decode_recipe(struct.pack("<B3xIQ", level, 1, 5) + bytes(32))


def test_padding_is_zero() -> None:
    data = bytearray(encode_recipe(Recipe(0, (5,), bytes(32))))
    for place in (1, 2, 3):
        data[place] = 1
        with pytest.raises(FormatError):
            decode_recipe(bytes(data))
        data[place] = 0
    assert decode_recipe(bytes(data)).sizes == (5,)


# -- trees -------------------------------------------------------------------------------------------

FILE = Entry("model.pkl", EntryKind.FILE, ContentDigest.of(b"x"), None, 1, 7)


def digest_of(*found: Entry) -> ContentDigest:
    return directory_digest(found)


def test_a_directory_is_its_names_and_contents() -> None:
    """The definition, written once more."""
    link = Entry("link", EntryKind.SYMLINK, ContentDigest.of(b"to"), None, 2, 1, target="to")
    hasher = blake3(derive_key_context="moorage 2026-11 directory digest v1")
    for entry in (link, FILE):
        row = (entry.name, int(entry.kind), bytes(entry.digest), entry.size_bytes, entry.executable, entry.target)
        hasher.update(msgspec.msgpack.encode(row))
    assert digest_of(link, FILE) == hasher.digest()


def test_neither_times_nor_how_it_is_stored_matter() -> None:
    later = Entry("model.pkl", EntryKind.FILE, FILE.digest, RecipeId.of(b"r"), 1, 8)
    assert digest_of(later) == digest_of(FILE)


@pytest.mark.parametrize(
    "changed",
    [
        Entry("model.pk1", EntryKind.FILE, FILE.digest, None, 1, 7),
        Entry("model.pkl", EntryKind.FILE, ContentDigest.of(b"y"), None, 1, 7),
        Entry("model.pkl", EntryKind.FILE, FILE.digest, None, 2, 7),
        Entry("model.pkl", EntryKind.FILE, FILE.digest, None, 1, 7, executable=True),
        Entry("model.pkl", EntryKind.DIRECTORY, FILE.digest, TreeId.of(b"x"), 1, 7),
        Entry("model.pkl", EntryKind.SYMLINK, FILE.digest, None, 1, 7, target="x"),
    ],
)
def test_everything_else_matters(changed: Entry) -> None:
    assert digest_of(changed) != digest_of(FILE)


@given(TREES)
def test_a_directory_is_no_file(tree: Tree) -> None:
    encoded = b"".join(
        msgspec.msgpack.encode((e.name, int(e.kind), bytes(e.digest), e.size_bytes, e.executable, e.target))
        for e in tree
    )
    assert directory_digest(tree) != ContentDigest.of(encoded)


@given(st.lists(entries(), min_size=2, max_size=5, unique_by=lambda entry: entry.name))
def test_order_is_that_of_raw_utf8(found: list[Entry]) -> None:
    tree = Tree.of(found)
    names = [entry.name for entry in decode_tree(encode_tree(tree)).entries]  # type: ignore[union-attr]  # level 0
    assert names == sorted((entry.name for entry in found), key=lambda name: name.encode())


def test_utf8_and_utf16_sort_differently() -> None:
    tree = Tree.of([Entry(name, EntryKind.FILE, FILE.digest, None, 1, 7) for name in ("\U00010000", "\uffff")])
    assert [entry.name for entry in tree] == ["\uffff", "\U00010000"]


def packed(*rows: list[Any], level: int = 0) -> bytes:
    return msgspec.msgpack.encode([level, list(rows)])


def row(**changes: object) -> list[object]:
    fields: dict[str, object] = {
        "name": "a",
        "kind": 1,
        "digest": bytes(32),
        "object": b"",
        "size_bytes": 1,
        "first_stored_ns": 1,
        "executable": False,
        "target": "",
        **changes,
    }
    return list(fields.values())


@pytest.mark.parametrize(
    "data",
    [
        packed(row(name="")),
        packed(row(name="a/b")),
        packed(row(name="..")),
        packed(row(name="x" * 256)),
        packed(row(digest=bytes(31))),
        packed(row(object=bytes(31))),
        packed(row(size_bytes=-1)),
        packed(row(size_bytes=2**63)),
        packed(row(first_stored_ns=2**63)),
        packed(row(kind=2)),
        packed(row(kind=2, object=bytes(32), executable=True)),
        packed(row(kind=3)),
        packed(row(kind=3, target="a\0b")),
        packed(row(kind=3, target="x" * 4096)),
        packed(row(target="x")),
        packed(row(size_bytes=0, object=bytes(32))),
        packed(row()[:7]),
        packed([*row(), 1]),
        packed(row(name="b"), row(name="a")),
        packed(row(name="a"), row(name="a")),
        packed(*[row(name=f"{number:05d}") for number in range(8_193)]),
        packed(level=1),
        packed(["a", 0, bytes(32)], level=1),
        packed(["a", 1, bytes(31)], level=1),
        packed(["a", 1, bytes(32)], level=5),
        packed(["b", 1, bytes(32)], ["a", 1, bytes(32)], level=1),
        msgspec.msgpack.encode([0]),
        msgspec.msgpack.encode({"level": 0}),
        packed(row()) + b"\0",
        packed(row())[:-1],
        b"\x92\xcc\x00\x90",
        b"\x92\x00\xdc\x00\x00",
    ],
    ids=range(32),
)
def test_what_is_no_tree(data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        decode_tree(data)
    assert not isinstance(caught.value, NewerFormatError)


def test_the_control_of_the_above() -> None:
    assert decode_tree(packed(row())) == Tree((Entry("a", EntryKind.FILE, ContentDigest(bytes(32)), None, 1, 1),))
    fork = decode_tree(packed(["a", 1, bytes(32)], level=1))
    assert fork == TreeFork(1, (TreeSpan("a", 1, TreeId(bytes(32))),))
    assert encode_fork(fork) == packed(["a", 1, bytes(32)], level=1)


def test_a_kind_of_entry_that_is_newer() -> None:
    with pytest.raises(NewerFormatError):
        decode_tree(packed(row(kind=4)))


@given(st.lists(st.text("abcdef", min_size=1, max_size=6), max_size=30))
def test_splitting_covers_every_name(names: list[str]) -> None:
    ends = split_points(names)
    assert ends == sorted(set(ends))
    assert (ends[-1] if ends else 0) == len(names)


def test_splitting_depends_on_names_near_the_cut_only() -> None:
    names = [f"name-{number}" for number in range(60_000)]
    ends = split_points(names)
    lengths = [stop - start for start, stop in zip([0, *ends[:-1]], ends, strict=True)]
    assert all(1_024 <= length <= 8_192 for length in lengths[:-1])
    shifted = ["0", *names]
    again = {shifted[end - 1] for end in split_points(shifted)}
    assert len({names[end - 1] for end in ends} & again) >= len(ends) - 2


# -- snapshots ---------------------------------------------------------------------------------------


def snapshot(**changes: Any) -> Snapshot:
    fields: dict[str, Any] = {
        "tree": TreeId.of(b"t"),
        "digest": ContentDigest.of(b"d"),
        "size_bytes": 5,
        "parents": (),
        "author": "ada",
        "time_ns": 6,
        "message": "why",
        **changes,
    }
    return Snapshot(**fields)


def test_the_id_of_a_snapshot_is_pinned() -> None:
    made = snapshot(parents=(SnapshotId.of(b"p"),), metadata={"b": [1, 0.5], "a": None})
    assert (
        SnapshotId.of(encode_snapshot(made)).hex() == "5eef44a05badef9903c72e749977ab56d73208fee0da561c6e07e626941fbed2"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "{}"),
        ({"b": 1, "a": 2}, '{"a":2,"b":1}'),
        ({"\U00010000": 1, "\uffff": 2, "B": 3, "a": 4}, '{"B":3,"a":4,"\uffff":2,"\U00010000":1}'),
        ({"x": {"b": 1, "a": [{"d": 1, "c": 2}]}}, '{"x":{"a":[{"c":2,"d":1}],"b":1}}'),
        (
            {"x": [0, -1, 2**63, 2**70, True, False, None]},
            '{"x":[0,-1,9223372036854775808,1180591620717411303424,true,false,null]}',
        ),
        ({"x": [0.1, 1.0, -0.0, 100.0, 1e-5, 1.5e15]}, '{"x":[0.1,1.0,-0.0,100.0,0.00001,1500000000000000.0]}'),
        ({"x": [1e-6, 1.23e-6, 1e16, 1.5e16, 1e22, 5e-324]}, '{"x":[1e-6,1.23e-6,1e16,1.5e16,1e22,5e-324]}'),
        ({"x": 1.7976931348623157e308}, '{"x":1.7976931348623157e308}'),
        (
            {"x": '\0\b\t\n\x0b\f\r\x1f"\\/\x7f\u2028\u00e9'},
            '{"x":"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\\"\\\\/\x7f\u2028\u00e9"}',
        ),
    ],
    ids=range(9),
)
def test_canonical_json_is_pinned(value: dict[str, Any], text: str) -> None:
    """Another form of the same number, by another version of a library, would make old snapshots unreadable."""
    assert canonical_json(value) == text
    assert decode_snapshot(encode_snapshot(snapshot(metadata=value))).metadata == value


def nested(depth: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(depth - 1):
        value = [value]
    return {"a": value}


@pytest.mark.parametrize(
    "value",
    [
        {"a": float("nan")},
        {"a": float("inf")},
        {1: "a"},
        {"a": (1, 2)},
        {"a": {1, 2}},
        {"a": b"bytes"},
        {"a": object()},
        {"a": "\udc80"},
        {"\udc80": 1},
        nested(65),
        nested(5_000),
    ],
    ids=range(11),
)
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError):
        canonical_json(value)


def test_nesting_up_to_the_limit() -> None:
    made = snapshot(metadata=nested(64))
    assert decode_snapshot(encode_snapshot(made)) == made


def wire(*changes: tuple[int, object]) -> bytes:
    fields: list[object] = [1, bytes(32), bytes(32), 5, [], "ada", 6, "why", "{}"]
    for position, value in changes:
        fields[position] = value
    return msgspec.msgpack.encode(fields)


@pytest.mark.parametrize(
    "data",
    [
        wire((0, 0)),
        wire((1, bytes(31))),
        wire((3, -1)),
        wire((3, 2**63)),
        wire((4, [bytes(32)] * 2)),
        wire((4, [bytes(31)])),
        wire((4, [bytes([n]) * 32 for n in range(3)])),
        wire((6, 2**63)),
        wire((8, "")),
        wire((8, "[]")),
        wire((8, '{"a": 1}')),
        wire((8, '{"b":1,"a":1}')),
        wire((8, '{"a":1.50}')),
        wire((8, '{"a":1,"a":1}')),
        wire((8, '{"a":"\\u0061"}')),
        wire((8, "[" * 3_000)),
        wire((8, '{"a":' * 3_000)),
        wire()[:-1],
        wire() + b"\0",
        b"",
        b"\x99",
        msgspec.msgpack.encode([1]),
    ],
    ids=range(22),
)
def test_what_is_no_snapshot(data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        decode_snapshot(data)
    assert not isinstance(caught.value, NewerFormatError)


@pytest.mark.parametrize("data", [wire((0, 2)), msgspec.msgpack.encode([2]), msgspec.msgpack.encode([127, {"a": 1}])])
def test_a_newer_snapshot(data: bytes) -> None:
    with pytest.raises(NewerFormatError):
        decode_snapshot(data)


# -- packs -------------------------------------------------------------------------------------------


def entry(number: int, offset: int, stored: int = 20) -> PackEntry:
    return PackEntry(ObjectKind.CHUNK, ChunkId.of(b"%d" % number), offset, stored, 5, Codec.RAW, number)


def test_a_pack_has_something_in_it_and_not_too_much() -> None:
    for count in (0, MAX_PACK_OBJECTS + 1):
        with pytest.raises(InvalidInputError):
            encode_footer([entry(0, 8)] * count)
    footer = encode_footer([entry(number, 8 + 20 * number) for number in range(MAX_PACK_OBJECTS)])
    assert len(footer) == MAX_FOOTER_BYTES
    assert len(decode_footer(footer, pack=PackId.of(footer))) == MAX_PACK_OBJECTS


@given(footers())
def test_a_footer_proves_itself(found: list[PackEntry]) -> None:
    footer = encode_footer(found)
    with pytest.raises(CorruptDataError):
        decode_footer(footer, pack=PackId.of(b"another"))
    decoded = decode_footer(footer, pack=PackId.of(footer))
    assert decoded == found
    assert data_end(decoded) == found[-1].offset_bytes + found[-1].stored_bytes
    trailer = encode_trailer(footer)
    assert decode_trailer(trailer, pack=PackId.of(footer)) == len(footer)
    assert len(footer) + len(trailer) + 8 + sum(each.stored_bytes for each in found) >= MIN_PACK_BYTES - 1


@pytest.mark.parametrize(
    "footer",
    [
        encode_footer([entry(0, 9)]),
        encode_footer([entry(0, 8), entry(1, 27)]),
        encode_footer([entry(0, 8), entry(1, 29)]),
        encode_footer([entry(1, 28), entry(0, 8)]),
        encode_footer([entry(0, 8)]) + b"\0",
        encode_footer([entry(0, 8)])[:-1],
        encode_footer([entry(0, 8)])[:-1] + b"\1",
        b"MOORFOOT" + struct.pack("<II", 1, 0),
        b"MOORFOOT" + struct.pack("<II", 1, 2**32 - 1),
        b"MOORFOOT" + struct.pack("<II", 0, 1) + encode_footer([entry(0, 8)])[16:],
        b"MOORFEET" + encode_footer([entry(0, 8)])[8:],
        b"MOOR",
        b"",
    ],
    ids=range(13),
)
def test_what_is_no_footer(footer: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        decode_footer(footer, pack=PackId.of(footer))
    assert not isinstance(caught.value, NewerFormatError)


@pytest.mark.parametrize(("place", "value"), [(8, 2), (16 + 56, 5), (16 + 56, 0), (16 + 57, 5), (16 + 57, 16)])
def test_a_newer_footer(place: int, value: int) -> None:
    footer = bytearray(encode_footer([entry(0, 8)]))
    footer[place] = value
    with pytest.raises(NewerFormatError):
        decode_footer(bytes(footer), pack=PackId.of(footer))


@pytest.mark.parametrize("length", [0, 16, MAX_FOOTER_BYTES + 1, 2**63])
def test_a_trailer_with_an_impossible_length(length: int) -> None:
    pack = PackId.of(b"p")
    with pytest.raises(CorruptDataError):
        decode_trailer(struct.pack("<Q32s8s", length, pack, b"MOORTAIL"), pack=pack)


def test_a_trailer_of_another_pack() -> None:
    footer = encode_footer([entry(0, 8)])
    with pytest.raises(CorruptDataError):
        decode_trailer(encode_trailer(footer), pack=PackId.of(b"another"))
    with pytest.raises(CorruptDataError):
        decode_trailer(encode_trailer(footer)[:-1] + b"!", pack=PackId.of(footer))


# -- segments ----------------------------------------------------------------------------------------

FOOTERS = [encode_footer([entry(number, 8)]) for number in range(4)]
SEGMENTS = [SegmentId.of(b"%d" % number) for number in range(3)]
PACKS = [PackId.of(b"%d" % number) for number in range(3)]


def test_order_and_repetition_do_not_matter() -> None:
    data = encode_segment(FOOTERS, SEGMENTS, PACKS)
    assert encode_segment(FOOTERS[::-1] * 2, SEGMENTS[::-1] * 2, PACKS[::-1] * 2) == data
    decoded = decode_segment(data, segment=SegmentId.of(data))
    assert decoded.supersedes == tuple(sorted(SEGMENTS))
    assert decoded.retired == tuple(sorted(PACKS))
    assert {footer for _, footer in decoded.packs} == set(FOOTERS)
    for position, (pack, footer) in enumerate(decoded.packs):
        assert decoded.entries(position) == decode_footer(footer, pack=pack)


def crafted(ids: list[bytes], footers: list[bytes], counts: tuple[int, int, int], version: int = 1) -> bytes:
    parts = [struct.pack("<8sIIII", b"MOORSEGM", version, *counts), *ids]
    for footer in footers:
        parts += [struct.pack("<I", len(footer)), footer]
    return b"".join(parts)


TWO = sorted(SEGMENTS)[:2]


@pytest.mark.parametrize(
    "data",
    [
        crafted([TWO[1], TWO[0]], [], (2, 0, 0)),
        crafted([TWO[0], TWO[0]], [], (2, 0, 0)),
        crafted([TWO[0], TWO[0]], [], (0, 2, 0)),
        crafted([], [FOOTERS[0]] * 2, (0, 0, 2)),
        crafted([], sorted(FOOTERS[:2], key=PackId.of)[::-1], (0, 0, 2)),
        crafted([], FOOTERS[:1], (0, 0, 2)),
        crafted([], FOOTERS[:1], (0, 0, 0)),
        crafted([], [], (2**32 - 1, 0, 0)),
        crafted([], [], (0, 0, 2**32 - 1)),
        crafted([], [], (0, 0, 1)) + struct.pack("<I", 2**32 - 1),
        crafted([], [], (0, 0, 0), version=0),
        encode_segment([]) + b"\0",
        b"MOORPACK" + encode_segment([])[8:],
        b"",
    ],
    ids=range(14),
)
def test_what_is_no_segment(data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        decode_segment(data, segment=SegmentId.of(data))
    assert not isinstance(caught.value, NewerFormatError)


def test_a_segment_proves_itself() -> None:
    data = encode_segment(FOOTERS)
    with pytest.raises(CorruptDataError):
        decode_segment(data, segment=SegmentId.of(b"another"))
    with pytest.raises(CorruptDataError):
        decode_segment(data[:-1], segment=SegmentId.of(data))


def test_a_newer_segment() -> None:
    data = crafted([], [], (0, 0, 0), version=2)
    with pytest.raises(NewerFormatError):
        decode_segment(data, segment=SegmentId.of(data))
