"""How does a tree, or one file of it, become plain files on a disk? In parallel, whole or not at all, never elsewhere.

Each file appears under its name when all of its bytes, each verified, are written; what exists is replaced only with
`force`. Nothing leaves the target directory (see `target`). Nothing is synced at the end: a checkout is a copy, as `cp`
makes one, and after a power cut it is made again with `force`.

A file's mtime is when its content first came into the repository, which is also what a mount shows; so the same
version checked out twice, or beside a mount, is equal to rsync and make. Its mode is the process's umask and the
executable bit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from moorage.model.progress import SILENT, Progress
from moorage.model.tree import EntryKind
from moorage.read.checkout_plan import CheckoutPlan, Planned, placed_entries, plan_checkout
from moorage.read.resolve import Located
from moorage.read.restore import Restorer
from moorage.read.target import TargetTree
from moorage.read.target_errors import translated_for
from moorage.repository.handle import RepositoryHandle

__all__ = ["CheckoutPlan", "CheckoutResult", "checkout", "plan_checkout"]

_WINDOW_FILES = 16_384
"""Files whose places in packs are looked up and sorted together: bounds memory in trees of millions."""
_WINDOW_CHUNKS = 32_768
"""The same for their chunks, if these are of the target size."""


@dataclass(frozen=True, slots=True)
class CheckoutResult:
    """What a checkout wrote."""

    target: Path
    """The directory, or the file, that was asked for is here now."""
    files: int
    directories: int
    symlinks: int
    size_bytes: int
    """Of all files together."""


def checkout(
    handle: RepositoryHandle, located: Located, target: Path, *, force: bool = False, progress: Progress = SILENT
) -> CheckoutResult:
    """Write what `located` names to `target`.

    A directory's contents go into the directory `target`, which is made if absent; a file goes to `target`, or into it
    where it is a directory. Without `force` anything in the way is refused before anything is written. On an error the
    files that are finished stay, and no half of one does.

    Raises `AlreadyExistsError`, `InvalidInputError` (inside the repository; a name the file system cannot hold),
    `DataError`, `StorageError`, `StorageFullError`, `ReadOnlyError`.
    """
    plan = plan_checkout(handle, located, target)
    plan.refuse_what_is_in_the_way(force=force)
    folder, entries = placed_entries(handle, located, target)
    with translated_for(str(folder)):
        os.makedirs(folder, exist_ok=True)
    most_bytes = _WINDOW_CHUNKS * handle.config.chunking.target_bytes
    progress.begin("checking out", total_bytes=plan.size_bytes, total_files=plan.files)
    with TargetTree(str(folder), force=force) as tree, Restorer(handle, tree, progress) as restorer:
        window: list[Planned] = []
        window_bytes = 0
        for planned in entries:
            if planned.entry.kind is EntryKind.DIRECTORY:
                tree.make_folder(planned.path)
            elif planned.entry.kind is EntryKind.SYMLINK:
                tree.symlink(planned.folder, planned.entry)
            else:
                window.append(planned)
                window_bytes += planned.entry.size_bytes
            if len(window) >= _WINDOW_FILES or window_bytes >= most_bytes:
                restorer.restore(window)
                window, window_bytes = [], 0
        restorer.restore(window)
        restorer.finish()
    progress.finish()
    is_file = located.entry is not None and located.entry.kind is not EntryKind.DIRECTORY
    written = target / located.entry.name if is_file and located.entry and folder == target else target
    return CheckoutResult(written, plan.files, plan.directories, plan.symlinks, plan.size_bytes)
