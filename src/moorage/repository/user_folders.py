"""Where does a user keep what is his: caches, settings, what is mounted? The XDG base directories, with `moorage/` in
them.

Nothing is made by asking. Imports next to nothing, since small processes ask too.
"""

from __future__ import annotations

import os
from pathlib import Path

from moorage.errors import StorageError

CACHE = "XDG_CACHE_HOME", ".cache"
CONFIG = "XDG_CONFIG_HOME", ".config"
STATE = "XDG_STATE_HOME", ".local/state"
"""What names it, and where it is below the home directory otherwise."""


def user_folder(variable: str, below_home: str) -> Path | None:
    """One of the above; None for a user without a home, as containers may have."""
    base = os.environ.get(variable, "")
    if os.path.isabs(base):  # the specification: relative paths are ignored
        return Path(base) / "moorage"
    try:
        return Path.home() / below_home / "moorage"
    except RuntimeError:
        return None


def cache_home() -> Path:
    """Where this user keeps what is derived.

    Raises `StorageError` for a user without a home; a shared directory would not do, since what is in it is trusted.
    """
    folder = user_folder(*CACHE)
    if folder is None:
        raise StorageError("this user has no home directory", hint=f"set {CACHE[0]}")
    return folder
