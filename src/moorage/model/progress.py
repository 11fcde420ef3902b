"""How does long work say how far it is? By calling whatever it was given; showing it is the caller's affair."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told about work as it goes on. Called from several threads; must not raise and must not be slow."""

    def begin(self, what: str, *, total_bytes: int | None, total_files: int | None) -> None:
        """A phase starts: what it is ("reading", "storing", ...), and how much there is, where that is known."""

    def advance(self, *, size_bytes: int = 0, files: int = 0) -> None:
        """So much more of the phase is done."""

    def finish(self) -> None:
        """The phase is over."""


class NoProgress:
    """Tells nobody."""

    def begin(self, what: str, *, total_bytes: int | None, total_files: int | None) -> None:
        """See `Progress.begin`."""

    def advance(self, *, size_bytes: int = 0, files: int = 0) -> None:
        """See `Progress.advance`."""

    def finish(self) -> None:
        """See `Progress.finish`."""


SILENT: Progress = NoProgress()
