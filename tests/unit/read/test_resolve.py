"""Does every way to name a snapshot name the right one, and is every doubtful one refused?"""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import (
    AmbiguousRevisionError,
    InvalidInputError,
    MoorageError,
    NotFoundError,
    PathNotFoundError,
    RefNotFoundError,
    SnapshotNotFoundError,
    WrongKindError,
)
from moorage.model.digest import SnapshotId
from moorage.model.refs import RefKind, RefName
from moorage.read.resolve import Location, locate, parse_location, resolve
from moorage.repository.handle import RepositoryHandle
from moorage.repository.refs import RefStore
from tests.unit.repository.stores import TINY, in_memory
from tests.unit.versioning.build import make_snapshot

SECOND = 1_000_000_000
NOON_NS = int(datetime(2026, 9, 1, 12, tzinfo=UTC).timestamp()) * SECOND


class World:
    """Five snapshots in a row, s0 to s4; branch `prod` moved over them an hour apart; tags, and names with slashes."""

    def __init__(self) -> None:
        self.storage, self.handle = in_memory()
        self.now_ns = NOON_NS
        self.handle.refs = RefStore(self.storage, TINY.repository_id, lambda: self.now_ns)
        self.ids: list[SnapshotId] = []
        for number in range(5):
            parents = self.ids[-1:]
            files = {"a/b.txt": b"%d" % number, "top": b"x"}
            self.ids.append(make_snapshot(self.handle, files, *parents, message=f"s{number}"))
        self.branch("prod", 0)
        for number in (1, 2, 3):
            self.now_ns += 3600 * SECOND
            self.handle.refs.move(
                RefName(RefKind.BRANCH, "prod"),
                self.ids[number],
                expected=self.ids[number - 1],
                actor="ada",
                reason="",
            )
        self.branch("experiment/v2", 4)
        self.tag("v1", 1)

    def branch(self, name: str, number: int) -> None:
        self.handle.refs.create(RefName(RefKind.BRANCH, name), self.ids[number], actor="ada", reason="")

    def tag(self, name: str, number: int) -> None:
        self.handle.refs.create(RefName(RefKind.TAG, name), self.ids[number], actor="ada", reason="")

    def number(self, revision: str) -> int:
        return self.ids.index(resolve(self.handle, revision).id)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture
def fresh() -> World:
    return World()


@pytest.mark.parametrize(
    ("revision", "number"),
    [
        ("prod", 3),
        ("experiment/v2", 4),
        ("v1", 1),
        ("refs/branches/prod", 3),
        ("refs/branches/experiment/v2", 4),
        ("refs/tags/v1", 1),
        ("prod~", 2),
        ("prod~1", 2),
        ("prod~0", 3),
        ("prod~2", 1),
        ("prod~~", 1),
        ("prod~1~2", 0),
        ("v1~", 0),
        ("prod@{0}", 3),
        ("prod@{1}", 2),
        ("prod@{3}", 0),
        ("prod@{1}~", 1),
        ("refs/branches/prod@{2}", 1),
        ("v1@{0}", 1),
        ("prod@{2026-09-01T12:00}", 0),
        ("prod@{2026-09-01T12:59:59}", 0),
        ("prod@{2026-09-01T13:00}", 1),
        ("prod@{2026-09-01T14:30+00:00}", 2),
        ("prod@{2026-09-01T16:30+02:00}", 2),
        ("prod@{2026-09-01T14:30Z}", 2),
        ("prod@{2026-09-02}", 3),
        ("prod@{2026-09-01T13:00}~", 0),
    ],
)
def test_every_form(world: World, revision: str, number: int) -> None:
    assert world.number(revision) == number


def test_ids_and_prefixes(world: World) -> None:
    for number, id in enumerate(world.ids):
        for length in (8, 12, 40, 64):
            assert world.number(id.hex()[:length]) == number
    assert world.number(world.ids[3].hex() + "~2") == 1
    assert world.number(world.ids[3].hex()[:10] + "~") == 2


def test_local_time_where_no_offset_is_given(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Etc/GMT-3")  # three hours ahead of UTC
    time.tzset()
    try:
        assert world.number("prod@{2026-09-01T16:00}") == 1
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_the_answer_says(world: World) -> None:
    found = resolve(world.handle, "prod")
    assert found.revision == "prod"
    assert found.snapshot.message == "s3"
    assert found.ref == RefName(RefKind.BRANCH, "prod")
    assert found.record is not None
    assert found.record.number == 4
    assert resolve(world.handle, "v1").ref == RefName(RefKind.TAG, "v1")
    assert resolve(world.handle, "prod~").ref is None
    assert resolve(world.handle, world.ids[0].hex()).ref is None
    older = resolve(world.handle, "prod@{1}").record
    assert older is not None
    assert older.number == 3


@pytest.mark.parametrize("revision", ["nope", "refs/branches/nope", "refs/tags/prod", "PROD", "prod@", "a b"])
def test_what_is_not_there(world: World, revision: str) -> None:
    with pytest.raises(RefNotFoundError):
        resolve(world.handle, revision)


@pytest.mark.parametrize(
    "revision",
    [
        "prod~4",
        "prod~999999999",
        "prod~9999999999",
        "prod~" + "9" * 500,
        "prod@{4}",
        "prod@{999999999}",
        "prod@{2026-09-01T11:59}",
        "prod@{1999-01-01}",
        "f" * 64,
        "0123456789abcdef",
    ],
)
def test_what_history_does_not_have(world: World, revision: str) -> None:
    with pytest.raises(SnapshotNotFoundError):
        resolve(world.handle, revision)


@pytest.mark.parametrize(
    "revision",
    [
        "",
        "prod@{}",
        "prod@{yesterday}",
        "prod@{1.5}",
        "prod@{-1}",
        "prod@{\u00b2}",
        "prod@{2026-13-01}",
        "prod@{0001-01-01}",
        "prod@{9999-12-31T23:59:59-12:00}",
        "prod@{1234567890}",
        "x" * 1_001,
        "refs/branches/",
        "refs/branches/a:b",
    ],
)
def test_what_can_never_be_right(world: World, revision: str) -> None:
    with pytest.raises(InvalidInputError):
        resolve(world.handle, revision)


def test_a_place_in_a_log_needs_a_log(world: World) -> None:
    with pytest.raises(InvalidInputError):
        resolve(world.handle, world.ids[0].hex() + "@{0}")


def test_short_words_are_no_ids(world: World) -> None:
    with pytest.raises(RefNotFoundError) as caught:
        resolve(world.handle, world.ids[0].hex()[:3])
    assert "4 digits or more" in (caught.value.hint or "")
    with pytest.raises(RefNotFoundError) as caught:
        resolve(world.handle, "xyz")
    assert "digits" not in (caught.value.hint or "")


def test_a_place_is_no_revision(world: World) -> None:
    with pytest.raises(InvalidInputError, match="a revision is needed") as caught:
        resolve(world.handle, "prod:models")
    assert "'prod'" in (caught.value.hint or "")


# -- doubt -------------------------------------------------------------------------------------------


def test_a_branch_and_a_tag_that_were_made_in_the_same_moment(fresh: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as racing:
        racing.setattr(fresh.handle.refs, "exists", lambda _: False)
        fresh.tag("prod", 0)
    with pytest.raises(AmbiguousRevisionError) as caught:
        resolve(fresh.handle, "prod")
    assert caught.value.fields["candidates"] == ["refs/branches/prod", "refs/tags/prod"]
    assert "refs/tags/prod" in (caught.value.hint or "")
    assert fresh.number("refs/branches/prod") == 3
    assert fresh.number("refs/tags/prod") == 0


def test_a_name_goes_before_the_beginning_of_an_id(fresh: World) -> None:
    """A branch called `2026` goes on meaning what it meant when some snapshot's id begins so."""
    prefix = fresh.ids[0].hex()[:8]
    assert fresh.number(prefix) == 0
    fresh.branch(prefix, 2)
    assert fresh.number(prefix) == 2
    assert fresh.number(f"{prefix}@{{0}}") == 2
    assert fresh.number(fresh.ids[0].hex()[:9]) == 0
    assert fresh.number(f"refs/branches/{prefix}") == 2
    assert fresh.number(fresh.ids[0].hex()) == 0


def test_a_prefix_of_several_snapshots() -> None:
    _, handle = in_memory()
    by_prefix: dict[str, list[SnapshotId]] = {}
    number = 0
    while True:
        id = make_snapshot(handle, {}, message=str(number), time_ns=5)
        same = by_prefix.setdefault(id.hex()[:4], [])
        same.append(id)
        number += 1
        if len(same) == 2 or number > 5_000:
            break
    with pytest.raises(AmbiguousRevisionError) as caught:
        resolve(handle, same[0].hex()[:4])
    assert caught.value.fields["candidates"] == sorted(id.hex() for id in same)
    assert resolve(handle, same[0].hex()[:24]).id == same[0]


def test_a_dead_branch_is_named_by_what_became_of_it(fresh: World) -> None:
    fresh.handle.refs.delete(RefName(RefKind.BRANCH, "prod"), actor="ada", reason="")
    for word in ("prod", "refs/branches/prod"):
        with pytest.raises(RefNotFoundError) as caught:
            resolve(fresh.handle, word)
        assert fresh.ids[3].short in (caught.value.hint or "")
    old, new = RefName(RefKind.BRANCH, "experiment/v2"), RefName(RefKind.BRANCH, "v2")
    fresh.handle.refs.rename(old, new, actor="ada", reason="")
    with pytest.raises(RefNotFoundError) as caught:
        resolve(fresh.handle, "experiment/v2")
    assert caught.value.hint == "it was renamed to 'v2'"


def test_a_log_with_a_death_in_it(fresh: World) -> None:
    """`@{n}` counts where the branch stood; a time at which it did not exist names nothing."""
    ref = RefName(RefKind.BRANCH, "prod")
    fresh.now_ns += 3600 * SECOND
    fresh.handle.refs.delete(ref, actor="ada", reason="")
    fresh.now_ns += 3600 * SECOND
    fresh.branch("prod", 4)
    assert [fresh.number(f"prod@{{{n}}}") for n in range(5)] == [4, 3, 2, 1, 0]
    with pytest.raises(SnapshotNotFoundError):
        resolve(fresh.handle, "prod@{2026-09-01T16:30}")


# -- locations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "revision", "path"),
    [
        ("prod", "prod", ""),
        ("prod:", "prod", ""),
        ("prod:/", "prod", ""),
        ("prod:a/b.txt", "prod", "a/b.txt"),
        ("prod:/a//./b.txt/", "prod", "a/b.txt"),
        ("prod:a:b", "prod", "a:b"),
        ("prod@{2026-09-01T12:00}:a", "prod@{2026-09-01T12:00}", "a"),
        ("prod@{2026-09-01T12:00:30+02:00}~2:a:b", "prod@{2026-09-01T12:00:30+02:00}~2", "a:b"),
        ("prod@{1}", "prod@{1}", ""),
        ("odd}name:a", "odd}name", "a"),
        (":a", "", "a"),
    ],
)
def test_locations(text: str, revision: str, path: str) -> None:
    assert parse_location(text) == Location(revision, path)


def test_a_location_as_people_write_it() -> None:
    assert str(Location("prod~1", "a/b")) == "prod~1:a/b"


@pytest.mark.parametrize("text", ["prod:..", "prod:a/../b", "prod:a\0b"])
def test_locations_with_impossible_paths(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_location(text)


def test_what_lies_there(world: World) -> None:
    file = locate(world.handle, parse_location("prod~1:a/b.txt"))
    assert (file.path, file.file.name, file.resolved.id) == ("a/b.txt", "b.txt", world.ids[2])
    with pytest.raises(WrongKindError):
        _ = file.tree
    directory = locate(world.handle, parse_location("prod:a"))
    assert directory.tree == directory.entry.object  # type: ignore[union-attr]  # it has one
    with pytest.raises(WrongKindError):
        _ = directory.file
    root = locate(world.handle, parse_location("prod"))
    assert root.entry is None
    assert root.tree == root.resolved.snapshot.tree
    with pytest.raises(WrongKindError):
        _ = root.file
    with pytest.raises(PathNotFoundError):
        locate(world.handle, parse_location("prod:a/c"))


@given(st.text(max_size=30) | st.text("prod~@{}:/0123456789abcdef-T+", max_size=30))
def test_any_text_is_understood_or_refused(text: str) -> None:
    handle = any_handle()
    try:
        locate(handle, parse_location(text))
    except MoorageError as error:
        assert isinstance(error, NotFoundError | InvalidInputError)  # noqa: PT017  # either will do


_HANDLE: list[RepositoryHandle] = []


def any_handle() -> RepositoryHandle:
    if not _HANDLE:
        _HANDLE.append(World().handle)
    return _HANDLE[0]
