"""Does everybody get what they were told, when many processes work on one repository at once?"""

from __future__ import annotations

import functools
import io
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from moorage.api import Repository
from moorage.errors import RefMovedError
from moorage.model.refs import RefRecord
from tests.crash.forkserver import Ended, ForkServer, tracing_missing
from tests.crash.ground import IS_SOAK, Ground
from tests.crash.operations import ACK, OPERATIONS, look, look_impatiently, operate, operate_impatiently, write_source
from tests.crash.racing import (
    BRANCH,
    make_three,
    race_commits,
    race_creating,
    race_moves,
    race_moves_without_comparing,
    race_readers,
    race_same_content,
)
from tests.crash.state import State, read_state
from tests.needs import needs

_PROCESSES = 8
_MOVES = 1_000 if IS_SOAK else 100
_COMMITS = 100 if IS_SOAK else 10
_ROUNDS = 200 if IS_SOAK else 10


@pytest.fixture
def folder(fast_folder: Path) -> Path:
    """Where no repository is yet."""
    path = fast_folder / "race"
    shutil.rmtree(path, ignore_errors=True)
    return path


def _ran(ended: Ended) -> Ended:
    assert ended.status == 0, ended.printed
    return ended


# -- one branch, many writers ------------------------------------------------------------------------


def _problems_of_moves(server: ForkServer, folder: Path, race: Callable[..., None]) -> list[str]:
    """Eight processes move one branch; what is wrong with its log."""
    make_three(folder)
    ended = server.run(race, folder, _PROCESSES, _MOVES, timeout_s=280)
    if ended.status != 0:
        return [ended.printed]
    acknowledged: list[tuple[int, RefRecord]] = list(ended.said)
    wrong = []
    if len(acknowledged) != _PROCESSES * _MOVES:
        wrong.append(f"{len(acknowledged)} acknowledgements")
    with Repository.open(folder) as repo:
        log = repo.handle.refs.log(BRANCH)
        try:
            repo.handle.refs.verify_chain(BRANCH)
        except Exception as error:  # noqa: BLE001  # whatever it is
            wrong.append(f"the chain is broken: {error}")
    if log[3:] != sorted((record for _, record in acknowledged), key=lambda record: record.number):
        wrong.append("the log is not what was acknowledged")
    for process in range(_PROCESSES):
        mine = [record.number for number, record in acknowledged if number == process]
        if mine != sorted(mine):
            wrong.append(f"process {process} was acknowledged in another order than the log's")
    return wrong


def test_exactly_the_acknowledged_moves_are_in_the_log(server: ForkServer, folder: Path) -> None:
    assert _problems_of_moves(server, folder, race_moves) == []
    read_state(folder)


def test_a_record_that_overwrites_another_is_caught(server: ForkServer, folder: Path) -> None:
    """The negative control: a look whether the key is there, followed by a rename."""
    assert "the log is not what was acknowledged" in _problems_of_moves(server, folder, race_moves_without_comparing)


def test_of_two_commits_the_late_one_learns_of_both_snapshots(folder: Path) -> None:
    make_three(folder)
    with Repository.open(folder, actor="early") as early, Repository.open(folder, actor="late") as late:
        stood = early.resolve(BRANCH.name).id

        class Source(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                """By now the late one has seen where the branch stands; the early one is faster."""
                if not self.tell():
                    early.commit(b"early", branch=BRANCH.name, at="early")
                return super().read(size)

        with pytest.raises(RefMovedError) as raised:
            late.commit(Source(b"late"), branch=BRANCH.name, at="late")
        stands = early.resolve(BRANCH.name).id
        assert (raised.value.fields["expected"], raised.value.fields["actual"]) == (stood.hex(), stands.hex())
        assert stood.hex() in str(raised.value)
        assert stands.hex() in str(raised.value)
        late.commit(b"late", branch=BRANCH.name, at="late")
        assert [late.read(f"{BRANCH.name}:{path}") for path in ("early", "late")] == [b"early", b"late"]


def test_commits_to_one_branch_all_arrive(server: ForkServer, folder: Path) -> None:
    make_three(folder)
    ended = _ran(server.run(race_commits, folder, _PROCESSES, _COMMITS, timeout_s=280))
    assert len(ended.said) == _PROCESSES * _COMMITS
    with Repository.open(folder) as repo:
        assert all(repo.read(f"{BRANCH.name}:{path}") == data for path, data in ended.said)
        assert len(repo.reflog(BRANCH.name)) == 3 + _PROCESSES * _COMMITS
    read_state(folder)


def test_nobody_waits_for_the_dead(server: ForkServer, folder: Path) -> None:
    """Half of the committers are killed, with whatever locks they hold; the others finish, and nothing is lost."""
    for round_ in range(_ROUNDS // 2):
        shutil.rmtree(folder, ignore_errors=True)
        make_three(folder)
        ended = _ran(server.run(race_commits, folder, _PROCESSES, _COMMITS, deaths=4, seed=round_, timeout_s=120))
        survivors = {f"process{number}/{commit}" for number in range(4, _PROCESSES) for commit in range(_COMMITS)}
        assert survivors <= {path for path, _ in ended.said}
        with Repository.open(folder) as repo:
            assert all(repo.read(f"{BRANCH.name}:{path}") == data for path, data in ended.said)
        read_state(folder)


# -- the same content, the same repository -----------------------------------------------------------


def test_the_same_content_committed_at_once(server: ForkServer, folder: Path, fast_folder: Path) -> None:
    source = fast_folder / "same"
    for round_ in range(_ROUNDS):
        shutil.rmtree(folder, ignore_errors=True)
        make_three(folder)
        write_source(source, version=100 + round_)
        ended = _ran(server.run(race_same_content, folder, source, _PROCESSES))
        assert len(ended.said) == _PROCESSES
        assert len({digest for _, digest in ended.said}) == 1
        heads = read_state(folder).heads()
        assert all(heads[f"branch {branch!r}"] == digest for branch, digest in ended.said)


def test_one_of_many_creates_the_repository(server: ForkServer, folder: Path) -> None:
    for _ in range(_ROUNDS):
        shutil.rmtree(folder, ignore_errors=True)
        ended = _ran(server.run(race_creating, folder, _PROCESSES))
        outcomes = sorted(outcome for _, outcome in ended.said)
        assert outcomes == ["AlreadyExistsError"] * (_PROCESSES - 1) + ["created"]
        assert list(read_state(folder).heads()) == ["branch 'prod'"]


# -- readers beside writers --------------------------------------------------------------------------


def test_readers_never_fail_beside_a_writer(server: ForkServer, ground: Ground, fast_folder: Path) -> None:
    folder, source = ground.fresh(), fast_folder / "changing"
    ended = _ran(server.run(race_readers, folder, source, 4, 200 if IS_SOAK else 15, timeout_s=280))
    assert len(ended.said) == 4
    assert all(rounds > 0 for _, rounds in ended.said)


@needs(tracing_missing)
@pytest.mark.parametrize("name", OPERATIONS)
def test_readers_never_wait_for_a_writer(ground: Ground, name: str) -> None:
    """A writer is frozen at each call that changes something, with whatever it holds; a reader then reads everything.

    It sees the state before or after. Then the writer goes on, and is acknowledged as if nothing had been.
    """
    expected = ground.expected(name)
    wrong = []
    at = 1
    while True:
        folder = ground.fresh()
        trace = ground.trace(at, pause=True)
        reader = functools.partial(look_impatiently, folder=folder)
        ended = ground.server.run(operate, name, folder, ground.source, trace=trace, meanwhile=reader, timeout_s=20)
        if ended.meanwhile is None:
            break
        where = f"frozen at {at}, {ended.touches[at - 1]}"
        found = ended.meanwhile.said[0] if ended.meanwhile.said else "nothing"
        if ended.meanwhile.late:
            wrong.append(f"{where}: the reader waits")
        elif found not in (expected.before, expected.between, expected.after):
            wrong.append(f"{where}: the reader sees {found}")
        elif ended.said != (ACK,) or _state(ground) != expected.after:
            wrong.append(f"{where}: the writer ends with {ended.said} {ended.printed}")
        at += 1
    assert at > 10
    assert not wrong, "\n".join(wrong)


_LATE = ("RefMovedError", "RefNotFoundError", "AlreadyExistsError")


@needs(tracing_missing)
@pytest.mark.parametrize(
    ("frozen", "other"),
    [
        ("commit", "commit of one small file"),
        ("commit of one small file", "commit"),
        ("branch move", "commit of one small file"),
        ("merge", "commit of one small file"),
        ("branch rename", "branch move of the other"),
        ("branch rename", "branch delete"),
        ("branch delete", "branch rename"),
    ],
)
def test_writers_do_not_wait_for_a_frozen_one(ground: Ground, frozen: str, other: str) -> None:
    """A writer is frozen at each of its changes while another does its whole work, and then goes on.

    Each is acknowledged, or told why not; of what was acknowledged nothing is lost.
    """
    before = _length(ground.expected(frozen).before)
    wrong = []
    at = 1
    while True:
        folder = ground.fresh()
        second = functools.partial(operate_impatiently, name=other, folder=folder, source=ground.source)
        trace = ground.trace(at, pause=True)
        ended = ground.server.run(operate, frozen, folder, ground.source, trace=trace, meanwhile=second, timeout_s=20)
        if ended.meanwhile is None:
            break
        said = [*ended.said, *ended.meanwhile.said]
        where = f"frozen at {at}, {ended.touches[at - 1]}: {said}"
        late = [word for word in said if word != ACK and not str(word).startswith(_LATE)]
        if len(said) != 2 or late or ACK not in said:
            wrong.append(f"{where} {ended.printed} {ended.meanwhile.printed}")
        else:
            state = _state(ground)
            if "branch rename" in (frozen, other):
                wrong += [f"{where}: leaves {state}"] * (not _is_renamed_well(state, other, ended.meanwhile.said))
            elif _length(state) != before + said.count(ACK):
                wrong.append(f"{where}: {_length(state) - before} records more than before")
        at += 1
    assert at > 10
    assert not wrong, "\n".join(wrong)


def _length(state: State) -> int:
    """How many records there are."""
    return sum(len(log) for _, log in state.logs)


def _is_renamed_well(state: State, other: str, said: Sequence[object]) -> bool:
    """Whether the branch stands under one name at most, and where it was moved to if it was moved."""
    heads = state.heads()
    names = {"branch 'side'", "branch 'aside'"} & heads.keys()
    if other == "branch move of the other":
        moved_to = heads["branch 'prod'"]
        return len(names) == 1 and not state.warnings and (ACK not in said or heads[names.pop()] == moved_to)
    return len(names) <= 1 and not state.warnings


def _state(ground: Ground) -> State:
    (state,) = ground.server.run(look, ground.work).said
    assert isinstance(state, State), state
    return state
