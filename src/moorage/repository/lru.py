"""A bounded, thread-safe map that forgets what was not used for longest."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """Holds values up to a total weight."""

    def __init__(self, capacity: int, weight: Callable[[V], int] = lambda value: 1) -> None:
        """`capacity` is in the units of `weight`; by default a number of values."""
        self._capacity = capacity
        self._weight = weight
        self._total = 0
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """The value, or None; marks it as just used."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: K, value: V) -> None:
        """Keep `value`, and forget what no longer fits."""
        with self._lock:
            old = self._values.pop(key, None)
            if old is not None:
                self._total -= self._weight(old)
            self._values[key] = value
            self._total += self._weight(value)
            while self._total > self._capacity and len(self._values) > 1:
                _, gone = self._values.popitem(last=False)
                self._total -= self._weight(gone)
