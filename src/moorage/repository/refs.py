"""Where does a branch stand, and how does it move? Append-only numbered records; a move is the creation of record n +
1.

A branch moves by creating its next record, which only one writer can do; everybody else is told, by the same refusal,
that they were late. The records are never changed or removed, so they are the ref log. Whoever knows record n learns of
news by probing for n + 1.

A writer whose create is refused reads the record that is there: if it carries the writer's own transaction id, the
write had succeeded and only the answer was lost.

Thread- and process-safe: the only state is what storage holds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from moorage.errors import (
    AlreadyExistsError,
    CorruptDataError,
    InvalidInputError,
    KeyNotFoundError,
    MissingObjectError,
    RefMovedError,
)
from moorage.format.keys import highest_number, parse_number, parse_ref_folder, ref_key, ref_prefix, refs_prefix
from moorage.format.refs import decode_ref_record, encode_ref_record
from moorage.model.digest import SnapshotId
from moorage.model.refs import RefAction, RefKind, RefName, RefRecord
from moorage.repository.ref_errors import absent, moved, namesake, taken
from moorage.storage.base import Storage

_RENAME_TRIES = 100
_REASON_LENGTH = 200
"""How much of a message goes into the ref log, whose records have to stay small."""


class RefStore:
    """All branches and tags of one repository."""

    def __init__(self, storage: Storage, repository_id: str, clock_ns: Callable[[], int] = time.time_ns) -> None:
        """`clock_ns` gives Unix time."""
        self._storage = storage
        self._repository_id = repository_id
        self._clock_ns = clock_ns

    # -- reading ---------------------------------------------------------------------------------------

    def record(self, ref: RefName, number: int) -> RefRecord:
        """One record. Raises `KeyNotFoundError`, `CorruptDataError`, `FormatError`, `StorageError`."""
        key = ref_key(ref, number)
        return decode_ref_record(self._storage.get(key), key=key, repository_id=self._repository_id)

    def last(self, ref: RefName, after: RefRecord | None = None) -> RefRecord | None:
        """The newest record, of a living or a dead ref; None where the name was never used.

        With `after`, a record known to exist, only its successors are probed for: two microseconds when there is none.
        Raises `MissingObjectError` where a record is missing between others, `CorruptDataError`, `StorageError`.
        """
        if after is None:
            number = self._last_number(ref)
            return self.record(ref, number) if number else None
        newest = after
        while True:
            try:
                newest = self.record(ref, newest.number + 1)
            except KeyNotFoundError:
                return newest

    def _last_number(self, ref: RefName) -> int:
        prefix = ref_prefix(ref)
        names = self._storage.list_names(prefix)
        complete = highest_number(names)
        if complete is not None:
            return complete
        numbers = {parse_number(prefix + name) for name in names}
        highest = max(numbers, default=0)
        # A listing made while records are added may show a later one and not an earlier one: ask for each.
        missing = set(range(1, highest + 1)) - numbers
        gone = sorted(number for number in missing if not self._storage.exists(ref_key(ref, number)))
        if gone:
            raise MissingObjectError(
                f"the log of {ref} has a gap: record {gone[0]} is gone, the last is number {highest}",
                hint="run `moorage check`",
                ref=ref.name,
            )
        return highest

    def head(self, ref: RefName) -> RefRecord:
        """The newest record of a living ref. Raises `RefNotFoundError`, and as `last`."""
        record = self.last(ref)
        if record is None or not record.is_alive:
            raise absent(ref, record)
        return record

    def exists(self, ref: RefName) -> bool:
        """Whether the name stands somewhere now."""
        record = self.last(ref)
        return record is not None and record.is_alive

    def log(self, ref: RefName) -> list[RefRecord]:
        """All records, oldest first; those of a dead ref too. Raises `RefNotFoundError`, and as `last`."""
        highest = self._last_number(ref)
        if not highest:
            raise absent(ref, None)
        return [self.record(ref, number) for number in range(1, highest + 1)]

    def all_names(self, kind: RefKind) -> list[RefName]:
        """Every name ever used, sorted."""
        return [ref for ref in self.candidates(kind) if any(True for _ in self._storage.list_keys(ref_prefix(ref)))]

    def heads(self, kind: RefKind) -> list[RefRecord]:
        """The newest record of every living ref, sorted by name."""
        records = (self.last(ref) for ref in self.candidates(kind))
        return [record for record in records if record is not None and record.is_alive]

    def candidates(self, kind: RefKind) -> list[RefName]:
        """Every name that may have been used, sorted; a crash may leave one without a record.

        One listing, whatever happened to the names since: who needs but a few asks `last` for these.
        """
        prefix = refs_prefix(kind)
        names = [parse_ref_folder(kind, prefix + folder + "/") for folder in self._storage.list_folders(prefix)]
        return sorted(names, key=lambda ref: ref.name)

    # -- writing ---------------------------------------------------------------------------------------

    def create(self, ref: RefName, snapshot: SnapshotId, *, actor: str, reason: str) -> RefRecord:
        """Let a name that does not exist stand at `snapshot`. Raises `AlreadyExistsError`, `StorageError`."""
        last = self.check_free(ref)
        try:
            return self._append(ref, last, RefAction.SET, snapshot, actor, reason)
        except RefMovedError as error:
            if error.fields["actual"] is None:
                raise  # somebody else made it, and ended it at once
            raise taken(ref, str(error.fields["actual"])) from error

    def check_free(self, ref: RefName) -> RefRecord | None:
        """The last record of a name that can be made: how it ended, or None. Raises `AlreadyExistsError`."""
        last = self.last(ref)
        if last is not None and last.is_alive:
            raise taken(ref, last.snapshot.hex())
        self.refuse_namesake(ref)
        return last

    def refuse_namesake(self, ref: RefName) -> None:
        """Raises `AlreadyExistsError` where a ref of another kind has this name, since one word would then mean both.

        Two that are made in the same moment may both come to be: then the word is ambiguous, and says so.
        """
        for kind in RefKind:
            other = RefName(kind, ref.name)
            if kind is not ref.kind and self.exists(other):
                raise namesake(ref, other)

    def start(
        self, ref: RefName, after: RefRecord | None, snapshot: SnapshotId, *, actor: str, reason: str
    ) -> RefRecord:
        """Let a name stand at `snapshot` that did not exist when `after` was its last record (None: never used), and
        that `refuse_namesake` let pass.

        Raises `RefMovedError` where somebody else started it meanwhile, `StorageError`.
        """
        return self._append(ref, after, RefAction.SET, snapshot, actor, reason)

    def move(self, ref: RefName, snapshot: SnapshotId, *, expected: SnapshotId, actor: str, reason: str) -> RefRecord:
        """Move a ref that stands at `expected`.

        Raises `RefNotFoundError`, `RefMovedError` (naming `expected` and `actual`), `StorageError`.
        """
        last = self.head(ref)
        if last.snapshot != expected:
            raise moved(ref, expected, last)
        return self._append(ref, last, RefAction.SET, snapshot, actor, reason)

    def refuse_moved(self, last: RefRecord) -> None:
        """Raises `RefMovedError` where `last` is not the newest record of its ref any more."""
        newest = self.last(last.ref, after=last)
        if newest is not None and newest.number != last.number:
            raise moved(last.ref, last.snapshot, newest)

    def delete(self, ref: RefName, *, expected: SnapshotId | None = None, actor: str, reason: str) -> RefRecord:
        """End a ref; its log stays. Raises `RefNotFoundError`, `RefMovedError`, `StorageError`."""
        last = self.head(ref)
        if expected is not None and last.snapshot != expected:
            raise moved(ref, expected, last)
        return self._append(ref, last, RefAction.DELETE, last.snapshot, actor, reason)

    def rename(self, old: RefName, new: RefName, *, actor: str, reason: str) -> RefRecord:
        """Give a ref another name, in two records: `renamed-from` on the new name, then `renamed-to` on the old one.

        A move of the old name in between is carried over. A crash in between leaves both names, at the same snapshot;
        `moorage check` says so, and the same rename, asked for again, ends what was begun. Raises `RefNotFoundError`,
        `AlreadyExistsError`, `StorageError`.
        """
        if old.kind is not new.kind:
            raise InvalidInputError(f"{old} cannot become {new}: a rename leaves what it is as it is")
        last = self.head(old)
        there = self.last(new)
        if there is not None and there.is_alive:
            if not self._was_begun(old, there):
                raise taken(new, there.snapshot.hex())
            made = there
            if made.snapshot != last.snapshot:
                made = self._append(new, made, RefAction.SET, last.snapshot, actor, f"moved as {old.name!r}")
        else:
            self.refuse_namesake(new)
            try:
                made = self._append(new, there, RefAction.RENAMED_FROM, last.snapshot, actor, reason, other=old.name)
            except RefMovedError as error:
                raise taken(new, str(error.fields.get("actual"))) from error
        for _ in range(_RENAME_TRIES):
            try:
                self._append(old, last, RefAction.RENAMED_TO, last.snapshot, actor, reason, other=new.name)
            except RefMovedError:
                newer = self.last(old, after=last)
                if newer is None or not newer.is_alive:
                    return made
                last = newer
                made = self._append(new, made, RefAction.SET, last.snapshot, actor, f"moved as {old.name!r}")
            else:
                return made
        raise RefMovedError(
            f"{old} keeps moving; it now stands under both names",
            hint=f"stop its writers, then delete {old.name!r}",
            ref=old.name,
        )

    def _was_begun(self, old: RefName, there: RefRecord) -> bool:
        """Whether `there`, where the new name stands, is the first half of a rename of `old` that has no second half.

        Counted, since clocks of several machines may disagree; and `old` must not have died since, else it is another
        branch of the same name.
        """
        if there.action is not RefAction.RENAMED_FROM or there.other != old.name:
            return False
        log = self.log(old)
        begun = [r for r in self.log(there.ref) if (r.action, r.other) == (RefAction.RENAMED_FROM, old.name)]
        ended = [r for r in log if (r.action, r.other) == (RefAction.RENAMED_TO, there.ref.name)]
        return len(ended) < len(begun) and all(record.is_alive for record in log if record.time_ns >= there.time_ns)

    def _append(
        self,
        ref: RefName,
        last: RefRecord | None,
        action: RefAction,
        snapshot: SnapshotId,
        actor: str,
        reason: str,
        other: str = "",
    ) -> RefRecord:
        """Create the record after `last`. Raises `RefMovedError` when somebody else created it first."""
        if ref.kind is RefKind.TAG and action is RefAction.SET and last is not None and last.is_alive:
            raise InvalidInputError(f"{ref} never moves", hint="delete it first, or use a branch", ref=ref.name)
        record = RefRecord(
            ref=ref,
            number=last.number + 1 if last else 1,
            action=action,
            snapshot=snapshot,
            transaction=os.urandom(16).hex(),
            previous=last.transaction if last else "",
            time_ns=max(self._clock_ns(), last.time_ns + 1 if last else 0),
            actor=actor,
            reason=reason,
            other=other,
        )
        key = ref_key(ref, record.number)
        try:
            self._storage.create(key, encode_ref_record(record, repository_id=self._repository_id))
        except AlreadyExistsError as error:
            there = self.record(ref, record.number)
            if there.transaction != record.transaction:
                raise moved(ref, last.snapshot if last else None, self.last(ref, after=there) or there) from error
        return record

    def verify_chain(self, ref: RefName) -> list[RefRecord]:
        """The log, after checking that each record follows the one before. Raises `CorruptDataError`, and as `log`."""
        records = self.log(ref)
        before: RefRecord | None = None
        for record in records:
            if not record.follows(before):
                raise CorruptDataError(
                    f"record {record.number} of {ref} does not follow the one before it",
                    hint="the log was tampered with, or restored from two backups",
                    ref=ref.name,
                )
            before = record
        return records


def reason_of(what: str, message: str) -> str:
    """Why a branch moves: what was done, and the beginning of the message that was given for it."""
    lines = message.strip().splitlines()
    return f"{what}: {lines[0][:_REASON_LENGTH]}" if lines else what
