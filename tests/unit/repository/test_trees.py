"""Are directories of every size read the same, and crafted ones refused?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.errors import (
    CorruptDataError,
    DataError,
    FormatError,
    InvalidInputError,
    MissingObjectError,
    PathNotFoundError,
    WrongKindError,
)
from moorage.format import tree as tree_format
from moorage.format.tree import directory_digest, encode_fork, encode_tree
from moorage.model.digest import ContentDigest, TreeId
from moorage.model.tree import MAX_TREE_ENTRIES, Entry, EntryKind, Tree, TreeFork, TreeSpan
from moorage.repository import tree_writer, trees
from moorage.repository.handle import RepositoryHandle
from moorage.repository.tree_writer import write_tree
from moorage.repository.writer import ObjectWriter
from tests.unit.repository.stores import in_memory, opened

EMPTY = ContentDigest.of(b"")


def file(name: str) -> Entry:
    return Entry(name, EntryKind.FILE, EMPTY, None, 0, 1)


def directory(name: str, tree: TreeId, digest: ContentDigest = EMPTY, size: int = 0) -> Entry:
    return Entry(name, EntryKind.DIRECTORY, digest, tree, size, 1)


def put(writer: ObjectWriter, tree: Tree | TreeFork) -> TreeId:
    raw = encode_tree(tree) if isinstance(tree, Tree) else encode_fork(tree)
    writer.put(TreeId.of(raw), raw)
    return TreeId.of(raw)


def leaf(writer: ObjectWriter, *names: str) -> TreeId:
    return put(writer, Tree(tuple(file(name) for name in names)))


# -- huge directories --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def huge() -> tuple[RepositoryHandle, list[str], TreeId]:
    """30,000 names: a fork over a handful of tree objects."""
    _, handle = in_memory()
    names = sorted((f"file-{number * 7919 % 30_000:05d}.json" for number in range(30_000)), key=str.encode)
    with handle.writer() as writer:
        written = write_tree(writer, [file(name) for name in names])
        writer.finish()
    return opened(handle.storage), names, written.id


def test_a_huge_directory_is_split(huge: tuple[RepositoryHandle, list[str], TreeId]) -> None:
    handle, names, tree = huge
    fork = handle.objects.tree(tree)
    assert isinstance(fork, TreeFork)
    assert fork.level == 1
    sizes = [span.entries for span in fork.spans]
    assert sum(sizes) == len(names)
    assert all(1_024 <= size <= MAX_TREE_ENTRIES for size in sizes[:-1])


def test_every_name_of_a_huge_directory_is_found(huge: tuple[RepositoryHandle, list[str], TreeId]) -> None:
    handle, names, tree = huge
    assert [entry.name for entry in handle.trees.entries(tree)] == names
    for name in [names[0], names[-1], *names[::997]]:
        assert handle.trees.lookup(tree, name) == file(name)
    for name in ("", "a", "file-", names[500] + "x", "zzz", "\U0010ffff"):
        assert handle.trees.lookup(tree, name) is None


def test_a_lookup_reads_one_object_a_level(huge: tuple[RepositoryHandle, list[str], TreeId]) -> None:
    handle, names, tree = huge
    fresh = opened(handle.storage)
    with mock.patch.object(fresh.objects, "tree", wraps=fresh.objects.tree) as read:
        fresh.trees.lookup(tree, names[12_345])
    assert read.call_count == 2


def test_one_more_file_changes_two_tree_objects(huge: tuple[RepositoryHandle, list[str], TreeId]) -> None:
    _, names, _ = huge
    storage, handle = in_memory()
    written = []
    added = []
    for some in (names, sorted([*names, "file-12345.json.bak"], key=str.encode)):
        with handle.writer() as writer:
            written.append(write_tree(writer, [file(name) for name in some]))
            added.append(len(writer._waiting_metadata) + len(writer._metadata or ()))
            writer.finish()
    assert added[1] == 2 < added[0]
    assert written[0].digest != written[1].digest
    assert storage.keys_of("publish")


@settings(max_examples=settings().max_examples // 2)
@given(st.sets(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8), max_size=60))
def test_small_limits_give_many_levels(names: set[str]) -> None:
    """With runs of 2 to 4 entries the same code makes forks of forks."""
    legal = sorted((name for name in names if name not in (".", "..")), key=str.encode)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree_writer, "MAX_TREE_ENTRIES", 4)
        patch.setattr(tree_format, "MAX_TREE_ENTRIES", 4)
        patch.setattr(tree_format, "_MIN_RUN", 2)
        _, handle = in_memory()
        with handle.writer() as writer:
            written = write_tree(writer, [file(name) for name in reversed(legal)])
            writer.finish()
    assert [entry.name for entry in handle.trees.entries(written.id)] == legal
    assert all(handle.trees.lookup(written.id, name) == file(name) for name in legal)
    assert written.digest == directory_digest([file(name) for name in legal])


# -- paths -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nested() -> tuple[RepositoryHandle, TreeId]:
    _, handle = in_memory()
    with handle.writer() as writer:
        inner = write_tree(writer, [file("model.pkl"), file("\u00e9")])
        link = Entry("link", EntryKind.SYMLINK, ContentDigest.of(b"models"), None, 6, 1, target="models")
        outer = write_tree(writer, [directory("models", inner.id, inner.digest), link, file("readme")])
        root = write_tree(writer, [directory("a", outer.id, outer.digest), file("top")])
        writer.finish()
    return handle, root.id


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("top", "top"),
        ("/top", "top"),
        ("a", "a"),
        ("a/", "a"),
        ("a/models/model.pkl", "model.pkl"),
        ("./a//models/./\u00e9", "\u00e9"),
        ("a/link", "link"),
    ],
)
def test_a_path_leads_to_its_entry(nested: tuple[RepositoryHandle, TreeId], path: str, name: str) -> None:
    handle, root = nested
    assert handle.trees.at(root, path).name == name


@pytest.mark.parametrize("path", ["nope", "a/nope", "top/x", "a/readme/x", "a/link/model.pkl", "A"])
def test_a_path_that_leads_nowhere(nested: tuple[RepositoryHandle, TreeId], path: str) -> None:
    handle, root = nested
    with pytest.raises(PathNotFoundError):
        handle.trees.at(root, path)


@pytest.mark.parametrize("path", ["..", "a/../top", "a/\0", "x" * 256])
def test_a_path_that_no_tree_can_hold(nested: tuple[RepositoryHandle, TreeId], path: str) -> None:
    handle, root = nested
    with pytest.raises(InvalidInputError):
        handle.trees.at(root, path)


@pytest.mark.parametrize("path", ["", "/", "."])
def test_the_root_has_no_entry(nested: tuple[RepositoryHandle, TreeId], path: str) -> None:
    handle, root = nested
    with pytest.raises(WrongKindError):
        handle.trees.at(root, path)


def test_walking_shows_parents_before_children(nested: tuple[RepositoryHandle, TreeId]) -> None:
    handle, root = nested
    expected = ["a", "a/link", "a/models", "a/models/model.pkl", "a/models/\u00e9", "a/readme", "top"]
    assert [path for path, _ in handle.trees.walk(root)] == expected
    assert [path for path, _ in handle.trees.walk(root, "x/y")] == [f"x/y/{path}" for path in expected]


# -- crafted trees ----------------------------------------------------------------------------------


def refused(*spans_of: Sequence[object]) -> None:
    """A fork whose spans are (last name, entries, names that are really there) is refused when it is listed."""
    _, handle = in_memory()
    with handle.writer() as writer:
        spans = [TreeSpan(str(last), int(str(count)), leaf(writer, *names)) for last, count, *names in spans_of]  # type: ignore[arg-type]  # names are texts
        tree = put(writer, TreeFork(1, tuple(spans)))
        writer.finish()
    with pytest.raises(DataError):
        list(handle.trees.entries(tree))


def test_spans_that_overlap() -> None:
    refused(("c", 2, "a", "c"), ("d", 2, "b", "d"))


def test_a_span_with_more_or_fewer_entries_than_promised() -> None:
    refused(("c", 3, "a", "c"))
    refused(("c", 1, "a", "c"))


def test_a_span_that_ends_elsewhere() -> None:
    refused(("d", 2, "a", "c"))
    refused(("b", 2, "a", "c"))


def test_the_controls_of_the_above() -> None:
    _, handle = in_memory()
    with handle.writer() as writer:
        spans = (TreeSpan("c", 2, leaf(writer, "a", "c")), TreeSpan("d", 1, leaf(writer, "d")))
        tree = put(writer, TreeFork(1, spans))
        writer.finish()
    assert [entry.name for entry in handle.trees.entries(tree)] == ["a", "c", "d"]


@pytest.mark.parametrize("level", [1, 3, 4])
def test_a_fork_that_leads_to_another_level_than_the_one_below(level: int) -> None:
    _, handle = in_memory()
    with handle.writer() as writer:
        below = TreeFork(1, (TreeSpan("a", 1, leaf(writer, "a")),))
        tree = put(writer, TreeFork(level, (TreeSpan("a", 1, put(writer, below)),)))
        writer.finish()
    with pytest.raises(FormatError):
        handle.trees.lookup(tree, "a")
    with pytest.raises(FormatError):
        list(handle.trees.entries(tree))


def test_a_tree_object_that_is_missing() -> None:
    _, handle = in_memory()
    with handle.writer() as writer:
        tree = put(writer, TreeFork(1, (TreeSpan("a", 1, TreeId.of(b"nowhere")),)))
        writer.finish()
    with pytest.raises(MissingObjectError):
        handle.trees.lookup(tree, "a")


def test_a_tree_object_that_is_none() -> None:
    _, handle = in_memory()
    with handle.writer() as writer:
        writer.put(TreeId.of(b"not a tree"), b"not a tree")
        writer.finish()
    with pytest.raises(FormatError):
        handle.trees.lookup(TreeId.of(b"not a tree"), "a")


def test_nesting_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "MAX_DEPTH", 5)
    _, handle = in_memory()
    with handle.writer() as writer:
        tree = leaf(writer, "bottom")
        for _ in range(5):
            tree = put(writer, Tree((directory("d", tree),)))
        writer.finish()
    with pytest.raises(FormatError, match="nested"):
        list(handle.trees.walk(tree))
    inner = handle.trees.at(tree, "d").object
    assert isinstance(inner, TreeId)
    assert len(list(handle.trees.walk(inner))) == 5


def test_the_deepest_path_can_be_walked() -> None:
    _, handle = in_memory()
    with handle.writer() as writer:
        tree = leaf(writer, "f")
        for _ in range(2_047):
            tree = put(writer, Tree((directory("d", tree),)))
        writer.finish()
    deepest = "d/" * 2_047 + "f"
    assert len(deepest) == 4_095
    assert handle.trees.at(tree, deepest) == file("f")
    assert [path for path, _ in handle.trees.walk(tree)][-1] == deepest


def test_overlapping_spans_are_named() -> None:
    _, handle = in_memory()
    with handle.writer() as writer:
        spans = (TreeSpan("c", 1, leaf(writer, "c")), TreeSpan("d", 2, leaf(writer, "b", "d")))
        tree = put(writer, TreeFork(1, spans))
        writer.finish()
    with pytest.raises(CorruptDataError, match=spans[1].object.hex()):
        list(handle.trees.entries(tree))


def test_names_that_occur_twice_are_refused(tmp_path: Path) -> None:
    _, handle = in_memory()
    with handle.writer() as writer, pytest.raises(InvalidInputError):
        write_tree(writer, [file("a"), file("b"), file("a")])
