"""Where can an index for this repository be kept? Beside it, else in the user's cache, else in memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import lmdb

from moorage.index.base import Index
from moorage.index.lmdb_index import LmdbIndex
from moorage.index.memory import MemoryIndex


def open_index(folders: Sequence[Path]) -> Index:
    """The index in the first of `folders` that can be written, or one in memory."""
    for folder in folders:
        if _can_write(folder):
            with contextlib.suppress(OSError, lmdb.Error):
                return LmdbIndex(folder)
    return MemoryIndex()


def _can_write(folder: Path) -> bool:
    """Whether `folder` and the files of an index in it could be written; nothing is made."""
    if folder.is_dir():
        files = [folder / name for name in ("data.mdb", "lock.mdb", "writer.lock", "seal")]
        return os.access(folder, os.W_OK | os.X_OK) and all(os.access(f, os.W_OK) for f in files if f.exists())
    parent = folder
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    return os.access(parent, os.W_OK | os.X_OK)
