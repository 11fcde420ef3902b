"""The repository that is damaged, and whoever damages it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.crash.conftest import fast_folder, server
from tests.crash.forkserver import ForkServer
from tests.damage.bench import Bench
from tests.damage.victim import make_victim

__all__ = ["bench", "fast_folder", "server"]


@pytest.fixture(scope="module")
def bench(server: ForkServer, fast_folder: Path) -> Bench:
    """A victim, and a copy of it that cases are tried on."""
    victim = make_victim(fast_folder / "victim")
    work = fast_folder / "work"
    shutil.copytree(victim.folder, work, symlinks=True)
    return Bench(server, victim, work)
