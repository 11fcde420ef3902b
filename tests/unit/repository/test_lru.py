"""Does the cache keep what was used, and no more than it may?"""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from moorage.repository.lru import LruCache


def test_what_was_not_used_for_longest_goes_first() -> None:
    cache: LruCache[str, int] = LruCache(3)
    for number, key in enumerate("abc"):
        cache.put(key, number)
    assert cache.get("a") == 0
    cache.put("d", 3)
    assert [cache.get(key) for key in "abcd"] == [0, None, 2, 3]


def test_weights_count() -> None:
    cache: LruCache[str, bytes] = LruCache(100, len)
    cache.put("a", bytes(60))
    cache.put("b", bytes(40))
    assert cache.get("a") is not None
    cache.put("c", bytes(50))
    assert [key for key in "abc" if cache.get(key) is not None] == ["c"]
    cache.put("c", bytes(10))
    cache.put("d", bytes(90))
    assert [key for key in "cd" if cache.get(key) is not None] == ["c", "d"]


def test_one_that_is_too_heavy_is_kept_alone() -> None:
    cache: LruCache[str, bytes] = LruCache(10, len)
    cache.put("a", bytes(5))
    cache.put("b", bytes(50))
    assert cache.get("a") is None
    assert cache.get("b") == bytes(50)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 9) | st.none()), max_size=60), st.integers(1, 20))
def test_it_is_a_bounded_dictionary(steps: list[tuple[str, int | None]], capacity: int) -> None:
    cache: LruCache[str, int] = LruCache(capacity, lambda value: value)
    model: OrderedDict[str, int] = OrderedDict()
    for key, value in steps:
        if value is None:
            assert cache.get(key) == model.get(key)
            if key in model:
                model.move_to_end(key)
            continue
        cache.put(key, value)
        model.pop(key, None)
        model[key] = value
        while sum(model.values()) > capacity and len(model) > 1:
            model.popitem(last=False)
    assert {key: cache.get(key) for key in "abcdef" if cache.get(key) is not None} == dict(model)
