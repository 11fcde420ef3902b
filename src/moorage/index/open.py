"""Where can what is derived from a repository be kept? Beside it, else in the user's cache, else in memory.

Never on a network file system or one that a program serves: LMDB relies on locks and on a coherent memory map.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import lmdb

from moorage.index.base import Index
from moorage.index.lmdb_index import LmdbIndex
from moorage.index.memory import MemoryIndex
from moorage.index.stat_cache import StatCache
from moorage.storage.filesystem import is_shared

T = TypeVar("T")


def open_index(folders: Sequence[Path]) -> Index:
    """The index in the first of `folders` that can hold one, or one in memory."""
    return _first(LmdbIndex, folders) or MemoryIndex()


def open_stat_cache(folders: Sequence[Path]) -> StatCache | None:
    """The stat cache in the first of `folders` that can hold one; None where there is none."""
    return _first(StatCache, folders)


def _first(kind: Callable[[Path], T], folders: Sequence[Path]) -> T | None:
    for folder in folders:
        with contextlib.suppress(OSError, lmdb.Error):
            if _can_write(folder) and not is_shared(_existing(folder)):
                return kind(folder)
    return None


def _can_write(folder: Path) -> bool:
    """Whether `folder` and the files of a database in it could be written; nothing is made. Raises `OSError`."""
    if folder.is_dir():
        files = [folder / name for name in ("data.mdb", "lock.mdb", "writer.lock", "open.lock", "seal")]
        return os.access(folder, os.W_OK | os.X_OK) and all(os.access(f, os.W_OK) for f in files if f.exists())
    return os.access(_existing(folder), os.W_OK | os.X_OK)


def _existing(folder: Path) -> Path:
    """`folder`, or what of the way to it exists. Raises `OSError`."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
