"""What does a log say of a failure, and when does it go again?"""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from moorage.errors import MoorageError, MountError, RefNotFoundError
from moorage.mount.journal import logs


def test_what_was_foreseen_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    logs.failed(logging.getLogger("x"), "the mount", RefNotFoundError("no branch is called 'nope'"))
    [record] = caplog.records
    assert (record.getMessage(), record.exc_info) == ("the mount failed: no branch is called 'nope'", None)
    caplog.clear()
    logs.failed(logging.getLogger("x"), "the mount", KeyError("nope"))
    assert "KeyError" in caplog.text


@pytest.mark.parametrize(
    ("before", "written", "hint", "is_kept"),
    [
        (None, "", None, False),
        (None, "said\n", None, True),
        ("", "", None, True),
        (None, "", "its log says more: {log}", True),
    ],
)
def test_a_log_of_what_was_refused(
    tmp_path: Path, before: str | None, written: str, hint: str | None, *, is_kept: bool
) -> None:
    log = tmp_path / "logs" / "mount.log"
    if before is not None:
        log.parent.mkdir()
        log.write_text(before)
    with pytest.raises(MoorageError), logs.made_for_a_mount(str(log)):
        assert log.exists()
        log.write_text(written)
        raise MountError("it cannot be", hint=hint and hint.format(log=log))
    assert log.exists() == is_kept


def test_a_log_of_what_was_mounted_stays(tmp_path: Path) -> None:
    with logs.made_for_a_mount(str(tmp_path / "log")):
        pass
    assert (tmp_path / "log").exists()
