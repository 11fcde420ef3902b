"""Does the command line keep what it prints? The tests of kills and of errors once more, through `moorage` itself.

What it has printed, or exit code 0, acknowledges. An error is one line, and never a traceback.
"""

from __future__ import annotations

import errno
import re
from dataclasses import replace

import pytest

from tests.crash.forkserver import Ended, tracing_missing
from tests.crash.ground import Ground
from tests.crash.operations import ACK, COMMANDS, operate_by_command
from tests.needs import needs

pytestmark = needs(tracing_missing)

_SNAPSHOT_ID = re.compile(r"\b[0-9a-f]{64}\b")


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_every_change(ground: Ground, name: str) -> None:
    wrong = []
    at = 1
    while True:
        ground.fresh()
        ended = ground.server.run(operate_by_command, name, ground.work, ground.source, trace=ground.trace(at))
        if not ended.killed:
            assert ended.said == (ACK,), ended
            break
        if _SNAPSHOT_ID.search(ended.printed):
            ended = replace(ended, said=(ACK,))
        if problem := ground.problem(name, ended):
            wrong.append(f"killed at {at}, {ended.touches[-1]}: {problem}")
        at += 1
    print(f"moorage {name}: killed at {at - 1} calls")
    assert at > 10, "an operation changes something"
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_change_fails(ground: Ground, name: str) -> None:
    wrong = []
    at = 1
    while True:
        ground.fresh()
        trace = ground.trace(at, error=errno.ENOSPC)
        ended = ground.server.run(operate_by_command, name, ground.work, ground.source, trace=trace)
        if len(ended.touches) < at:
            break
        problem = _not_one_line(ended) or ground.problem(name, ended)
        if problem:
            wrong.append(f"ENOSPC at {at}, {ended.touches[at - 1]}: {problem}")
        at += 1
    print(f"moorage {name}: {at - 1} calls failed")
    assert not wrong, "\n".join(wrong)


def _not_one_line(ended: Ended) -> str | None:
    """What is wrong with how an error was told."""
    if ended.status != 0 or len(ended.said) != 1:
        return f"ended with {ended.status}: {ended.printed}"
    if ended.said == (ACK,):
        return None
    errors = re.findall(r"^moorage: error: ", ended.printed, re.MULTILINE)
    if len(errors) != 1 or "Traceback" in ended.printed or _SNAPSHOT_ID.search(ended.printed.split("moorage:")[0]):
        return f"not told as one error: {ended.printed}"
    return None
