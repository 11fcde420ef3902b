"""Caches and repositories for the tests of hydration: a few files of known bytes, in chunks of 64 KiB."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from moorage.model.tree import Entry
from moorage.read.cache import FileCache, charge
from moorage.read.resolve import locate, parse_location
from moorage.repository.handle import RepositoryHandle
from tests.mount import build
from tests.mount.build import Content

MIB = 1024 * 1024


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not repeat, the same for the same seed."""
    return random.Random(seed).randbytes(size)


class Store:
    """A repository with files on the branch `prod`, and a cache."""

    def __init__(self, folder: Path, files: Mapping[str, Content], limit_bytes: int = 64 * MIB) -> None:
        """Make both below `folder`."""
        self.handle: RepositoryHandle = build.create(folder / "repository")
        build.branch(self.handle, "prod", files)
        self.cache = FileCache(folder / "cache" / "files", limit_bytes)

    def entry(self, path: str) -> Entry:
        """The entry of a file."""
        return locate(self.handle, parse_location(f"prod:{path}")).file

    def names(self) -> list[str]:
        """What lies in the cache, by the first digits and the end of the names."""
        found = [path.name for path in self.cache.folder.glob("*/*")]
        return sorted(name[:8] + Path(name).suffix for name in found if not name.endswith(".seen"))

    def short(self, *paths: str) -> list[str]:
        """What `names` says when these files are there."""
        return sorted(self.entry(path).digest.hex()[:8] for path in paths)


def room_for(*sizes: int) -> int:
    """A limit that holds files of just these sizes, with the part that is kept free."""
    return -(-sum(map(charge, sizes)) * 16 // 15)


DATA = noise(9 * MIB + 12345)
"""Of the large file; stored as it is."""


def copies_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is copied within the kernel come from a byte further on, or back."""
    splice = os.splice

    def wrong(source: int, target: int, count: int, **options: int) -> int:
        if "offset_src" in options:
            options["offset_src"] ^= 1
        return splice(source, target, count, **options)

    monkeypatch.setattr(os, "splice", wrong)
