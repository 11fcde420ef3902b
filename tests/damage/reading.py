"""What does a reader get from a damaged repository? Run in a process of its own, many cases in one.

For each case: damage, open, read everything, undo. What is said is the number of each case as it begins, so that one
which kills the process is known, and what was wrong with it, if anything was.
"""

from __future__ import annotations

import dataclasses
import enum
import shutil
from collections.abc import Sequence
from pathlib import Path

from moorage.api import Repository
from moorage.errors import MoorageError, PathNotFoundError
from moorage.index import seal, stat_cache
from moorage.index.memory import MemoryIndex
from moorage.maintain.report import Severity
from moorage.model.digest import ObjectId, PackId
from moorage.model.objects import ObjectKind
from moorage.packs import reader
from moorage.repository.handle import RepositoryHandle, read_config
from moorage.storage.local import LocalStorage
from tests.crash.forkserver import Say
from tests.damage.damages import Damage
from tests.damage.victim import Target, Victim, source_of


class IndexIs(enum.Enum):
    """What the reader has to find objects by."""

    INTACT = "intact"
    """The index of before the damage."""
    GONE = "gone"
    """Nothing: it is built anew on disk, from segments and footers, damaged ones among them."""
    IN_MEMORY = "in memory"
    """The same, in memory, which is faster."""


def read_cases(say: Say, victim: Victim, work: Path, cases: Sequence[Damage], index: IndexIs, check_every: int) -> None:
    """Say (number,) as each case begins, and (number, what is wrong) for what is."""
    for number, damage in enumerate(cases):
        say((number,))
        damage.do(work)
        if index is IndexIs.GONE:
            shutil.rmtree(work / "derived")
        for wrong in _read_all(victim, work, damage, index):
            say((number, wrong))
        if number % check_every == 0:
            for wrong in _check(victim, work, damage):
                say((number, wrong))
        damage.undo(work, victim.folder)
        _put_back_index(victim, work)


def read_cases_unverified(say: Say, victim: Victim, work: Path, cases: Sequence[Damage]) -> None:
    """A negative control: decodes objects, alone or together, and does not compare their hashes."""

    def verify(raw: bytes | memoryview, id: ObjectId, kind: ObjectKind, pack: PackId) -> None:
        return None

    reader.verify = verify  # in a process that ends with this function
    read_cases(say, victim, work, cases, IndexIs.INTACT, len(cases) + 1)


def read_cases_unsealed(say: Say, victim: Victim, work: Path, cases: Sequence[Damage]) -> None:
    """The index is too large to be hashed when it is opened, as it were; nothing but its length is compared."""
    seal.MAX_SEALED_BYTES = 0  # in a process that ends with this function
    folder = victim.folder.with_name("unsealed")
    if not folder.exists():
        shutil.copytree(victim.folder, folder, symlinks=True)
        seal.write_seal(folder / "derived" / "index")
        assert (folder / "derived" / "index" / "seal").read_text().endswith("-\n"), "no hash is in the seal"
    unsealed = dataclasses.replace(victim, folder=folder)
    _put_back_index(unsealed, work)
    read_cases(say, unsealed, work, cases, IndexIs.INTACT, len(cases) + 1)


def _open(folder: Path, index: IndexIs) -> Repository:
    if index is not IndexIs.IN_MEMORY:
        return Repository.open(folder)
    storage = LocalStorage(folder)
    return Repository(RepositoryHandle(storage, read_config(storage, str(folder)), MemoryIndex(), folder), "reader")


def _read_all(victim: Victim, work: Path, damage: Damage, index: IndexIs) -> list[str]:
    """Everything that is not as promised: right bytes, or an error of moorage that names what was damaged."""
    try:
        with _open(work, index) as repo:
            return [wrong for target in _asked_for(victim, damage) if (wrong := _read(repo, victim, target, damage))]
    except MoorageError as error:
        if any(not victim.is_affected(target, damage) for target in victim.targets):
            return [f"opening fails: {_told(error)}"]
        return _unnamed(victim, damage, error)
    except Exception as error:  # noqa: BLE001  # the one thing that must not come out
        return [f"opening ends in a traceback: {error!r}"]


def _asked_for(victim: Victim, damage: Damage) -> list[Target]:
    """All targets; of those that one flipped bit does not affect, another one each time."""
    affected = [target for target in victim.targets if victim.is_affected(target, damage)]
    others = [target for target in victim.targets if not victim.is_affected(target, damage)]
    if damage.way == "flipped" and others:
        others = [others[damage.bit % len(others)]]
    return affected + others


def _read(repo: Repository, victim: Victim, target: Target, damage: Damage) -> str | None:
    try:
        data = repo.read(target.location)
    except PathNotFoundError as error:
        undone = victim.is_undone(target, damage) and target.before is None
        return None if undone else f"{target.location} is not there: {_told(error)}"
    except MoorageError as error:
        if not victim.is_affected(target, damage):
            return f"{target.location} is not affected, and fails: {_told(error)}"
        return next(iter(_unnamed(victim, damage, error)), None)
    except Exception as error:  # noqa: BLE001  # as above
        return f"{target.location} ends in a traceback: {error!r}"
    right = target.before if victim.is_undone(target, damage) else target.data
    return None if data == right else f"{target.location} has wrong bytes"


def _told(error: MoorageError) -> str:
    return f"{type(error).__name__}: {error} {error.fields}"


def _unnamed(victim: Victim, damage: Damage, error: MoorageError) -> list[str]:
    told = _told(error)
    return [] if any(name in told for name in victim.names_of(damage)) else [f"the error does not name it: {told}"]


def _check(victim: Victim, work: Path, damage: Damage) -> list[str]:
    """Whether `check` sees the damage, and names it."""
    try:
        with Repository.open(work) as repo:
            problems = repo.check(data=True).problems
    except MoorageError as error:
        return _unnamed(victim, damage, error)
    except Exception as error:  # noqa: BLE001  # as above
        return [f"check ends in a traceback: {error!r}"]
    found = [str(problem) for problem in problems if problem.severity is Severity.ERROR]
    if not victim.leaves_a_trace(damage):
        return [f"check finds {found}"] if found else []
    if not any(name in problem for problem in found for name in victim.names_of(damage)):
        return [f"check does not report it: {found}"]
    return []


def commit_cases(say: Say, victim: Victim, work: Path, cases: Sequence[Damage]) -> None:
    """With something derived damaged, commit the source of the first snapshot once more: it must be the same tree.

    The stat cache is made to trust what it was told a moment ago, so that it is asked at all.
    """
    stat_cache.TRUSTED_AFTER_NS = -(1 << 62)  # in a process that ends with this function
    for number, damage in enumerate(cases):
        say((number,))
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(victim.folder, work)
        damage.do(work)
        try:
            with Repository.open(work, actor="tester") as repo:
                result = repo.commit(source_of(victim.folder), branch="v2", create=True)
                expected = repo.resolve("refs/tags/v1").snapshot.digest
                if result.digest != expected:
                    say((number, "another tree is committed"))
                report = repo.check(data=True)
                if not report.ok:
                    say((number, f"check finds {', '.join(map(str, report.problems))}"))
                say((number, "", result.read_files))
        except Exception as error:  # noqa: BLE001  # nothing derived may fail a commit, in whatever way
            say((number, f"the commit fails: {error!r}"))


def _put_back_index(victim: Victim, work: Path) -> None:
    """Where the reader built it anew."""
    seal = "derived/index/seal"
    try:
        same = (work / seal).read_bytes() == (victim.folder / seal).read_bytes()
    except FileNotFoundError:
        same = False
    if not same:
        shutil.rmtree(work / "derived", ignore_errors=True)
        shutil.copytree(victim.folder / "derived", work / "derived")
