"""Does a process keep the snapshot that it was shown first, for as long as it reads, and no longer?"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from moorage.model.refs import RefAction
from moorage.mount.shown.sticky import GRACE_NS, Hold, Holds, Processes
from moorage.mount.shown.view import Node, View
from tests.mount.fakes import FakeRepository, branch

ONE, TWO = (101, 5_000), (202, 6_000)


class Clock:
    def __init__(self) -> None:
        self.now_ns = GRACE_NS * 10

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def holds(clock: Clock) -> Holds:
    return Holds({11: ONE, 12: ONE, 21: TWO}.get, clock)


def test_threads_of_a_process_share_what_they_are_shown(holds: Holds) -> None:
    assert holds.of(11) is holds.of(12)
    assert holds.of(11) is not holds.of(21)


def test_who_cannot_be_told_from_others_is_held_on_nothing(holds: Holds) -> None:
    assert holds.of(0) is None
    assert holds.of(99) is None
    assert holds.opened(0) == holds.opened(99) == 0
    assert len(holds) == 0


def test_looking_alone_does_not_prolong_it(holds: Holds, clock: Clock) -> None:
    first = holds.of(11)
    clock.now_ns += GRACE_NS - 1
    assert holds.of(11) is first
    clock.now_ns += 1
    assert holds.of(11) is not first


def test_an_open_file_holds_and_its_close_begins_the_grace_time(holds: Holds, clock: Clock) -> None:
    first = holds.of(11)
    handles = [holds.opened(11), holds.opened(12)]
    assert len(set(handles)) == 2
    clock.now_ns += GRACE_NS * 5
    assert holds.of(12) is first
    holds.closed(handles[0])
    holds.closed(handles[0])  # once counts
    clock.now_ns += GRACE_NS * 5
    assert holds.of(11) is first
    holds.closed(handles[1])
    clock.now_ns += GRACE_NS - 1
    assert holds.of(11) is first
    clock.now_ns += 1
    assert holds.of(11) is not first


def test_handles_of_an_earlier_server_are_nobody_s(clock: Clock) -> None:
    known = {11: ONE}.get
    before, after = Holds(known, clock), Holds(known, clock)
    before.of(11)
    handle = before.opened(11)
    hold = after.of(11)
    assert hold is not None
    after.opened(11)
    after.closed(handle)
    assert hold.opens == 1


def test_who_is_let_go_is_forgotten(clock: Clock) -> None:
    holds = Holds(lambda thread: (thread, 1), clock)
    for thread in range(1, 1001):
        holds.of(thread)
    handle = holds.opened(7)
    clock.now_ns += GRACE_NS
    holds.of(5000)
    assert len(holds) == 2  # it, and the one with a file open
    holds.closed(handle)
    clock.now_ns += GRACE_NS
    holds.of(5001)
    assert len(holds) == 1


# -- what it is shown ------------------------------------------------------------------------------------------


def read(view: View, path: str, hold: Hold | None) -> bytes:
    node = view.root()
    for name in path.split("/"):
        found = view.lookup(view.seen(node, hold), name)
        assert found is not None
        node = found
    return view.open(node).read_at(0, 100)


def names(view: View, directory: Node, hold: Hold | None) -> list[str]:
    return [entry.name for entry in view.listing(view.seen(directory, hold)).window(0, 100)]


def test_a_branch_stands_where_it_stood() -> None:
    repository = FakeRepository()
    repository.set("prod", {"d": {"f": b"1"}, "gone": b""})
    view, hold = repository.view("prod"), Hold(0)
    assert read(view, "d/f", hold) == b"1"
    repository.set("prod", {"d": {"f": b"2"}, "come": b""})
    assert (read(view, "d/f", hold), read(view, "d/f", None), read(view, "d/f", Hold(0))) == (b"1", b"2", b"2")
    assert names(view, view.root(), hold) == ["d", "gone"]
    assert names(view, view.root(), None) == ["come", "d"]


def target(view: View, path: str, hold: Hold | None) -> str:
    node = view.root()
    for name in path.split("/"):
        found = view.lookup(view.seen(node, hold), name)
        assert found is not None, name
        node = found
    assert node.entry is not None
    return node.entry.target.rpartition("/")[2]


def test_all_refs_stand_where_they_stood() -> None:
    repository = FakeRepository()
    first = repository.set("team/prod", {"f": b"1"}).hex()
    view, hold, other = repository.whole_view(), Hold(0), Hold(0)
    path = "branches/team/prod"
    assert target(view, path, hold) == first
    second = repository.set("team/prod", {"f": b"2"}).hex()
    assert target(view, path, hold) == first
    assert target(view, path, other) == target(view, path, None) == second
    assert target(view, "at/team/prod/0", hold) == first
    assert target(view, "at/team/prod/0", other) == second
    repository.record("team/prod", RefAction.DELETE, repository.records[branch("team/prod")][-1].snapshot)
    assert target(view, path, hold) == first
    third = repository.set("made", {"f": b"3"}).hex()
    assert target(view, "branches/made", hold) == third  # what was not there is not held


def test_a_folder_that_was_found_for_one_process_is_none_of_another_s() -> None:
    repository = FakeRepository()
    first = repository.set("team/prod", {"f": b"1"}).hex()
    view, hold = repository.whole_view(), Hold(0)
    branches = view.lookup(view.root(), "branches")
    assert branches is not None
    team = view.lookup(view.seen(branches, hold), "team")  # as the table of nodeids remembers it
    assert team is not None
    shown = [view.lookup(view.seen(team, hold), "prod")]
    second = repository.set("team/prod", {"f": b"2"}).hex()
    shown += [view.lookup(view.seen(team, each), "prod") for each in (hold, Hold(0), None)]
    targets = [node.entry.target.rpartition("/")[2] for node in shown if node is not None and node.entry is not None]
    assert targets == [first, first, second, second]


# -- who it is -------------------------------------------------------------------------------------------------


def test_a_thread_is_its_process() -> None:
    processes, found = Processes(), []
    thread = threading.Thread(target=lambda: found.append(processes.of(threading.get_native_id())))
    thread.start()
    thread.join()
    assert found == [processes.of(os.getpid())]
    assert found[0] is not None
    assert found[0][0] == os.getpid()


def test_a_child_is_another_process_and_nobody_when_it_is_gone() -> None:
    processes = Processes()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = processes.of(child.pid)
        assert found is not None
        assert found != processes.of(os.getpid())
    assert processes.of(child.pid) is None
