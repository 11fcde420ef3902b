"""Does the stat cache answer only where the file is the same for sure?"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from moorage.index.stat_cache import TRUSTED_AFTER_NS, FileIdentity, KnownContent, StatCache
from moorage.model.digest import ContentDigest, RecipeId

SECOND = 1_000_000_000
WRITTEN_NS = 1_700_000_000 * SECOND
FILE = FileIdentity(64_769, 2**63 + 5, 123_456, WRITTEN_NS, WRITTEN_NS + 5)
ONE_CHUNK = KnownContent(ContentDigest.of(b"content"), None)
MANY_CHUNKS = KnownContent(ContentDigest.of(b"other"), RecipeId.of(b"recipe"))


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[StatCache]:
    made = StatCache(tmp_path / "stat")
    yield made
    made.close()


@pytest.mark.parametrize("content", [ONE_CHUNK, MANY_CHUNKS])
def test_what_was_recorded_is_known(cache: StatCache, content: KnownContent) -> None:
    cache.record([(FILE, content)], now_ns=WRITTEN_NS + 10 * SECOND)
    assert cache.find([FILE]) == [content]


@pytest.mark.parametrize(
    "changed",
    [
        FILE._replace(device=1),
        FILE._replace(inode=1),
        FILE._replace(size_bytes=123_457),
        FILE._replace(mtime_ns=WRITTEN_NS + 1),
        FILE._replace(mtime_ns=WRITTEN_NS - 1),
        FILE._replace(ctime_ns=WRITTEN_NS + 6),
    ],
)
def test_whatever_changed_the_answer_is_none(cache: StatCache, changed: FileIdentity) -> None:
    cache.record([(FILE, ONE_CHUNK)], now_ns=WRITTEN_NS + 10 * SECOND)
    assert cache.find([changed, FILE]) == [None, ONE_CHUNK]


@pytest.mark.parametrize(
    ("mtime_ns", "ctime_ns", "is_known"),
    [
        (0, 0, False),
        (-SECOND, -SECOND, False),
        (-TRUSTED_AFTER_NS, -TRUSTED_AFTER_NS, False),
        (-TRUSTED_AFTER_NS - 1, -TRUSTED_AFTER_NS - 1, True),
        (-10 * SECOND, -SECOND, False),  # the times were set back, and the inode was changed a moment ago
        (10 * SECOND, -10 * SECOND, False),  # a time in the future
    ],
)
def test_what_was_recorded_soon_after_its_times_is_not_trusted(
    cache: StatCache, mtime_ns: int, ctime_ns: int, is_known: bool
) -> None:
    now_ns = WRITTEN_NS
    file = FILE._replace(mtime_ns=now_ns + mtime_ns, ctime_ns=now_ns + ctime_ns)
    cache.record([(file, ONE_CHUNK)], now_ns=now_ns)
    assert cache.find([file]) == [ONE_CHUNK if is_known else None]


def test_files_from_before_1970(cache: StatCache) -> None:
    old = FILE._replace(mtime_ns=-5 * SECOND)
    cache.record([(old, ONE_CHUNK)], now_ns=WRITTEN_NS + 10 * SECOND)
    assert cache.find([old]) == [ONE_CHUNK]


def test_the_last_record_counts(cache: StatCache) -> None:
    for content in (MANY_CHUNKS, ONE_CHUNK, MANY_CHUNKS):
        cache.record([(FILE, content)], now_ns=WRITTEN_NS + 10 * SECOND)
        assert cache.find([FILE]) == [content]


def test_many_at_once_in_order(cache: StatCache) -> None:
    files = [FILE._replace(inode=number) for number in range(1_000)]
    known = [(file, MANY_CHUNKS if number % 3 else ONE_CHUNK) for number, file in enumerate(files)]
    cache.record(known[::2], now_ns=WRITTEN_NS + 10 * SECOND)
    found = cache.find(files)
    assert found[::2] == [content for _, content in known[::2]]
    assert found[1::2] == [None] * 500


def test_nothing_to_do(cache: StatCache) -> None:
    assert cache.find([]) == []
    cache.record([], now_ns=0)


def put(cache: StatCache, value: bytes) -> None:
    key = FILE.device.to_bytes(8, "little") + FILE.inode.to_bytes(8, "little")
    cache._environment.write(lambda transaction: transaction.put(key, value))  # type: ignore[arg-type]  # its answer is of no use


@pytest.mark.parametrize("length", [0, 3, 10, 68, 100])
def test_a_damaged_value_is_no_answer(cache: StatCache, length: int) -> None:
    cache.record([(FILE, MANY_CHUNKS)], now_ns=WRITTEN_NS + 10 * SECOND)
    put(cache, b"\7" * length)
    assert cache.find([FILE]) == [None]


def test_trouble_is_never_the_commits_trouble(
    cache: StatCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise lmdb.DiskError("No space left on device")

    monkeypatch.setattr(cache._environment, "_read", fails)
    monkeypatch.setattr(cache._environment, "_write", fails)
    with caplog.at_level(logging.WARNING):
        assert cache.find([FILE, FILE]) == [None, None]
        cache.record([(FILE, ONE_CHUNK)], now_ns=0)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
