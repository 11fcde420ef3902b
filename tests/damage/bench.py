"""How are thousands of cases tried, when any one may kill or hang the process that tries it?

Many in one process; where it ends before its time, the case that it was at is to blame, and the next process goes on
after that.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crash.forkserver import ForkServer
from tests.damage.damages import Damage
from tests.damage.victim import Victim

IS_SOAK = os.environ.get("MOORAGE_SOAK") == "1"
_IN_ONE_PROCESS = 2_000
_TIMEOUT_S = 240 if not IS_SOAK else 3_600


@dataclass
class Tried:
    """What became of many cases."""

    cases: int = 0
    wrong: list[str] = field(default_factory=list)
    """One line for everything that was not as promised."""
    notes: list[Any] = field(default_factory=list)
    """What else was said."""


@dataclass(frozen=True)
class Bench:
    """Tries cases on a copy of a victim."""

    server: ForkServer
    victim: Victim
    work: Path

    def try_all(self, function: Callable[..., None], cases: Sequence[Damage], *args: object) -> Tried:
        """Run `function(say, victim, work, cases, *args)`, as often as it takes to get through all cases."""
        tried = Tried()
        first = 0
        while first < len(cases):
            batch = cases[first : first + _IN_ONE_PROCESS]
            ended = self.server.run(function, self.victim, self.work, batch, *args, timeout_s=_TIMEOUT_S)
            at = 0
            for number, *rest in ended.said:
                at = number
                if rest and rest[0]:
                    tried.wrong.append(f"{batch[number]}: {rest[0]}")
                tried.notes += rest[1:]
            done = len(batch)
            if ended.status != 0:
                how = "hangs" if ended.late else f"ends the process with {ended.status}: {ended.printed[-500:]}"
                tried.wrong.append(f"{batch[at]}: reading {how}")
                self._renew()
                done = at + 1
            tried.cases += done
            first += done
        return tried

    def _renew(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.victim.folder, self.work, symlinks=True)
