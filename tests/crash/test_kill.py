"""Is anything acknowledged lost when a process is killed, at any moment at all?

The process is killed with SIGKILL in place of each system call of an operation that changes something in the
repository, one run a call, all of them. After each, opening works, the state is the one before or the one after (the
one after, if it was acknowledged), every byte reads right, `check` is content, and the same operation succeeds.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.crash.forkserver import Ended, ForkServer, tracing_missing
from tests.crash.ground import IS_SOAK, Ground
from tests.crash.operations import ACK, OPERATIONS, create, look, operate, operate_hastily
from tests.crash.state import State
from tests.crash.tracer import Trace
from tests.needs import needs

pytestmark = needs(tracing_missing)

_TWICE = list(OPERATIONS) if IS_SOAK else ["branch move"]
_SECOND_KILLS = 3
"""Of the repetition: at every how many-th call of it."""


def _killed_at(ground: Ground, name: str, at: int) -> Ended | None:
    """Kill the operation at its call number `at`; None where it has no so many."""
    ground.fresh()
    ended = ground.server.run(operate, name, ground.work, ground.source, trace=ground.trace(at))
    if ended.status == 0 and len(ended.touches) < at:
        return None
    assert ended.killed, ended
    return ended


@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_at_every_change(ground: Ground, name: str) -> None:
    wrong = []
    at = 1
    while (ended := _killed_at(ground, name, at)) is not None:
        if problem := ground.problem(name, ended):
            wrong.append(f"killed at {at}, {ended.touches[-1]}: {problem}")
        at += 1
    print(f"{name}: killed at {at - 1} calls")
    assert at > 10, "an operation changes something"
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", _TWICE)
def test_killed_and_killed_again(ground: Ground, name: str) -> None:
    wrong = []
    first = 1
    while _killed_at(ground, name, first) is not None:
        second = 1 + first % _SECOND_KILLS
        while True:
            _killed_at(ground, name, first)
            ended = ground.server.run(operate, name, ground.work, ground.source, trace=ground.trace(second))
            if not ended.killed:
                break
            if problem := ground.problem(name, ended, again=True):
                wrong.append(f"killed at {first} and {second}, {ended.touches[-1]}: {problem}")
            second += _SECOND_KILLS
        first += 1
    assert not wrong, "\n".join(wrong)


def test_creating_a_repository(server: ForkServer, fast_folder: Path) -> None:
    """Killed at every change: there is a repository, or there is none and it can be created there."""
    folder = fast_folder / "new"
    wrong = []
    at = 1
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        ended = server.run(create, folder, trace=Trace(str(folder), at))
        if not ended.killed:
            assert ended.said == (ACK,)
            break
        (before,) = server.run(look, folder).said
        (again,) = server.run(create, folder).said
        (after,) = server.run(look, folder).said
        where = f"killed at {at}, {ended.touches[-1]}"
        if after != State(()):
            wrong.append(f"{where}: {before}, then creating it again says {again}, then {after}")
        if (again == ACK) == (before == State(())):
            wrong.append(f"{where}: {before}, and creating it again says {again}")
        at += 1
    print(f"killed at {at - 1} calls")
    assert at > 10
    assert not wrong, "\n".join(wrong)


def test_what_is_counted_is_what_changes(ground: Ground) -> None:
    """The enumeration sees each kind of call that the write order names, of every thread."""
    ground.fresh()
    ended = ground.server.run(operate, "commit", ground.work, ground.source, trace=ground.trace())
    assert ended.said == (ACK,)
    seen = {(touch.name, touch.path.split("/", 1)[0]) for touch in ended.touches}
    writing = {("openat", "tmp"), ("writev", "tmp"), ("fsync", "tmp"), ("unlink", "tmp")}
    publishing = {(name, folder) for name in ("link", "fsync") for folder in ("packs", "index", "refs")}
    assert writing | publishing | {("fdatasync", "derived"), ("ftruncate", "derived")} <= seen
    assert sum(touch.name == "link" for touch in ended.touches) > 4, "several packs, a segment and a record"


@pytest.mark.parametrize("name", ["commit", "branch move", "tag create"])
def test_an_early_acknowledgement_is_caught(ground: Ground, name: str) -> None:
    """The negative control: the same test, of a program that acknowledges before the ref record is there."""
    problems = set()
    at = 1
    while True:
        ground.fresh()
        ended = ground.server.run(operate_hastily, name, ground.work, ground.source, trace=ground.trace(at))
        if not ended.killed:
            break
        if ACK in ended.said:
            problems.add(ground.problem(name, ended))
        at += 1
    assert "it was acknowledged, and it is lost" in problems
