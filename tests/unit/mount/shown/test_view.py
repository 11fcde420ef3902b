"""Does the view show names, attributes and inodes as promised, in every snapshot?"""

from __future__ import annotations

import stat
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import CorruptDataError
from moorage.model.digest import ContentDigest
from moorage.model.tree import Entry, EntryKind
from moorage.mount.shown.attributes import ROOT_INODE
from moorage.mount.shown.view import (
    XATTR_BLAKE3,
    XATTR_BRANCH,
    XATTR_SNAPSHOT,
    XATTR_TREE,
    Line,
    Listing,
    Node,
    View,
    target_of,
)
from tests.mount.build import MOMENT_NS, Content, Link, Program
from tests.mount.fakes import FakeRepository

FILES: dict[str, Content] = {
    "models": {"a.bin": b"weights", "same.bin": b"weights", "tool": Program(b"#!"), "link": Link("a.bin")},
    "copy": {"a.bin": b"weights"},
    "empty": b"",
}


def find(view: View, path: str) -> Node:
    node = view.root()
    for name in path.split("/") if path else []:
        found = view.lookup(node, name)
        assert found is not None, name
        node = found
    return node


@pytest.fixture
def view() -> View:
    return FakeRepository().fixed_view(FILES)


def test_kinds_modes_and_sizes(view: View) -> None:
    assert find(view, "models/a.bin").mode == stat.S_IFREG | 0o444
    assert find(view, "models/tool").mode == stat.S_IFREG | 0o555
    assert find(view, "models/link").mode == stat.S_IFLNK | 0o777
    assert find(view, "models").mode == find(view, "").mode == stat.S_IFDIR | 0o555
    assert find(view, "models/a.bin").size_bytes == 7
    assert find(view, "models").size_bytes == 0
    assert (find(view, "models").links, find(view, "empty").links) == (2, 1)
    assert find(view, "models/a.bin").time_ns == MOMENT_NS
    assert target_of(find(view, "models/link")) == b"a.bin"


def test_equal_files_have_one_inode_and_all_else_differs(view: View) -> None:
    shared = find(view, "models/a.bin").inode
    assert shared == find(view, "models/same.bin").inode == find(view, "copy/a.bin").inode
    others = [find(view, path).inode for path in ("", "models", "copy", "models/tool", "models/link", "empty")]
    assert len({shared, *others}) == len(others) + 1
    assert 0 not in others


def test_an_unchanged_file_keeps_its_inode_and_a_changed_directory_does_not() -> None:
    repository = FakeRepository()
    repository.set("prod", {"models": {"big": b"same", "small": b"1"}, "other": {"x": b"y"}})
    view = repository.view("prod")
    before = {path: find(view, path).inode for path in ("models", "models/big", "models/small", "other")}
    repository.set("prod", {"models": {"big": b"same", "small": b"2"}, "other": {"x": b"y"}})
    after = {path: find(view, path).inode for path in before}
    assert [path for path in before if before[path] == after[path]] == ["models/big", "other"]


def test_the_executable_bit_and_the_first_time_are_part_of_a_file() -> None:
    repository = FakeRepository()
    view = repository.fixed_view({"plain": b"x", "program": Program(b"x")})
    plain = find(view, "plain")
    assert plain.inode != find(view, "program").inode
    assert plain.identity != find(view, "program").identity
    assert plain.entry is not None
    later = Entry("plain", EntryKind.FILE, plain.digest, None, 1, MOMENT_NS + 1)
    assert View.child(view.root(), later).inode != plain.inode


@pytest.mark.parametrize("first", [0, 1])
def test_no_inode_is_one_of_the_numbers_that_mean_something_else(view: View, first: int) -> None:
    """The digest is chosen so that what comes out of it is 0, or that of the root."""
    mode = stat.S_IFREG | 0o444
    raw = (first ^ mode << 44) % 2**64
    digest = ContentDigest(raw.to_bytes(8, "little") + bytes(24))
    entry = Entry("x", EntryKind.FILE, digest, None, 1, 0)
    assert View.child(view.root(), entry).inode > ROOT_INODE
    other = Entry("x", EntryKind.FILE, digest, None, 1, 1)
    assert View.child(view.root(), other).inode != View.child(view.root(), entry).inode


def test_absent_names_and_wrong_kinds(view: View) -> None:
    assert view.lookup(view.root(), "nothing") is None
    with pytest.raises(NotADirectoryError):
        view.lookup(find(view, "empty"), "x")
    with pytest.raises(IsADirectoryError):
        view.open(find(view, "models"))
    with pytest.raises(IsADirectoryError):
        view.open(view.root())


def test_xattrs_of_a_following_view() -> None:
    repository = FakeRepository()
    id = repository.set("team/prod", {"d": {"f": b"x"}})
    view = repository.view("team/prod")
    node = find(view, "d/f")
    assert view.xattrs(node, node.standing) == {
        XATTR_BLAKE3: node.digest.hex().encode(),
        XATTR_SNAPSHOT: id.hex().encode(),
        XATTR_BRANCH: b"team/prod",
    }


def test_a_directory_has_the_digest_of_its_tree(view: View) -> None:
    for path in ("", "models"):
        node = find(view, path)
        assert view.xattrs(node, node.standing)[XATTR_TREE] == node.digest.hex().encode()
    node = find(view, "models/a.bin")
    assert XATTR_TREE not in view.xattrs(node, node.standing)


def test_xattrs_of_a_snapshot_name_no_branch(view: View) -> None:
    root = view.root()
    assert XATTR_BRANCH not in view.xattrs(root, root.standing)


def test_usage_is_the_logical_size(view: View) -> None:
    assert view.size_bytes() == 7 + 7 + 2 + 5 + 7


def test_an_opened_directory_stays_what_it_was() -> None:
    repository = FakeRepository()
    repository.set("prod", {"a": b"", "b": b""})
    view = repository.view("prod")
    listing = view.listing(view.root())
    repository.set("prod", {"c": b""})
    assert [entry.name for entry in listing.window(0, 10)] == ["a", "b"]
    assert [entry.name for entry in view.listing(view.root()).window(0, 10)] == ["c"]


def _entries(number: int) -> list[Entry | Line]:
    fake = FakeRepository()
    view = fake.fixed_view({f"{position:05}": b"x" for position in range(number)})
    return view.listing(view.root()).window(0, number + 1)


@given(number=st.integers(0, 40), windows=st.lists(st.tuples(st.integers(0, 45), st.integers(1, 20)), max_size=8))
def test_any_window_of_a_listing_is_that_part_of_it(number: int, windows: list[tuple[int, int]]) -> None:
    entries = _entries(number)
    listing = Listing(iter(entries))
    for start, count in windows:
        assert listing.window(start, count) == entries[start : start + count]


def test_a_listing_draws_no_more_than_was_asked_for() -> None:
    drawn: list[str] = []

    def entries() -> Iterator[Entry | Line]:
        for entry in _entries(100):
            drawn.append(entry.name)
            yield entry

    Listing(entries()).window(0, 10)
    assert len(drawn) == 10


def test_a_directory_that_cannot_be_read_to_its_end_is_never_cut_short() -> None:
    def entries() -> Iterator[Entry | Line]:
        yield from _entries(3)
        raise CorruptDataError("a damaged tree")

    listing = Listing(entries())
    assert len(listing.window(0, 3)) == 3
    for _ in range(2):
        with pytest.raises(CorruptDataError):
            listing.window(3, 5)
