"""Is all of what is given written, where it belongs, however the buffers lie and however little a call takes?"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.storage import writing
from moorage.storage.base import Buffer
from moorage.storage.writing import WRITE_BYTES, write_all, write_all_at


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


@given(st.lists(st.binary(max_size=40)), st.integers(0, 50))
def test_groups_hold_everything_in_order_and_end_where_blocks_do(parts: list[bytes], offset: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "_MOST_PARTS", 4)
        groups = list(writing._groups(parts, offset, 16))
    assert b"".join(bytes(part) for group in groups for part in group) == b"".join(parts)
    assert all(group and len(group) <= 4 for group in groups)
    start = offset
    for group in groups:
        size = sum(map(len, group))
        assert start // 16 == (start + size - 1) // 16, "a call that goes over the end of a block"
        start += size


def test_large_and_small_parts(fd: int) -> None:
    parts: list[Buffer] = [b"1" * 10, b"", memoryview(b"2" * (3 * WRITE_BYTES)), bytearray(b"3" * 5), *[b"4"] * 2_000]
    write_all(fd, parts)
    write_all(fd, [b"end"])
    whole = b"".join(parts) + b"end"
    assert os.pread(fd, len(whole) + 1, 0) == whole
    write_all_at(fd, [b"x" * WRITE_BYTES, b"y"], 7)
    expected = whole[:7] + b"x" * WRITE_BYTES + b"y" + whole[WRITE_BYTES + 8 :]
    assert os.pread(fd, len(whole) + 1, 0) == expected
    write_all(fd, [])


def test_no_call_writes_more_than_it_should(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pwritev = os.pwritev
    sizes: list[int] = []

    def noted(fd: int, parts: list[bytes], offset: int) -> int:
        sizes.append(pwritev(fd, parts, offset))
        return sizes[-1]

    monkeypatch.setattr(os, "pwritev", noted)
    write_all_at(fd, [b"a" * 300_000, b"b" * 70_000], 10_000)
    assert max(sizes) == WRITE_BYTES
    assert sum(sizes) == 370_000
    sizes.clear()
    write_all_at(fd, [b"a" * 300_000, b"b" * 70_000], 10_000, 4 * WRITE_BYTES)
    assert sizes == [4 * WRITE_BYTES - 10_000, 370_000 - (4 * WRITE_BYTES - 10_000)]


def test_short_writes_are_continued(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pwritev = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, offset: pwritev(fd, [bytes(parts[0])[:7]], offset))
    write_all_at(fd, [b"some", b"", b"thing longer than that", b"!"], 3)
    assert os.pread(fd, 100, 0) == b"\0\0\0something longer than that!"


def test_a_call_that_takes_nothing_is_a_full_disk(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "writev", lambda *_: 0)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_all(fd, [b"something"])
