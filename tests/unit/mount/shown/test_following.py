"""Does a mount stand where the refs say, whatever happens to them, and whenever it looks?"""

from __future__ import annotations

import logging
import threading

import pytest

from moorage.model.digest import SnapshotId
from moorage.model.refs import RefAction
from moorage.model.snapshot import Snapshot
from moorage.mount.shown import following
from moorage.mount.shown.following import Fixed, Following, Standing
from tests.mount.fakes import FakeRepository, branch


@pytest.fixture
def repository() -> FakeRepository:
    made = FakeRepository()
    made.set("prod", {"v": b"1"})
    return made


def test_a_move_is_seen_at_the_next_look(repository: FakeRepository) -> None:
    root = repository.following("prod")
    first = root.now()
    second = repository.set("prod", {"v": b"2"})
    assert root.now().snapshot == second != first.snapshot
    assert root.now().branch == "prod"


def test_looking_without_news_is_one_probe_and_gives_the_same_value(repository: FakeRepository) -> None:
    root = repository.following("prod")
    before = root.now()
    repository.probes = 0
    assert root.now() is before
    assert repository.probes == 1


def test_a_deleted_branch_leaves_the_mount_where_it_is_and_says_so_once(
    repository: FakeRepository, caplog: pytest.LogCaptureFixture
) -> None:
    root = repository.following("prod")
    last = root.now()
    repository.record("prod", RefAction.DELETE, last.snapshot)
    with caplog.at_level(logging.WARNING):
        assert [root.now().snapshot for _ in range(5)] == [last.snapshot] * 5
    assert [record.message for record in caplog.records] == [
        f"branch 'prod' was deleted; staying on snapshot {last.snapshot.short}"
    ]


def test_what_keeps_it_from_following_is_told_and_taken_back(repository: FakeRepository) -> None:
    record = repository.records[branch("prod")][-1]
    told: list[str] = []
    snapshot = repository.snapshots[record.snapshot]
    root = Following(repository, repository, record, Standing.at(record.snapshot, snapshot, "prod"), noted=told.append)
    repository.record("prod", RefAction.DELETE, record.snapshot)
    deleted = f"branch 'prod' was deleted; staying on snapshot {root.now().snapshot.short}"
    root.now()
    assert told == [deleted]
    repository.is_unreachable = True
    root.now()
    root.now()
    assert len(told) == 2
    assert "the disk is gone" in told[1]
    repository.is_unreachable = False
    root.now()
    assert told[2:] == [deleted]
    repository.set("prod", {"v": b"2"})
    root.now()
    root.now()
    assert told[3:] == [""]
    repository.set("prod", {"v": b"3"})
    root.now()
    assert len(told) == 4


def test_a_branch_that_comes_back_is_followed_again(repository: FakeRepository) -> None:
    root = repository.following("prod")
    repository.record("prod", RefAction.DELETE, root.now().snapshot)
    root.now()
    assert root.now().snapshot != repository.set("other", {"v": b"3"})
    assert root.now().snapshot == root.now().snapshot
    again = repository.set("prod", {"v": b"4"})
    assert root.now().snapshot == again


def test_a_renamed_branch_is_followed_under_its_new_name(repository: FakeRepository) -> None:
    root = repository.following("prod")
    repository.rename("prod", "stable")
    assert root.now().branch == "stable"
    moved = repository.set("stable", {"v": b"2"})
    assert root.now().snapshot == moved
    repository.rename("stable", "final")
    assert root.now().branch == "final"


@pytest.mark.parametrize("looks_in_between", [True, False])
def test_what_is_shown_does_not_depend_on_when_somebody_looked(
    repository: FakeRepository, *, looks_in_between: bool
) -> None:
    """`prod` is renamed away and made anew: the name that was asked for wins, for every mount."""
    root = repository.following("prod")
    repository.rename("prod", "prod-old")
    if looks_in_between:
        assert root.now().branch == "prod-old"
    anew = repository.set("prod", {"v": b"new"})
    assert root.now().snapshot == anew
    assert root.now().branch == "prod"


def test_what_became_of_the_name_is_noted(repository: FakeRepository) -> None:
    noted: list[str] = []
    record = repository.records[branch("prod")][-1]
    start = Standing.at(record.snapshot, repository.snapshots[record.snapshot], "prod")
    root = Following(repository, repository, record, start, noted=noted.append)
    repository.rename("prod", "stable")
    root.now()
    repository.set("stable", {"v": b"2"})
    root.now()
    assert noted == ["branch 'prod' was renamed; following branch 'stable'"]
    repository.set("prod", {"v": b"3"})
    root.now()
    assert noted[1:] == [""]


def test_a_renamed_branch_whose_new_name_is_deleted_stays(repository: FakeRepository) -> None:
    root = repository.following("prod")
    repository.rename("prod", "stable")
    last = repository.set("stable", {"v": b"2"})
    assert root.now().snapshot == last
    repository.record("stable", RefAction.DELETE, last)
    assert root.now().snapshot == last


def test_names_renamed_in_a_circle_end_somewhere(repository: FakeRepository) -> None:
    root = repository.following("prod")
    snapshot = root.now().snapshot
    repository.record("other", RefAction.RENAMED_TO, snapshot, "prod")
    repository.record("prod", RefAction.RENAMED_TO, snapshot, "other")
    assert root.now().snapshot == snapshot


def test_refs_that_cannot_be_read_leave_the_mount_where_it_is(
    repository: FakeRepository, caplog: pytest.LogCaptureFixture
) -> None:
    root = repository.following("prod")
    before = root.now()
    repository.is_unreachable = True
    assert [root.now() for _ in range(3)] == [before] * 3
    assert len(caplog.records) == 1
    assert "the disk is gone" in caplog.text
    repository.is_unreachable = False
    assert root.now().snapshot == repository.set("prod", {"v": b"2"}) or root.now().snapshot != before.snapshot


def test_a_snapshot_that_cannot_be_read_is_tried_again(repository: FakeRepository) -> None:
    root = repository.following("prod")
    before = root.now()
    id = repository.set("prod", {"v": b"2"})
    hidden = repository.snapshots.pop(id)
    with pytest.raises(KeyError):  # what is no error of storage is a bug, and must not be taken for one
        root.now()
    repository.snapshots[id] = hidden
    assert root.now().snapshot == id != before.snapshot


def test_many_threads_never_see_it_go_back(repository: FakeRepository) -> None:
    root = repository.following("prod")
    ids = [root.now().snapshot]
    wrong: list[str] = []
    is_over = threading.Event()

    def look() -> None:
        newest = 0
        while not is_over.is_set():
            position = ids.index(root.now().snapshot) if root.now().snapshot in ids else newest
            if position + 1 < newest:
                wrong.append(f"{position} after {newest}")
            newest = max(newest, position)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(200):
        id = repository.store({"v": b"%d" % number})
        ids.append(id)
        repository.record("prod", RefAction.SET, id)
    is_over.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert root.now().snapshot == ids[-1]


def test_a_fixed_root_asks_nobody(repository: FakeRepository) -> None:
    record = repository.records[branch("prod")][-1]
    standing = Standing.at(record.snapshot, repository.snapshots[record.snapshot])
    root = Fixed(standing)
    repository.set("prod", {"v": b"2"})
    repository.probes = 0
    assert root.now() is standing
    assert root.is_fixed
    assert repository.probes == 0


def test_it_tells_of_each_other_standing_and_of_nothing_else(repository: FakeRepository) -> None:
    told: list[Standing] = []
    record = repository.records[branch("prod")][-1]
    start = Standing.at(record.snapshot, repository.snapshots[record.snapshot], "prod")
    root = Following(repository, repository, record, start, told.append)
    root.now()
    second = repository.set("prod", {"v": b"2"})
    repository.record("prod", RefAction.SET, second)
    for _ in range(3):
        root.now()
    repository.rename("prod", "stable")
    root.now()
    repository.record("stable", RefAction.DELETE, second)
    root.now()
    assert [(standing.snapshot, standing.branch) for standing in told] == [(second, "prod"), (second, "stable")]


def test_one_walk_waits_for_a_snapshot_that_hangs_and_the_others_do_not(
    repository: FakeRepository, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(following, "PATIENCE_S", 0.01)
    root = repository.following("prod")
    first = root.now()
    entered, go, read = threading.Event(), threading.Event(), repository.snapshot

    def hanging(id: SnapshotId) -> Snapshot:
        entered.set()
        assert go.wait(60)
        return read(id)

    monkeypatch.setattr(repository, "snapshot", hanging)
    second = repository.set("prod", {"v": b"2"})
    mover = threading.Thread(target=root.now)
    mover.start()
    assert entered.wait(60)
    assert [root.now(), root.now(), root.last()] == [first] * 3
    assert len(caplog.records) == 1
    go.set()
    mover.join(60)
    assert root.now().snapshot == second
    third = repository.set("prod", {"v": b"3"})
    assert root.now().snapshot == third
    assert root.last().snapshot == third


def test_the_last_standing_asks_nobody(repository: FakeRepository) -> None:
    root = repository.following("prod")
    repository.set("prod", {"v": b"2"})
    before, repository.probes = root.last(), 0
    assert root.last() is before
    assert repository.probes == 0
    assert root.now() is root.last() is not before
