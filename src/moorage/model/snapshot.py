"""What a moment of a repository is: a tree, where it came from, and who made it, when and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from moorage.errors import InvalidInputError
from moorage.model.digest import ContentDigest, SnapshotId, TreeId
from moorage.model.limits import MAX_SIZE_BYTES, MAX_TIME_NS
from moorage.model.names import check_text

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""Whatever JSON can say."""

MAX_PARENTS = 2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One immutable state of the tree. Its id is BLAKE3 of its canonical encoding (`format.snapshot`)."""

    tree: TreeId
    """The root directory's tree object."""
    digest: ContentDigest
    """What the root directory is: equal content has equal digests, whatever its history."""
    size_bytes: int
    """Logical size of the whole tree."""
    parents: tuple[SnapshotId, ...]
    """None for the first, one for a commit, two for a merge (the branch merged into comes first)."""
    author: str
    time_ns: int
    """Unix time of the commit."""
    message: str
    metadata: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse impossible snapshots."""
        if len(self.parents) > MAX_PARENTS or len(set(self.parents)) != len(self.parents):
            raise InvalidInputError("a snapshot has at most two parents, and they differ")
        if not 0 <= self.size_bytes <= MAX_SIZE_BYTES or not 0 <= self.time_ns <= MAX_TIME_NS:
            raise InvalidInputError("impossible size or time in a snapshot")
        check_text(self.author, "author")
        check_text(self.message, "message")
