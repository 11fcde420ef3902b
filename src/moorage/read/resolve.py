"""Which snapshot, and which path in it, does this text name?

    revision   = base modifier*
    base       = branch | tag | refs/branches/NAME | refs/tags/NAME | snapshot id | prefix of one (4 digits or more)
    modifier   = @{n}      where the ref stood n moves ago (after a ref only, first)
               | @{time}   where the ref stood at an ISO 8601 time; local time where no offset is given. A time to the
                           second, or to a fraction of it, means its end: one copied from a log finds its own record
               | ~ | ~n    the n-th first parent
    location   = revision [":" path]

The name of a branch or a tag goes before the prefix of an id, since a new snapshot may begin with any digits and must
not take a word away from its branch; a whole id is no name. A word that still could be more than one thing (two
snapshots that begin so; a branch and a tag that were made in the same moment) is refused as ambiguous, with the ways to
say which is meant: silently preferring one would some day serve the wrong model. See docs/design/refs.md.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from moorage.errors import (
    AmbiguousRevisionError,
    InvalidInputError,
    NotFoundError,
    RefNotFoundError,
    SnapshotNotFoundError,
    WrongKindError,
)
from moorage.model.digest import DIGEST_BYTES, SnapshotId, TreeId
from moorage.model.names import split_path
from moorage.model.refs import RefKind, RefName, RefRecord
from moorage.model.snapshot import Snapshot
from moorage.model.tree import Entry, EntryKind
from moorage.repository.handle import RepositoryHandle
from moorage.repository.history import MIN_PREFIX
from moorage.repository.ref_errors import absent

_HEX = re.compile(rf"[0-9a-f]{{{MIN_PREFIX},{2 * DIGEST_BYTES}}}")
_TOO_SHORT = re.compile(rf"[0-9a-f]{{1,{MIN_PREFIX - 1}}}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WITH_SECONDS = re.compile(r"\d\d:\d\d:\d\d")
_WITH_FRACTION = re.compile(r":\d\d[.,]\d")
_REVISION = re.compile(r"(?P<base>.+?)(?:@\{(?P<at>[^}]*)\})?(?P<back>(?:~\d*)*)", re.DOTALL | re.ASCII)
_MAX_BACK_DIGITS = 9
_MAX_REVISION_LENGTH = 1_000
"""Longer than any name, id and time together."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A revision, and the snapshot that it names now."""

    revision: str
    """As it was asked for."""
    id: SnapshotId
    snapshot: Snapshot
    record: RefRecord | None
    """The ref record that says so, where a branch or tag was named without `~`; else None."""

    @property
    def ref(self) -> RefName | None:
        """The branch or tag that was named, where the answer is where it stands or stood."""
        return self.record.ref if self.record else None


@dataclass(frozen=True, slots=True)
class Location:
    """`revision:path`, taken apart."""

    revision: str
    path: str
    """Normalised; empty for the root."""

    def __str__(self) -> str:
        """As people write it."""
        return f"{self.revision}:{self.path}"


@dataclass(frozen=True, slots=True)
class Located:
    """A place in a snapshot, found."""

    resolved: Resolved
    path: str
    entry: Entry | None
    """None for the root, which has no entry."""

    @property
    def tree(self) -> TreeId:
        """The directory there. Raises `WrongKindError` where there is none."""
        if self.entry is None:
            return self.resolved.snapshot.tree
        if isinstance(self.entry.object, TreeId):
            return self.entry.object
        raise self._wrong("a directory")

    @property
    def file(self) -> Entry:
        """The file there. Raises `WrongKindError` where there is none."""
        if self.entry is None or self.entry.kind is not EntryKind.FILE:
            raise self._wrong("a file")
        return self.entry

    def _wrong(self, needed: str) -> WrongKindError:
        word = self.entry.kind.word if self.entry else "directory"
        message = f"{self.path or 'the root'} is a {word}, not {needed}"
        return WrongKindError(message, hint=self._target_hint(), path=self.path)

    def _target_hint(self) -> str | None:
        """Where a symlink leads, as a location where that is in the tree."""
        if self.entry is None or not self.entry.target:
            return None
        target = posixpath.normpath(posixpath.join(posixpath.dirname(self.path), self.entry.target))
        if target.startswith(("/", "..")):
            return f"it points out of the tree, to {self.entry.target}"
        return f"it points to {self.resolved.revision}:{target}"


def parse_location(text: str) -> Location:
    """Take `revision:path` apart at the first colon outside `@{...}`. Raises `InvalidInputError`."""
    depth = 0
    for position, character in enumerate(text):
        if text.startswith("@{", position):
            depth += 1
        elif character == "}" and depth:
            depth -= 1
        elif character == ":" and not depth:
            return Location(text[:position], "/".join(split_path(text[position + 1 :])))
    return Location(text, "")


def locate(handle: RepositoryHandle, location: Location) -> Located:
    """Find a place. Raises `NotFoundError`, `InvalidInputError`, `DataError`, `StorageError`."""
    resolved = resolve(handle, location.revision)
    entry = handle.trees.at(resolved.snapshot.tree, location.path) if location.path else None
    return Located(resolved, location.path, entry)


def resolve(handle: RepositoryHandle, revision: str) -> Resolved:
    """The snapshot that a revision names now.

    Raises `RefNotFoundError`, `SnapshotNotFoundError`, `AmbiguousRevisionError`, `InvalidInputError`, `DataError`,
    `StorageError`.
    """
    match = _REVISION.fullmatch(revision) if len(revision) <= _MAX_REVISION_LENGTH else None
    if match is None:
        raise InvalidInputError("a revision is a branch, a tag or a snapshot id", revision=revision)
    base, at, back = match["base"], match["at"], match["back"]
    found = _base(handle, base)
    if at is not None:
        if not isinstance(found, RefRecord):
            raise InvalidInputError(f"{revision!r}: @{{...}} goes with a branch or a tag", revision=revision)
        found = stood_at(handle.refs.log(found.ref), at, revision)
    id = found.snapshot if isinstance(found, RefRecord) else found
    record = found if isinstance(found, RefRecord) else None
    steps = _steps(back, revision)
    if steps:
        older = handle.history.ancestor(id, steps)
        if older is None:
            raise SnapshotNotFoundError(f"{revision!r}: history does not go back that far", revision=revision)
        id, record = older, None
    return Resolved(revision, id, handle.objects.snapshot(id), record)


def _steps(back: str, revision: str) -> int:
    numbers = back.split("~")[1:]
    if any(len(number) > _MAX_BACK_DIGITS for number in numbers):
        raise SnapshotNotFoundError(f"{revision!r}: history does not go back that far", revision=revision)
    return sum(int(number or 1) for number in numbers)


def _base(handle: RepositoryHandle, word: str) -> RefRecord | SnapshotId:
    for kind in RefKind:
        prefix = f"refs/{kind.folder}/"
        if word.startswith(prefix):
            return handle.refs.head(RefName(kind, word.removeprefix(prefix)))
    refs = _refs(handle, word)
    candidates: dict[str, RefRecord | SnapshotId]
    candidates = {f"refs/{record.ref.kind.folder}/{word}": record for record in refs if record.is_alive}
    if not candidates and _HEX.fullmatch(word):
        candidates = {id.hex(): id for id in handle.history.find(word)}
    if len(candidates) > 1:
        ways = ", ".join(sorted(candidates))
        raise AmbiguousRevisionError(
            f"{word!r} could be several things", hint=f"say which: {ways}", revision=word, candidates=sorted(candidates)
        )
    if candidates:
        return next(iter(candidates.values()))
    raise _unknown(word, refs)


def _refs(handle: RepositoryHandle, word: str) -> list[RefRecord]:
    """The newest record of each branch and tag, living or dead, that is called so."""
    found = []
    for kind in RefKind:
        with contextlib.suppress(InvalidInputError):
            found.append(handle.refs.last(RefName(kind, word)))
    return [record for record in found if record is not None]


def _unknown(word: str, dead: list[RefRecord]) -> NotFoundError | InvalidInputError:
    """The error for a word that means nothing, and what may have been meant by it."""
    if ":" in word:
        revision = word.partition(":")[0]
        hint = f"name the revision alone, {revision!r}, and look for the path in it"
        return InvalidInputError(
            f"{word!r} is a place in a revision, and a revision is needed", hint=hint, revision=word
        )
    message = f"no branch, tag or snapshot is called {word!r}"
    if dead:
        return RefNotFoundError(message, hint=absent(dead[0].ref, dead[0]).hint, revision=word)
    if _HEX.fullmatch(word):
        return SnapshotNotFoundError(message, hint="`moorage log` lists snapshots", revision=word)
    hint = "`moorage branch` and `moorage tag` list what there is"
    if _TOO_SHORT.fullmatch(word):
        hint += f"; of a snapshot's id, give {MIN_PREFIX} digits or more"
    return RefNotFoundError(message, hint=hint, revision=word)


def stood_at(records: Sequence[RefRecord], at: str, revision: str) -> RefRecord:
    """What `@{at}` means in the whole log of a ref, oldest first; `revision` is for messages.

    Raises `SnapshotNotFoundError`, `InvalidInputError`.
    """
    ref = records[0].ref
    if at.isascii() and at.isdigit() and len(at) <= _MAX_BACK_DIGITS:
        alive = [record for record in reversed(records) if record.is_alive]
        if int(at) >= len(alive):
            raise SnapshotNotFoundError(
                f"{revision!r}: {ref} has stood at {len(alive)} places so far",
                hint=f"`moorage reflog {ref.name}` lists them",
                revision=revision,
            )
        return alive[int(at)]
    try:
        moment = datetime.fromisoformat(at).astimezone()
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(
            f"{revision!r}: {at!r} is neither a number nor a time",
            hint="write a time as 2026-09-01, 2026-09-01T12:00 or 2026-09-01T12:00+02:00",
            revision=revision,
        ) from error
    before = [record for record in records if record.time_ns < _end_ns(moment, at)]
    if not before or not before[-1].is_alive:
        raise SnapshotNotFoundError(f"{revision!r}: {ref} did not exist then", revision=revision)
    return before[-1]


def _end_ns(moment: datetime, text: str) -> int:
    """Unix time up to which records count: just after the last digit given of a time with seconds, else the moment."""
    micros = (moment - _EPOCH) // timedelta(microseconds=1)
    if not _WITH_SECONDS.search(text):
        return micros * 1_000 + 1
    return (micros + 1) * 1_000 if _WITH_FRACTION.search(text) else (micros + 1_000_000) * 1_000
