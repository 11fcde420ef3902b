"""Is one mode kept for a nodeid while it is open, and every backing id given back?"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from moorage.mount.kernel import passthrough
from moorage.mount.kernel.passthrough import OpenModes
from moorage.read.cached_file import CachedFile, Seen


class FakeBackings:
    """Counts what is registered."""

    def __init__(self) -> None:
        self.takes_direct = True
        self.refuses = 0
        self.registered: list[int] = []
        self._next = 0

    def register(self, fd: int) -> int:
        if self.refuses:
            raise OSError(self.refuses, os.strerror(self.refuses))
        self._next += 1
        self.registered.append(self._next)
        return self._next

    def give_back(self, id: int) -> None:
        self.registered.remove(id)


@pytest.fixture
def backings() -> FakeBackings:
    return FakeBackings()


@pytest.fixture
def modes(backings: FakeBackings) -> OpenModes:
    return OpenModes(backings)


def cached(tmp_path: Path, name: str = "file") -> CachedFile:
    path = tmp_path / name
    path.write_bytes(b"bytes")
    fd = os.open(path, os.O_RDONLY)
    return CachedFile(fd, path, Seen.of(fd))


def test_one_id_for_all_opens_of_a_nodeid(modes: OpenModes, backings: FakeBackings, tmp_path: Path) -> None:
    file = cached(tmp_path)
    assert [modes.enter(2, caller, file) for caller in (1, 2, 3)] == [1, 1, 1]
    for left in (1, 1, 0):
        modes.leave(2)
        assert len(backings.registered) == len(modes) == left
    assert modes.enter(2, 1, file) == 2


def test_another_mode_is_refused_while_it_is_open(modes: OpenModes, tmp_path: Path) -> None:
    file = cached(tmp_path)
    assert modes.enter(2, 1, None) == 0
    assert modes.enter(2, 7, file) is None
    assert modes.enter(3, 7, file) == 1  # the twin
    assert modes.enter(3, 7, None) is None
    modes.leave(2)
    assert modes.enter(2, 7, file) == 2


def test_the_second_try_shares_what_is_there(modes: OpenModes, tmp_path: Path) -> None:
    file = cached(tmp_path)
    modes.enter(2, 1, None)
    assert modes.enter(2, 7, file) is None
    assert modes.enter(2, 8, file) is None  # somebody else's first
    assert modes.enter(2, 7, file) == 0
    for _ in range(2):
        modes.leave(2)
    assert modes.enter(2, 7, file) == 1


def test_the_second_try_is_a_matter_of_a_moment(
    modes: OpenModes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = cached(tmp_path)
    modes.enter(2, 1, None)
    assert modes.enter(2, 7, file) is None
    monkeypatch.setattr(passthrough, "RETRY_S", -1.0)
    assert modes.enter(2, 7, file) is None


def test_a_backing_file_that_is_no_longer_right_is_shared_with_nobody(modes: OpenModes, tmp_path: Path) -> None:
    modes.enter(2, 1, cached(tmp_path))
    for _ in range(3):
        assert modes.enter(2, 7, None) is None
        assert modes.enter(2, 7, cached(tmp_path, "new")) is None


def test_a_file_that_the_kernel_does_not_take_is_read_from_us(
    modes: OpenModes, backings: FakeBackings, tmp_path: Path
) -> None:
    file = cached(tmp_path)
    backings.refuses = errno.ELOOP
    assert [modes.enter(2, 1, file) for _ in range(3)] == [0, 0, 0]
    assert len(modes) == 0
    for _ in range(3):
        modes.leave(2)
    backings.refuses = 0
    assert modes.enter(2, 1, file) == 1


def test_direct_opens_where_the_backing_file_system_has_none(
    modes: OpenModes, backings: FakeBackings, tmp_path: Path
) -> None:
    backings.takes_direct = False
    assert modes.enter(2, 1, cached(tmp_path), is_direct=True) == 0
    assert modes.enter(3, 1, cached(tmp_path)) == 1


def test_without_backings_nothing_is_decided(tmp_path: Path) -> None:
    modes = OpenModes()
    assert modes.enter(2, 1, cached(tmp_path)) == modes.enter(2, 1, None) == 0
    modes.leave(2)
    modes.leave(2)


def test_refusals_are_forgotten(modes: OpenModes, tmp_path: Path) -> None:
    file = cached(tmp_path)
    modes.enter(2, 1, None)
    for caller in range(10_000):
        modes.enter(2, caller, file)
    assert len(modes._refused) <= passthrough._MOST_REFUSED
