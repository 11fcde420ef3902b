"""What did a check find? Values: each problem names what is damaged and which paths of which branches it touches."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Severity(enum.StrEnum):
    """The words that people and JSON see."""

    ERROR = "error"
    """Stored bytes are missing, or are not what they promise."""
    WARNING = "warning"
    """Nothing is lost, but somebody should know."""


class ProblemKind(enum.StrEnum):
    """What is wrong; the words that people and JSON see, append-only."""

    CONFIG = "config"
    REF = "ref"
    HALF_RENAMED = "half-renamed"
    SEGMENT = "segment"
    PACK = "pack"
    INDEX = "index"
    MISSING_OBJECT = "missing-object"
    CORRUPT_OBJECT = "corrupt-object"
    MISMATCH = "mismatch"
    """An object that is whole, but is not what another one says of it."""
    FOREIGN = "foreign"
    """A file where files of a repository lie that is none."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One damaged thing."""

    severity: Severity
    kind: ProblemKind
    what: str
    """Its name: the key of a file, or the kind and the id of an object."""
    message: str
    """What is wrong with it."""
    affected: tuple[str, ...] = ()
    """The first locations that cannot be trusted for it: `branch:path`, `tag:path`, and `snapshot:path` for what only
    history leads to; without a path where the whole snapshot is meant. Sorted by branch, then as trees are."""
    affected_count: int = 0
    """How many there are in all, up to a million; where only history leads to it, in the newest snapshot with it."""

    def __str__(self) -> str:
        """One line, for people."""
        listed = ", ".join(self.affected)
        more = self.affected_count - len(self.affected)
        touches = f"; touches {listed}" + (f" and {more} more" if more else "") if listed else ""
        named = self.message if self.what in self.message else f"{self.what}: {self.message}"
        return f"{self.severity.value}: {named}{touches}"


@dataclass(frozen=True, slots=True)
class Verified:
    """How much was looked at."""

    refs: int = 0
    """Branches and tags, also those that are gone."""
    ref_records: int = 0
    snapshots: int = 0
    """From here on, what living branches and tags lead to; each counts once."""
    trees: int = 0
    """Directories."""
    files: int = 0
    """Distinct ones: several paths of one content in one directory tree count once for each directory."""
    recipes: int = 0
    chunks: int = 0
    packs: int = 0
    """From here on, all that there are."""
    objects: int = 0
    """That the packs list."""
    segments: int = 0
    data_bytes: int = 0
    """Raw bytes that were read, decoded and hashed; 0 unless asked for."""
    hashed_bytes: int = 0
    """Of distinct files of several chunks, which were made and hashed as a whole; 0 unless asked for."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """What nothing leads to. No problem: what interrupted work leaves, and what a collection would remove."""

    packs: int = 0
    """Packs of whose objects no ref leads to any."""
    pack_bytes: int = 0
    leftovers: int = 0
    """Files under tmp/; some may belong to writers that are at work now."""
    leftover_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The outcome of a check."""

    problems: tuple[Problem, ...]
    """Errors first, then by kind and name."""
    verified: Verified
    garbage: Garbage
    data: bool
    """Whether every stored byte was read."""
    index_rebuilt: bool
    """Whether the local index, which is derived, was wrong, and was built anew."""

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings do not count."""
        return not any(problem.severity is Severity.ERROR for problem in self.problems)
