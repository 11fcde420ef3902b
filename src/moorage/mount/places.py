"""Where does moorage keep what it knows about this user's mounts?

Under the XDG state directory, never under the runtime directory: a service and a shell of one user differ in
`XDG_RUNTIME_DIR`, and then the one would not see the mounts of the other. What a restart of the machine leaves behind
is recognised as such (see `registry`).
"""

from __future__ import annotations

import os
import tempfile
import zlib
from pathlib import Path


def state_directory() -> Path:
    """`$XDG_STATE_HOME/moorage`; not made by asking."""
    return _base("XDG_STATE_HOME", ".local/state") / "moorage"


def cache_directory() -> Path:
    """`$XDG_CACHE_HOME/moorage`; not made by asking."""
    return _base("XDG_CACHE_HOME", ".cache") / "moorage"


def _base(variable: str, below_home: str) -> Path:
    configured = os.environ.get(variable, "")
    if os.path.isabs(configured):  # the XDG specification: relative paths are ignored
        return Path(configured)
    try:
        return Path.home() / below_home
    except RuntimeError:  # a container's user that no password file knows
        return Path(tempfile.gettempdir()) / f"moorage-{os.getuid()}" / below_home


def records_directory() -> Path:
    """One file a mount."""
    return state_directory() / "mounts"


def log_file(mountpoint: str) -> Path:
    """Where the server of `mountpoint` logs, unless it is told otherwise."""
    return state_directory() / "logs" / f"{slug(mountpoint)}.log"


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
