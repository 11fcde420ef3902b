"""Is a repository whole on a storage in which any one call fails, whatever kind of storage it is?

Each call of a commit, a move, a rename and a deletion fails, once before it was done and once after. The operation then
says so or has found another way; the repository is as it was before or as it should be after, and does it when asked
again.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from moorage.api import Repository
from moorage.errors import MoorageError
from moorage.model.refs import RefKind
from moorage.model.tree import EntryKind
from moorage.repository.handle import RepositoryHandle
from moorage.storage.base import Buffer, Storage
from moorage.storage.memory import MemoryStorage
from moorage.testing.faults import FaultyStorage

_DATA = random.Random("data").randbytes(200_000)
Heads = dict[str, dict[str, bytes]]


def _commit(repo: Repository) -> None:
    repo.commit(_DATA, branch="prod", at="models/data.bin")


OPERATIONS: dict[str, Callable[[Repository], object]] = {
    "commit": _commit,
    "move": lambda repo: repo.move_branch("prod", "side"),
    "rename": lambda repo: repo.rename_branch("side", "aside"),
    "delete": lambda repo: repo.delete_branch("side"),
    "tag": lambda repo: repo.create_tag("v1", "prod"),
    "merge": lambda repo: repo.merge("side", into="prod"),
}


def _opened(storage: Storage) -> Repository:
    return Repository(RepositoryHandle.on(storage), "tester")


def _prepared() -> MemoryStorage:
    storage = MemoryStorage()
    with _opened(storage) as repo:
        repo.commit(b"first", branch="prod", at="first.txt", create=True)
        repo.create_branch("side", "prod")
        repo.commit(b"side", branch="side", at="side.txt")
        repo.commit(b"prod", branch="prod", at="prod.txt")
    return storage


def _heads(storage: Storage) -> Heads:
    """Every name and every byte of what it stands for, after a check of all of it."""
    with _opened(storage) as repo:
        assert repo.check(data=True).ok
        found: Heads = {}
        for record in [*repo.branches(), *repo.tags()]:
            where = f"refs/{record.ref.kind.folder}/{record.ref.name}"
            found[where] = {
                path: repo.read(f"{where}:{path}")
                for path, entry in repo.ls(where, recursive=True)
                if entry.kind is EntryKind.FILE
            }
        assert all(repo.handle.refs.verify_chain(ref) for kind in RefKind for ref in repo.handle.refs.all_names(kind))
        return found


@pytest.mark.parametrize("after", [False, True], ids=["not done", "done"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_call_fails(name: str, after: bool) -> None:
    operation = OPERATIONS[name]
    before, storage = _heads(_prepared()), _prepared()
    with _opened(storage) as repo:
        operation(repo)
    expected = _heads(storage)
    between = before | expected if name == "rename" else None
    fail_at = 0
    while True:
        fail_at += 1
        inner = _prepared()
        faulty = FaultyStorage(inner, fail_at, after=after)
        acknowledged = _tried(faulty, operation)
        if len(faulty.calls) < fail_at:
            break
        where = f"call {fail_at}, {faulty.calls[fail_at - 1]}"
        found = _heads(inner)
        assert found in ([expected] if acknowledged else [before, between, expected]), where
        if found != expected:
            with _opened(inner) as repo:
                operation(repo)
            assert _heads(inner) == expected, where
    assert fail_at > 5


def _tried(storage: Storage, operation: Callable[[Repository], object]) -> bool:
    """Whether the operation said that it was done."""
    try:
        with _opened(storage) as repo:
            operation(repo)
    except MoorageError:
        return False
    return True


class _Swallows(FaultyStorage):
    """Says that a ref record was created, and does nothing."""

    def create(self, key: str, data: Buffer) -> None:
        if not key.startswith("refs/"):
            super().create(key, data)


def test_a_storage_that_swallows_a_record_is_caught() -> None:
    """The negative control: what is acknowledged is looked for."""
    inner = _prepared()
    assert _tried(_Swallows(inner), OPERATIONS["commit"])
    assert _heads(inner) == _heads(_prepared())
