"""Who has opened this, according to what mounts have written down?

The logs of all mounts of this user, of those that are gone too, as long as their files are there. What is asked for is
a path in the file system, a snapshot, or contents by their digest.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorage.errors import StorageError
from moorage.model.digest import DIGEST_BYTES, SnapshotId
from moorage.mount.host import places
from moorage.mount.journal import open_log
from moorage.mount.journal.open_log import GENERATIONS
from moorage.repository.history import MIN_PREFIX

_ID_PREFIX = re.compile(rf"[0-9a-f]{{{MIN_PREFIX},{2 * DIGEST_BYTES}}}")


@dataclass(frozen=True, slots=True)
class Question:
    """What to look for; a line that fits any of these is an answer."""

    path: str = ""
    """An absolute path, and everything below it."""
    real_path: str = ""
    """The same after symlinks: what is opened as `branches/prod/f` is written down as `snapshots/ID/f`."""
    id_prefix: str = ""
    """The beginning of a snapshot id or of a digest."""
    snapshot: str = ""
    digests: frozenset[str] = frozenset()

    def fits(self, fields: dict[str, Any]) -> bool:
        """Whether a line is about what is asked for."""
        snapshot, digest = str(fields.get("snapshot")), str(fields.get("blake3"))
        if self.id_prefix:
            return snapshot.startswith(self.id_prefix) or digest.startswith(self.id_prefix)
        if self.snapshot or self.digests:
            return snapshot == self.snapshot or digest in self.digests
        path = str(fields.get("path"))
        return any(
            asked and (path == asked or path.startswith(asked.rstrip("/") + "/"))
            for asked in (self.path, self.real_path)
        )


@dataclass(frozen=True, slots=True)
class Opening:
    """One line: somebody has opened a file, or opens were not written down."""

    time: str
    """ISO 8601, UTC, to the microsecond."""
    pid: int | None
    uid: int | None
    executable: str | None
    path: str | None
    snapshot: str | None
    blake3: str | None
    dropped: int = 0
    """How many opens before this line were not written down; then all else but the time is None."""


def is_path(word: str) -> bool:
    """Whether a word means a path in the file system: as a shell would have it, with no guess."""
    return word.startswith(("/", "./", "../")) or word in (".", "..")


def is_id(word: str) -> bool:
    """Whether a word may be a snapshot id, a digest, or the beginning of one."""
    return _ID_PREFIX.fullmatch(word) is not None


def about_path(word: str) -> Question:
    """Ask about a path. Follows symlinks, so it asks the mount if that lives."""
    return Question(path=os.path.abspath(word), real_path=os.path.realpath(word))


def about_snapshot(id: SnapshotId) -> Question:
    """Ask about everything that was opened in a snapshot."""
    return Question(snapshot=id.hex())


def answers(question: Question, since_ns: int = 0) -> list[Opening]:
    """What fits, by time; and always how many opens were not written down, since these might have fitted.

    Raises `StorageError`.
    """
    since = open_log.iso(since_ns)
    found: list[Opening] = []
    for path in _logs():
        try:
            found.extend(
                _opening(fields)
                for fields in open_log.lines_of(path, GENERATIONS)
                if str(fields["time"]) >= since and ("dropped" in fields or question.fits(fields))
            )
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}", hint="it belongs to whoever mounted") from error
    return sorted(found, key=lambda opening: opening.time)


def is_logged() -> bool:
    """Whether any mount of this user has ever written down what is opened."""
    return bool(_logs())


def _logs() -> list[Path]:
    """The file of each mountpoint, also where only older generations are left."""
    names = {path.name.partition(".jsonl")[0] for path in places.opens_directory().glob("*.jsonl*")}
    return [places.opens_directory() / f"{name}.jsonl" for name in sorted(names)]


def _opening(fields: dict[str, Any]) -> Opening:
    return Opening(
        fields["time"],
        fields.get("pid"),
        fields.get("uid"),
        fields.get("executable"),
        fields.get("path"),
        fields.get("snapshot"),
        fields.get("blake3"),
        fields.get("dropped", 0),
    )
