"""When is a rename taken up again, and when is it refused because the new name is taken?"""

from __future__ import annotations

import pytest

from moorage.errors import AlreadyExistsError, KeyNotFoundError, StorageError
from moorage.model.digest import SnapshotId
from moorage.model.refs import RefAction, RefKind, RefName
from moorage.repository.refs import RefStore
from moorage.storage.base import Buffer
from moorage.storage.memory import MemoryStorage

REPOSITORY = "0" * 32
OLD, NEW = RefName(RefKind.BRANCH, "old"), RefName(RefKind.BRANCH, "new")
FIRST, SECOND = SnapshotId.of(b"first"), SnapshotId.of(b"second")


class _DiesAfter(MemoryStorage):
    """Creates so many objects, and no more."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 1_000

    def create(self, key: str, data: Buffer) -> None:
        if not self.left:
            raise StorageError("the process would be dead by now")
        self.left -= 1
        super().create(key, data)


def _half_renamed() -> tuple[_DiesAfter, RefStore]:
    storage = _DiesAfter()
    refs = RefStore(storage, REPOSITORY)
    refs.create(OLD, FIRST, actor="tester", reason="")
    storage.left = 1
    with pytest.raises(StorageError):
        refs.rename(OLD, NEW, actor="tester", reason="")
    storage.left = 1_000
    assert refs.head(OLD).snapshot == refs.head(NEW).snapshot == FIRST
    return storage, refs


def _actions(refs: RefStore, ref: RefName) -> list[RefAction]:
    return [record.action for record in refs.verify_chain(ref)]


def test_a_rename_that_a_crash_cut_in_half_is_ended_by_asking_again() -> None:
    _, refs = _half_renamed()
    refs.rename(OLD, NEW, actor="tester", reason="")
    assert not refs.exists(OLD)
    assert _actions(refs, OLD) == [RefAction.SET, RefAction.RENAMED_TO]
    assert _actions(refs, NEW) == [RefAction.RENAMED_FROM]


def test_a_move_after_the_crash_is_carried_over() -> None:
    _, refs = _half_renamed()
    refs.move(OLD, SECOND, expected=FIRST, actor="tester", reason="")
    refs.rename(OLD, NEW, actor="tester", reason="")
    assert not refs.exists(OLD)
    assert refs.head(NEW).snapshot == SECOND


def test_a_new_name_that_has_moved_since_is_not_taken_over() -> None:
    _, refs = _half_renamed()
    refs.move(NEW, SECOND, expected=FIRST, actor="tester", reason="")
    with pytest.raises(AlreadyExistsError):
        refs.rename(OLD, NEW, actor="tester", reason="")
    assert refs.head(NEW).snapshot == SECOND


def test_an_old_name_that_was_made_anew_is_another_branch() -> None:
    refs = RefStore(MemoryStorage(), REPOSITORY)
    refs.create(OLD, FIRST, actor="tester", reason="")
    refs.rename(OLD, NEW, actor="tester", reason="")
    refs.create(OLD, SECOND, actor="tester", reason="")
    with pytest.raises(AlreadyExistsError):
        refs.rename(OLD, NEW, actor="tester", reason="")
    assert refs.head(NEW).snapshot == FIRST


def test_an_old_name_that_was_deleted_after_the_crash_and_made_anew_is_another_branch() -> None:
    _, refs = _half_renamed()
    refs.delete(OLD, actor="tester", reason="")
    refs.create(OLD, SECOND, actor="tester", reason="")
    with pytest.raises(AlreadyExistsError):
        refs.rename(OLD, NEW, actor="tester", reason="")
    assert refs.head(NEW).snapshot == FIRST


def test_a_folder_without_a_record_is_no_name() -> None:
    class _Folder(MemoryStorage):
        def list_folders(self, prefix: str) -> list[str]:
            return sorted({*super().list_folders(prefix), "never-used"})

    refs = RefStore(_Folder(), REPOSITORY)
    refs.create(OLD, FIRST, actor="tester", reason="")
    assert refs.all_names(RefKind.BRANCH) == [OLD]
    assert [record.ref for record in refs.heads(RefKind.BRANCH)] == [OLD]
    with pytest.raises(KeyNotFoundError):
        refs.record(RefName(RefKind.BRANCH, "never-used"), 1)
