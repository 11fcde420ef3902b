"""Sources on disk, and what a branch holds afterwards, as plain dictionaries.

{"a/b.txt": b"text", "run.sh": Exe(b"#!"), "link": Link("a/b.txt"), "empty": None}
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moorage.ingest.commit import CommitResult, Source, commit
from moorage.model.progress import SILENT
from moorage.model.tree import Entry
from moorage.read.resolve import locate, parse_location
from moorage.repository.handle import RepositoryHandle
from tests.unit.versioning.build import Exe, Leaf, Link, read_back

LONG_AGO_NS = 1_600_000_000_000_000_000


def lay_out(folder: Path, files: Mapping[str, Leaf]) -> Path:
    """Write a directory, all of it long ago, as the stat cache likes it."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, leaf in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if leaf is None:
            target.mkdir(exist_ok=True)
        elif isinstance(leaf, Link):
            target.symlink_to(leaf.target)
        else:
            write(target, leaf.data if isinstance(leaf, Exe) else leaf)
            target.chmod(0o755 if isinstance(leaf, Exe) else 0o644)
    return folder


def write(file: Path, data: bytes, mtime_ns: int = LONG_AGO_NS) -> None:
    """Write a file whose modification was long ago."""
    file.write_bytes(data)
    os.utime(file, ns=(mtime_ns, mtime_ns))


def committed(handle: RepositoryHandle, source: Source, branch: str = "prod", **changes: Any) -> CommitResult:
    """Commit, creating the branch where it is not there."""
    options: dict[str, Any] = {
        "at": "",
        "message": "",
        "metadata": {},
        "author": "tester",
        "create": True,
        "progress": SILENT,
    }
    return commit(handle, source, branch=branch, **{**options, **changes})


def held(handle: RepositoryHandle, result: CommitResult) -> dict[str, Leaf]:
    """What a commit made, as it was laid out."""
    return read_back(handle, result.snapshot)


def entry_at(handle: RepositoryHandle, location: str) -> Entry:
    """What lies there."""
    entry = locate(handle, parse_location(location)).entry
    assert entry is not None
    return entry
