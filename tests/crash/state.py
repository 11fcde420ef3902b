"""What does a repository hold, told so that two runs can be compared, with every byte read and hashed?

Ids of snapshots and times differ from run to run; content digests, logs and messages do not, and these are the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from moorage.api import Repository
from moorage.errors import MoorageError
from moorage.model.refs import RefKind, RefRecord
from moorage.model.tree import EntryKind
from moorage.read.file import FileReader


@dataclass(frozen=True, slots=True)
class Stand:
    """One record of a ref's log, without what is random in it."""

    action: str
    digest: str
    """Of the snapshot's tree."""
    message: str
    """Of the snapshot."""
    reason: str
    other: str


@dataclass(frozen=True, slots=True)
class State:
    """What every ref stands for and stood for."""

    logs: tuple[tuple[str, tuple[Stand, ...]], ...]
    """(ref as people say it, its log, oldest first), sorted; of dead refs too."""
    warnings: tuple[str, ...] = ()
    """Of what kind each warning of a check is."""

    def heads(self) -> dict[str, str]:
        """Ref to tree digest, of living refs."""
        return {ref: log[-1].digest for ref, log in self.logs if log[-1].action in ("set", "renamed-from")}


class WrongState(Exception):
    """Something that a repository must never show."""


def read_state(folder: Path) -> State:
    """Open the repository, read every byte that any record of any ref leads to, and run its own check.

    Raises `MoorageError` where moorage notices damage, `WrongState` where it should have and did not.
    """
    with Repository.open(folder) as repo:
        logs = []
        seen: set[bytes] = set()
        for kind in RefKind:
            for ref in repo.handle.refs.all_names(kind):
                records = repo.handle.refs.verify_chain(ref)
                for record in records:
                    if record.snapshot not in seen:
                        seen.add(record.snapshot)
                        _read_everything(repo, record)
                logs.append((str(ref), tuple(_stand(repo, record) for record in records)))
        return State(tuple(sorted(logs)), _check(repo))


def _stand(repo: Repository, record: RefRecord) -> Stand:
    snapshot = repo.handle.objects.snapshot(record.snapshot)
    return Stand(record.action.value, snapshot.digest.hex(), snapshot.message, record.reason, record.other)


def _read_everything(repo: Repository, record: RefRecord) -> None:
    snapshot = repo.handle.objects.snapshot(record.snapshot)
    for path, entry in repo.handle.trees.walk(snapshot.tree):
        if entry.kind is EntryKind.FILE:
            data = FileReader(repo.handle, entry).read_at(0, entry.size_bytes)
            if blake3(data).digest() != entry.digest:
                raise WrongState(f"{path} of {record.ref} has wrong bytes")


def _check(repo: Repository) -> tuple[str, ...]:
    report = repo.check(data=True)
    if not report.ok:
        raise WrongState(f"check finds {', '.join(map(str, report.problems))}")
    return tuple(problem.kind.value for problem in report.problems)


def describe(folder: Path) -> State | str:
    """The state, or in one line why there is none."""
    try:
        return read_state(folder)
    except (MoorageError, WrongState) as error:
        return f"{type(error).__name__}: {error}"
