"""Can no value exist that no repository can hold?"""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import InvalidInputError
from moorage.model.config import ChunkingParams, RepositoryConfig
from moorage.model.digest import ChunkId, ContentDigest, Digest, RecipeId, SnapshotId, TreeId
from moorage.model.objects import KIND_OF_ID, Codec, ObjectKind, PackEntry, PackLocation
from moorage.model.ranges import ByteRange
from moorage.model.recipe import MAX_REFERENCES, Recipe
from moorage.model.refs import RefAction, RefKind, RefName, RefRecord
from moorage.model.snapshot import Snapshot
from moorage.model.tree import Entry, EntryKind, Tree, TreeFork, TreeSpan
from tests.unit.format.values import FORKS, TREES, digests, recipes

# -- digests -----------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_a_digest_is_blake3(data: bytes) -> None:
    found = ChunkId.of(data)
    assert found == blake3(data).digest()
    assert ChunkId.parse(found.hex()) == ChunkId.parse(found.hex().upper()) == found
    assert str(found) == found.hex()
    assert repr(found) == f"ChunkId({found.hex()[:12]})"
    assert found.short == found.hex()[:12]
    assert pickle.loads(pickle.dumps(found)) == found
    assert type(pickle.loads(pickle.dumps(found))) is ChunkId
    assert hash(found) == hash(bytes(found))


@pytest.mark.parametrize("raw", [b"", bytes(31), bytes(33)])
def test_a_digest_has_32_bytes(raw: bytes) -> None:
    with pytest.raises(InvalidInputError):
        Digest(raw)


@pytest.mark.parametrize(
    "text", ["", "00", "0" * 63, "0" * 65, "g" * 64, "0 " * 32, " " + "0" * 63, "\uff10" * 64, "0x" + "0" * 62]
)
def test_what_is_no_digest(text: str) -> None:
    with pytest.raises(InvalidInputError):
        SnapshotId.parse(text)


def test_each_kind_of_object_has_its_type_of_id() -> None:
    assert sorted(KIND_OF_ID.values()) == sorted(ObjectKind)
    assert {kind.is_metadata for kind in ObjectKind if kind is not ObjectKind.CHUNK} == {True}
    assert not ObjectKind.CHUNK.is_metadata


# -- ranges, places ----------------------------------------------------------------------------------


def test_ranges() -> None:
    assert ByteRange(3, 3).size_bytes == 0
    assert ByteRange(3, 10).size_bytes == 7
    for start, stop in ((-1, 2), (3, 2)):
        with pytest.raises(InvalidInputError):
            ByteRange(start, stop)


@pytest.mark.parametrize(("offset", "stored", "raw"), [(-1, 1, 1), (0, 0, 1), (0, 1, 0)])
def test_impossible_places_in_a_pack(offset: int, stored: int, raw: int) -> None:
    with pytest.raises(InvalidInputError):
        PackEntry(ObjectKind.CHUNK, ChunkId.of(b""), offset, stored, raw, Codec.RAW, 0)


def test_where_an_object_ends() -> None:
    assert PackLocation(ChunkId.of(b""), 8, 30, 5, Codec.RAW).stop_bytes == 38  # type: ignore[arg-type]  # any digest


# -- recipes -----------------------------------------------------------------------------------------


@given(recipes(), st.data())
def test_the_reference_at_an_offset(recipe: Recipe, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, recipe.size_bytes - 1))
    position = recipe.find(offset)
    assert recipe.start(position) <= offset < recipe.start(position) + recipe.sizes[position]
    assert recipe.size_bytes == sum(recipe.sizes)
    assert recipe.start(0) == 0
    assert len(recipe) == len(recipe.sizes)
    raw_id = recipe.ids[32 * position : 32 * position + 32]
    assert (bytes(recipe.chunk(position)), bytes(recipe.child(position))) == (raw_id, raw_id)
    assert [size for _, size in recipe.chunks()] == list(recipe.sizes)


@pytest.mark.parametrize(
    ("level", "sizes", "id_bytes"),
    [
        (-1, (1,), 32),
        (9, (1,), 32),
        (0, (), 0),
        (0, (1,) * (MAX_REFERENCES + 1), 32 * (MAX_REFERENCES + 1)),
        (0, (1,), 31),
        (0, (1,), 64),
        (0, (0,), 32),
        (0, (1, -1), 64),
        (0, (2**24 + 1,), 32),
        (1, (2**63,), 32),
        (1, (2**62, 2**62), 64),
    ],
)
def test_impossible_recipes(level: int, sizes: tuple[int, ...], id_bytes: int) -> None:
    with pytest.raises(InvalidInputError):
        Recipe(level, sizes, bytes(id_bytes))


# -- trees -------------------------------------------------------------------------------------------


def entry(**changes: Any) -> Entry:
    fields: dict[str, Any] = {
        "name": "a",
        "kind": EntryKind.FILE,
        "digest": ContentDigest.of(b"x"),
        "object": None,
        "size_bytes": 1,
        "first_stored_ns": 1,
        **changes,
    }
    return Entry(**fields)


@pytest.mark.parametrize(
    "changes",
    [
        {"object": RecipeId.of(b"")},
        {"size_bytes": 0},
        {"executable": True},
        {"kind": EntryKind.DIRECTORY, "object": TreeId.of(b"")},
        {"kind": EntryKind.DIRECTORY, "object": TreeId.of(b""), "size_bytes": 0},
        {"kind": EntryKind.SYMLINK, "target": "x" * 4_095},
        {"kind": EntryKind.SYMLINK, "target": "../\u00e9\n"},
        {"size_bytes": 2**63 - 1, "first_stored_ns": 2**63 - 1},
    ],
)
def test_possible_entries(changes: dict[str, Any]) -> None:
    assert entry(**changes).sort_key == b"a"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "a/b"},
        {"size_bytes": -1},
        {"size_bytes": 2**63},
        {"first_stored_ns": -1},
        {"first_stored_ns": 2**63},
        {"object": TreeId.of(b"")},
        {"object": ChunkId.of(b"")},
        {"object": RecipeId.of(b""), "size_bytes": 0},
        {"target": "b"},
        {"kind": EntryKind.DIRECTORY},
        {"kind": EntryKind.DIRECTORY, "object": RecipeId.of(b"")},
        {"kind": EntryKind.DIRECTORY, "object": TreeId.of(b""), "executable": True},
        {"kind": EntryKind.DIRECTORY, "object": TreeId.of(b""), "target": "b"},
        {"kind": EntryKind.SYMLINK},
        {"kind": EntryKind.SYMLINK, "target": "b", "object": RecipeId.of(b"")},
        {"kind": EntryKind.SYMLINK, "target": "b", "executable": True},
        {"kind": EntryKind.SYMLINK, "target": "a\0b"},
        {"kind": EntryKind.SYMLINK, "target": "\udc80"},
        {"kind": EntryKind.SYMLINK, "target": "x" * 4_096},
        {"kind": EntryKind.SYMLINK, "target": "\u00e9" * 2_048},
    ],
)
def test_impossible_entries(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        entry(**changes)


@given(TREES)
def test_a_tree_finds_its_names(tree: Tree) -> None:
    assert Tree.of(list(tree.entries)[::-1]) == tree
    assert len(tree) == len(list(tree))
    assert tree.size_bytes == sum(each.size_bytes for each in tree)
    for each in tree:
        assert tree.get(each.name) is each
    assert tree.get("no such name" * 9) is None


def test_a_tree_is_sorted_and_has_each_name_once() -> None:
    with pytest.raises(InvalidInputError):
        Tree((entry(name="b"), entry(name="a")))
    with pytest.raises(InvalidInputError):
        Tree.of([entry(), entry()])


@given(FORKS, st.text(min_size=1, max_size=5))
def test_a_fork_finds_the_one_span_a_name_can_be_in(fork: TreeFork, name: str) -> None:
    key = name.encode("utf-8", "surrogatepass")
    if any("\ud800" <= character <= "\udfff" for character in name):
        return
    found = fork.find(name)
    later = [span for span in fork.spans if span.last_name.encode() >= key]
    assert found == (later[0] if later else None)


@pytest.mark.parametrize("level", [0, 5])
def test_a_fork_has_a_level_and_spans_in_order(level: int) -> None:
    span = TreeSpan("a", 1, TreeId.of(b""))
    with pytest.raises(InvalidInputError):
        TreeFork(level, (span,))
    with pytest.raises(InvalidInputError):
        TreeFork(1, ())
    with pytest.raises(InvalidInputError):
        TreeFork(1, (span, span))


@pytest.mark.parametrize(("name", "entries"), [("", 1), ("a/b", 1), ("a", 0), ("a", 2**63)])
def test_impossible_spans(name: str, entries: int) -> None:
    with pytest.raises(InvalidInputError):
        TreeSpan(name, entries, TreeId.of(b""))


def test_kinds_as_people_say_them() -> None:
    assert [kind.word for kind in EntryKind] == ["file", "directory", "symlink"]


# -- snapshots, refs, configuration --------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"size_bytes": -1},
        {"size_bytes": 2**63},
        {"time_ns": -1},
        {"time_ns": 2**63},
        {"parents": (SnapshotId.of(b"a"),) * 2},
        {"parents": tuple(SnapshotId.of(bytes([n])) for n in range(3))},
        {"author": "\udc80"},
        {"message": "\udc80"},
    ],
)
def test_impossible_snapshots(changes: dict[str, Any]) -> None:
    fields: dict[str, Any] = {
        "tree": TreeId.of(b""),
        "digest": ContentDigest.of(b""),
        "size_bytes": 0,
        "parents": (),
        "author": "",
        "time_ns": 0,
        "message": "",
    }
    Snapshot(**fields)
    with pytest.raises(InvalidInputError):
        Snapshot(**{**fields, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"number": 0},
        {"number": 1, "previous": "a" * 32},
        {"previous": ""},
        {"previous": "a" * 31},
        {"transaction": ""},
        {"transaction": "A" * 32},
        {"time_ns": -1},
        {"time_ns": 2**63},
        {"actor": "\udc80"},
        {"reason": "\udc80"},
        {"other": "b"},
        {"action": RefAction.RENAMED_FROM},
        {"action": RefAction.RENAMED_TO, "other": "a:b"},
    ],
)
def test_impossible_ref_records(changes: dict[str, Any]) -> None:
    fields: dict[str, Any] = {
        "ref": RefName(RefKind.BRANCH, "a"),
        "number": 2,
        "action": RefAction.SET,
        "snapshot": SnapshotId.of(b""),
        "transaction": "a" * 32,
        "previous": "b" * 32,
        "time_ns": 0,
        "actor": "",
        "reason": "",
    }
    assert RefRecord(**fields).is_alive
    with pytest.raises(InvalidInputError):
        RefRecord(**{**fields, **changes})


def test_refs_as_people_say_them() -> None:
    assert str(RefName(RefKind.BRANCH, "a b")) == "branch 'a b'"
    assert [kind.folder for kind in RefKind] == ["branches", "tags"]
    assert [action.is_alive for action in RefAction] == [True, False, True, False]
    with pytest.raises(InvalidInputError):
        RefName(RefKind.TAG, "a:b")


@pytest.mark.parametrize(
    "changes",
    [
        {"repository_id": ""},
        {"repository_id": "g" * 32},
        {"repository_id": "A" * 32},
        {"created_ns": -1},
        {"number": 0},
        {"compression_level": 0},
        {"compression_level": 20},
        {"pack_target_bytes": 1_023},
        {"pack_target_bytes": 2**32 + 1},
    ],
)
def test_impossible_configurations(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        RepositoryConfig(**{"repository_id": "0" * 32, "created_ns": 0, **changes})


@pytest.mark.parametrize(
    ("least", "target", "most"),
    [
        (63, 64, 64),
        (64, 63, 64),
        (64, 65, 128),
        (128, 64, 256),
        (64, 128, 64),
        (64, 64, 2**24 + 1),
        (64, 0, 64),
        (64, -64, 64),
    ],
)
def test_impossible_chunk_sizes(least: int, target: int, most: int) -> None:
    with pytest.raises(InvalidInputError):
        ChunkingParams(least, target, most)


@given(digests(ChunkId), digests(ChunkId))
def test_ids_are_ordered_as_bytes(first: ChunkId, second: ChunkId) -> None:
    assert (first < second) == (bytes(first) < bytes(second))
