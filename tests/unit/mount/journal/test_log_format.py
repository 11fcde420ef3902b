"""Is each line of a log one object for programs, whatever was logged?"""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from moorage.errors import InvalidInputError
from moorage.mount.journal.failures import Failures
from moorage.mount.journal.log_format import FORMATS, JSON, TEXT, fields, formatter


def line(message: str, *arguments: object, **options: Any) -> dict[str, Any]:
    """What a record becomes."""
    record = logging.getLogger("moorage.test").makeRecord(
        "moorage.test", logging.WARNING, __file__, 1, message, arguments, options.pop("exc_info", None), **options
    )
    record.created = 1_700_000_000.25
    text = formatter(JSON).format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_time_level_and_message() -> None:
    assert line("%s has %d", "it", 2) == {
        "time": "2023-11-14T22:13:20.250000Z",
        "level": "warning",
        "message": "it has 2",
    }


def test_what_the_message_speaks_of() -> None:
    told = line("x", extra=fields(path="/a", count=3, absent=None, level="mine", odd={1}))
    assert (told["path"], told["count"], told["absent"], told["odd"]) == ("/a", 3, None, "{1}")
    assert told["level"] == "warning"


def test_names_of_any_bytes_and_lines_within_a_message() -> None:
    assert line("one\ntwo \udcff größe")["message"] == "one\ntwo \udcff größe"


def test_an_unforeseen_error_has_its_traceback() -> None:
    told = line("x", exc_info=(KeyError, KeyError("oops"), None))
    assert told["exception"] == "KeyError: 'oops'"


def test_a_failed_request_says_what_it_was(caplog: pytest.LogCaptureFixture) -> None:
    Failures().errno_of("READ", "/d/f", OSError(5, "broken"))
    told = json.loads(formatter(JSON).format(caplog.records[0]))
    assert (told["request"], told["path"], told["errno"]) == ("READ", "/d/f", "EIO")
    assert told["cause"] == "OSError: [Errno 5] broken"
    assert told["level"] == "error"
    assert "exception" not in told


def test_text_is_for_people_and_there_is_no_third() -> None:
    assert set(FORMATS) == {TEXT, JSON}
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "hello", (), None)
    assert formatter(TEXT).format(record).endswith(" INFO hello")
    with pytest.raises(InvalidInputError, match="no log format 'xml'") as caught:
        formatter("xml")
    assert caught.value.hint == "one of: text, json"
