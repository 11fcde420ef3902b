"""Are objects that are whole, but not what others say of them, found? Made by hand: no writer of ours makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from moorage.errors import FormatError
from moorage.format.recipe import encode_recipe
from moorage.format.tree import directory_digest, encode_fork, encode_tree
from moorage.maintain.check import CheckReport, ProblemKind, check
from moorage.maintain.stats import collect_stats
from moorage.model.digest import ChunkId, ContentDigest, RecipeId, SnapshotId, TreeId
from moorage.model.recipe import Recipe
from moorage.model.snapshot import Snapshot
from moorage.model.tree import Entry, EntryKind, Tree, TreeFork, TreeSpan
from moorage.repository.handle import RepositoryHandle
from moorage.repository.tree_writer import write_snapshot
from moorage.repository.writer import ObjectWriter
from moorage.storage.memory import MemoryStorage
from moorage.versioning.diff import diff
from tests.unit.versioning.build import FIRST_STORED_NS, leaf_entry, set_branch


@pytest.fixture
def handle() -> Iterator[RepositoryHandle]:
    with RepositoryHandle.on(MemoryStorage()) as opened:
        yield opened


def put_tree(writer: ObjectWriter, entries: Sequence[Entry]) -> TreeId:
    raw = encode_tree(Tree(tuple(entries)))
    id = TreeId.of(raw)
    writer.put(id, raw)
    return id


def put_fork(writer: ObjectWriter, fork: TreeFork) -> TreeId:
    raw = encode_fork(fork)
    id = TreeId.of(raw)
    writer.put(id, raw)
    return id


def directory(writer: ObjectWriter, name: str, entries: Sequence[Entry]) -> Entry:
    digest = directory_digest(entries)
    size = sum(entry.size_bytes for entry in entries)
    return Entry(name, EntryKind.DIRECTORY, digest, put_tree(writer, entries), size, FIRST_STORED_NS)


def head(handle: RepositoryHandle, make: Callable[[ObjectWriter], Entry], **said: object) -> SnapshotId:
    """Let `main` stand at a snapshot whose root is the directory made; `said` is what it says of it instead."""
    with handle.writer() as writer:
        root = make(writer)
        assert isinstance(root.object, TreeId)
        snapshot = Snapshot(root.object, root.digest, root.size_bytes, (), "t", FIRST_STORED_NS, "")
        id = write_snapshot(writer, replace(snapshot, **said))  # type: ignore[arg-type]  # as the caller says
        writer.finish()
    set_branch(handle, "main", id)
    return id


def wrong(report: CheckReport) -> tuple[str, tuple[str, ...]]:
    """What kind of object does not fit, and what that touches."""
    (problem,) = report.problems
    assert problem.kind is ProblemKind.MISMATCH
    return problem.what.split()[0], problem.affected


def file(writer: ObjectWriter, name: str = "f", data: bytes = b"12" * 1000) -> Entry:
    return leaf_entry(writer, name, data)


def test_the_same_made_right_is_right(handle: RepositoryHandle) -> None:
    head(handle, lambda w: directory(w, "root", [directory(w, "d", [file(w)]), leaf_entry(w, "e", b"")]))
    assert check(handle, data=True).problems == ()


@pytest.mark.parametrize("said", [{"digest": ContentDigest.of(b"another")}, {"size_bytes": 1}])
def test_a_snapshot_that_lies_about_its_tree(handle: RepositoryHandle, said: dict[str, object]) -> None:
    head(handle, lambda w: directory(w, "root", [file(w)]), **said)
    assert wrong(check(handle)) == ("snapshot", ("main",))


@pytest.mark.parametrize("said", [{"digest": ContentDigest.of(b"another")}, {"size_bytes": 1}])
def test_an_entry_that_lies_about_its_directory(handle: RepositoryHandle, said: dict[str, object]) -> None:
    def make(writer: ObjectWriter) -> Entry:
        inner = directory(writer, "d", [file(writer)])
        return directory(writer, "root", [changed(inner, **said)])

    head(handle, make)
    assert wrong(check(handle)) == ("tree", ("main:d",))


def test_two_entries_that_say_different_things_of_one_directory(handle: RepositoryHandle) -> None:
    def make(writer: ObjectWriter) -> Entry:
        inner = directory(writer, "d", [file(writer)])
        return directory(writer, "root", [inner, changed(inner, name="liar", size_bytes=5)])

    head(handle, make)
    assert wrong(check(handle)) == ("tree", ("main:d", "main:liar"))


def test_a_recipe_that_makes_another_file_than_its_entry_says(handle: RepositoryHandle) -> None:
    """Every chunk is right; only who makes the file sees it."""
    head(handle, lambda w: directory(w, "root", [changed(file(w), digest=ContentDigest.of(b"another"))]))
    assert check(handle).ok
    report = check(handle, data=True)
    assert wrong(report) == ("recipe", ("main:f",))
    assert report.verified.hashed_bytes == 2000


def test_two_entries_that_say_different_things_of_one_file(handle: RepositoryHandle) -> None:
    def make(writer: ObjectWriter) -> Entry:
        right = file(writer)
        return directory(writer, "root", [right, changed(right, name="liar", digest=ContentDigest.of(b"another"))])

    head(handle, make)
    for data in (False, True):
        assert wrong(check(handle, data=data)) == ("recipe", ("main:f", "main:liar"))


def test_each_file_is_hashed_once(handle: RepositoryHandle) -> None:
    for name in ("f", "g", "h"):
        head(handle, lambda w, name=name: directory(w, "root", [file(w, name), file(w, "one-chunk", b"1")]))  # type: ignore[misc]  # bound now
    assert check(handle, data=True).verified.hashed_bytes == 2000
    assert check(handle).verified.hashed_bytes == 0


def test_an_entry_that_lies_about_the_length_of_a_file(handle: RepositoryHandle) -> None:
    head(handle, lambda w: directory(w, "root", [changed(file(w), size_bytes=1999)]))
    assert wrong(check(handle)) == ("recipe", ("main:f",))
    head(handle, lambda w: directory(w, "root", [changed(file(w, "g", b"123"), size_bytes=4)]))
    assert wrong(check(handle)) == ("chunk", ("main:g",))


@pytest.mark.parametrize(
    "entry",
    [
        Entry("x", EntryKind.FILE, ContentDigest.of(b"something"), None, 0, 0),
        Entry("x", EntryKind.SYMLINK, ContentDigest.of(b"elsewhere"), None, 4, 0, target="here"),
        Entry("x", EntryKind.SYMLINK, ContentDigest.of(b"here"), None, 5, 0, target="here"),
    ],
)
def test_entries_that_are_not_their_own_digest(handle: RepositoryHandle, entry: Entry) -> None:
    head(handle, lambda w: directory(w, "root", [directory(w, "d", [entry])]))
    assert wrong(check(handle)) == ("tree", ("main:d",))


def test_a_recipe_that_lies_about_its_chunks(handle: RepositoryHandle) -> None:
    def make(writer: ObjectWriter) -> Entry:
        ids = writer.put_chunk(b"123") + writer.put_chunk(b"45")
        raw = encode_recipe(Recipe(0, (3, 3), ids))
        recipe = RecipeId.of(raw)
        writer.put(recipe, raw)
        return directory(
            writer, "root", [Entry("f", EntryKind.FILE, ContentDigest.of(b"12345?"), recipe, 6, FIRST_STORED_NS)]
        )

    head(handle, make)
    assert wrong(check(handle)) == ("chunk", ("main:f",))


def test_a_recipe_of_the_wrong_level(handle: RepositoryHandle) -> None:
    def make(writer: ObjectWriter) -> Entry:
        ids = writer.put_chunk(b"123") + writer.put_chunk(b"45")
        low = encode_recipe(Recipe(0, (3, 2), ids))
        writer.put(RecipeId.of(low), low)
        high = encode_recipe(Recipe(2, (5,), RecipeId.of(low)))
        writer.put(RecipeId.of(high), high)
        return directory(
            writer,
            "root",
            [Entry("f", EntryKind.FILE, ContentDigest.of(b"12345"), RecipeId.of(high), 5, FIRST_STORED_NS)],
        )

    head(handle, make)
    assert wrong(check(handle)) == ("recipe", ("main:f",))


def test_a_chunk_that_was_never_stored(handle: RepositoryHandle) -> None:
    entry = Entry("f", EntryKind.FILE, ContentDigest.of(b"never"), None, 5, FIRST_STORED_NS)
    head(handle, lambda w: directory(w, "root", [entry, changed(entry, name="g")]))
    (problem,) = check(handle).problems
    assert (problem.kind, problem.what) == (ProblemKind.MISSING_OBJECT, f"chunk {ChunkId.of(b'never').hex()}")
    assert problem.affected == ("main:f", "main:g")


# -- huge directories --------------------------------------------------------------------------------

Spans = Callable[[ObjectWriter], TreeFork]


def forked(handle: RepositoryHandle, make: Spans, names: str = "abcd") -> CheckReport:
    """A root of empty files of these names, kept as `make` says."""
    with handle.writer() as writer:
        digest = directory_digest(_empty_files(names))
        snapshot = Snapshot(put_fork(writer, make(writer)), digest, 0, (), "t", FIRST_STORED_NS, "")
        id = write_snapshot(writer, snapshot)
        writer.finish()
    set_branch(handle, "main", id)
    return check(handle)


def _empty_files(names: str) -> list[Entry]:
    return [Entry(name, EntryKind.FILE, ContentDigest.of(b""), None, 0, FIRST_STORED_NS) for name in names]


def span(writer: ObjectWriter, names: str, last: str | None = None, count: int | None = None) -> TreeSpan:
    return TreeSpan(last or names[-1], count or len(names), put_tree(writer, _empty_files(names)))


def test_spans_that_are_right(handle: RepositoryHandle) -> None:
    def make(writer: ObjectWriter) -> TreeFork:
        low = put_fork(writer, TreeFork(1, (span(writer, "ab"),)))
        return TreeFork(
            2, (TreeSpan("b", 2, low), TreeSpan("d", 2, put_fork(writer, TreeFork(1, (span(writer, "cd"),)))))
        )

    assert forked(handle, make).problems == ()


@pytest.mark.parametrize(
    "make",
    [
        lambda w: TreeFork(1, (span(w, "ab", count=3), span(w, "cd"))),
        lambda w: TreeFork(1, (span(w, "ab", last="bb"), span(w, "cd"))),
        lambda w: TreeFork(1, (span(w, "ab"), TreeSpan("d", 2, put_fork(w, TreeFork(1, (span(w, "cd"),)))))),
        lambda w: TreeFork(2, (span(w, "ab"), span(w, "cd"))),
        lambda w: TreeFork(2, (TreeSpan("d", 5, put_fork(w, TreeFork(1, (span(w, "ab"), span(w, "cd"))))),)),
    ],
    ids=["count", "last name", "level above", "level below", "count above"],
)
def test_spans_that_lie(handle: RepositoryHandle, make: Spans) -> None:
    report = forked(handle, make)
    assert not report.ok
    assert {problem.kind for problem in report.problems} == {ProblemKind.MISMATCH}
    assert {problem.affected for problem in report.problems} == {("main:",)}


def test_spans_that_overlap(handle: RepositoryHandle) -> None:
    report = forked(handle, lambda w: TreeFork(1, (span(w, "ac"), span(w, "bd"))), names="acbd")
    assert wrong(report) == ("tree", ("main:",))


def test_an_empty_span(handle: RepositoryHandle) -> None:
    report = forked(handle, lambda w: TreeFork(1, (TreeSpan("a", 1, put_tree(w, [])), span(w, "bcd"))), names="bcd")
    assert wrong(report) == ("tree", ("main:",))


# -- bombs -------------------------------------------------------------------------------------------


def _deep(handle: RepositoryHandle, depth: int, data: bytes) -> SnapshotId:
    def make(writer: ObjectWriter) -> Entry:
        here = [file(writer, data=data)]
        for _ in range(depth):
            here = [directory(writer, "d", here)]
        return directory(writer, "root", here)

    return head(handle, make)


def test_a_tree_deeper_than_any_path_ends(handle: RepositoryHandle) -> None:
    one, two = _deep(handle, 5_000, b"1"), _deep(handle, 5_000, b"2")
    assert check(handle).problems == ()
    assert collect_stats(handle).files == 1
    with pytest.raises(FormatError, match="nested more than"):
        list(diff(handle, handle.objects.snapshot(one), handle.objects.snapshot(two)))


def test_damage_below_a_very_deep_tree_is_reported(handle: RepositoryHandle) -> None:
    entry = Entry("f", EntryKind.FILE, ContentDigest.of(b"never"), None, 5, FIRST_STORED_NS)

    def make(writer: ObjectWriter) -> Entry:
        here = [entry]
        for _ in range(3_000):
            here = [directory(writer, "d", here)]
        return directory(writer, "root", here)

    head(handle, make)
    (problem,) = check(handle).problems
    assert problem.kind is ProblemKind.MISSING_OBJECT


def test_one_directory_under_very_many_names_is_read_once(handle: RepositoryHandle) -> None:
    def make(writer: ObjectWriter) -> Entry:
        here = file(writer, data=b"1")
        for level in range(12):
            # 2 ** 12 paths, 12 directories.
            here = directory(writer, f"d{level}", [changed(here, name="a"), changed(here, name="b")])
        return directory(writer, "root", [here])

    head(handle, make)
    report = check(handle)
    assert report.problems == ()
    assert (report.verified.trees, report.verified.chunks) == (13, 1)
    assert collect_stats(handle).files == 2**12


def test_damage_under_more_paths_than_there_is_time_for(
    handle: RepositoryHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorage.maintain.affected._MAX_TOUCHED", 100)

    def make(writer: ObjectWriter) -> Entry:
        here = Entry("f", EntryKind.FILE, ContentDigest.of(b"never"), None, 5, FIRST_STORED_NS)
        for level in range(60):
            here = directory(writer, f"d{level}", [changed(here, name="a"), changed(here, name="b")])
        return directory(writer, "root", [here])

    head(handle, make)
    (problem,) = check(handle).problems
    assert problem.affected_count == 100
    assert collect_stats(handle).files == 2**60
