"""Which pieces are got into the page cache ahead of those who make them? The other rules are in test_assembly."""

from __future__ import annotations

import threading

import pytest

from moorage.read.pieces import FETCHED_AHEAD as AHEAD
from moorage.read.pieces import FETCHED_TOGETHER as GROUP
from moorage.read.pieces import Pieces, State

COUNT = 10 * GROUP + 3
TIMEOUT_S = 60


class Waited(Exception):
    """There is nothing to do for now."""


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> Pieces:
    """Nobody reads them, and who would wait for more to fetch is told so."""
    made = Pieces(COUNT, is_read_meanwhile=False)
    made.work_with(2)

    def wait(timeout: float | None = None) -> bool:
        raise Waited

    monkeypatch.setattr(made._has_other_group, "wait", wait)
    return made


def take(pieces: Pieces, count: int) -> None:
    for _ in range(count):
        assert pieces.take() is not None


def fetched(pieces: Pieces) -> list[range]:
    """All that should be fetched now."""
    found: list[range] = []
    with pytest.raises(Waited):
        while (some := pieces.take_fetch()) is not None:
            found.append(some)
    return found


def groups(first: int) -> list[range]:
    """That are fetched when this is the first piece that nobody has begun."""
    starts = range(first - first % GROUP, COUNT, GROUP)[: AHEAD + 1]
    return [range(max(start, first), min(start + GROUP, COUNT)) for start in starts]


def test_a_few_groups_ahead_and_no_more(pieces: Pieces) -> None:
    take(pieces, 2)
    assert fetched(pieces) == groups(2)
    take(pieces, GROUP - 3)
    assert fetched(pieces) == []
    take(pieces, 1)
    assert fetched(pieces) == groups(GROUP)[-1:]


def test_where_a_reader_sends_the_threads(pieces: Pieces) -> None:
    take(pieces, 1)
    fetched(pieces)
    there = 7 * GROUP + 1
    assert pieces.find(there, there + 1) is None
    assert pieces.take() == there
    assert fetched(pieces) == groups(there + 1)


def test_up_to_the_end_and_then_no_more(pieces: Pieces) -> None:
    found: list[range] = []
    while pieces.take() is not None:
        if pieces.count(State.EMPTY):
            found += fetched(pieces)
    assert [piece for some in found for piece in some] == list(range(1, COUNT))
    assert pieces.take_fetch() is None


def test_who_waits_is_woken_by_the_next_group_and_by_the_end() -> None:
    pieces = Pieces(COUNT, is_read_meanwhile=False)
    found: list[range] = []
    has_fetched = threading.Semaphore(0)

    def fetch() -> None:
        while (some := pieces.take_fetch()) is not None:
            found.append(some)
            has_fetched.release()

    thread = threading.Thread(target=fetch)
    thread.start()
    for _ in range(AHEAD + 1):
        assert has_fetched.acquire(timeout=TIMEOUT_S)
    assert not has_fetched.acquire(timeout=0.05)
    take(pieces, GROUP)
    assert has_fetched.acquire(timeout=TIMEOUT_S)
    assert found == [*groups(0), groups(GROUP)[-1]]
    pieces.end()
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()
