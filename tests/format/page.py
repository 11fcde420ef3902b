"""What does the page on format 1 say? Its tables, by heading, as rows of plain text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "format" / "v1.md"


@dataclass
class Table:
    """One table of the page."""

    columns: list[str]
    rows: list[dict[str, str]] = field(default_factory=list)

    def column(self, name: str) -> list[str]:
        """One column, from top to bottom."""
        return [row[name] for row in self.rows]

    def mapping(self) -> dict[str, str]:
        """First column -> second column."""
        first, second = self.columns[:2]
        return {row[first]: row[second] for row in self.rows}


def tables(text: str | None = None) -> dict[str, list[Table]]:
    """The tables below each heading."""
    found: dict[str, list[Table]] = {}
    heading = ""
    current: Table | None = None
    for line in (PAGE.read_text("utf-8") if text is None else text).splitlines():
        if line.startswith("#"):
            heading, current = line.lstrip("# "), None
        elif not line.startswith("|"):
            current = None
        elif current is None:
            current = Table(_cells(line))
            found.setdefault(heading, []).append(current)
        elif not re.fullmatch(r"[| -]+", line):
            current.rows.append(dict(zip(current.columns, _cells(line), strict=True)))
    return found


def _cells(line: str) -> list[str]:
    cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
    return [cell[1:-1] if re.fullmatch(r"`[^`]+`", cell) else cell for cell in cells]


def table(heading: str, number: int = 0, text: str | None = None) -> Table:
    """The table with this number below this heading."""
    return tables(text)[heading][number]


def prose() -> str:
    """The whole page on one line, so that no sentence is broken."""
    return " ".join(PAGE.read_text("utf-8").split())


def number(text: str) -> int:
    """A number as the page writes it: 1,048,576 or 0x1f."""
    return int(text.replace(",", ""), 0)
