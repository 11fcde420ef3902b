"""Is a name that may move kept only while walks come quickly?"""

from __future__ import annotations

from moorage.mount.kernel.lifetimes import TICK_NS, Bursts

MS = 1_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = 5_000 * MS

    def __call__(self) -> int:
        return self.now_ns


def walks(bursts: Bursts, clock: Clock, count: int, every_ns: int) -> list[int]:
    found = []
    for _ in range(count):
        found.append(bursts.walked())
        clock.now_ns += every_ns
    return found


def test_sixteen_walks_within_four_milliseconds_are_a_burst() -> None:
    clock = Clock()
    assert walks(Bursts(clock), clock, 20, MS // 5) == [0] * 16 + [TICK_NS] * 4


def test_slower_walks_are_not() -> None:
    clock = Clock()
    assert set(walks(Bursts(clock), clock, 1000, MS)) == {0}


def test_a_burst_ends_by_itself() -> None:
    """While the kernel keeps the name it asks once a tick, which is no burst: one has to be seen anew."""
    clock = Clock()
    bursts = Bursts(clock)
    assert walks(bursts, clock, 17, 0)[-1] == TICK_NS
    assert walks(bursts, clock, 20, TICK_NS) == [TICK_NS] * 8 + [0] * 12


def test_a_listing_hands_names_out_in_a_burst_only_and_keeps_it_going() -> None:
    clock = Clock()
    bursts = Bursts(clock)
    assert bursts.listed() == 0
    walks(bursts, clock, 17, 0)
    for _ in range(50):
        assert bursts.listed() == TICK_NS
        clock.now_ns += 29 * MS
    clock.now_ns += 2 * MS
    assert bursts.listed() == 0


def test_listings_alone_are_no_burst() -> None:
    clock = Clock()
    bursts = Bursts(clock)
    assert {bursts.listed() for _ in range(100)} == {0}


def test_the_first_walk_is_none_whatever_the_clock_says() -> None:
    clock = Clock()
    clock.now_ns = 0
    assert Bursts(clock).walked() == 0
