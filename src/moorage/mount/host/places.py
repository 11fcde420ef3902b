"""Where does moorage keep what it knows about this user's mounts?

Under the XDG state directory, never under the runtime directory: a service and a shell of one user differ in
`XDG_RUNTIME_DIR`, and then the one would not see the mounts of the other. What a restart of the machine leaves behind
is recognised as such (see `registry`).
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from moorage.repository.user_folders import STATE, user_folder


def state_directory() -> Path:
    """`$XDG_STATE_HOME/moorage`; not made by asking."""
    folder = user_folder(*STATE)
    if folder is None:  # a container's user that no password file knows
        import tempfile  # which imports much, for hardly anybody

        folder = Path(tempfile.gettempdir()) / f"moorage-{os.getuid()}" / STATE[1] / "moorage"
    return folder


def records_directory() -> Path:
    """One file a mount."""
    return state_directory() / "mounts"


def log_file(mountpoint: str) -> Path:
    """Where the server of `mountpoint` logs, unless it is told otherwise."""
    return state_directory() / "logs" / f"{slug(mountpoint)}.log"


def programs_log() -> Path:
    """Where those behind the mounts of single programs log: most of them have nothing to say."""
    return state_directory() / "logs" / "programs.log"


def opens_directory() -> Path:
    """One file a mountpoint, and its older generations."""
    return state_directory() / "opens"


def opens_file(mountpoint: str) -> Path:
    """Where the server of `mountpoint` writes down who opens what, if it is told to."""
    return opens_directory() / f"{slug(mountpoint)}.jsonl"


def slug(mountpoint: str) -> str:
    """A file name for a mountpoint: readable, and different for different mountpoints."""
    readable = "".join(letter if letter.isalnum() else "-" for letter in mountpoint.strip("/"))[-40:].strip("-")
    return f"{readable or 'root'}-{zlib.crc32(os.fsencode(mountpoint)):08x}"
