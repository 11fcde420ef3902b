"""Is what is copied within the kernel the same bytes, in the same places, whatever the pipe holds?"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.model.ranges import ByteRange
from moorage.storage import splicing
from moorage.storage.splicing import splice_ranges
from tests.needs import needs_linux

pytestmark = needs_linux

DATA = random.Random(1).randbytes(3 * 1024 * 1024 + 123)
SIZE = 4 * 1024 * 1024


@pytest.fixture
def source(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "source").write_bytes(DATA)
    fd = os.open(tmp_path / "source", os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, SIZE)
    yield fd
    os.close(fd)


def expected(ranges: list[tuple[ByteRange, int]]) -> bytes:
    found = bytearray(SIZE)
    for wanted, place in ranges:
        found[place : place + wanted.size_bytes] = DATA[wanted.start : wanted.stop]
    return bytes(found)


def chunks(seed: int) -> list[tuple[ByteRange, int]]:
    """Neighbours with a few bytes between them, as chunks in a pack, that become neighbours without."""
    chance, start, place = random.Random(seed), 5, first_place(seed)
    ranges = []
    while start < len(DATA) - 200_000:
        size = chance.randrange(1, 150_000)
        ranges.append((ByteRange(start, start + size), place))
        start += size + 16
        place += size
    return ranges


def first_place(seed: int) -> int:
    return random.Random(-seed).choice((0, 1, 4096, 262_144, 300_000))


@pytest.mark.parametrize("pipe_bytes", [4096, 65536, 1024 * 1024])
@pytest.mark.parametrize("seed", range(4))
def test_the_same_bytes_in_the_same_places(
    source: int, target: int, monkeypatch: pytest.MonkeyPatch, pipe_bytes: int, seed: int
) -> None:
    monkeypatch.setattr(splicing, "_PIPE_BYTES", pipe_bytes)
    ranges = chunks(seed)
    assert splice_ranges(source, ranges, target)
    assert os.pread(target, SIZE, 0) == expected(ranges)


def test_places_that_are_no_neighbours(source: int, target: int) -> None:
    ranges = [(ByteRange(100, 5_000), 1_000_000), (ByteRange(0, 300_000), 7), (ByteRange(50, 60), 2_000_000)]
    assert splice_ranges(source, ranges, target)
    assert os.pread(target, SIZE, 0) == expected(ranges)


def test_nothing_is_nothing(source: int, target: int) -> None:
    assert splice_ranges(source, [], target)
    assert splice_ranges(source, [(ByteRange(7, 7), 3)], target)
    assert os.pread(target, SIZE, 0) == bytes(SIZE)


def test_a_source_that_ends_too_soon_is_told(source: int, target: int) -> None:
    assert not splice_ranges(source, [(ByteRange(len(DATA) - 10, len(DATA) + 1), 0)], target)
    assert not splice_ranges(source, [(ByteRange(len(DATA), len(DATA) + 1), 0)], target)


def test_it_is_written_in_large_pieces(source: int, target: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it lies in small folios, which take twice as long to map."""
    splice, writes = os.splice, []

    def noted(source: int, target: int, count: int, **options: int) -> int:
        done = splice(source, target, count, **options)
        if "offset_dst" in options:
            writes.append((options["offset_dst"], done))
        return done

    monkeypatch.setattr(os, "splice", noted)
    start, ranges = 16, []
    for place in range(0, 2 * 1024 * 1024, 70_000):
        ranges.append((ByteRange(start, start + 70_000), place))
        start += 70_016
    assert splice_ranges(source, ranges, target)
    *all_but_last, _ = writes
    assert all(offset % 262_144 == 0 and size >= 262_144 for offset, size in all_but_last)


def test_an_error_is_raised_and_leaves_no_descriptor(source: int, target: int, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    only_read = os.open(tmp_path / "target", os.O_RDONLY)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        splice_ranges(source, [(ByteRange(0, 10), 0)], only_read)
    os.close(only_read)
    assert len(os.listdir("/proc/self/fd")) == before
