"""What may a repository look like after an operation was interrupted? The state before it, or the one after."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.crash.forkserver import Ended, ForkServer
from tests.crash.operations import ACK, look, look_and_repeat, operate
from tests.crash.state import State
from tests.crash.tracer import Trace

IS_SOAK = os.environ.get("MOORAGE_SOAK") == "1"


@dataclass(frozen=True)
class Expected:
    """The states that an operation may leave."""

    before: State
    between: State | None
    """Only a rename has one: it is two records, and a crash between them leaves both names."""
    after: State


@dataclass(frozen=True)
class Ground:
    """A pristine repository, and what operations on a copy of it should come to."""

    server: ForkServer
    pristine: Path
    source: Path
    work: Path
    """The one copy that is worked on."""

    def fresh(self) -> Path:
        """Make the working copy anew."""
        if self.work.exists():
            shutil.rmtree(self.work)
        shutil.copytree(self.pristine, self.work, symlinks=True)
        return self.work

    def trace(
        self, at: int | None = None, *, error: int | None = None, looks: bool = False, pause: bool = False
    ) -> Trace:
        """What to do to the process that works on the copy."""
        return Trace(str(self.work), at, error, looks, pause)

    @functools.cache  # noqa: B019  # as long-lived as the module of tests that it is made for
    def expected(self, name: str) -> Expected:
        """What the operation leaves where it is not interrupted at all, and what it starts from."""
        self.fresh()
        before = self._state()
        ended = self.server.run(operate, name, self.work, self.source)
        assert ended.said == (ACK,), ended
        after = self._state()
        return Expected(before, _between(before, after) if name == "branch rename" else None, after)

    def _state(self) -> State:
        (state,) = self.server.run(look, self.work).said
        assert isinstance(state, State), state
        return state

    def problem(self, name: str, ended: Ended, *, again: bool = False) -> str | None:
        """What is wrong, in one line, with what an interrupted operation left; None where nothing is.

        Looks at the working copy, repeats the operation there, and looks again. With `again` it had been interrupted
        before: where that was after its commit point, the logs are longer, but every name stands where it should.
        """
        expected = self.expected(name)
        view: Callable[[State], object] = State.heads if again else _whole
        before, after = view(expected.before), view(expected.after)
        allowed = [before, after] + ([view(expected.between)] if expected.between else [])
        looked = self.server.run(look_and_repeat, name, self.work, self.source)
        if looked.status != 0 or len(looked.said) != 3:
            return f"looking at it ended with {looked.status}: {looked.printed}"
        found, repeated, finally_found = looked.said
        if not isinstance(found, State) or view(found) not in allowed:
            return f"neither the state before nor the one after: {found}"
        if ACK in ended.said and view(found) != after:
            return "it was acknowledged, and it is lost"
        if not isinstance(finally_found, State) or finally_found.heads() != expected.after.heads():
            return f"repeating it says {repeated!r} and leaves {finally_found}"
        if view(found) != after and (repeated != ACK or view(finally_found) != after):
            return f"repeating it says {repeated!r} and leaves {finally_found}"
        return None


def _whole(state: State) -> State:
    return state


def _between(before: State, after: State) -> State:
    """Both names are there: what `after` has of the new one, and what `before` has of the old; and `check` says so."""
    logs = dict(after.logs) | dict(before.logs)
    return State(tuple(sorted(logs.items())), warnings=("half-renamed",))
