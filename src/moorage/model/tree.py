"""What a directory is: names and entries, in one canonical order.

Each entry has two ids. `digest` says what it is: equality, inodes, diff and merge use it, and it does not change with
chunking parameters. `object` says how to get it: the recipe or the tree object, or nothing where the digest alone leads
to the bytes (empty files, files of one chunk, symlinks).
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from operator import lt

import msgspec

from moorage.errors import InvalidInputError
from moorage.model.digest import ContentDigest, ObjectId, RecipeId, TreeId
from moorage.model.limits import MAX_SIZE_BYTES, MAX_TIME_NS
from moorage.model.names import check_entry_name, check_text

MAX_TREE_ENTRIES = 8_192
"""In one tree object; a larger directory is a `TreeFork` over several."""
MAX_TREE_LEVEL = 4
MAX_TARGET_BYTES = 4095
"""Of a symlink, what Linux allows (PATH_MAX without the final NUL)."""


class EntryKind(enum.IntEnum):
    """The numbers are those on disk."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3

    @property
    def word(self) -> str:
        """As people and JSON say it."""
        return self.name.lower()


_FILE, _DIRECTORY, _SYMLINK = EntryKind
"""A member takes Python longer to look up than all else that is checked of an entry, of which there are millions."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One name of a tree, and what it stands for.

    No dataclass, since there are millions: one of these is made in a third of the time, and is in no cycle that would
    have to be looked for.
    """

    name: str
    kind: EntryKind
    digest: ContentDigest
    object: ObjectId | None
    """`RecipeId` of a file of several chunks, `TreeId` of a directory, else None: empty files, files of one chunk
    (whose chunk id is the digest), symlinks."""
    size_bytes: int
    """Of a file its length; of a directory the sum over everything below; of a symlink the length of its target."""
    first_stored_ns: int
    """When this content first came into the repository (Unix time); outside the digest. The mount shows it as mtime."""
    executable: bool = False
    target: str = ""
    """Of a symlink, where it points; else empty."""

    def __post_init__(self) -> None:
        """Refuse what no tree can hold."""
        check_entry_name(self.name)
        kind = self.kind
        if not 0 <= self.size_bytes <= MAX_SIZE_BYTES or not 0 <= self.first_stored_ns <= MAX_TIME_NS:
            raise InvalidInputError(f"impossible size or time in entry {self.name!r}")
        if kind is _FILE and self.object is None and not self.target:
            return  # as most are
        if (kind is _SYMLINK) != bool(self.target):
            raise InvalidInputError(f"a symlink, and nothing else, has a target: {self.name!r}")
        if self.target:
            self._check_target()
        if self.executable and kind is not _FILE:
            raise InvalidInputError(f"only files are executable: {self.name!r}")
        if not self._object_fits():
            raise InvalidInputError(f"entry {self.name!r} has the wrong kind of object")

    def _check_target(self) -> None:
        check_text(self.target, "target of a symlink")
        if "\0" in self.target or len(self.target.encode("utf-8")) > MAX_TARGET_BYTES:
            raise InvalidInputError(f"no symlink can point where {self.name!r} does", name=self.name)

    def _object_fits(self) -> bool:
        if self.kind is _DIRECTORY:
            return isinstance(self.object, TreeId)
        if self.kind is _FILE and self.object is not None:
            return isinstance(self.object, RecipeId) and self.size_bytes > 0
        return self.object is None

    @property
    def sort_key(self) -> bytes:
        """Entries of a tree are sorted by their raw UTF-8 name."""
        return self.name.encode("utf-8")


@dataclass(frozen=True)
class Tree:
    """All entries of one directory, sorted by raw UTF-8 name, each name once."""

    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        """Check the order. Raises `InvalidInputError`."""
        # Text is compared by code points, whose order is that of their UTF-8.
        names = [entry.name for entry in self.entries]
        if not all(map(lt, names, islice(names, 1, None))):
            raise InvalidInputError("the names of a tree are not sorted, or one occurs twice")

    @classmethod
    def of(cls, entries: list[Entry]) -> Tree:
        """Sort `entries` into a tree. Raises `InvalidInputError` when a name occurs twice."""
        return cls(tuple(sorted(entries, key=lambda entry: entry.sort_key)))

    @cached_property
    def _by_name(self) -> dict[str, Entry]:
        return {entry.name: entry for entry in self.entries}

    def get(self, name: str) -> Entry | None:
        """The entry called `name`, or None."""
        return self._by_name.get(name)

    def __iter__(self) -> Iterator[Entry]:
        """In canonical order."""
        return iter(self.entries)

    def __len__(self) -> int:
        """How many entries."""
        return len(self.entries)

    @property
    def size_bytes(self) -> int:
        """The sum over all entries."""
        return sum(entry.size_bytes for entry in self.entries)


@dataclass(frozen=True, slots=True)
class TreeSpan:
    """A run of neighbouring entries of a huge directory, kept in a tree object of its own."""

    last_name: str
    """The greatest name in the run: a name is in the first span whose last name is not smaller."""
    entries: int
    """How many entries, over all levels below."""
    object: TreeId

    def __post_init__(self) -> None:
        """Refuse empty runs and illegal names."""
        check_entry_name(self.last_name)
        if not 1 <= self.entries <= MAX_SIZE_BYTES:
            raise InvalidInputError("a span of a tree holds at least one entry")


@dataclass(frozen=True, slots=True)
class TreeFork:
    """A tree object of a higher level: a directory too large for one object, as runs of its entries."""

    level: int
    """At least 1; the spans are tree objects of level - 1, where level 0 holds entries."""
    spans: tuple[TreeSpan, ...]

    def __post_init__(self) -> None:
        """Check level and order."""
        if not 1 <= self.level <= MAX_TREE_LEVEL or not self.spans:
            raise InvalidInputError(f"a fork of a tree has level 1 to {MAX_TREE_LEVEL} and at least one span")
        keys = [span.last_name.encode("utf-8") for span in self.spans]
        if any(a >= b for a, b in pairwise(keys)):
            raise InvalidInputError("the spans of a tree are not sorted")

    def find(self, name: str) -> TreeSpan | None:
        """The span that holds `name` if any does."""
        position = bisect_left(self.spans, name.encode("utf-8"), key=lambda span: span.last_name.encode("utf-8"))
        return self.spans[position] if position < len(self.spans) else None
