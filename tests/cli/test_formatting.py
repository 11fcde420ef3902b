"""Sizes, times, rates and tables as people read them; the line of a progress bar; colours and what is safe to show."""

from __future__ import annotations

import io
import threading

import pytest

from moorage.cli import progress
from moorage.cli.formatting import count, duration, local, percent, plain, rate, size, table, utc
from moorage.cli.options import Settings
from moorage.cli.progress import TerminalProgress, shown_progress, told_of_bytes, told_of_files
from moorage.cli.style import Style, shown
from moorage.model.progress import SILENT


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (101 * 1024, "101 KiB"),
        (1023 * 1024, "1.0 MiB"),
        (245 * 1024**2, "245 MiB"),
        (10 * 1024**4, "10.0 TiB"),
        (5000 * 1024**6, "5000 EiB"),
    ],
)
def test_size(size_bytes: int, text: str) -> None:
    assert size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (0.9996, "1.00 s"),
        (9.994, "9.99 s"),
        (9.996, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7620, "2 h 07 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_percent_counts_rates_and_times() -> None:
    assert [percent(0, 0), percent(0, 5), percent(1, 3), percent(1, 10**6), percent(5, 5)] == [
        "0 %",
        "0 %",
        "33.3 %",
        "< 0.1 %",
        "100 %",
    ]
    assert [count(1, "file"), count(20_000, "file"), count(0, "branch", "branches"), count(1234)] == [
        "1 file",
        "20,000 files",
        "0 branches",
        "1,234",
    ]
    assert [rate(1024**3, 2), rate(10, 0.1), rate(1024**3, 0)] == ["512 MiB/s", "", ""]
    assert utc(1_788_264_000_123_456_789) == "2026-09-01T12:00:00.123456Z"
    assert local(1_788_264_000_123_456_789) == "2026-09-01 12:00:00"  # the tests run in UTC


def test_table_aligns_wide_and_combining_letters() -> None:
    rows = [[("a", plain), ("1", plain)], [("模型", plain), ("22", plain)], [("e\u0301", plain), ("333", plain)]]
    assert list(table(rows, "<>")) == ["a       1", "模型   22", "e\u0301     333"]
    assert list(table([], "<>")) == []


def test_colours_come_after_padding() -> None:
    red = Style(is_coloured=True).bad
    lines = table([[("a", red), ("b", plain)], [("ccc", plain), ("d", plain)]], "<<")
    assert list(lines) == ["\x1b[1;31ma\x1b[0m    b", "ccc  d"]


def test_what_is_shown_stays_on_its_line() -> None:
    assert shown("größe 模型.pkl") == "größe 模型.pkl"
    assert shown("a\nb\tc\x1b[0m\x9b\u2028\u202e") == "a\\nb\\tc\\x1b[0m\\x9b\\u2028\\u202e"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "is_coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colours_where_they_are_wanted(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], is_coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Style.of(_Terminal()).is_coloured is is_coloured
    assert Style.of(io.StringIO()).is_coloured is False


# -- progress --------------------------------------------------------------------------------------


def test_what_a_bar_says() -> None:
    mib = 1024 * 1024
    assert told_of_bytes(768 * mib, 1024 * mib, 3.0) == "768 MiB of 1.0 GiB, 256 MiB/s, 1 s left"
    assert told_of_bytes(768 * mib, None, 3.0) == "768 MiB, 256 MiB/s"
    assert told_of_bytes(0, 1024 * mib, 3.0) == "0 B of 1.0 GiB"
    assert told_of_bytes(mib, 1024 * mib, 1.0) == "1.0 MiB of 1.0 GiB, 1.0 MiB/s, 17 min 03 s left"
    assert told_of_files(10_000, 20_000, 1.0) == "10,000 of 20,000 files, 1 s left"
    assert told_of_files(1, None, 1.0) == "1 file"


@pytest.mark.parametrize("settings", [Settings(quiet=True), Settings(json=True), Settings()])
def test_no_bar_where_nobody_looks(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with shown_progress(settings) as bar:
        assert bar is SILENT
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", _Terminal())
    with shown_progress(settings) as bar:
        assert (bar is SILENT) is (settings.quiet or settings.json)


def test_a_bar_appears_when_work_takes_long_and_goes_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock()
    monkeypatch.setattr(progress, "time", clock)
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    bar = TerminalProgress()
    bar.begin("storing", total_bytes=1000, total_files=2)
    bar.advance(size_bytes=100)
    assert terminal.getvalue() == ""
    clock.now += 1.0
    threads = [threading.Thread(target=bar.advance, kwargs={"size_bytes": 200, "files": 1}) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clock.now += 1.0
    bar.advance(size_bytes=1)
    bar.finish()
    assert "storing" in terminal.getvalue()
    assert "501 B of 1.0 KiB" in terminal.getvalue()
    bar.finish()


class _Clock:
    """Stands for the module `time`."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now
