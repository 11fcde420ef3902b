"""Does the table of nodeids keep exactly what the kernel remembers, and never reuse or mix up a number?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from moorage.mount.shown.inodes import ROOT, InodeTable
from moorage.mount.shown.view import Node, View
from tests.mount.build import Content
from tests.mount.fakes import FakeRepository

FILES: dict[str, Content] = {
    "a": {"x": b"1", "y": b"2", "sub": {"x": b"1"}},
    "b": {"x": b"1", "sub": {"x": b"1"}},
    "x": b"1",
}


def fixed() -> tuple[View, InodeTable]:
    view = FakeRepository().fixed_view(FILES)
    return view, InodeTable(view.folder)


def _walk(view: View, table: InodeTable, path: str) -> tuple[int, Node]:
    nodeid, node = ROOT, view.root()
    for name in path.split("/"):
        found = view.lookup(node, name)
        assert found is not None
        nodeid, node = table.remember(nodeid, name, found), found
    return nodeid, node


def test_equal_files_share_a_nodeid_and_equal_directories_do_not() -> None:
    view, table = fixed()
    assert _walk(view, table, "a/x")[0] == _walk(view, table, "b/x")[0] == _walk(view, table, "x")[0]
    assert _walk(view, table, "a/x")[0] != _walk(view, table, "a/y")[0]
    assert _walk(view, table, "a/sub")[0] != _walk(view, table, "b/sub")[0]


def test_the_same_lookup_is_the_same_nodeid_and_a_forgotten_one_is_never_given_again() -> None:
    view, table = fixed()
    first, _ = _walk(view, table, "x")
    assert _walk(view, table, "x")[0] == first
    table.forget([(first, 1)])
    assert table.get(first) is not None
    table.forget([(first, 1)])
    assert table.get(first) is None
    assert len(table) == 0
    assert _walk(view, table, "x")[0] > first


def test_a_twin_is_another_nodeid_of_the_same_file() -> None:
    view, table = fixed()
    first, node = _walk(view, table, "x")
    table.retire(first)
    twin, same = _walk(view, table, "x")
    assert twin != first
    assert same.inode == node.inode
    assert _walk(view, table, "a/x")[0] == twin
    table.retire(first)  # no longer what lookups find: nothing to do
    assert _walk(view, table, "b/x")[0] == twin
    table.forget([(first, 1)])
    assert table.get(first) is None
    assert _walk(view, table, "x")[0] == twin
    table.forget([(twin, 4)])
    assert _walk(view, table, "x")[0] > twin


def test_a_slot_shows_the_newest_snapshot_it_was_seen_in() -> None:
    repository = FakeRepository()
    repository.set("prod", {"d": {"f": b"same"}, "v": b"1"})
    view = repository.view("prod")
    table = InodeTable(view.folder)
    file, _ = _walk(view, table, "d/f")
    newest = repository.set("prod", {"d": {"f": b"same"}, "v": b"2"})
    _walk(view, table, "d")
    standing = table.standing_above(file)
    assert standing is not None
    assert standing.snapshot == newest


def test_paths_are_for_people_and_survive_a_forgotten_way_up() -> None:
    view, table = fixed()
    nodeid, _ = _walk(view, table, "a/sub/x")
    assert table.path(nodeid) == "/a/sub/x"
    assert table.path(ROOT) == "/"
    assert table.path(99) == "/..."
    above = table.get(nodeid)
    assert above is not None
    table.forget([(above.parent, 1)])
    assert table.path(nodeid) == "/.../x"
    assert table.standing_above(nodeid) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=5))
def test_forgetting_what_nobody_knows_is_no_error(forgotten: list[tuple[int, int]]) -> None:
    fixed()[1].forget(forgotten)


class TableMachine(RuleBasedStateMachine):
    """The table against a plain count of lookups."""

    def __init__(self) -> None:
        super().__init__()
        self.view, self.table = fixed()
        self.counts: dict[int, int] = {}
        self.seen: dict[int, object] = {}

    @rule(path=st.sampled_from(["a", "b", "x", "a/x", "a/y", "b/x", "a/sub", "b/sub", "a/sub/x"]))
    def look_up(self, path: str) -> None:
        nodeid, node = ROOT, self.view.root()
        for name in path.split("/"):
            found = self.view.lookup(node, name)
            assert found is not None
            nodeid, node = self.table.remember(nodeid, name, found), found
            self.counts[nodeid] = self.counts.get(nodeid, 0) + 1
            assert self.seen.setdefault(nodeid, node.identity) == node.identity

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        if not self.counts:
            return
        nodeid = data.draw(st.sampled_from(sorted(self.counts)))
        lookups = data.draw(st.integers(1, self.counts[nodeid]))
        self.table.forget([(nodeid, lookups)])
        self.counts[nodeid] -= lookups
        if not self.counts[nodeid]:
            del self.counts[nodeid]

    @invariant()
    def holds_what_is_counted(self) -> None:
        assert len(self.table) == len(self.counts)
        assert all(self.table.get(nodeid) is not None for nodeid in self.counts)


TestTable = TableMachine.TestCase
