"""What a branch or a tag is: a name, and the records of where it stood.

A ref is the list of its records, numbered from 1 without a gap. The last record says where it stands now; all of them
together are the ref log.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from moorage.errors import InvalidInputError
from moorage.model.digest import SnapshotId
from moorage.model.limits import MAX_TIME_NS
from moorage.model.names import check_ref_name, check_text

_TRANSACTION = re.compile(r"[0-9a-f]{32}")


class RefKind(enum.StrEnum):
    """The words are those on disk."""

    BRANCH = "branch"
    TAG = "tag"

    @property
    def folder(self) -> str:
        """The part of the key that holds refs of this kind."""
        return "branches" if self is RefKind.BRANCH else "tags"


class RefAction(enum.StrEnum):
    """What a record says happened; the words are those on disk."""

    SET = "set"
    """The name stands at `snapshot` (created there, or moved there)."""
    DELETE = "delete"
    """The name is gone; `snapshot` is where it stood."""
    RENAMED_FROM = "renamed-from"
    """The name was made by renaming `other`."""
    RENAMED_TO = "renamed-to"
    """The name is gone: it is called `other` now."""

    @property
    def is_alive(self) -> bool:
        """Whether the ref exists after this record."""
        return self in (RefAction.SET, RefAction.RENAMED_FROM)


@dataclass(frozen=True, slots=True)
class RefName:
    """A branch or a tag by name."""

    kind: RefKind
    name: str

    def __post_init__(self) -> None:
        """Check the name."""
        check_ref_name(self.name)

    def __str__(self) -> str:
        """As people say it."""
        return f"{self.kind.value} {self.name!r}"


@dataclass(frozen=True, slots=True)
class RefRecord:
    """One line of a ref's history; immutable, never removed."""

    ref: RefName
    number: int
    """From 1, without a gap."""
    action: RefAction
    snapshot: SnapshotId
    transaction: str
    """32 hexadecimal digits, random: tells a writer whose answer was lost that the record there is its own."""
    previous: str
    """The transaction of record `number - 1`; empty for the first."""
    time_ns: int
    """Unix time; always at least the previous record's + 1."""
    actor: str
    reason: str
    other: str = ""
    """The other name of a rename; else empty."""

    def __post_init__(self) -> None:
        """Refuse impossible records."""
        if self.number < 1 or (self.number == 1) != (not self.previous):
            raise InvalidInputError(f"record {self.number} of {self.ref} does not follow its predecessor")
        transactions = (self.transaction, self.previous) if self.previous else (self.transaction,)
        if not all(map(_TRANSACTION.fullmatch, transactions)):
            raise InvalidInputError(f"record {self.number} of {self.ref}: a transaction is 32 hexadecimal digits")
        if not 0 <= self.time_ns <= MAX_TIME_NS:
            raise InvalidInputError(f"record {self.number} of {self.ref} is of an impossible time")
        check_text(self.actor, "actor")
        check_text(self.reason, "reason")
        if (self.action in (RefAction.RENAMED_FROM, RefAction.RENAMED_TO)) != bool(self.other):
            raise InvalidInputError("a rename, and nothing else, names another ref")
        if self.other:
            check_ref_name(self.other)

    @property
    def is_alive(self) -> bool:
        """Whether the ref exists after this record."""
        return self.action.is_alive

    def follows(self, before: RefRecord | None) -> bool:
        """Whether this may be the record after `before` of the same ref, or its first where that is None."""
        if before is None:
            return self.number == 1 and self.is_alive
        if (self.number, self.previous) != (before.number + 1, before.transaction) or self.time_ns <= before.time_ns:
            return False
        if not self.is_alive:
            return before.is_alive
        # A name is made where there is none; what is there only a branch's `set` may move.
        moves = self.action is RefAction.SET and self.ref.kind is RefKind.BRANCH
        return moves or not before.is_alive
