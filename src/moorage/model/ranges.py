"""Half-open ranges of bytes."""

from __future__ import annotations

from dataclasses import dataclass

from moorage.errors import InvalidInputError


@dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """The bytes from `start` up to, not including, `stop`."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        """Refuse negative and inverted ranges."""
        if not 0 <= self.start <= self.stop:
            raise InvalidInputError(f"not a range of bytes: [{self.start}, {self.stop})")

    @property
    def size_bytes(self) -> int:
        """How many bytes; 0 for an empty range."""
        return self.stop - self.start
