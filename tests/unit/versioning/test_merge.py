"""What does a merge take, what does it refuse, and what does it write?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from moorage.errors import InvalidInputError, MergeConflictError, RefMovedError, RefNotFoundError
from moorage.model.digest import SnapshotId
from moorage.model.refs import RefKind, RefName
from moorage.model.tree import MAX_TREE_ENTRIES
from moorage.repository.handle import RepositoryHandle
from moorage.storage.memory import MemoryStorage
from moorage.versioning.merge import MergeKind, MergeResult, merge, plan_merge
from tests.unit.versioning.build import Exe, Files, Leaf, Link, make_snapshot, read_back, set_branch

BASE: Files = {"a": b"a", "b": b"b", "d/x": b"x", "d/y": b"y", "d/deep/z": b"z", "k": b"k"}
PROD = RefName(RefKind.BRANCH, "prod")


@dataclass
class Fork:
    """Two branches that started at one snapshot."""

    handle: RepositoryHandle
    base: SnapshotId

    def merged(self, ours: Files, theirs: Files, **options: object) -> MergeResult:
        set_branch(self.handle, "prod", make_snapshot(self.handle, ours, self.base))
        source = Source("exp", make_snapshot(self.handle, theirs, self.base))
        return merge(self.handle, source, PROD, author="me", **options)  # type: ignore[arg-type]  # as the caller says

    def tree(self, result: MergeResult) -> dict[str, Leaf]:
        assert result.snapshot is not None
        return read_back(self.handle, result.snapshot)


@dataclass(frozen=True)
class Source:
    """A revision that has been resolved."""

    revision: str
    id: SnapshotId


@pytest.fixture
def handle() -> Iterator[RepositoryHandle]:
    with RepositoryHandle.on(MemoryStorage()) as opened:
        yield opened


@pytest.fixture
def fork(handle: RepositoryHandle) -> Fork:
    return Fork(handle, make_snapshot(handle, BASE))


def changed(files: Files, **leaves: Leaf) -> dict[str, Leaf]:
    """`files` with some paths replaced; `__` stands for a slash."""
    return {**files, **{path.replace("__", "/"): leaf for path, leaf in leaves.items()}}


def without(files: Files, *paths: str) -> dict[str, Leaf]:
    return {path: leaf for path, leaf in files.items() if path not in paths}


def listed(error: MergeConflictError) -> list[dict[str, str | None]]:
    conflicts = error.fields["conflicts"]
    assert isinstance(conflicts, list)
    return conflicts


def keys(handle: RepositoryHandle) -> set[str]:
    return {info.key for info in handle.storage.list_keys("")}


# -- the three kinds ---------------------------------------------------------------------------------


def test_what_is_there_already_changes_nothing(handle: RepositoryHandle) -> None:
    old = make_snapshot(handle, {"a": b"1"})
    new = make_snapshot(handle, {"a": b"2"}, old)
    set_branch(handle, "prod", new)
    before = keys(handle)
    for source in (old, new):
        result = merge(handle, Source("old", source), PROD, author="me")
        assert (result.kind, result.snapshot, result.changes, result.record) == (MergeKind.UP_TO_DATE, new, (), None)
    assert keys(handle) == before


def test_a_fast_forward_moves_the_branch_to_the_source_itself(handle: RepositoryHandle) -> None:
    old = make_snapshot(handle, {"a": b"1", "b": b"1"})
    new = make_snapshot(handle, {"a": b"2", "b": b"1"}, make_snapshot(handle, {"a": b"1"}, old))
    set_branch(handle, "prod", old)
    result = merge(handle, Source("exp", new), PROD, author="me", message="why now\n\nand more")
    assert (result.kind, result.before, result.snapshot, result.base) == (MergeKind.FAST_FORWARD, old, new, old)
    assert [str(change) for change in result.changes] == ["modified a"]
    head = handle.refs.head(PROD)
    assert head == result.record
    assert (head.snapshot, head.actor, head.reason) == (new, "me", "merge exp: fast-forward: why now")


def test_a_three_way_merge_takes_from_both(fork: Fork) -> None:
    ours = without(changed(BASE, a=b"ours", d__x=b"ours", only__ours=b"1"), "k")
    theirs = without(changed(BASE, b=b"theirs", d__y=Exe(b"y"), d__deep__new=Link("z"), only__theirs=b"2"), "d/deep/z")
    result = fork.merged(ours, theirs)
    assert result.kind is MergeKind.THREE_WAY
    assert fork.tree(result) == {
        "a": b"ours",
        "b": b"theirs",
        "d/x": b"ours",
        "d/y": Exe(b"y"),
        "d/deep/new": Link("z"),
        "only/ours": b"1",
        "only/theirs": b"2",
    }
    assert [str(change) for change in result.changes] == [
        "modified b",
        "added d/deep/new",
        "removed d/deep/z",
        "modified d/y",
        "added only/theirs",
    ]


def test_the_new_snapshot_says_where_it_came_from(fork: Fork) -> None:
    result = fork.merged(changed(BASE, a=b"1"), changed(BASE, b=b"2"), metadata={"score": 0.5})
    assert result.snapshot is not None
    snapshot = fork.handle.objects.snapshot(result.snapshot)
    head = fork.handle.refs.log(PROD)
    assert snapshot.parents[0] == result.before
    assert read_back(fork.handle, snapshot.parents[1]) == changed(BASE, b=b"2")
    assert (snapshot.author, snapshot.message, snapshot.metadata) == ("me", "merge exp into prod", {"score": 0.5})
    assert head[-1] == result.record
    assert head[-1].reason == "merge exp"
    assert snapshot.size_bytes == sum(entry.size_bytes for entry in fork.handle.trees.entries(snapshot.tree))
    assert fork.handle.history.merge_base(result.snapshot, result.before) == result.before


def test_a_message_of_ones_own(fork: Fork) -> None:
    result = fork.merged(changed(BASE, a=b"1"), changed(BASE, b=b"2"), message="release 7")
    assert result.snapshot is not None
    assert fork.handle.objects.snapshot(result.snapshot).message == "release 7"


def test_a_merge_is_newer_than_parents_from_a_fast_clock(handle: RepositoryHandle) -> None:
    future = time.time_ns() + 10**18
    base = make_snapshot(handle, BASE)
    set_branch(handle, "prod", make_snapshot(handle, changed(BASE, a=b"1"), base))
    late = make_snapshot(handle, changed(BASE, b=b"1"), base, time_ns=future)
    result = merge(handle, Source("exp", late), PROD, author="me")
    assert result.snapshot is not None
    assert handle.objects.snapshot(result.snapshot).time_ns == future + 1


def test_histories_that_never_met_merge_from_nothing(handle: RepositoryHandle) -> None:
    set_branch(handle, "prod", make_snapshot(handle, {"a": b"1", "same": b"s", "d/x": b"1"}))
    result = merge(
        handle, Source("exp", make_snapshot(handle, {"b": b"2", "same": b"s", "d/y": b"2"})), PROD, author="me"
    )
    assert result.base is None
    assert result.snapshot is not None
    assert read_back(handle, result.snapshot) == {"a": b"1", "b": b"2", "same": b"s", "d/x": b"1", "d/y": b"2"}


def test_after_a_merge_the_next_one_starts_from_there(fork: Fork) -> None:
    first = fork.merged(changed(BASE, a=b"ours"), changed(BASE, b=b"1"))
    assert first.snapshot is not None
    theirs = fork.handle.objects.snapshot(first.snapshot).parents[1]
    again = make_snapshot(fork.handle, changed(BASE, b=b"2"), theirs)
    result = merge(fork.handle, Source("exp", again), PROD, author="me")
    assert result.base == theirs
    assert fork.tree(result) == {**BASE, "a": b"ours", "b": b"2"}


# -- what agrees -------------------------------------------------------------------------------------


def test_the_same_change_on_both_sides_is_no_conflict(fork: Fork) -> None:
    both = without(changed(BASE, a=b"same", new=b"n"), "b")
    result = fork.merged({**both, "o": b"o"}, {**both, "t": b"t"})
    assert fork.tree(result) == {**both, "o": b"o", "t": b"t"}
    assert [str(change) for change in result.changes] == ["added t"]


def test_a_directory_emptied_from_both_sides_stays_and_says_so(fork: Fork) -> None:
    result = fork.merged(without(BASE, "d/x", "d/deep/z"), without(BASE, "d/y", "d/deep/z"))
    assert fork.tree(result) == {"a": b"a", "b": b"b", "k": b"k", "d": None}
    assert [str(change) for change in result.changes] == ["added d", "removed d/y"]


def test_an_empty_directory_that_both_fill(handle: RepositoryHandle) -> None:
    fork = Fork(handle, make_snapshot(handle, {"e": None, "k": b"k"}))
    result = fork.merged({"e": None, "k": b"k2"}, {"e/x": b"1", "k": b"k"})
    assert fork.tree(result) == {"e/x": b"1", "k": b"k2"}
    assert [str(change) for change in result.changes] == ["removed e", "added e/x"]


def test_unchanged_directories_are_the_same_objects(fork: Fork) -> None:
    result = fork.merged(changed(BASE, a=b"1"), changed(BASE, b=b"2"))
    assert result.snapshot is not None
    trees = [fork.handle.objects.snapshot(id).tree for id in (result.before, result.snapshot)]
    ours, merged = (fork.handle.trees.lookup(tree, "d") for tree in trees)
    assert ours == merged


def test_a_huge_directory_is_merged_by_name(handle: RepositoryHandle) -> None:
    many = {f"n{number:05d}": b"%d" % (number % 7) for number in range(MAX_TREE_ENTRIES + 500)}
    fork = Fork(handle, make_snapshot(handle, many))
    result = fork.merged(changed(many, n00001=b"ours"), without(changed(many, n08000=b"theirs"), "n04000"))
    assert fork.tree(result) == without(changed(many, n00001=b"ours", n08000=b"theirs"), "n04000")


# -- conflicts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "path", "kind"),
    [
        (changed(BASE, a=b"1"), changed(BASE, a=b"2"), "a", "both-modified"),
        (changed(BASE, a=b"1"), changed(BASE, a=Exe(b"a")), "a", "both-modified"),
        (changed(BASE, a=b"1"), changed(BASE, a=Link("1")), "a", "both-modified"),
        (changed(BASE, n=b"1"), changed(BASE, n=b"2"), "n", "both-added"),
        (changed(BASE, d__x=b"1"), without(BASE, "d/x"), "d/x", "modified-deleted"),
        (changed(BASE, d__deep__z=b"1"), without(BASE, "d/deep/z"), "d/deep", "modified-deleted"),
        (without(BASE, "a"), changed(BASE, a=b"2"), "a", "deleted-modified"),
        (changed(BASE, n=b"1"), changed(BASE, n__x=b"2"), "n", "file-directory"),
        (changed(BASE, n__x=b"1"), changed(BASE, n=b"2"), "n", "file-directory"),
        (changed(BASE, d__x=b"1"), without(changed(BASE, d=b"2"), "d/x", "d/y", "d/deep/z"), "d", "file-directory"),
        (without(BASE, "d/x", "d/y", "d/deep/z"), changed(BASE, d__x=b"2"), "d", "deleted-modified"),
    ],
)
def test_a_conflict_is_named_and_nothing_is_written(
    fork: Fork, ours: Files, theirs: Files, path: str, kind: str
) -> None:
    set_branch(fork.handle, "prod", make_snapshot(fork.handle, ours, fork.base))
    source = Source("exp", make_snapshot(fork.handle, theirs, fork.base))
    before = keys(fork.handle)
    with pytest.raises(MergeConflictError, match=path) as caught:
        merge(fork.handle, source, PROD, author="me")
    (conflict,) = listed(caught.value)
    assert (conflict["path"], conflict["kind"]) == (path, kind)
    assert set(conflict) == {"path", "kind", "ours", "theirs"}
    assert keys(fork.handle) == before


def test_all_conflicts_are_listed_and_some_are_told(handle: RepositoryHandle) -> None:
    names = [f"f{number}" for number in range(8)]
    fork = Fork(handle, make_snapshot(handle, dict.fromkeys(names, b"0")))
    with pytest.raises(MergeConflictError) as caught:
        fork.merged(dict.fromkeys(names, b"1"), dict.fromkeys(names, b"2"))
    assert [conflict["path"] for conflict in listed(caught.value)] == names
    assert "changed 8 paths differently" in caught.value.message
    assert "f4 (both-modified), and 3 more" in caught.value.message
    assert "f5" not in caught.value.message


def test_a_plan_shows_conflicts_beside_what_would_change(fork: Fork) -> None:
    ours = make_snapshot(fork.handle, changed(BASE, a=b"1"), fork.base)
    theirs = make_snapshot(fork.handle, changed(BASE, a=b"2", b=b"2"), fork.base)
    plan = plan_merge(fork.handle, ours, theirs)
    assert str(plan).splitlines() == [
        f"three-way: {theirs.short} into {ours.short}",
        "conflict a (both-modified)",
        "modified b",
    ]


# -- asking only, and being too late -----------------------------------------------------------------


def test_a_dry_run_writes_nothing_and_tells_the_same(fork: Fork) -> None:
    ours, theirs = changed(BASE, a=b"1"), changed(BASE, b=b"2")
    set_branch(fork.handle, "prod", make_snapshot(fork.handle, ours, fork.base))
    source = Source("exp", make_snapshot(fork.handle, theirs, fork.base))
    before = keys(fork.handle)
    dry = merge(fork.handle, source, PROD, author="me", dry_run=True)
    assert keys(fork.handle) == before
    assert (dry.kind, dry.snapshot, dry.record) == (MergeKind.THREE_WAY, None, None)
    real = merge(fork.handle, source, PROD, author="me")
    assert (dry.changes, dry.base, dry.before) == (real.changes, real.base, real.before)


def test_a_dry_fast_forward_does_not_move(handle: RepositoryHandle) -> None:
    old = make_snapshot(handle, {"a": b"1"})
    new = make_snapshot(handle, {"a": b"2"}, old)
    set_branch(handle, "prod", old)
    result = merge(handle, Source("exp", new), PROD, author="me", dry_run=True)
    assert (result.kind, result.snapshot, result.record) == (MergeKind.FAST_FORWARD, new, None)
    assert handle.refs.head(PROD).snapshot == old


def test_a_branch_that_moves_meanwhile_is_not_overwritten(fork: Fork, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = make_snapshot(fork.handle, changed(BASE, k=b"faster"), fork.base)
    finish = type(fork.handle.writer()).finish

    def overtaken(writer: object) -> object:
        set_branch(fork.handle, "prod", moved)
        return finish(writer)  # type: ignore[arg-type]  # the writer it is

    set_branch(fork.handle, "prod", make_snapshot(fork.handle, changed(BASE, a=b"1"), fork.base))
    source = Source("exp", make_snapshot(fork.handle, changed(BASE, b=b"2"), fork.base))
    with monkeypatch.context() as patch:
        patch.setattr("moorage.repository.writer.ObjectWriter.finish", overtaken)
        with pytest.raises(RefMovedError):
            merge(fork.handle, source, PROD, author="me")
    assert fork.handle.refs.head(PROD).snapshot == moved


def test_only_branches_are_merged_into(fork: Fork) -> None:
    with pytest.raises(InvalidInputError, match="never moves"):
        merge(fork.handle, Source("x", fork.base), RefName(RefKind.TAG, "v1"), author="me")
    with pytest.raises(RefNotFoundError):
        merge(fork.handle, Source("x", fork.base), RefName(RefKind.BRANCH, "none"), author="me")
