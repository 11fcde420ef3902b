"""How are changes between two trees shown? As git does, by letter and path, and with the size and its growth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from moorage.cli.formatting import Cell, count, plain, size, table
from moorage.cli.style import Style, shown
from moorage.model.tree import Entry
from moorage.versioning.diff import Change, ChangeKind

LETTERS = {
    ChangeKind.ADDED: "A",
    ChangeKind.REMOVED: "D",
    ChangeKind.MODIFIED: "M",
    ChangeKind.RENAMED: "R",
}


def change_record(change: Change) -> dict[str, object]:
    """One line of `diff --json`."""
    return {
        "change": change.kind.value,
        "path": change.path,
        "old_path": change.old_path,
        "old": _side(change.old),
        "new": _side(change.new),
    }


def _side(entry: Entry | None) -> dict[str, object] | None:
    if entry is None:
        return None
    return {
        "type": entry.kind.word,
        "size_bytes": entry.size_bytes,
        "blake3": entry.digest.hex(),
        "executable": entry.executable,
        "target": entry.target or None,
    }


def change_lines(changes: Sequence[Change], style: Style) -> Iterator[str]:
    """One line a change, aligned."""
    paints = {
        ChangeKind.ADDED: style.good,
        ChangeKind.REMOVED: style.bad,
        ChangeKind.MODIFIED: style.changed,
        ChangeKind.RENAMED: style.ref,
    }
    return table([_cells(change, paints[change.kind], style) for change in changes], "<>><")


def _cells(change: Change, paint: Callable[[str], str], style: Style) -> list[Cell]:
    path = shown(change.path)
    if change.kind is ChangeKind.RENAMED:
        path = f"{shown(change.old_path or '')} -> {path}"
    elif _kind(change.new or change.old) == "directory":
        path += "/"
    old = change.old.size_bytes if change.old is not None else None
    new = change.new.size_bytes if change.new is not None else None
    grown = "" if old is None or new is None or old == new else f"{'+' if new > old else '-'}{size(abs(new - old))}"
    if change.old is not None and change.new is not None and change.old.executable != change.new.executable:
        path += style.faint("  executable now" if change.new.executable else "  not executable any more")
    return [
        (LETTERS[change.kind], paint),
        (size(new if new is not None else old or 0), plain),
        (grown, style.faint),
        (path, plain),
    ]


def _kind(entry: Entry | None) -> str:
    return entry.kind.word if entry is not None else ""


def change_summary(changes: Iterable[Change]) -> str:
    """`3 added, 1 modified`; `nothing changed`."""
    kinds = Counter(change.kind for change in changes)
    parts = [f"{count(kinds[kind])} {kind.value}" for kind in ChangeKind if kinds[kind]]
    return ", ".join(parts) or "nothing changed"
