"""Is a failure one line with the path, and a loop of failures not a thousand?"""

from __future__ import annotations

import errno

import pytest

from moorage.errors import CorruptDataError, PathNotFoundError, StorageDeniedError
from moorage.mount.journal import failures as failing
from moorage.mount.journal.failures import Failures


def test_one_line_names_what_where_and_why(caplog: pytest.LogCaptureFixture) -> None:
    assert Failures().errno_of("READ", "/models/a.bin", CorruptDataError("chunk 12ab is damaged")) == errno.EIO
    [record] = caplog.records
    assert record.message == "READ /models/a.bin: EIO because of CorruptDataError: chunk 12ab is damaged"
    assert not record.exc_info


def test_the_same_again_is_not_written_again_and_another_is(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    for path in ("/a", "/a", "/a", "/b"):
        failures.errno_of("READ", path, CorruptDataError("x"))
    assert [record.message.split()[1] for record in caplog.records] == ["/a:", "/b:"]


def test_many_that_fail_are_counted(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = Failures()
    for number in range(1000):
        failures.errno_of("READ", f"/{number}", CorruptDataError("x"))
    assert len(caplog.records) == failing.MOST_LINES
    monkeypatch.setattr(failing, "QUIET_S", 0.0)
    failures.errno_of("READ", "/last", CorruptDataError("x"))
    assert [record.message for record in caplog.records[failing.MOST_LINES :]] == [
        f"{1000 - failing.MOST_LINES} more requests failed than were written down",
        "READ /last: EIO because of CorruptDataError: x",
    ]


def test_a_repository_that_may_not_be_read_is_written_down(caplog: pytest.LogCaptureFixture) -> None:
    assert Failures().errno_of("READ", "/a", StorageDeniedError("no")) == errno.EACCES
    assert "READ /a: EACCES because of StorageDeniedError: no" in caplog.text


def test_what_the_reader_asked_wrongly_is_his_own_affair(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    assert failures.errno_of("LOOKUP", "/a", PathNotFoundError("x")) == errno.ENOENT
    assert failures.errno_of("OPENDIR", "/a", NotADirectoryError(errno.ENOTDIR, "x")) == errno.ENOTDIR
    assert caplog.records == []


def test_a_bug_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    assert Failures().errno_of("READ", "/a", KeyError("oops")) == errno.EIO
    assert caplog.records[0].exc_info
