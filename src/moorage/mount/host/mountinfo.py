"""What is mounted where, as the kernel tells it?

Reads `/proc/self/mountinfo` and nothing else: no request ever goes to a file system that is asked about, so a mount
whose server hangs cannot hang the one who asks.

Source: proc(5), `/proc/pid/mountinfo`, which also says how changes are waited for.
"""

from __future__ import annotations

import re
import select
from dataclasses import dataclass

MOUNTINFO = "/proc/self/mountinfo"
FSTYPE = "fuse.moorage"
"""How our mounts are called, by either driver."""
_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line: something is mounted there."""

    device: str
    """major:minor, which tells one mounted file system from another."""
    mountpoint: str
    fstype: str
    source: str
    options: str
    """Of the mount itself, with commas."""
    root: str = "/"
    """What of the file system is shown there: of a bind mount, perhaps a directory inside it."""

    @property
    def is_ours(self) -> bool:
        """Whether it is a mount of moorage."""
        return self.fstype == FSTYPE


def parse(text: bytes) -> list[MountEntry]:
    """The entries of a mountinfo file, oldest first."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(b" - ")
        left, right = before.split(b" "), after.split(b" ")
        if len(left) < 6 or len(right) < 2:
            continue
        found.append(
            MountEntry(
                _text(left[2]), _text(left[4]), _text(right[0]), _text(right[1]), _text(left[5]), _text(left[3])
            ),
        )
    return found


def mounted() -> list[MountEntry]:
    """Everything mounted in this mount namespace, oldest first; nothing where there is no `/proc`."""
    try:
        with open(MOUNTINFO, "rb") as file:
            return parse(file.read())
    except FileNotFoundError:
        return []


def top_at(path: str) -> MountEntry | None:
    """What is mounted at `path` (a real path) and not covered by something else there."""
    at_path = [entry for entry in mounted() if entry.mountpoint == path]
    return at_path[-1] if at_path else None


def is_at(path: str, device: str) -> bool:
    """Whether the file system `device` is mounted at `path` (a real path), covered or not."""
    return any((entry.mountpoint, entry.device) == (path, device) for entry in mounted())


def wait_until_gone(path: str, device: str) -> None:
    """Wait until that file system is no longer mounted there, and perhaps read by those who have it open."""
    with open(MOUNTINFO, "rb") as table:
        changes = select.poll()
        changes.register(table, select.POLLPRI)
        while is_at(path, device):  # what changes from when the table was opened wakes us, so nothing is missed
            changes.poll()


def _text(raw: bytes) -> str:
    """Undo the kernel's octal escapes of blanks and backslashes."""
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), raw).decode("utf-8", "surrogateescape")
