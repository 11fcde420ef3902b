"""Is the log of every branch and tag whole, and is every rename finished?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from moorage.errors import DataError, FormatError, KeyNotFoundError, RefNotFoundError
from moorage.format.keys import parse_ref_folder, refs_prefix
from moorage.maintain.findings import Findings
from moorage.maintain.report import ProblemKind, Severity
from moorage.model.refs import RefAction, RefKind, RefName, RefRecord
from moorage.repository.refs import RefStore
from moorage.storage.base import Storage


@dataclass(slots=True)
class RefsChecked:
    """What there is."""

    refs: int = 0
    records: int = 0
    heads: list[RefRecord] = field(default_factory=list)
    """Where each living ref stands, as far as that can be read; branches before tags, by name."""


def check_refs(storage: Storage, refs: RefStore, findings: Findings) -> RefsChecked:
    """Every log is a chain without a gap. Raises `StorageError`."""
    checked = RefsChecked()
    logs: dict[RefName, list[RefRecord]] = {}
    for kind in RefKind:
        for ref in _names(storage, kind, findings):
            log = logs[ref] = _log(refs, ref, findings)
            checked.refs += 1
            checked.records += len(log)
            if log and log[-1].is_alive:
                checked.heads.append(log[-1])
    for ref, log in logs.items():
        _check_renames(ref, log, logs, findings)
    return checked


def _names(storage: Storage, kind: RefKind, findings: Findings) -> list[RefName]:
    prefix = refs_prefix(kind)
    names = []
    for folder in storage.list_folders(prefix):
        try:
            names.append(parse_ref_folder(kind, f"{prefix}{folder}/"))
        except FormatError as error:
            findings.add(ProblemKind.FOREIGN, f"{prefix}{folder}/", error.message, Severity.WARNING)
    return sorted(names, key=lambda ref: ref.name)


def _log(refs: RefStore, ref: RefName, findings: Findings) -> list[RefRecord]:
    """The log of a ref; of a damaged one its last record, if that can be read."""
    try:
        return refs.verify_chain(ref)
    except RefNotFoundError:
        return []  # a folder without records: somebody was about to create the ref
    except (DataError, FormatError, KeyNotFoundError) as error:
        findings.add(ProblemKind.REF, str(ref), error.message).touches(ref.name)
    try:
        last = refs.last(ref)
    except (DataError, FormatError, KeyNotFoundError):
        last = None
    return [last] if last is not None else []


def _check_renames(
    ref: RefName, log: Sequence[RefRecord], logs: dict[RefName, list[RefRecord]], findings: Findings
) -> None:
    """A crash between the two records of a rename leaves both names alive."""
    born = [record for record in log if record.action is RefAction.RENAMED_FROM]
    if not born or not log[-1].is_alive:
        return
    old = RefName(ref.kind, born[-1].other)
    old_log = logs.get(old, [])
    if not old_log or not old_log[-1].is_alive:
        return
    finished = sum(record.action is RefAction.RENAMED_TO and record.other == ref.name for record in old_log)
    begun = sum(record.other == old.name for record in born)
    if finished < begun and _life_began_ns(old_log) < born[-1].time_ns:
        findings.add(
            ProblemKind.HALF_RENAMED,
            str(old),
            f"it was being renamed to {ref.name!r}, and both names are there; delete the one that is not wanted",
            Severity.WARNING,
        ).touches(old.name)


def _life_began_ns(log: Sequence[RefRecord]) -> int:
    """When the name last came to be."""
    began = log[0].time_ns
    for before, after in pairwise(log):
        if not before.is_alive and after.is_alive:
            began = after.time_ns
    return began
