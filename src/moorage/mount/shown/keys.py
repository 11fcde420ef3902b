"""Which nodeid has this key, without a copy of each key?

A key is part of what is remembered of its nodeid, and as large as half of that. So by 60 bits of a hash the nodeid is
only found, and it is the one that was asked for if its whole key is: two that collide are both there, one of them by
its key.

Threads: as the table that holds it.
"""

from __future__ import annotations

from collections.abc import Mapping

from moorage.mount.shown.slots import key_of

_60_BITS = (1 << 60) - 1
"""Of which an int of Python takes 32 bytes; more take 48."""
_hash = hash


class Keys:
    """Nodeids by key."""

    def __init__(self, places: Mapping[int, bytes]) -> None:
        """None yet; `places` is what is remembered of each nodeid that is added, as long as it is here."""
        self._places = places
        self._by_hash: dict[int, int] = {}
        self._others: dict[bytes, int] = {}
        """Those whose hash was taken."""

    def find(self, key: bytes, place: bytes) -> int:
        """The nodeid of `key`, which is that of `place`; 0 for none."""
        nodeid = self._by_hash.get(_hash(key) & _60_BITS)
        if nodeid is not None:
            known = self._places[nodeid]
            if known == place or key_of(known) == key:
                return nodeid
        return self._others.get(key, 0) if self._others else 0

    def claim(self, key: bytes, place: bytes, nodeid: int) -> int:
        """The nodeid of `key`, which is that of `place`; from now on this one, which no key has, if there is none."""
        if self._others and key in self._others:
            return self._others[key]
        found = self._by_hash.setdefault(_hash(key) & _60_BITS, nodeid)
        if found == nodeid:
            return nodeid
        known = self._places[found]
        return found if known == place or key_of(known) == key else self._others.setdefault(key, nodeid)

    def remove(self, key: bytes, nodeid: int) -> None:
        """It has this nodeid no longer, if it had."""
        number = _hash(key) & _60_BITS
        if self._by_hash.get(number) == nodeid:
            del self._by_hash[number]
        elif self._others.get(key) == nodeid:
            del self._others[key]
