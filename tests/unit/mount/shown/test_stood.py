"""Does a root show the snapshots on which it has stood, and no others?"""

from __future__ import annotations

import pytest

from moorage.errors import StorageError
from moorage.mount.shown.following import Fixed, Following, Standing
from moorage.mount.shown.stood import Stood
from moorage.mount.shown.view import SNAPSHOTS, View
from tests.mount.build import Content
from tests.mount.fakes import FakeRepository, branch

FILES: dict[str, Content] = {"f": b"1"}


def following(repository: FakeRepository, name: str = "prod") -> View:
    root = repository.following(name)
    assert isinstance(root, Following)
    return View(repository, repository.open, root, Stood(root, repository, repository, branch(name)))


def names(view: View, *ids: str) -> list[bool]:
    """Which of these are found, asked twice."""
    folder = view.lookup(view.root(), SNAPSHOTS)
    assert folder is not None
    found = [view.lookup(folder, id) is not None for id in ids]
    assert found == [view.lookup(folder, id) is not None for id in ids]
    return found


def test_where_it_stands_and_stood_also_before_it_was_mounted() -> None:
    repository = FakeRepository()
    ids = [repository.set("prod", {"f": b"%d" % n}).hex() for n in range(3)]
    other = repository.set("other", FILES).hex()
    view = following(repository)
    assert names(view, *ids, other, "f" * 64) == [True, True, True, False, False]
    newest = repository.set("prod", FILES).hex()
    assert names(view, *ids, newest, other) == [True, True, True, True, False]


def test_not_by_less_than_its_whole_name() -> None:
    repository = FakeRepository()
    id = repository.set("prod", FILES).hex()
    assert names(following(repository), id[:-1], id.upper(), id[:12], id + "0", "") == [False] * 5


def test_across_a_rename() -> None:
    repository = FakeRepository()
    first = repository.set("prod", FILES).hex()
    view = following(repository)
    repository.rename("prod", "new")
    second = repository.set("new", FILES).hex()
    assert names(view, first, second) == [True, True]


def test_a_fixed_root_shows_its_own() -> None:
    repository = FakeRepository()
    first, second = repository.set("prod", FILES), repository.set("prod", FILES)
    root = Fixed(Standing.at(first, repository.snapshots[first], "prod"))
    view = View(repository, repository.open, root, Stood(root, repository, repository, None))
    assert names(view, first.hex(), second.hex()) == [True, False]


def test_what_was_found_is_found_while_refs_cannot_be_read() -> None:
    repository = FakeRepository()
    first, second = (repository.set("prod", {"f": data}).hex() for data in (b"1", b"2"))
    view = following(repository)
    assert names(view, first) == [True]
    repository.is_unreachable = True
    assert names(view, first, second) == [True, True]


def test_a_log_that_cannot_be_read_is_an_error_and_no_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the kernel would be told that the snapshot is not there."""
    repository = FakeRepository()
    first, _ = (repository.set("prod", {"f": data}).hex() for data in (b"1", b"2"))
    view = following(repository)
    monkeypatch.setattr(repository, "log", _unreadable)
    with pytest.raises(StorageError):
        names(view, first)


def _unreadable(_ref: object) -> None:
    raise StorageError("the disk is gone")
