"""What is a change between two trees? The values that `diff` and `merge` hand out."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from moorage.model.tree import Entry


class ChangeKind(enum.StrEnum):
    """The words that people and JSON see; append-only."""

    ADDED = "added"
    REMOVED = "removed"
    MODIFIED = "modified"
    """Other content, another executable bit, another kind, or a symlink that points elsewhere."""
    RENAMED = "renamed"
    """The same content, gone from `old_path` and new at `path`."""


@dataclass(frozen=True, slots=True)
class Change:
    """One path at which two trees differ.

    Paths are of files, symlinks and empty directories; a directory with something in it is what is in it.
    """

    kind: ChangeKind
    path: str
    """From the root of the tree: where it is now; of what was removed, where it was."""
    old_path: str | None
    """Where it was; None for what was added. Differs from `path` for a rename alone."""
    old: Entry | None
    """None for what was added."""
    new: Entry | None
    """None for what was removed."""

    def __str__(self) -> str:
        """One line, as people read it."""
        if self.kind is ChangeKind.RENAMED:
            return f"{self.kind.value} {self.old_path} -> {self.path}"
        return f"{self.kind.value} {self.path}"


def added(path: str, entry: Entry) -> Change:
    """`entry` is new at `path`."""
    return Change(ChangeKind.ADDED, path, None, None, entry)


def removed(path: str, entry: Entry) -> Change:
    """`entry` is gone from `path`."""
    return Change(ChangeKind.REMOVED, path, path, entry, None)


def modified(path: str, old: Entry, new: Entry) -> Change:
    """`old` became `new` at `path`."""
    return Change(ChangeKind.MODIFIED, path, path, old, new)


def renamed(old_path: str, path: str, old: Entry, new: Entry) -> Change:
    """What was at `old_path` is at `path`."""
    return Change(ChangeKind.RENAMED, path, old_path, old, new)


def is_same(a: Entry | None, b: Entry | None) -> bool:
    """Whether two entries of one name are the same thing: how it is stored, and since when, does not count."""
    if a is None or b is None:
        return a is b
    return a.digest == b.digest and a.kind is b.kind and a.executable == b.executable and a.target == b.target
