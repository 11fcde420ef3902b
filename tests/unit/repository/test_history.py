"""Where do lines of history meet, in any graph?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import MissingObjectError
from moorage.model.digest import SnapshotId
from moorage.repository.handle import RepositoryHandle
from tests.unit.repository.stores import in_memory, line_of_snapshots, opened


class Graph:
    """Snapshots by name; each is newer than the one before."""

    def __init__(self) -> None:
        self.storage, self.handle = in_memory()
        self.ids: dict[str, SnapshotId] = {}

    def add(self, name: str, *parents: str) -> SnapshotId:
        ids = [self.ids[parent] for parent in parents]
        self.ids[name] = line_of_snapshots(self.handle, *ids, time_ns=1_000 + len(self.ids), message=name)
        return self.ids[name]

    def name(self, id: SnapshotId | None) -> str | None:
        return next((name for name, found in self.ids.items() if found == id), None)

    def base(self, a: str, b: str) -> str | None:
        found = self.handle.history.merge_base(self.ids[a], self.ids[b])
        assert found == self.handle.history.merge_base(self.ids[b], self.ids[a])
        return self.name(found)

    def log(self, start: str, **options: bool) -> list[str | None]:
        return [self.name(id) for id, _ in self.handle.history.log(self.ids[start], **options)]


@pytest.fixture
def graph() -> Graph:
    r"""Two branches that were merged into each other.

    a - b - d - f - h
         \   \ /
          c - e - g
    """
    made = Graph()
    made.add("a")
    made.add("b", "a")
    made.add("c", "b")
    made.add("d", "b")
    made.add("e", "c", "d")
    made.add("f", "d", "e")
    made.add("g", "e")
    made.add("h", "f")
    return made


def test_the_log_is_newest_first(graph: Graph) -> None:
    assert graph.log("h") == ["h", "f", "e", "d", "c", "b", "a"]
    assert graph.log("h", first_parent=True) == ["h", "f", "d", "b", "a"]
    assert graph.log("a") == ["a"]


def test_ancestors_by_number(graph: Graph) -> None:
    names = [graph.name(graph.handle.history.ancestor(graph.ids["h"], steps)) for steps in range(6)]
    assert names == ["h", "f", "d", "b", "a", None]
    assert graph.handle.history.ancestor(graph.ids["h"], 10**9) is None


def test_what_came_from_what(graph: Graph) -> None:
    history, ids = graph.handle.history, graph.ids
    assert history.is_ancestor(ids["c"], ids["h"])
    assert history.is_ancestor(ids["h"], ids["h"])
    assert not history.is_ancestor(ids["h"], ids["c"])
    assert not history.is_ancestor(ids["c"], ids["d"])


@pytest.mark.parametrize(
    ("a", "b", "base"),
    [("a", "a", "a"), ("a", "h", "a"), ("c", "d", "b"), ("f", "g", "e"), ("g", "h", "e"), ("e", "d", "d")],
)
def test_merge_bases(graph: Graph, a: str, b: str, base: str) -> None:
    assert graph.base(a, b) == base


def test_of_two_best_bases_the_newer(graph: Graph) -> None:
    """A criss-cross: x and y were each merged into the other."""
    graph.add("x", "h")
    graph.add("y", "h")
    graph.add("xy", "x", "y")
    graph.add("yx", "y", "x")
    assert graph.base("xy", "yx") == "y"
    graph.add("further", "xy")
    assert graph.base("further", "yx") == "y"


def test_lines_that_never_met(graph: Graph) -> None:
    graph.add("other root")
    graph.add("other", "other root")
    assert graph.base("h", "other") is None
    graph.add("joined", "h", "other")
    assert graph.base("joined", "other") == "other"


def test_a_missing_parent_is_said(graph: Graph) -> None:
    lost = SnapshotId.of(b"lost")
    with graph.handle.writer() as writer:
        writer.finish()
    child = line_of_snapshots(graph.handle, lost, time_ns=5_000)
    with pytest.raises(MissingObjectError):
        list(graph.handle.history.log(child))
    with pytest.raises(MissingObjectError):
        graph.handle.history.merge_base(child, graph.ids["a"])


# -- any graph ---------------------------------------------------------------------------------------


def ancestors(parents: list[list[int]], start: int) -> set[int]:
    found, pending = {start}, [start]
    while pending:
        for parent in parents[pending.pop()]:
            if parent not in found:
                found.add(parent)
                pending.append(parent)
    return found


@st.composite
def graphs(draw: st.DrawFn) -> list[list[int]]:
    numbers = range(1, draw(st.integers(2, 10)))
    return [[], *(draw(st.lists(st.integers(0, number - 1), max_size=2, unique=True)) for number in numbers)]


def built(parents: list[list[int]]) -> tuple[RepositoryHandle, list[SnapshotId]]:
    _, handle = in_memory()
    ids: list[SnapshotId] = []
    for number, ours in enumerate(parents):
        above = [ids[parent] for parent in ours]
        ids.append(line_of_snapshots(handle, *above, time_ns=number, message=str(number)))
    return handle, ids


@given(graphs())
def test_a_base_is_common_and_no_common_one_came_from_it(parents: list[list[int]]) -> None:
    handle, ids = built(parents)
    a, b = len(parents) - 1, len(parents) - 2
    common = ancestors(parents, a) & ancestors(parents, b)
    best = {x for x in common if not any(x != y and x in ancestors(parents, y) for y in common)}
    found = handle.history.merge_base(ids[a], ids[b])
    assert found == (ids[max(best)] if best else None)
    assert handle.history.is_ancestor(ids[a], ids[b]) == (a in ancestors(parents, b))


@given(graphs())
def test_the_log_shows_each_once_and_no_parent_before_its_children(parents: list[list[int]]) -> None:
    handle, ids = built(parents)
    order = [ids.index(id) for id, _ in handle.history.log(ids[-1])]
    assert sorted(order) == sorted(ancestors(parents, len(parents) - 1))
    for child, ours in enumerate(parents):
        for parent in ours:
            if child in order:
                assert order.index(child) < order.index(parent)


# -- by prefix ---------------------------------------------------------------------------------------


def test_snapshots_by_prefix(graph: Graph) -> None:
    for id in graph.ids.values():
        assert graph.handle.history.find(id.hex()[:12]) == [id]
        assert graph.handle.history.find(id.hex()) == [id]
    assert graph.handle.history.find("f" * 64) == []


def test_a_prefix_of_what_another_process_wrote(graph: Graph) -> None:
    other = opened(graph.storage)
    other.locator.refresh()
    late = line_of_snapshots(graph.handle, time_ns=9_000, message="late")
    assert other.history.find(late.hex()[:16]) == [late]
