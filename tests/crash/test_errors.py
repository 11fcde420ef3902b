"""What happens when the disk says no, at any call at all?

Each system call of an operation that changes something in the repository fails once with EIO and once with ENOSPC, one
run a call, all of them. The operation then ends with one clear error of moorage and is never acknowledged; what is
derived (the index and the stat cache in LMDB) and the removal of a temporary file are the exception: their failing must
not fail anything, and what is then acknowledged is there. Afterwards the repository is as after a crash: the state
before or after, everything readable, `check` content, the same operation succeeds.

Calls that only look fail with EIO too. There an operation may succeed all the same, where it finds another way.
"""

from __future__ import annotations

import errno

import pytest

from tests.crash.forkserver import Ended, tracing_missing
from tests.crash.ground import Ground
from tests.crash.operations import ACK, OPERATIONS, operate, operate_deafly
from tests.crash.tracer import Touch
from tests.needs import needs

pytestmark = needs(tracing_missing)

_CLEAR = {
    errno.EIO: {"StorageError", "OutcomeUnknownError"},
    errno.ENOSPC: {"StorageFullError", "OutcomeUnknownError"},
}
"""Which errors of moorage say what happened."""


def _is_derived(touch: Touch) -> bool:
    return touch.path == "derived" or touch.path.startswith("derived/")


def _may_fail_unnoticed(touch: Touch) -> bool:
    return _is_derived(touch) or (touch.name == "unlink" and touch.path.startswith("tmp/"))


def _problem(ground: Ground, name: str, ended: Ended, error: int) -> str | None:
    """What is wrong with how the operation took the error, or with what it left."""
    touch = ended.touches[-1]
    if ended.status != 0 or len(ended.said) != 1:
        return f"no clear error: {ended.printed.strip().splitlines()[-1:]}"
    (said,) = ended.said
    if said == ACK and touch.changes and not _may_fail_unnoticed(touch):
        return "it was acknowledged"
    if said != ACK and _is_derived(touch):
        return f"something derived failed it: {said}"
    if said != ACK and touch.changes and said.split(":")[0] not in _CLEAR[error]:
        return f"not a clear error: {said}"
    if said != ACK and "\n" in said:
        return f"more than one line: {said}"
    return ground.problem(name, ended)


def _problems(ground: Ground, name: str, error: int, *, looks: bool = False) -> list[str]:
    wrong = []
    at = 1
    while True:
        ground.fresh()
        trace = ground.trace(at, error=error, looks=looks)
        ended = ground.server.run(operate, name, ground.work, ground.source, trace=trace)
        if len(ended.touches) < at:
            break
        touch = ended.touches[at - 1]
        if touch.changes != looks:
            upto = Ended(ended.status, ended.late, ended.said, ended.touches[:at], ended.printed)
            if problem := _problem(ground, name, upto, error):
                wrong.append(f"{errno.errorcode[error]} at {at}, {touch}: {problem}")
        at += 1
    print(f"{name}: {at - 1} calls failed with {errno.errorcode[error]}")
    return wrong


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_change_fails(ground: Ground, name: str, error: int) -> None:
    wrong = _problems(ground, name, error)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_look_fails(ground: Ground, name: str) -> None:
    wrong = _problems(ground, name, errno.EIO, looks=True)
    assert not wrong, "\n".join(wrong)


def test_errors_that_are_not_heard_are_caught(ground: Ground) -> None:
    """The negative control: the same test, of a program that does not listen to what fsync says."""
    caught = set()
    at = 1
    while True:
        ground.fresh()
        trace = ground.trace(at, error=errno.EIO)
        ended = ground.server.run(operate_deafly, "branch move", ground.work, ground.source, trace=trace)
        if len(ended.touches) < at:
            break
        upto = Ended(ended.status, ended.late, ended.said, ended.touches[:at], ended.printed)
        if _problem(ground, "branch move", upto, errno.EIO) == "it was acknowledged":
            caught.add(ended.touches[at - 1].name)
        at += 1
    assert caught == {"fsync"}
