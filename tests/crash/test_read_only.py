"""Can a repository be read where it cannot be written, without a byte of it changing?

On a medium mounted read-only, and by a user to whom nothing of it belongs; with an index that others left beside it,
without, and with a damaged one; with a cache directory for an index of one's own, and without.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.forkserver import ForkServer
from tests.crash.ground import Ground
from tests.crash.operations import look
from tests.crash.visiting import visit
from tests.needs import loop_mounts_missing, needs, needs_ordinary_user

_BESIDE = ["whole", "gone", "damaged"]


@pytest.fixture(params=_BESIDE)
def repository(request: pytest.FixtureRequest, ground: Ground) -> Path:
    """A repository that anybody may read, with its index in one state or another."""
    folder = ground.fresh()
    os.chmod(folder.parent, 0o755)
    if request.param == "gone":
        shutil.rmtree(folder / "derived")
    if request.param == "damaged":
        with open(folder / "derived" / "index" / "data.mdb", "r+b") as file:
            file.truncate(5_000)
    return folder


@pytest.fixture(params=["own cache", "no cache"])
def cache(request: pytest.FixtureRequest, fast_folder: Path) -> Path:
    """A cache directory that anybody may write to, or one that nobody can make."""
    if request.param == "no cache":
        blocked = fast_folder / "blocked"
        blocked.write_bytes(b"")
        return blocked / "cache"
    folder = fast_folder / "cache"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.chmod(folder, 0o777)
    return folder


def _everything(folder: Path) -> dict[str, tuple[int, ...]]:
    """All files and folders, with whatever any change would change."""
    found: dict[str, tuple[int, ...]] = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode)
    return found


@pytest.fixture
def mounted_read_only(repository: Path, fast_folder: Path) -> Iterator[Path]:
    """The repository, on a read-only mount."""
    point = fast_folder / "read-only"
    point.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", str(repository), str(point)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(point)], check=True)
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True)


@needs(loop_mounts_missing)
def test_a_read_only_medium(
    server: ForkServer, ground: Ground, repository: Path, mounted_read_only: Path, cache: Path
) -> None:
    before = _everything(repository)
    ended = server.run(visit, mounted_read_only, cache, as_nobody=False)
    assert ended.status == 0, ended.printed
    state, *writes = ended.said
    assert _everything(repository) == before
    assert writes == ["ReadOnlyError", "ReadOnlyError"]
    assert (state,) == server.run(look, repository).said


@needs_ordinary_user
def test_another_user(server: ForkServer, ground: Ground, repository: Path, cache: Path) -> None:
    before = _everything(repository)
    ended = server.run(visit, repository, cache, as_nobody=True)
    assert ended.status == 0, ended.printed
    state, *writes = ended.said
    assert _everything(repository) == before
    assert writes == ["StorageDeniedError", "StorageDeniedError"]
    assert (state,) == server.run(look, repository).said


def test_a_change_is_noticed(server: ForkServer, ground: Ground, repository: Path, cache: Path) -> None:
    """The negative control: a visitor who may write."""
    before = _everything(repository)
    ended = server.run(visit, repository, cache, as_nobody=False)
    assert ended.said[1:] == ("written", "written")
    assert _everything(repository) != before
