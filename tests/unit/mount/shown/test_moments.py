"""Does a number mean the same moment as long as anything has it, and is it given up then?"""

from __future__ import annotations

import pytest

from moorage.mount.shown import inodes, moments
from moorage.mount.shown.following import Standing
from moorage.mount.shown.inodes import ROOT, InodeTable
from moorage.mount.shown.moments import Journal
from tests.mount.fakes import FakeRepository


class Moved:
    """A mount whose branch moves all the time."""

    def __init__(self) -> None:
        self.repository = FakeRepository()
        self.move(0)
        self.view = self.repository.view("prod")
        self.journal = Journal()
        self.table = InodeTable(self.view.folder, self.journal)

    def move(self, number: int) -> None:
        self.repository.set("prod", {f"f{number}": b"%d" % number, "same": b""})

    def walk(self, name: str) -> int:
        node = self.view.lookup(self.view.root(), name)
        assert node is not None
        return self.table.remember(ROOT, name, node)

    def standing(self) -> Standing:
        standing = self.view.root().standing
        assert standing is not None
        return standing


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Moved:
    monkeypatch.setattr(moments, "MOST_STANDINGS", 4)
    monkeypatch.setattr(inodes, "RENEWED_AT_ONCE", 2)
    return Moved()


def test_moments_of_which_nothing_is_remembered_are_given_up(moved: Moved) -> None:
    first, standing = moved.walk("f0"), moved.standing()
    for number in range(1, 200):
        moved.move(number)
        moved.walk("same")
    assert len(moved.journal._moments) < 20
    slot = moved.table.get(first)
    assert slot is not None
    assert slot.node.standing == standing
    assert moved.table.moment(standing) == 1


def test_control_what_is_found_while_all_is_gone_through_is_what_keeps_them(
    moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Journal, "renewed", lambda *_: None)
    first = moved.walk("f0")
    for number in range(1, 200):
        moved.move(number)
        moved.walk("same")
    slot = moved.table.get(first)
    assert slot is not None
    assert slot.node.standing is None


def test_who_opened_the_root_last_keeps_his_moment(moved: Moved) -> None:
    opened = moved.table.moment(moved.standing())
    standing = moved.standing()
    for number in range(1, 4):
        moved.move(number)
        moved.table.moment(moved.standing())
    moved.journal.begin_anew(ROOT + 1)
    moved.journal.end_anew()
    assert moved.journal.standing(opened) == standing
