"""What does a log say of a failure, when does it go again, and do processes that share one keep it short?"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moorage.errors import MoorageError, MountError, RefNotFoundError
from moorage.mount.host import places
from moorage.mount.journal import logs
from tests.needs import needs_linux

pytestmark = needs_linux

PROGRAM = """
import logging, sys
from moorage.mount.journal import logs
logs.log_to(sys.argv[1], "text", rotates=True)
logging.info("all is well")
logging.warning("something is not")
print("said by the interpreter", flush=True)
"""


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def said(path: Path) -> str:
    """What is in a log after one process more has logged there."""
    logs.open_log(str(path))
    subprocess.run([sys.executable, "-c", PROGRAM, path], check=True)
    return path.read_text(encoding="utf-8")


def test_the_log_of_all_programs_has_problems_alone(tmp_path: Path) -> None:
    assert "all is well" in said(tmp_path / "own.log")
    text = said(places.programs_log())
    assert "all is well" not in text
    assert "something is not" in text
    assert "said by the interpreter" in text


def test_it_begins_anew_when_it_has_grown() -> None:
    before = said(places.programs_log())
    assert said(places.programs_log()).startswith(before)
    os.truncate(places.programs_log(), logs.LOG_BYTES + 1)
    assert len(said(places.programs_log())) == len(before)
    assert places.programs_log().with_suffix(".log.1").stat().st_size == logs.LOG_BYTES + 1


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
