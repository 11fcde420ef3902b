"""Does what is remembered of a name as bytes say the same as its node, and tell apart what must be told apart?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from moorage.model.digest import ContentDigest, RecipeId, SnapshotId, TreeId
from moorage.model.limits import MAX_SIZE_BYTES, MAX_TIME_NS
from moorage.model.tree import Entry, EntryKind
from moorage.mount.shown import slots
from moorage.mount.shown.all_branches import Everything
from moorage.mount.shown.attributes import attributes_of
from moorage.mount.shown.following import Standing
from moorage.mount.shown.slots import key_of, packed, packed_entries, slot_of
from moorage.mount.shown.view import Folder, Node, View
from tests.mount.fakes import FakeRepository

FILE, DIRECTORY, SYMLINK = EntryKind
A, B = ContentDigest.of(b"a"), ContentDigest.of(b"b")
NAMES = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=40).filter(
    lambda name: name not in (".", "..")
)
TIMES = st.integers(0, MAX_TIME_NS)
STANDING = Standing(SnapshotId.of(b"s"), TreeId.of(b"t"), A, 7, 9, "prod")
ROOT = View.root_of(STANDING)
UNNAMED = View.root_of(replace(STANDING, branch=""))


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind, name, time_ns = draw(st.sampled_from(EntryKind)), draw(NAMES), draw(TIMES)
    digest = ContentDigest(draw(st.binary(min_size=32, max_size=32)))
    size = draw(st.integers(1, MAX_SIZE_BYTES))
    if kind is SYMLINK:
        return Entry(name, kind, digest, None, size, time_ns, target=draw(st.text("ab/é", min_size=1)))
    if kind is DIRECTORY:
        return Entry(name, kind, digest, TreeId(draw(st.binary(min_size=32, max_size=32))), size, time_ns)
    recipe = draw(st.none() | st.builds(RecipeId, st.binary(min_size=32, max_size=32)))
    return Entry(name, kind, digest, recipe, size, time_ns, draw(st.booleans()))


def no_folder(word: str) -> Folder:
    raise KeyError(word)


@given(entries(), st.integers(1, 1 << 60), st.integers(1, 1 << 30))
def test_a_node_comes_back_as_it_was(entry: Entry, parent: int, number: int) -> None:
    node = View.child(ROOT, entry)
    place = packed(parent, entry.name, node, number)
    slot = slot_of(5, place, STANDING, no_folder)
    assert slot == (5, parent, entry.name, node, False)
    assert (slots.parent_of(place), slots.name_of(place), slots.standing_of(place)) == (parent, entry.name, number)


@given(st.lists(entries(), max_size=8), st.sampled_from([ROOT, UNNAMED]))
def test_a_page_of_a_listing_says_what_each_node_would(found: list[Entry], directory: Node) -> None:
    nodes = [View.child(directory, entry) for entry in found]
    attributes = attributes_of(directory.inode, found)
    assert attributes == [(node.inode, node.size_bytes, node.time_ns, node.mode) for node in nodes]
    raw_names = [entry.name.encode() for entry in found]
    inodes = [inode for inode, *_ in attributes]
    is_of_branch = directory is ROOT
    assert packed_entries(found, raw_names, inodes, 3, 8, is_of_branch=is_of_branch) == [
        packed(8, node.entry.name, node, 3) for node in nodes if node.entry is not None
    ]


def test_a_folder_is_found_again_by_its_word() -> None:
    repository = FakeRepository()
    repository.set("team/x", {"f": b"1"})
    view = repository.whole_view()
    root = view.root()
    found = view.lookup(root, "branches")
    assert found is not None
    below = view.lookup(found, "team")
    assert below is not None
    everything = Everything(repository, repository, repository)
    slot = slot_of(3, packed(2, "team", below, 0), None, everything.find)
    assert slot[:3] == (3, 2, "team")
    assert slot.node._replace(folder=None) == below._replace(folder=None)
    assert slot.node.folder is not None
    assert below.folder is not None
    assert slot.node.folder.word == below.folder.word


PLAIN = Entry("n", FILE, A, None, 1, 1)


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        (changed(PLAIN, name="other"), True),
        (changed(PLAIN, object=RecipeId.of(b"r")), True),
        (changed(PLAIN, digest=B), False),
        (changed(PLAIN, digest=ContentDigest(A[:31] + b"!")), False),
        (changed(PLAIN, size_bytes=2), False),
        (changed(PLAIN, first_stored_ns=2), False),
        (changed(PLAIN, executable=True), False),
        (changed(PLAIN, kind=SYMLINK, target="t"), False),
    ],
)
def test_a_file_is_its_content_wherever_it_is(other: Entry, is_same: bool) -> None:
    keys = {key_of(packed(parent, "n", View.child(ROOT, entry), 1)) for parent, entry in ((1, PLAIN), (2, other))}
    assert (len(keys) == 1) == is_same


def test_what_is_found_by_way_of_a_branch_is_told_from_the_rest() -> None:
    keys = {key_of(packed(1, "n", View.child(root, PLAIN), 1)) for root in (ROOT, UNNAMED)}
    assert len(keys) == 2


def test_a_directory_is_also_where_it_is() -> None:
    tree = Entry("n", DIRECTORY, A, TreeId.of(b"t"), 5, 1)
    node = View.child(ROOT, tree)
    later = View.child(UNNAMED, changed(tree, size_bytes=6, first_stored_ns=2, object=TreeId.of(b"u")))
    assert key_of(packed(1, "n", later, 2)) == key_of(packed(1, "n", node, 1))
    other = View.child(ROOT, changed(tree, digest=B))
    places = [packed(1, "n", node, 1), packed(2, "n", node, 1), packed(1, "m", node, 1), packed(1, "n", other, 1)]
    assert len({key_of(place) for place in places}) == len(places)


def test_seen_in_another_snapshot_it_is_shared_from_then_on() -> None:
    node = View.child(ROOT, PLAIN)
    first, second = packed(1, "n", node, 1), packed(1, "n", node, 2)
    shared = slots.again(first, second)
    assert not slot_of(5, slots.again(first, packed(2, "n", node, 1)), STANDING, no_folder).is_shared
    assert slot_of(5, shared, STANDING, no_folder).is_shared
    assert slots.again(shared, second) == shared
    assert key_of(shared) == key_of(first)
