"""Is a nodeid found by the whole key, also where hashes are equal?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.model.digest import ContentDigest
from moorage.model.tree import Entry, EntryKind
from moorage.mount.shown import keys
from moorage.mount.shown.inodes import ROOT, InodeTable
from moorage.mount.shown.keys import Keys
from moorage.mount.shown.slots import key_of, packed
from moorage.mount.shown.view import View
from tests.mount.fakes import FakeRepository

ACTIONS = st.lists(st.tuples(st.sampled_from(["claim", "remove"]), st.integers(0, 7)), max_size=40)


def place_of(number: int) -> bytes:
    entry = Entry(f"n{number}", EntryKind.FILE, ContentDigest.of(b"%d" % number), None, 1, 1)
    view = FakeRepository().fixed_view({})
    return packed(ROOT, entry.name, View.child(view.root(), entry), 1)


PLACES = [place_of(number) for number in range(8)]


@pytest.mark.parametrize("hashed", [hash, lambda _: 1, lambda key: key[1] % 3], ids=["hash", "all collide", "some do"])
@given(actions=ACTIONS)
def test_it_is_a_dictionary(hashed: Callable[[bytes], int], actions: list[tuple[str, int]]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keys, "_hash", hashed)
        places: dict[int, bytes] = {}
        known, expected = Keys(places), dict[bytes, int]()
        for nodeid, (word, number) in enumerate(actions, ROOT + 1):
            key = key_of(PLACES[number])
            if word == "claim" and key in expected:
                assert known.claim(key, PLACES[number], nodeid) == expected[key]
            elif word == "claim":
                assert known.claim(key, PLACES[number], nodeid) == nodeid
                places[nodeid] = PLACES[number]
                expected[key] = nodeid
            elif word == "remove" and key in expected:
                known.remove(key, expected[key] + 1)  # of another nodeid: nothing happens
                assert known.find(key, PLACES[number]) == expected[key]
                known.remove(key, expected[key])
                del places[expected.pop(key)]
            assert [known.find(key_of(place), place) for place in PLACES] == [
                expected.get(key_of(place), 0) for place in PLACES
            ]


def looked_up(count: int) -> set[int]:
    repository = FakeRepository()
    view = repository.fixed_view({f"n{number}": b"%d" % number for number in range(count)})
    table = InodeTable(view.folder)
    found = set()
    for number in range(count):
        node = view.lookup(view.root(), f"n{number}")
        assert node is not None
        found.add(table.remember(ROOT, f"n{number}", node))
    return found


def test_files_whose_hashes_collide_are_not_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_hash", lambda _: 1)
    assert len(looked_up(20)) == 20


def test_control_by_the_hash_alone_they_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_hash", lambda _: 1)
    monkeypatch.setattr(keys, "key_of", lambda _: _Any())  # what is found is not compared
    assert len(looked_up(20)) == 1


class _Any:
    """Equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0
