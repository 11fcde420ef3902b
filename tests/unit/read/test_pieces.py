"""Which pieces are got into the page cache ahead of those who make them? The other rules are in test_assembly."""

from __future__ import annotations

import threading

import pytest

from moorage.read.pieces import FETCHED_AHEAD as AHEAD
from moorage.read.pieces import FETCHED_TOGETHER as TOGETHER
from moorage.read.pieces import Pieces, State

COUNT = 10 * TOGETHER + 3
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

    monkeypatch.setattr(made._wants_fetch, "wait", wait)
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


def test_as_many_as_were_made_in_a_row(pieces: Pieces) -> None:
    found = []
    for _ in range(TOGETHER):
        found.append(fetched(pieces))
        take(pieces, 1)
    assert [some for some in found if some] == [[range(1, 2)], [range(2, 4)], [range(4, 8)]]


def test_then_many_at_a_time_and_so_far_ahead(pieces: Pieces) -> None:
    take(pieces, AHEAD)
    assert fetched(pieces) == [range(start, start + TOGETHER) for start in range(AHEAD, 2 * AHEAD, TOGETHER)]
    take(pieces, TOGETHER - 1)
    assert fetched(pieces) == []
    take(pieces, 1)
    assert fetched(pieces) == [range(2 * AHEAD, 2 * AHEAD + TOGETHER)]


def test_little_for_a_reader_who_jumps_about(pieces: Pieces) -> None:
    """The more he reads in a row, the more."""
    made, found = 0, 0
    for there in (70, 10, 50, 30, 60):
        assert pieces.find(there, there + 1) is None
        assert pieces.take() == there
        take(pieces, 1)
        made += 2
        found += sum(map(len, fetched(pieces)))
    assert 0 < found <= made
    take(pieces, TOGETHER)
    assert sum(map(len, fetched(pieces))) >= TOGETHER


def test_what_was_passed_over_is_fetched_when_it_is_made(pieces: Pieces) -> None:
    """After the end of the file the threads go back to what is left."""
    assert pieces.find(COUNT - 4, COUNT - 3) is None
    take(pieces, 4)
    fetched(pieces)
    assert pieces.take() == 0
    take(pieces, 3)
    assert fetched(pieces) == [range(4, 8)]


def test_what_somebody_waits_for_is_no_jump(pieces: Pieces) -> None:
    take(pieces, 4)
    fetched(pieces)
    pieces._awaited[7] = threading.Condition(pieces._lock)
    assert pieces.take() == 7
    take(pieces, 3)
    assert pieces._next == 8
    assert fetched(pieces) == [range(8, 16)]


def test_up_to_the_end_and_then_no_more(pieces: Pieces) -> None:
    found: list[range] = []
    while pieces.take() is not None:
        if pieces.count(State.EMPTY):
            found += fetched(pieces)
    assert [piece for some in found for piece in some] == list(range(1, COUNT))
    assert pieces.take_fetch() is None


def test_who_waits_is_woken_when_there_is_more_and_at_the_end() -> None:
    pieces = Pieces(COUNT, is_read_meanwhile=False)
    found: list[range] = []
    has_fetched = threading.Semaphore(0)

    def fetch() -> None:
        while (some := pieces.take_fetch()) is not None:
            found.append(some)
            has_fetched.release()

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    assert not has_fetched.acquire(timeout=0.05)
    take(pieces, 1)
    assert has_fetched.acquire(timeout=TIMEOUT_S)
    assert found == [range(1, 2)]
    pieces.end()
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()
