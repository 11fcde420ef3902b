"""How does a size, a time, a rate, a table read best? Pure: values to text; JSON has the exact numbers."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from moorage.cli.style import Style

Cell: TypeAlias = tuple[str, Callable[[str], str]]
"""A text, and what paints it."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size(size_bytes: float) -> str:
    """In binary units with three digits or so: `0 B`, `999 B`, `1.5 KiB`, `245 MiB`."""
    value, unit = float(size_bytes), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    if unit == 0:
        return f"{value:.0f} B"
    return f"{value:.0f} {_UNITS[unit]}" if value >= 99.5 else f"{value:.1f} {_UNITS[unit]}"


def rate(size_bytes: float, seconds: float) -> str:
    """So much a second; empty where there was too little for that to say anything."""
    return f"{size(size_bytes / seconds)}/s" if seconds > 0 and size_bytes >= 1024 * 1024 else ""


def count(number: int, word: str = "", words: str = "") -> str:
    """`1 file`, `20,000 files`; without a word only the number."""
    if not word:
        return f"{number:,}"
    return f"{number:,} {word if number == 1 else words or word + 's'}"


def percent(part: float, whole: float) -> str:
    """`2.0 %`, `100 %`; something is never `0 %`."""
    share = 100 * part / whole if whole else 0
    if share == 0 or share >= 99.95:
        return f"{share:.0f} %"
    return f"{share:.1f} %" if share >= 0.05 else "< 0.1 %"


def duration(seconds: float) -> str:
    """`12 ms`, `1.42 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def utc(time_ns: int) -> str:
    """ISO 8601 in UTC, to the microsecond: `2026-11-20T21:50:12.123456Z`. What JSON has."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06}Z"


def local(time_ns: int) -> str:
    """For people: `2026-11-20 22:50:12`, in their own time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ns // 1_000_000_000))


def first_line(message: str) -> str:
    """The heading of a message."""
    return message.strip().partition("\n")[0]


def pairs(rows: Sequence[tuple[str, str]], style: Style, indent: str = "") -> list[str]:
    """Names and values below each other, the names faint."""
    width = max((len(name) for name, _ in rows), default=0)
    return [f"{indent}{style.faint(name.ljust(width))}  {value}".rstrip() for name, value in rows]


def plain(text: str) -> str:
    """The paint of a cell without one."""
    return text


def table(rows: Sequence[Sequence[Cell]], align: str, gap: str = "  ") -> Iterator[str]:
    """Lines of cells below each other; `align` has `<` or `>` for each column."""
    widths = [max((_width(row[number][0]) for row in rows), default=0) for number in range(len(align))]
    for row in rows:
        line = gap.join(
            paint(text) + padding if side == "<" else padding + paint(text)
            for (text, paint), width, side in zip(row, widths, align, strict=True)
            for padding in (" " * (width - _width(text)),)
        )
        yield line.rstrip()


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )
