"""What of that which is gone is only somewhere else? Pure: pairs equal content, gone and new.

Empty content is never paired, since all of it is equal. Where several things of one content are gone or new, those
whose last two names agree find each other first, then those of one name, then the rest in order of path: the answer is
the same each time.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moorage.model.digest import ContentDigest
from moorage.model.tree import Entry


@dataclass(frozen=True, slots=True)
class Placed:
    """An entry and its path."""

    path: str
    entry: Entry


Match = tuple[Placed, Placed]
"""(where it was, where it is)"""

_LIKENESSES: tuple[Callable[[str], str], ...] = (
    lambda path: "/".join(path.rsplit("/", 2)[-2:]),
    lambda path: path.rsplit("/", 1)[-1],
    lambda _: "",
)


def match_renames(gone: Sequence[Placed], new: Sequence[Placed]) -> tuple[list[Match], list[Placed], list[Placed]]:
    """(matches, what is left of `gone`, what is left of `new`), each in the order given, which should be by path."""
    shared = {place.entry.digest for place in gone} & {place.entry.digest for place in new}
    matches: list[Match] = []
    if shared:
        open_gone, open_new = _eligible(gone, shared), _eligible(new, shared)
        for likeness in _LIKENESSES:
            matches += _match_alike(open_gone, open_new, likeness)
    paired_gone = {place.path for place, _ in matches}
    paired_new = {place.path for _, place in matches}
    return (
        matches,
        [place for place in gone if place.path not in paired_gone],
        [place for place in new if place.path not in paired_new],
    )


def _eligible(places: Sequence[Placed], digests: set[ContentDigest]) -> dict[str, Placed]:
    return {place.path: place for place in places if place.entry.size_bytes and place.entry.digest in digests}


def _match_alike(gone: dict[str, Placed], new: dict[str, Placed], likeness: Callable[[str], str]) -> list[Match]:
    """Pair what has one digest and one likeness, and take it out of both."""
    waiting: dict[tuple[ContentDigest, str], deque[Placed]] = defaultdict(deque)
    for place in gone.values():
        waiting[place.entry.digest, likeness(place.path)].append(place)
    matches: list[Match] = []
    for place in list(new.values()):
        queue = waiting.get((place.entry.digest, likeness(place.path)))
        if queue:
            was = queue.popleft()
            matches.append((was, place))
            del gone[was.path], new[place.path]
    return matches
