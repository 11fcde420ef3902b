"""Does the next server find in the ledger what the last one told the kernel, wherever that died?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moorage.errors import FormatError
from moorage.model.refs import RefAction
from moorage.mount.kernel.passthrough import OpenMode, OpenModes
from moorage.mount.ledger import file as ledger_file
from moorage.mount.ledger import ledger as ledgers
from moorage.mount.ledger.ledger import Ledger
from moorage.mount.ledger.records import Begun, Followed, Known, open_mode
from moorage.mount.shown import inodes, moments
from moorage.mount.shown.all_branches import Everything
from moorage.mount.shown.inodes import ROOT, InodeTable
from moorage.mount.shown.slots import Slot
from moorage.mount.shown.stood import Stood
from moorage.mount.shown.view import SNAPSHOTS, Folder, Node, View
from moorage.read.cached_file import CachedFile, Seen
from tests.mount.build import Content, Link, Program
from tests.mount.fakes import FakeRepository, branch

FILES: dict[str, Content] = {
    "a": {"x": b"1", "y": b"2", "sub": {"x": b"1", "link": Link("x")}},
    "b": {"x": b"1", "sub": {"x": b"1"}, "tool": Program(b"run")},
    "x": b"1",
}
PATHS = ["x", "a", "a/x", "a/y", "a/sub", "a/sub/x", "a/sub/link", "b", "b/x", "b/sub", "b/sub/x", "b/tool"]

FOLDERS = ["branches", "branches/prod", "branches/team", "branches/team/x", "tags", "tags/v1", "at/team/x", "at/prod"]


class FakeBackings:
    takes_direct = True

    def __init__(self) -> None:
        self.last = 0

    def register(self, fd: int) -> int:
        self.last += 1
        return self.last

    def give_back(self, id: int) -> None:
        pass


class Live:
    """A table and modes that write to a ledger."""

    def __init__(self) -> None:
        self.fd = ledger_file.create()
        self.ledger = Ledger(self.fd)
        self.repository = FakeRepository()
        self.repository.set("prod", FILES)
        self.repository.set("team/x", FILES)
        self.everything = Everything(self.repository, self.repository, self.repository)
        self.view = self.one_branch()
        self.table = InodeTable(self.folder, self.ledger)
        self.modes = OpenModes(FakeBackings(), self.ledger)

    def one_branch(self) -> View:
        root = self.repository.following("prod")
        return View(
            self.repository, self.repository.open, root, Stood(root, self.repository, self.repository, branch("prod"))
        )

    def show_everything(self) -> None:
        self.view = View(self.repository, self.repository.open, self.everything)

    def walk(self, path: str) -> int:
        nodeid, node = ROOT, self.view.root()
        for name in path.split("/"):
            found = self.view.lookup(node, name)
            if found is None:
                return 0
            nodeid, node = self.table.remember(nodeid, name, found), found
        return nodeid

    def again(self) -> Known:
        """What another server would know."""
        ledger, known = Ledger.load(os.dup(self.fd))
        ledger.close()
        return known

    def table_again(self, fd: int | None = None) -> InodeTable:
        """Of another server."""
        ledger, known = Ledger.load(os.dup(self.fd if fd is None else fd))
        table = InodeTable(self.folder, ledger)
        table.restore(known.remembered)
        ledger.close()
        return table

    def slots_again(self) -> dict[int, object]:
        return said(self.table_again())

    def make_anew(self) -> None:
        """All parts that are left, or all."""
        if self.table._renewing is None:
            part_of_it(self.table)
        while self.table._renewing is not None:
            part_of_it(self.table)

    def folder(self, word: str) -> Folder:
        """By another process."""
        if word == SNAPSHOTS:
            return self.one_branch().folder(word)
        return Everything(self.repository, self.repository, self.repository).find(word)


@pytest.fixture
def live() -> Iterator[Live]:
    made = Live()
    yield made
    made.ledger.close()


def part_of_it(table: InodeTable) -> None:
    """As if the ledger were too long."""
    is_long, Ledger.is_long = Ledger.is_long, lambda *_: True  # type: ignore[method-assign]  # for as long as it takes
    try:
        table.renew()
    finally:
        Ledger.is_long = is_long  # type: ignore[method-assign]  # as it was


def said(table: InodeTable) -> dict[int, object]:
    return {
        slot.nodeid: (
            slot.parent,
            slot.name,
            comparable(slot.node),
            slot.is_shared,
            table.lookups(slot.nodeid),
            table.is_retired(slot.nodeid),
            table.current(slot.nodeid),
        )
        for slot in slots_of(table)
    }


def slots_of(table: InodeTable) -> list[Slot]:
    return [slot for nodeid in sorted(table._places) if (slot := table.get(nodeid)) is not None]


def comparable(node: Node) -> tuple[object, ...]:
    return (*node[:-1], type(node.folder), node.folder and node.folder.word)


def assert_same(live: Live, known: Known) -> None:
    assert live.slots_again() == said(live.table)
    assert known.remembered.next_nodeid == live.table._next
    modes = {nodeid: (mode.backing, mode.seen, mode.opens) for nodeid, mode in modes_of(known).items()}
    assert modes == {nodeid: (mode.backing, mode.seen, mode.opens) for nodeid, mode in live.modes._modes.items()}


def modes_of(known: Known) -> dict[int, OpenMode]:
    return {nodeid: open_mode(record) for nodeid, record in known.modes.items()}


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("walk"), st.sampled_from(PATHS)),
        st.tuples(st.just("walk"), st.sampled_from(FOLDERS)),
        st.tuples(st.just("walk"), st.tuples(st.integers(0, 3), st.sampled_from(PATHS))),
        st.tuples(st.just("everything"), st.just(0)),
        st.tuples(st.just("forget"), st.integers(0, 30)),
        st.tuples(st.just("retire"), st.integers(0, 30)),
        st.tuples(st.just("open"), st.integers(0, 30)),
        st.tuples(st.just("close"), st.integers(0, 30)),
        st.tuples(st.just("move"), st.integers(0, 3)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("compact"), st.sampled_from(["a part", "all"])),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ACTIONS)
def test_what_is_rebuilt_equals_the_live_table(actions: list[tuple[str, Any]]) -> None:
    live = Live()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(inodes, "RENEWED_AT_ONCE", 2)
        for word, what in actions:
            act(live, word, what)
            assert_same(live, live.again())
    live.ledger.close()


def act(live: Live, word: str, what: Any) -> None:
    nodeids = sorted(live.table._places)
    nodeid = nodeids[what % len(nodeids)] if nodeids and isinstance(what, int) else 0
    if word == "walk":
        live.walk(what if isinstance(what, str) else below_snapshot(live, *what))
    elif word == "everything":
        live.show_everything()
    elif word == "move":
        live.repository.set("prod", {**FILES, "new": b"%d" % int(what)})
    elif word == "compact":
        part_of_it(live.table)
        if what == "all":
            live.make_anew()
    elif word == "restart":
        live.ledger, known = Ledger.load(live.fd)
        live.table, live.modes = InodeTable(live.folder, live.ledger), OpenModes(FakeBackings(), live.ledger)
        live.table.restore(known.remembered)
        live.modes.restore(modes_of(known))
    elif nodeid and word == "forget":
        live.modes.forget(live.table.forget([(nodeid, 1)]))
    elif nodeid and word == "retire":
        live.table.retire(nodeid)
    elif nodeid and word == "open":
        live.modes.enter(nodeid, 1, None)
    elif nodeid and word == "close":
        live.modes.leave(nodeid)


def below_snapshot(live: Live, number: int, path: str) -> str:
    snapshots = list(live.repository.snapshots)
    folder = "snapshots" if live.view.keeps_files else SNAPSHOTS
    return f"{folder}/{snapshots[number % len(snapshots)].hex()}/{path}"


def test_a_record_cut_short_at_any_byte_is_as_if_it_had_not_been_written(live: Live) -> None:
    live.walk("a/sub/x")
    before, size = live.slots_again(), live.ledger._size
    live.walk("b/tool")
    raw = os.pread(live.fd, 1 << 20, 0)
    counts = set()
    for cut in range(size, len(raw) + 1):
        fd = os.memfd_create("cut")
        os.write(fd, raw[:cut])
        found = said(live.table_again(fd))
        counts.add(len(found))
        assert found.items() >= before.items()
        ledger = Ledger.load(fd)[0]
        ledger.retired([2])  # it goes on behind the last whole record
        assert live.table_again(fd).is_retired(2)
        ledger.close()
    assert counts == {3, 4, 5}


def test_a_damaged_byte_ends_what_is_believed(live: Live) -> None:
    live.walk("a")
    size = live.ledger._size
    live.walk("x")
    os.pwrite(live.fd, b"\xff", size + 12)
    assert len(live.slots_again()) == 1


def test_what_is_dead_is_given_back(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    live.walk("a/sub/x")
    monkeypatch.setattr(ledgers, "COMPACT_BYTES", 20_000)
    largest = 0
    for _ in range(5_000):
        nodeid = live.walk("b/tool")
        live.table.forget([(nodeid, 1)])
        live.table.forget([(live.walk("b"), 2)])
        largest = max(largest, len(live.ledger))
    assert largest < 50_000
    assert os.fstat(live.fd).st_blocks * 512 < 100_000
    assert_same(live, live.again())


def filled(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made anew, of which one part could not be written."""
    for path in PATHS:
        live.walk(path)
    monkeypatch.setattr(inodes, "RENEWED_AT_ONCE", 2)
    part_of_it(live.table)
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", lambda *_: 0)
        with pytest.raises(OSError, match="took 0"):
            part_of_it(live.table)
    live.make_anew()
    assert live.ledger._start > ledger_file.RECORDS_AT


def test_a_part_that_cannot_be_written_is_not_left_out(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(live, monkeypatch)
    assert live.slots_again() == said(live.table)


def test_control_whoever_goes_on_behind_it_leaves_it_out(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    renew = InodeTable._renew

    def going_on(table: InodeTable) -> None:
        before = table._renewing
        try:
            renew(table)
        except OSError:
            table._renewing = before
            raise

    monkeypatch.setattr(InodeTable, "_renew", going_on)
    filled(live, monkeypatch)
    assert len(live.slots_again()) < len(said(live.table))


@pytest.mark.parametrize("dies", [False, True])
def test_what_is_dead_is_given_back_in_parts(live: Live, monkeypatch: pytest.MonkeyPatch, dies: bool) -> None:
    monkeypatch.setattr(ledgers, "_GIVEN_BACK_AT_ONCE", 16_384)
    live.walk("a/sub/x")
    for _ in range(2_000):
        live.table.forget([(live.walk("b"), 1)])
    held = [held_bytes(live)]
    while live.ledger._start == ledger_file.RECORDS_AT:
        part_of_it(live.table)
    while live.table._renewing is not None and not dies:
        held.append(held_bytes(live))
        part_of_it(live.table)
    if dies:
        assert held_bytes(live) > 50_000
        act(live, "restart", 0)
    assert held_bytes(live) < 20_000
    assert all(0 <= before - after <= 2 * 16_384 for before, after in pairwise(held))
    assert dies or len(held) > 3
    assert live.slots_again() == said(live.table)


def held_bytes(live: Live) -> int:
    return os.fstat(live.fd).st_blocks * 512


def test_death_at_any_point_of_making_it_anew(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in PATHS:
        live.walk(path)
    live.modes.enter(3, 1, None)
    pwrite, told = os.pwrite, said(live.table)

    class Death(BaseException):
        pass

    monkeypatch.setattr(inodes, "RENEWED_AT_ONCE", 4)
    writes = -(-len(live.table) // 4) + 3  # before that what is no slot, after it moments, and the switch
    for step in range(writes + 1):
        left = [step]

        def dying(fd: int, data: bytes, at: int, left: list[int] = left) -> int:
            if left[0] == 0:
                pwrite(fd, bytes(data)[: len(data) // 2] if len(data) > 8 else b"", at)
                raise Death
            left[0] -= 1
            return pwrite(fd, data, at)

        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", dying)
            try:
                live.make_anew()
                has_died = False
            except Death:
                has_died = True
        assert has_died == (step < writes)
        assert live.slots_again() == told
        assert modes_of(live.again())[3].opens == 1
        act(live, "restart", 0)


def churned(live: Live, monkeypatch: pytest.MonkeyPatch) -> dict[int, object]:
    """Made anew in parts, between which everything else happens; what the table then says."""
    monkeypatch.setattr(inodes, "RENEWED_AT_ONCE", 1)
    monkeypatch.setattr(moments, "MOST_STANDINGS", 1)
    first, *_ = [live.walk(path) for path in PATHS]
    live.table.retire(live.walk("b/tool"))
    live.repository.set("prod", {**FILES, "new": b"new"})
    standing = live.view.root().standing
    assert standing is not None
    live.table.moment(standing)
    part_of_it(live.table)
    live.walk("new")  # at a moment that is known, but not yet written again
    live.repository.set("prod", {**FILES, "new": b"other"})
    live.walk("b/x")
    live.table.forget([(first, 9)])
    assert live.table._renewing is not None  # each of these has written a part, and changed things before it or behind
    live.make_anew()
    assert live.ledger._start > ledger_file.RECORDS_AT
    return said(live.table)


def test_what_changes_while_it_is_made_anew_holds(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    assert churned(live, monkeypatch) == live.slots_again()


def _renewed_without_standings(ledger: Ledger, *parts: Any) -> None:
    ledger.remembered(*parts[:3])


def _renewed_without_retired(ledger: Ledger, *parts: Any) -> None:
    renewed(ledger, parts[0], parts[1], parts[2], [])


renewed = Ledger.renewed


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("_is_written", lambda _, number: number is not None),
        ("renewed", _renewed_without_standings),
        ("renewed", _renewed_without_retired),
    ],
)
def test_control_what_is_left_out_while_it_is_made_anew_is_missed(
    live: Live, monkeypatch: pytest.MonkeyPatch, name: str, broken: Any
) -> None:
    monkeypatch.setattr(Ledger, name, broken)
    assert churned(live, monkeypatch) != live.slots_again()


def test_nobody_waits_for_more_than_a_part_of_making_it_anew(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inodes, "RENEWED_AT_ONCE", 3)
    monkeypatch.setattr(ledgers, "COMPACT_BYTES", 10)
    monkeypatch.setattr(ledgers, "COMPACT_FACTOR", 0)
    parts: list[int] = []

    def counted(ledger: Ledger, nodeids: Any, *more: Any) -> None:
        parts.append(len(nodeids))
        renewed(ledger, nodeids, *more)

    monkeypatch.setattr(Ledger, "renewed", counted)
    for _ in range(5):
        for path in PATHS:
            before = len(parts)
            live.walk(path)
            assert len(parts) - before <= path.count("/") + 1  # one for each name on the way
    assert max(parts) == 3
    assert live.ledger._start > ledger_file.RECORDS_AT
    assert live.slots_again() == said(live.table)


def test_a_ledger_of_nothing_but_names_that_hold_is_not_made_anew(live: Live) -> None:
    live.walk("a")
    live.table._bytes = len(live.ledger)  # as of a first walk over many names
    assert not live.ledger.is_long(live.table._bytes)
    live.ledger._size += ledgers.COMPACT_BYTES + 3 * live.table._bytes
    assert live.ledger.is_long(live.table._bytes)


def test_bytes_are_counted_as_they_are(live: Live) -> None:
    nodeids = [live.walk(path) for path in PATHS]
    live.repository.set("prod", {**FILES, "new": b"1"})
    nodeids += [live.walk(path) for path in PATHS]
    live.table.forget([(nodeid, 2) for nodeid in nodeids[:4]])
    assert live.table._bytes == sum(map(len, live.table._places.values())) > 0
    assert live.table_again()._bytes == live.table._bytes


def test_more_records_than_are_read_at_once(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in PATHS:
        live.walk(path)
    for piece_bytes in (1, 7, 100, 333):
        monkeypatch.setattr(ledgers, "_PIECE_BYTES", piece_bytes)
        assert live.slots_again() == said(live.table)


def test_counts_are_written_before_the_answer_and_taken_back_after_it(live: Live, tmp_path: Path) -> None:
    nodeid = live.walk("x")
    assert live.again().remembered.lookups == {}
    assert live.table_again().lookups(nodeid) == 1
    path = tmp_path / "file"
    path.write_bytes(b"1")
    fd = os.open(path, os.O_RDONLY)
    file = CachedFile(fd, path, Seen.of(fd))
    backing = live.modes.enter(nodeid, 1, file)
    mode = modes_of(live.again())[nodeid]
    assert (mode.backing, mode.opens, mode.seen) == (backing, 1, file.seen)
    live.modes.leave(nodeid)
    assert live.again().modes == {}


def test_a_nodeid_that_the_kernel_forgot_is_not_open(live: Live) -> None:
    nodeid = live.walk("x")
    live.modes.enter(nodeid, 1, None)
    live.modes.enter(nodeid, 1, None)  # one of them was counted twice
    live.modes.leave(nodeid)
    live.modes.forget(live.table.forget([(nodeid, 1)]))
    assert live.again().modes == {}
    live.modes.leave(nodeid)  # comes late, and does no harm


def test_what_was_agreed_and_followed_comes_back(live: Live) -> None:
    record = live.repository.records[next(iter(live.repository.records))][-1]
    begun = Begun("0:40", 45, 40, 1 << 20, 1 << 41, 1 << 39, True, Followed.of(record))
    live.ledger.begun(begun)
    known = live.again()
    assert known.begun == begun
    assert known.begun is not None
    assert known.begun.followed is not None
    assert known.begun.followed.record() == record


def test_moments_of_the_root_have_numbers_that_stay(live: Live) -> None:
    before = live.view.root().standing
    live.repository.set("prod", {"other": b""})
    after = live.view.root().standing
    assert before is not None
    assert after is not None
    first, second = live.table.moment(before), live.table.moment(after)
    assert 0 < first < second
    assert (live.table.moment(replace(before)), live.table.moment(replace(after))) == (first, second)
    assert live.again().standings == {first: before, second: after}
    live.make_anew()
    assert live.again().standings == {first: before, second: after}


def test_where_it_stands_is_where_the_next_server_begins(live: Live) -> None:
    before = live.view.root().standing
    live.repository.set("prod", {"other": b""})
    after = live.view.root().standing
    assert before is not None
    assert after is not None
    for standing in (before, after, replace(before)):
        live.ledger.stands(standing)
        known = live.again()
        assert known.standings[known.now] == standing


def test_moments_that_nobody_has_opened_for_long_are_given_up(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "MOST_STANDINGS", 3)
    live.walk("a")
    standings = []
    for number in range(9):
        live.repository.set("prod", {"other": b"%d" % number})
        standing = live.view.root().standing
        assert standing is not None
        standings.append((live.table.moment(standing), standing))
    live.ledger.stands(standings[3][1])
    live.table.moment(standings[5][1])
    live.make_anew()
    kept = live.again().standings
    slot = live.table.get(2)
    assert slot is not None
    assert kept == dict([(min(kept), slot.node.standing), *(standings[at] for at in (3, 5, 7, 8))])
    assert list(kept)[-3:] == [standings[at][0] for at in (7, 8, 5)]  # as they were opened
    assert live.ledger._moments._standings == kept


def test_a_folder_is_found_again_by_its_word_though_nothing_is_in_it_any_more(live: Live) -> None:
    live.show_everything()
    for path in ("branches/team", "at/team/x", "branches/team/x"):
        assert live.walk(path)
    live.repository.record("team/x", RefAction.DELETE, live.repository.records[branch("team/x")][-1].snapshot)
    assert not live.walk("branches/team")
    assert_same(live, live.again())


def test_each_folder_has_a_word_of_its_own() -> None:
    live = Live()
    live.repository.set("team", FILES)  # so branches/team~ is a directory
    live.show_everything()
    nodes = [live.view.root()]
    for path in ("branches", "branches/team~", "tags", "snapshots", "at", "at/team", "at/team~", "at/team~/x"):
        node = live.view.root()
        for name in path.split("/"):
            found = live.view.lookup(node, name)
            assert found is not None
            node = found
        nodes.append(node)
    folders = [node.folder for node in nodes if node.folder is not None]
    assert len({folder.word for folder in folders}) == len(nodes)
    for node, folder in zip(nodes, folders, strict=True):
        again = live.folder(folder.word)
        assert [line.name for line in again.lines(node)] == [line.name for line in folder.lines(node)]
        assert type(again) is type(folder)


def test_a_ledger_of_another_version_is_refused() -> None:
    fd = ledger_file.create()
    os.pwrite(fd, b"\x63", 8)
    with pytest.raises(FormatError, match="version 99"):
        Ledger.load(fd)
    os.close(fd)


def test_a_mode_that_is_no_longer_open_is_gone(live: Live) -> None:
    live.ledger.mode(9, OpenMode(4, None, 2))
    assert modes_of(live.again())[9].opens == 2
    live.ledger.mode(9, OpenMode(4, None, 0))
    assert live.again().modes == {}
