"""What does a diff list, in which order, and what does it not read?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given

from moorage.errors import FormatError, InvalidInputError, PathNotFoundError
from moorage.format.tree import encode_fork, encode_tree
from moorage.model.digest import ContentDigest, SnapshotId, TreeId
from moorage.model.snapshot import Snapshot
from moorage.model.tree import Entry, EntryKind, Tree, TreeFork, TreeSpan
from moorage.repository.handle import RepositoryHandle
from moorage.storage.memory import MemoryStorage
from moorage.versioning.changes import Change, ChangeKind
from moorage.versioning.diff import diff
from moorage.versioning.pairs import differing
from tests.unit.versioning.build import Exe, Files, Leaf, Link, make_snapshot
from tests.unit.versioning.strategies import trees


@pytest.fixture
def handle() -> Iterator[RepositoryHandle]:
    with RepositoryHandle.on(MemoryStorage()) as opened:
        yield opened


def changes(handle: RepositoryHandle, old: Files, new: Files, path: str = "") -> list[Change]:
    return list(diff(handle, _snapshot(handle, old), _snapshot(handle, new), path))


def _snapshot(handle: RepositoryHandle, files: Files) -> Snapshot:
    return handle.objects.snapshot(make_snapshot(handle, files))


def told(handle: RepositoryHandle, old: Files, new: Files, path: str = "") -> list[str]:
    return [str(change) for change in changes(handle, old, new, path)]


# -- what is listed ----------------------------------------------------------------------------------


def test_equal_trees_have_no_changes(handle: RepositoryHandle) -> None:
    assert told(handle, {"a/b": b"1", "c": None}, {"a/b": b"1", "c": None}) == []


def test_added_removed_and_modified_are_listed_by_path(handle: RepositoryHandle) -> None:
    old: Files = {"gone": b"1", "same": b"2", "d/changed": b"3", "z": b"0"}
    new: Files = {"came": b"4", "same": b"2", "d/changed": b"5", "z": b"0"}
    assert told(handle, old, new) == ["added came", "modified d/changed", "removed gone"]


def test_order_is_that_of_the_bytes_of_the_whole_path(handle: RepositoryHandle) -> None:
    new: Files = {"a/x": b"1", "a.txt": b"2", "a-b": b"3", "é": b"4", "z": b"5"}
    assert [change.path for change in changes(handle, {}, new)] == ["a-b", "a.txt", "a/x", "z", "é"]


def test_a_change_carries_both_entries(handle: RepositoryHandle) -> None:
    (change,) = changes(handle, {"f": b"1"}, {"f": b"22"})
    assert (change.kind, change.path, change.old_path) == (ChangeKind.MODIFIED, "f", "f")
    assert change.old is not None
    assert change.new is not None
    assert (change.old.digest, change.new.digest) == (ContentDigest.of(b"1"), ContentDigest.of(b"22"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"#!", Exe(b"#!")),
        (b"x", Link("x")),
        (Link("x"), Link("y")),
        (b"x", None),
        (None, Link("x")),
    ],
)
def test_mode_kind_and_target_count_as_modified(handle: RepositoryHandle, old: Leaf, new: Leaf) -> None:
    assert told(handle, {"f": old}, {"f": new}) == ["modified f"]


def test_how_a_file_is_cut_does_not_count(handle: RepositoryHandle) -> None:
    old = handle.objects.snapshot(make_snapshot(handle, {"d/f": b"x" * 5000}, chunk_bytes=1024))
    new = handle.objects.snapshot(make_snapshot(handle, {"d/f": b"x" * 5000}, chunk_bytes=512))
    assert old.tree != new.tree
    assert list(diff(handle, old, new)) == []


def test_a_file_that_becomes_a_directory_is_removed(handle: RepositoryHandle) -> None:
    assert told(handle, {"f": b"1"}, {"f/x": b"2"}) == ["removed f", "added f/x"]
    assert told(handle, {"f/x": b"2"}, {"f": b"1"}) == ["added f", "removed f/x"]


def test_empty_directories_are_listed_and_full_ones_are_not(handle: RepositoryHandle) -> None:
    assert told(handle, {}, {"d/e": None}) == ["added d/e"]
    assert told(handle, {"d": None}, {}) == ["removed d"]
    assert told(handle, {"d/x": b"1"}, {"d": None}) == ["added d", "removed d/x"]
    assert told(handle, {"d": None}, {"d/x": b"1"}) == ["removed d", "added d/x"]


# -- below a path ------------------------------------------------------------------------------------


def test_a_path_narrows_the_diff_and_paths_stay_whole(handle: RepositoryHandle) -> None:
    old: Files = {"a/x": b"1", "b/x": b"1"}
    new: Files = {"a/x": b"2", "b/x": b"2"}
    assert told(handle, old, new, "b") == ["modified b/x"]
    assert told(handle, old, new, "/b/x/") == ["modified b/x"]


def test_a_path_that_one_side_lacks(handle: RepositoryHandle) -> None:
    assert told(handle, {}, {"a/x": b"1"}, "a") == ["added a/x"]
    assert told(handle, {"a": b"1"}, {"a/x": b"1"}, "a/x") == ["added a/x"]


def test_a_path_that_both_sides_lack(handle: RepositoryHandle) -> None:
    with pytest.raises(PathNotFoundError, match="neither side has nowhere"):
        changes(handle, {"a": b"1"}, {"a": b"2"}, "nowhere")
    with pytest.raises(InvalidInputError):
        changes(handle, {}, {}, "../a")


# -- renames -----------------------------------------------------------------------------------------


def test_the_same_content_elsewhere_is_a_rename(handle: RepositoryHandle) -> None:
    (change,) = changes(handle, {"a/f": b"1"}, {"b/g": b"1"})
    assert (change.kind, change.old_path, change.path) == (ChangeKind.RENAMED, "a/f", "b/g")


def test_a_copy_is_no_rename(handle: RepositoryHandle) -> None:
    assert told(handle, {"a": b"1"}, {"a": b"1", "b": b"1"}) == ["added b"]


def test_empty_files_are_never_renamed(handle: RepositoryHandle) -> None:
    assert told(handle, {"a": b""}, {"b": b""}) == ["removed a", "added b"]


def test_symlinks_alone_are_not_renamed(handle: RepositoryHandle) -> None:
    assert told(handle, {"a": Link("x")}, {"b": Link("x")}) == ["removed a", "added b"]


def test_a_rename_may_change_the_executable_bit(handle: RepositoryHandle) -> None:
    (change,) = changes(handle, {"a": b"1"}, {"b": Exe(b"1")})
    assert change.kind is ChangeKind.RENAMED
    assert change.new is not None
    assert change.new.executable


def test_files_of_one_content_find_those_of_their_name(handle: RepositoryHandle) -> None:
    old: Files = {"a/one/k": b"1", "a/two/k": b"1", "a/other": b"1", "keep": b"0"}
    new: Files = {"b/two/k": b"1", "b/one/k": b"1", "b/third": b"1", "b/new": b"x", "keep": b"0"}
    assert told(handle, old, new) == [
        "added b/new",
        "renamed a/one/k -> b/one/k",
        "renamed a/other -> b/third",
        "renamed a/two/k -> b/two/k",
    ]


def test_a_directory_that_moved_shows_as_its_files(handle: RepositoryHandle) -> None:
    inside: Files = {"x": b"1", "deep/y": b"1", "deep/link": Link("y"), "deep/none": None, "deep/empty": b""}
    old = {f"old/{path}": leaf for path, leaf in inside.items()}
    new = {f"new/{path}": leaf for path, leaf in inside.items()}
    assert told(handle, old, new) == [
        f"renamed old/{path} -> new/{path}" for path in ("deep/empty", "deep/link", "deep/none", "deep/y", "x")
    ]


def test_more_were_than_are(handle: RepositoryHandle) -> None:
    assert told(handle, {"a": b"1", "b": b"1", "c": b"1"}, {"d": b"1"}) == ["removed b", "removed c", "renamed a -> d"]


# -- laws --------------------------------------------------------------------------------------------


@given(old=trees, new=trees)
def test_what_a_diff_lists_is_the_difference_of_the_trees(old: Files, new: Files) -> None:
    handle = RepositoryHandle.on(MemoryStorage())
    gone: set[str] = set()
    came: set[str] = set()
    for change in changes(handle, old, new):
        gone |= {change.old_path} if change.old_path is not None else set()
        came |= {change.path} if change.new is not None else set()
    assert gone == {path for path in old if path not in new or old[path] != new[path]}
    assert came == {path for path in new if path not in old or old[path] != new[path]}


@given(old=trees, new=trees)
def test_a_diff_backwards_is_the_same_backwards(old: Files, new: Files) -> None:
    handle = RepositoryHandle.on(MemoryStorage())
    swapped = {ChangeKind.ADDED: ChangeKind.REMOVED, ChangeKind.REMOVED: ChangeKind.ADDED}
    forward = changes(handle, old, new)
    backward = changes(handle, new, old)
    renames = [sum(change.kind is ChangeKind.RENAMED for change in side) for side in (forward, backward)]
    assert renames[0] == renames[1]
    if not renames[0]:
        assert [(c.kind, c.path) for c in forward] == [(swapped.get(c.kind, c.kind), c.path) for c in backward]


# -- cost --------------------------------------------------------------------------------------------


def test_what_is_equal_is_not_read(handle: RepositoryHandle) -> None:
    same = {f"same/{n}/f": b"%d" % n for n in range(20)}
    old = _snapshot(handle, {**same, "d/f": b"old"})
    new = _snapshot(handle, {**same, "d/f": b"new"})
    read: list[TreeId] = []

    def reading(id: TreeId) -> Tree | TreeFork:
        read.append(id)
        return handle.objects.tree(id)

    pairs = list(differing(reading, old.tree, new.tree))
    assert [before.name for before, _ in pairs if before] == ["d"]
    assert set(read) == {old.tree, new.tree}


class _Store:
    """Tree objects in a dictionary, and which of them were read."""

    def __init__(self) -> None:
        self.objects: dict[TreeId, Tree | TreeFork] = {}
        self.read: set[TreeId] = set()

    def leaf(self, *entries: Entry) -> TreeSpan:
        tree = Tree(entries)
        id = TreeId.of(encode_tree(tree))
        self.objects[id] = tree
        return TreeSpan(entries[-1].name, len(entries), id)

    def fork(self, level: int, *spans: TreeSpan) -> TreeSpan:
        fork = TreeFork(level, spans)
        id = TreeId.of(encode_fork(fork))
        self.objects[id] = fork
        return TreeSpan(spans[-1].last_name, sum(span.entries for span in spans), id)

    def __call__(self, id: TreeId) -> Tree | TreeFork:
        self.read.add(id)
        return self.objects[id]


def _file(name: str, content: bytes = b"1") -> Entry:
    return Entry(name, EntryKind.FILE, ContentDigest.of(content), None, len(content), 0)


def _names(store: _Store, old: TreeSpan, new: TreeSpan) -> list[tuple[str | None, str | None]]:
    pairs = differing(store, old.object, new.object)
    return [(before.name if before else None, after.name if after else None) for before, after in pairs]


def test_shared_spans_of_a_huge_directory_are_not_read() -> None:
    store = _Store()
    a, b, c = store.leaf(_file("a1"), _file("a2")), store.leaf(_file("b1")), store.leaf(_file("c1"))
    b_new, x = store.leaf(_file("b1", b"2")), store.leaf(_file("b2"))
    old, new = store.fork(1, a, b, c), store.fork(1, a, b_new, x, c)
    assert _names(store, old, new) == [("b1", "b1"), (None, "b2")]
    assert store.read == {old.object, new.object, b.object, b_new.object, x.object}


def test_spans_that_moved_to_another_level_are_not_read() -> None:
    store = _Store()
    a, b, c = store.leaf(_file("a")), store.leaf(_file("b")), store.leaf(_file("c"))
    low = store.fork(1, a, b)
    high = store.fork(2, store.fork(1, a, b), store.fork(1, c))
    assert _names(store, low, high) == [(None, "c")]
    assert a.object not in store.read
    assert b.object not in store.read
    assert _names(store, store.leaf(_file("a")), high) == [(None, "b"), (None, "c")]


def test_a_fork_that_lies_about_its_level_is_refused() -> None:
    store = _Store()
    leaf = store.leaf(_file("a"))
    liar = store.fork(2, leaf)
    with pytest.raises(FormatError, match="not of level 1"):
        list(differing(store, liar.object, store.fork(1, store.leaf(_file("b"))).object))
    deep = store.fork(1, store.fork(1, leaf))
    with pytest.raises(FormatError, match="holds spans"):
        list(differing(store, deep.object, None))


def test_snapshots_are_compared_not_their_history(handle: RepositoryHandle) -> None:
    first: SnapshotId = make_snapshot(handle, {"a": b"1"})
    second = make_snapshot(handle, {"a": b"1"}, first)
    assert list(diff(handle, handle.objects.snapshot(first), handle.objects.snapshot(second))) == []
