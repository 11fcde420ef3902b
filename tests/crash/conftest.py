"""What the tests of crashes share: a fork server, and a repository to start from, on the fastest disk there is.

A process that is killed leaves the page cache as it is, so memory will do for a disk; power cuts bring their own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.forkserver import ForkServer
from tests.crash.ground import Ground
from tests.crash.operations import make_repository

_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    """Runs the processes that are interrupted."""
    with ForkServer() as running:
        yield running


@pytest.fixture(scope="module")
def fast_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where there is one."""
    if not os.access(_MEMORY, os.W_OK):
        yield tmp_path_factory.mktemp("crash")
        return
    folder = Path(tempfile.mkdtemp(prefix="moorage-crash-", dir=_MEMORY))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def ground(server: ForkServer, fast_folder: Path) -> Ground:
    """The repository that every operation starts from."""
    pristine, source = fast_folder / "pristine", fast_folder / "source"
    make_repository(pristine, source)
    return Ground(server, pristine, source, fast_folder / "work")
