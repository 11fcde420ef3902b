"""How one record of a ref is kept: `refs/<kind>/<quoted name>/<n>`, a record (see `record`).

field        type      meaning
format       integer   1
repository   string    id of the repository, so that a record copied from another one is noticed
kind         string    "branch" or "tag"
name         string    of the ref, unquoted
number       integer   n, as in the key
action       string    "set", "delete", "renamed-from", "renamed-to"
snapshot     string    64 hexadecimal digits
transaction  string    32 hexadecimal digits, random
previous     string    the transaction of record n - 1; "" for the first
time_ns      integer   Unix time; greater than the previous record's
actor        string    who
reason       string    why
other        string    the other name of a rename; else ""
"""

from __future__ import annotations

import msgspec

from moorage.errors import CorruptDataError, FormatError, NewerFormatError
from moorage.format.keys import ref_key
from moorage.format.record import decode_record, encode_record
from moorage.model.config import FORMAT_VERSION
from moorage.model.digest import SnapshotId
from moorage.model.refs import RefAction, RefKind, RefName, RefRecord


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    repository: str
    kind: str
    name: str
    number: int
    action: str
    snapshot: str
    transaction: str
    previous: str
    time_ns: int
    actor: str
    reason: str
    other: str


def encode_ref_record(record: RefRecord, *, repository_id: str) -> bytes:
    """The bytes of one ref record."""
    return encode_record(
        _Record(
            FORMAT_VERSION,
            repository_id,
            record.ref.kind.value,
            record.ref.name,
            record.number,
            record.action.value,
            record.snapshot.hex(),
            record.transaction,
            record.previous,
            record.time_ns,
            record.actor,
            record.reason,
            record.other,
        )
    )


def decode_ref_record(data: bytes, *, key: str, repository_id: str) -> RefRecord:
    """Read a ref record back, and check that it belongs under `key` of this repository.

    Raises `CorruptDataError`, `NewerFormatError`, `FormatError`.
    """
    raw = decode_record(data, _Record, key=key)
    if raw.format > FORMAT_VERSION:
        raise NewerFormatError(f"{key} is of format {raw.format}", hint="upgrade moorage", key=key)
    try:
        record = RefRecord(
            ref=RefName(RefKind(raw.kind), raw.name),
            number=raw.number,
            action=RefAction(raw.action),
            snapshot=SnapshotId.parse(raw.snapshot),
            transaction=raw.transaction,
            previous=raw.previous,
            time_ns=raw.time_ns,
            actor=raw.actor,
            reason=raw.reason,
            other=raw.other,
        )
    except ValueError as error:  # InvalidInputError is one
        raise FormatError(f"impossible ref record: {key}: {error}", key=key) from error
    if raw.format != FORMAT_VERSION or raw.snapshot != record.snapshot.hex():
        raise FormatError(f"not canonical: {key}", key=key)
    expected_key = ref_key(record.ref, record.number)
    if expected_key != key or raw.repository != repository_id:
        raise CorruptDataError(
            f"ref record {key} belongs to {expected_key} of repository {raw.repository[:12]}",
            hint="run `moorage check`",
            key=key,
        )
    return record
