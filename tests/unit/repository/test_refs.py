"""Do branches and tags move exactly when they should, whoever else is at it and whatever answer gets lost?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

import pytest

from moorage.errors import (
    AlreadyExistsError,
    CorruptDataError,
    FormatError,
    InvalidInputError,
    KeyNotFoundError,
    MissingObjectError,
    OutcomeUnknownError,
    RefMovedError,
    RefNotFoundError,
    StorageError,
)
from moorage.format.keys import ref_key
from moorage.format.refs import encode_ref_record
from moorage.model.digest import SnapshotId
from moorage.model.refs import RefAction, RefKind, RefName, RefRecord
from moorage.repository.refs import RefStore
from moorage.storage.memory import MemoryStorage
from tests.unit.wrapped import Wrapped

REPOSITORY = "0" * 32
PROD, NEXT, V1 = RefName(RefKind.BRANCH, "prod"), RefName(RefKind.BRANCH, "team/next"), RefName(RefKind.TAG, "v1")
A, B, C = (SnapshotId.of(name) for name in (b"a", b"b", b"c"))


class Who(TypedDict):
    actor: str
    reason: str


WHO: Who = {"actor": "ada", "reason": "a reason"}


class Clock:
    """Says what it is told."""

    def __init__(self, now_ns: int = 1_000) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def storage() -> Wrapped:
    return Wrapped(MemoryStorage())


@pytest.fixture
def refs(storage: Wrapped) -> RefStore:
    return RefStore(storage, REPOSITORY, Clock())


def actions(refs: RefStore, ref: RefName) -> list[tuple[RefAction, SnapshotId]]:
    return [(record.action, record.snapshot) for record in refs.verify_chain(ref)]


def once(storage: Wrapped, what: str, key: str, do: Callable[[], object], *, before: bool = True) -> None:
    """Do something at the first moment at which `what` is done to `key`."""
    left = [True]

    def step(found_what: str, found_key: str) -> None:
        if left[0] and (found_what, found_key) == (what, key):
            left[0] = False
            do()

    if before:
        storage.before = step
    else:
        storage.after = step


def lost_answer() -> None:
    raise AlreadyExistsError("as an object store says when its client repeated a write that had succeeded")


# -- one at a time -----------------------------------------------------------------------------------


def test_a_branch_is_made_moved_and_ended(refs: RefStore) -> None:
    made = refs.create(PROD, A, **WHO)
    assert (made.number, made.previous, made.actor, made.reason) == (1, "", "ada", "a reason")
    assert refs.head(PROD) == made
    moved = refs.move(PROD, B, expected=A, **WHO)
    assert (moved.number, moved.previous) == (2, made.transaction)
    ended = refs.delete(PROD, **WHO)
    assert (ended.action, ended.snapshot) == (RefAction.DELETE, B)
    with pytest.raises(RefNotFoundError) as caught:
        refs.head(PROD)
    assert caught.value.hint is not None
    assert B.short in caught.value.hint
    assert refs.log(PROD) == [made, moved, ended]
    assert not refs.exists(PROD)


def test_what_has_never_been_is_not_found(refs: RefStore) -> None:
    assert refs.last(PROD) is None
    assert not refs.exists(PROD)
    for look in (refs.head, refs.log):
        with pytest.raises(RefNotFoundError):
            look(PROD)
    with pytest.raises(RefNotFoundError):
        refs.move(PROD, B, expected=A, **WHO)
    with pytest.raises(RefNotFoundError):
        refs.delete(PROD, **WHO)
    with pytest.raises(RefNotFoundError):
        refs.rename(PROD, NEXT, **WHO)


def test_a_name_that_is_taken_is_refused(refs: RefStore) -> None:
    refs.create(PROD, A, **WHO)
    with pytest.raises(AlreadyExistsError):
        refs.create(PROD, B, **WHO)
    assert actions(refs, PROD) == [(RefAction.SET, A)]


def test_a_name_can_be_used_again(refs: RefStore) -> None:
    refs.create(PROD, A, **WHO)
    refs.delete(PROD, **WHO)
    refs.create(PROD, B, **WHO)
    assert actions(refs, PROD) == [(RefAction.SET, A), (RefAction.DELETE, A), (RefAction.SET, B)]


def test_a_move_from_elsewhere_names_both_snapshots(refs: RefStore) -> None:
    refs.create(PROD, A, **WHO)
    with pytest.raises(RefMovedError) as caught:
        refs.move(PROD, C, expected=B, **WHO)
    assert (caught.value.fields["expected"], caught.value.fields["actual"]) == (B.hex(), A.hex())


def test_a_delete_may_insist_on_where_the_branch_stands(refs: RefStore) -> None:
    refs.create(PROD, A, **WHO)
    with pytest.raises(RefMovedError):
        refs.delete(PROD, expected=B, **WHO)
    refs.delete(PROD, expected=A, **WHO)


def test_tags_never_move(refs: RefStore) -> None:
    refs.create(V1, A, **WHO)
    with pytest.raises(InvalidInputError):
        refs.move(V1, B, expected=A, **WHO)
    refs.delete(V1, **WHO)
    refs.create(V1, B, **WHO)
    assert actions(refs, V1) == [(RefAction.SET, A), (RefAction.DELETE, A), (RefAction.SET, B)]


def test_a_branch_and_a_tag_of_one_name_that_were_made_at_once(refs: RefStore, storage: Wrapped) -> None:
    tag = RefName(RefKind.TAG, PROD.name)
    once(storage, "create", ref_key(tag, 1), lambda: refs.create(PROD, A, **WHO))
    refs.create(tag, B, **WHO)
    assert refs.head(PROD).snapshot == A
    assert refs.head(tag).snapshot == B


def test_names_are_listed_sorted_and_dead_ones_apart(refs: RefStore) -> None:
    for name in ("b", "a/b", "\u00e9", "a"):
        refs.create(RefName(RefKind.BRANCH, name), A, **WHO)
    refs.delete(RefName(RefKind.BRANCH, "b"), **WHO)
    refs.create(V1, A, **WHO)
    assert [record.ref.name for record in refs.heads(RefKind.BRANCH)] == ["a", "a/b", "\u00e9"]
    assert [ref.name for ref in refs.all_names(RefKind.BRANCH)] == ["a", "a/b", "b", "\u00e9"]
    assert [record.ref for record in refs.heads(RefKind.TAG)] == [V1]


def test_time_only_goes_forward(storage: Wrapped) -> None:
    clock = Clock()
    refs = RefStore(storage, REPOSITORY, clock)
    refs.create(PROD, A, **WHO)
    clock.now_ns = 10
    assert refs.move(PROD, B, expected=A, **WHO).time_ns == 1_001
    clock.now_ns = 5_000
    assert refs.move(PROD, C, expected=B, **WHO).time_ns == 5_000


def test_following_a_branch_probes_the_next_record_only(refs: RefStore, storage: Wrapped) -> None:
    first = refs.create(PROD, A, **WHO)
    storage.done.clear()
    assert refs.last(PROD, after=first) == first
    assert storage.done == [("get", ref_key(PROD, 2))]
    refs.move(PROD, B, expected=A, **WHO)
    third = refs.move(PROD, C, expected=B, **WHO)
    assert refs.last(PROD, after=first) == third


# -- several at once ---------------------------------------------------------------------------------


def test_the_slower_of_two_creators_is_told(refs: RefStore, storage: Wrapped) -> None:
    other = RefStore(storage.inner, REPOSITORY)
    once(storage, "create", ref_key(PROD, 1), lambda: other.create(PROD, B, **WHO))
    with pytest.raises(AlreadyExistsError) as caught:
        refs.create(PROD, A, **WHO)
    assert B.hex() in caught.value.message
    assert refs.head(PROD).snapshot == B


def test_a_creator_whose_rival_is_gone_again_is_told_of_a_conflict(refs: RefStore, storage: Wrapped) -> None:
    other = RefStore(storage.inner, REPOSITORY)

    def come_and_go() -> None:
        other.create(PROD, B, **WHO)
        other.delete(PROD, **WHO)

    once(storage, "create", ref_key(PROD, 1), come_and_go)
    with pytest.raises(RefMovedError) as caught:
        refs.create(PROD, A, **WHO)
    assert caught.value.fields["actual"] is None


def test_who_starts_a_branch_late_learns_of_it_as_a_conflict(refs: RefStore, storage: Wrapped) -> None:
    RefStore(storage.inner, REPOSITORY).create(PROD, B, **WHO)
    with pytest.raises(RefMovedError) as caught:
        refs.start(PROD, None, A, **WHO)
    assert caught.value.fields["actual"] == B.hex()
    assert caught.value.fields["expected"] is None


def test_the_slower_of_two_movers_is_told(refs: RefStore, storage: Wrapped) -> None:
    refs.create(PROD, A, **WHO)
    other = RefStore(storage.inner, REPOSITORY)
    once(storage, "create", ref_key(PROD, 2), lambda: other.move(PROD, B, expected=A, actor="eve", reason="was first"))
    with pytest.raises(RefMovedError) as caught:
        refs.move(PROD, C, expected=A, **WHO)
    assert (caught.value.fields["expected"], caught.value.fields["actual"]) == (A.hex(), B.hex())
    assert "eve" in caught.value.message
    assert actions(refs, PROD) == [(RefAction.SET, A), (RefAction.SET, B)]


def test_a_mover_is_told_where_the_branch_stands_now_not_who_was_just_faster(refs: RefStore, storage: Wrapped) -> None:
    refs.create(PROD, A, **WHO)
    other = RefStore(storage.inner, REPOSITORY)

    def two_moves() -> None:
        other.move(PROD, B, expected=A, **WHO)
        other.move(PROD, C, expected=B, **WHO)

    once(storage, "create", ref_key(PROD, 2), two_moves)
    with pytest.raises(RefMovedError) as caught:
        refs.move(PROD, B, expected=A, **WHO)
    assert caught.value.fields["actual"] == C.hex()


def test_a_lost_answer_to_our_own_write_is_a_success(refs: RefStore, storage: Wrapped) -> None:
    refs.create(PROD, A, **WHO)
    once(storage, "create", ref_key(PROD, 2), lost_answer, before=False)
    moved = refs.move(PROD, B, expected=A, **WHO)
    assert refs.head(PROD) == moved
    assert actions(refs, PROD) == [(RefAction.SET, A), (RefAction.SET, B)]


def test_an_unknown_outcome_is_neither_acknowledged_nor_undone(refs: RefStore, storage: Wrapped) -> None:
    refs.create(PROD, A, **WHO)

    def unknown() -> None:
        raise OutcomeUnknownError("the folder could not be synced")

    once(storage, "create", ref_key(PROD, 2), unknown, before=False)
    with pytest.raises(OutcomeUnknownError):
        refs.move(PROD, B, expected=A, **WHO)
    assert refs.head(PROD).snapshot == B


def test_a_failed_write_changes_nothing(refs: RefStore, storage: Wrapped) -> None:
    refs.create(PROD, A, **WHO)

    def failure() -> None:
        raise StorageError("no")

    once(storage, "create", ref_key(PROD, 2), failure)
    with pytest.raises(StorageError):
        refs.move(PROD, B, expected=A, **WHO)
    assert refs.head(PROD).snapshot == A


# -- renaming ----------------------------------------------------------------------------------------


def test_a_rename_is_in_both_logs(refs: RefStore, storage: Wrapped) -> None:
    refs.create(PROD, A, **WHO)
    storage.done.clear()
    made = refs.rename(PROD, NEXT, **WHO)
    assert made == refs.head(NEXT)
    assert (made.action, made.snapshot, made.other) == (RefAction.RENAMED_FROM, A, "prod")
    (*_, last) = refs.log(PROD)
    assert (last.action, last.other) == (RefAction.RENAMED_TO, "team/next")
    assert storage.keys_of("create") == [ref_key(NEXT, 1), ref_key(PROD, 2)]
    with pytest.raises(RefNotFoundError) as caught:
        refs.head(PROD)
    assert "team/next" in (caught.value.hint or "")


def test_renaming_to_and_fro(refs: RefStore) -> None:
    refs.create(PROD, A, **WHO)
    refs.rename(PROD, NEXT, **WHO)
    refs.rename(NEXT, PROD, **WHO)
    assert refs.head(PROD).snapshot == A
    assert not refs.exists(NEXT)
    assert [action for action, _ in actions(refs, PROD)] == [
        RefAction.SET,
        RefAction.RENAMED_TO,
        RefAction.RENAMED_FROM,
    ]


def test_a_branch_and_a_tag_cannot_share_a_name(refs: RefStore) -> None:
    """Else `prod` would be ambiguous from one moment to the next, for every mount and unit that says it."""
    refs.create(PROD, A, **WHO)
    refs.create(V1, A, **WHO)
    with pytest.raises(AlreadyExistsError, match="there is a branch 'prod'") as refused:
        refs.create(RefName(RefKind.TAG, "prod"), B, **WHO)
    assert "moorage branch rename prod NEW" in (refused.value.hint or "")
    ways: list[Callable[[], object]] = [
        lambda: refs.create(RefName(RefKind.BRANCH, "v1"), B, **WHO),
        lambda: refs.rename(PROD, RefName(RefKind.BRANCH, "v1"), **WHO),
    ]
    for make in ways:
        with pytest.raises(AlreadyExistsError, match="there is a tag 'v1'") as refused:
            make()
        assert "moorage tag delete v1" in (refused.value.hint or "")
    refs.delete(V1, **WHO)
    refs.rename(PROD, RefName(RefKind.BRANCH, "v1"), **WHO)


def test_a_rename_to_a_taken_name_is_refused(refs: RefStore) -> None:
    refs.create(PROD, A, **WHO)
    refs.create(NEXT, B, **WHO)
    with pytest.raises(AlreadyExistsError):
        refs.rename(PROD, NEXT, **WHO)
    with pytest.raises(AlreadyExistsError):
        refs.rename(PROD, PROD, **WHO)
    assert refs.head(PROD).snapshot == A


def test_a_branch_does_not_become_a_tag(refs: RefStore) -> None:
    refs.create(PROD, A, **WHO)
    with pytest.raises(InvalidInputError):
        refs.rename(PROD, V1, **WHO)


def test_a_rename_whose_new_name_is_taken_meanwhile(refs: RefStore, storage: Wrapped) -> None:
    refs.create(PROD, A, **WHO)
    other = RefStore(storage.inner, REPOSITORY)
    once(storage, "create", ref_key(NEXT, 1), lambda: other.create(NEXT, B, **WHO))
    with pytest.raises(AlreadyExistsError):
        refs.rename(PROD, NEXT, **WHO)
    assert refs.head(PROD).snapshot == A
    assert refs.head(NEXT).snapshot == B


def test_a_move_during_a_rename_is_carried_over(refs: RefStore, storage: Wrapped) -> None:
    refs.create(PROD, A, **WHO)
    other = RefStore(storage.inner, REPOSITORY)
    once(storage, "create", ref_key(PROD, 2), lambda: other.move(PROD, B, expected=A, **WHO))
    refs.rename(PROD, NEXT, **WHO)
    assert not refs.exists(PROD)
    assert actions(refs, NEXT) == [(RefAction.RENAMED_FROM, A), (RefAction.SET, B)]
    assert actions(refs, PROD) == [(RefAction.SET, A), (RefAction.SET, B), (RefAction.RENAMED_TO, B)]


def test_a_deletion_during_a_rename_leaves_the_new_name(refs: RefStore, storage: Wrapped) -> None:
    refs.create(PROD, A, **WHO)
    other = RefStore(storage.inner, REPOSITORY)
    once(storage, "create", ref_key(PROD, 2), lambda: other.delete(PROD, **WHO))
    refs.rename(PROD, NEXT, **WHO)
    assert not refs.exists(PROD)
    assert refs.head(NEXT).snapshot == A


def test_a_rename_gives_up_against_a_writer_that_never_rests(refs: RefStore, storage: Wrapped) -> None:
    refs.create(PROD, A, **WHO)
    other = RefStore(storage.inner, REPOSITORY)

    def always_first(what: str, key: str) -> None:
        if what == "create" and key.startswith("refs/branches/prod/"):
            stands = other.head(PROD).snapshot
            other.move(PROD, B if stands == A else A, expected=stands, **WHO)

    storage.before = always_first
    with pytest.raises(RefMovedError) as caught:
        refs.rename(PROD, NEXT, **WHO)
    assert "both names" in caught.value.message
    assert refs.head(NEXT).snapshot in (A, B)


# -- damage ------------------------------------------------------------------------------------------


def test_a_gap_is_damage(refs: RefStore, storage: Wrapped) -> None:
    refs.create(PROD, A, **WHO)
    refs.move(PROD, B, expected=A, **WHO)
    refs.move(PROD, C, expected=B, **WHO)
    storage.delete(ref_key(PROD, 2))
    for look in (refs.last, refs.head, refs.log):
        with pytest.raises(MissingObjectError, match="record 2 is gone"):
            look(PROD)


def test_records_that_come_in_while_they_are_listed_are_no_gap(refs: RefStore, storage: Wrapped) -> None:
    refs.create(PROD, A, **WHO)
    refs.move(PROD, B, expected=A, **WHO)
    third = refs.move(PROD, C, expected=B, **WHO)
    hidden = ref_key(PROD, 2)
    listing = storage.list_keys
    storage.list_keys = lambda prefix: (info for info in listing(prefix) if info.key != hidden)  # type: ignore[method-assign]  # a listing that is not of one moment
    assert refs.head(PROD) == third


def test_a_foreign_file_among_the_records_is_named(refs: RefStore, storage: Wrapped) -> None:
    refs.create(PROD, A, **WHO)
    storage.create("refs/branches/prod/notes.txt", b"")
    with pytest.raises(FormatError, match=r"notes\.txt"):
        refs.head(PROD)


def test_a_record_of_another_repository_or_ref_is_damage(storage: Wrapped) -> None:
    RefStore(storage, "1" * 32).create(PROD, A, **WHO)
    with pytest.raises(CorruptDataError):
        RefStore(storage, REPOSITORY).head(PROD)
    storage.create(ref_key(NEXT, 1), storage.get(ref_key(PROD, 1)))
    with pytest.raises(CorruptDataError):
        RefStore(storage, "1" * 32).head(NEXT)


def test_a_folder_without_a_record_is_no_ref(refs: RefStore, storage: Wrapped) -> None:
    storage.list_folders = lambda prefix: ["prod"]  # type: ignore[method-assign]  # what a crash before the link leaves
    assert refs.heads(RefKind.BRANCH) == []
    assert refs.all_names(RefKind.BRANCH) == []


def record(number: int, action: RefAction, ref: RefName = PROD, changes: dict[str, object] | None = None) -> RefRecord:
    fields: dict[str, object] = {
        "ref": ref,
        "number": number,
        "action": action,
        "snapshot": A,
        "transaction": f"{number:032x}",
        "previous": f"{number - 1:032x}" if number > 1 else "",
        "time_ns": number,
        "actor": "",
        "reason": "",
        "other": "other" if action in (RefAction.RENAMED_FROM, RefAction.RENAMED_TO) else "",
        **(changes or {}),
    }
    return RefRecord(**fields)  # type: ignore[arg-type]  # fields by name


S, D, RF, RT = RefAction.SET, RefAction.DELETE, RefAction.RENAMED_FROM, RefAction.RENAMED_TO


@pytest.mark.parametrize(
    ("ref", "log", "is_whole"),
    [
        (PROD, [S, S, D, S, RT, RF, S, RT], True),
        (PROD, [RF, S, D], True),
        (V1, [S, D, S, D], True),
        (PROD, [D], False),
        (PROD, [RT], False),
        (PROD, [S, D, D], False),
        (PROD, [S, RT, D], False),
        (PROD, [S, RF], False),
        (V1, [S, S], False),
        (V1, [RF, S], False),
    ],
)
def test_what_may_follow_what(ref: RefName, log: list[RefAction], is_whole: bool) -> None:
    storage = MemoryStorage()
    for number, action in enumerate(log, 1):
        data = encode_ref_record(record(number, action, ref), repository_id=REPOSITORY)
        storage.create(ref_key(ref, number), data)
    refs = RefStore(storage, REPOSITORY)
    if is_whole:
        assert len(refs.verify_chain(ref)) == len(log)
    else:
        with pytest.raises(CorruptDataError, match=f"record {len(log)} "):
            refs.verify_chain(ref)


@pytest.mark.parametrize("changes", [{"previous": "f" * 32}, {"time_ns": 1}, {"time_ns": 0}])
def test_a_record_that_belongs_to_another_chain(changes: dict[str, object]) -> None:
    assert record(2, S).follows(record(1, S))
    assert not record(2, S, PROD, changes).follows(record(1, S))


def test_one_record_by_number(refs: RefStore) -> None:
    refs.create(PROD, A, **WHO)
    assert refs.record(PROD, 1).snapshot == A
    with pytest.raises(KeyNotFoundError):
        refs.record(PROD, 2)
