"""What would a checkout write, and what is in its way? Found out by looking; nothing is written here."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from moorage.errors import AlreadyExistsError, InvalidInputError
from moorage.model.tree import Entry, EntryKind
from moorage.read.resolve import Located
from moorage.read.target_folders import FolderPath, TargetFolders
from moorage.repository.handle import RepositoryHandle

_LISTED = 10
"""Names of files in the way that an error lists."""


@dataclass(frozen=True, slots=True)
class CheckoutPlan:
    """What a checkout would do."""

    folder: Path
    """The directory that is written into; made if absent."""
    files: int
    directories: int
    """Below `folder`; it is not counted itself."""
    symlinks: int
    size_bytes: int
    """Of all files together."""
    in_the_way: tuple[str, ...]
    """The first files and symlinks that are there already, as paths below `folder`; `force` replaces such."""
    in_the_way_count: int
    immovable: tuple[str, ...]
    """The first directories that are where a file or a symlink should be; they are never replaced."""

    def __str__(self) -> str:
        """One line, for people."""
        what = f"{self.files} files, {self.directories} directories, {self.symlinks} symlinks, {self.size_bytes} bytes"
        return f"{what} to {self.folder}; {self.in_the_way_count + len(self.immovable)} in the way"

    def refuse_what_is_in_the_way(self, *, force: bool) -> None:
        """Raises `AlreadyExistsError` where the checkout cannot, or without `force` may not, go on."""
        if self.immovable:
            raise AlreadyExistsError(
                f"{self.folder} has directories where files should be: {', '.join(self.immovable)}",
                hint="remove them first; a directory is never replaced by a file",
                paths=list(self.immovable),
            )
        if self.in_the_way_count and not force:
            more = self.in_the_way_count - len(self.in_the_way)
            message = f"{self.folder} has such files already: {', '.join(self.in_the_way)}"
            message += f", and {more} more" if more else ""
            it = "them"
            if self.in_the_way_count == 1:
                message, it = f"{self.folder / self.in_the_way[0]} exists already", "it"
            raise AlreadyExistsError(
                message,
                hint=f"replace {it} with --force, or check out to another place",
                paths=list(self.in_the_way),
                count=self.in_the_way_count,
            )


@dataclass(frozen=True, slots=True)
class Planned:
    """One entry, and where it goes."""

    folder: FolderPath
    entry: Entry

    @property
    def path(self) -> FolderPath:
        """Its names below the target."""
        return (*self.folder, self.entry.name.encode("utf-8"))


def placed_entries(handle: RepositoryHandle, located: Located, target: Path) -> tuple[Path, Iterator[Planned]]:
    """The directory that is written into, and everything that goes there, parents before children.

    A directory's contents go into `target`. A file goes into `target` where that is a directory, else it is called so,
    as with cp.
    """
    entry = located.entry
    if entry is None or entry.kind is EntryKind.DIRECTORY:
        return target, _walk(handle, located)
    if target.is_dir():
        return target, iter([Planned((), entry)])
    name = _named(entry, target.name)
    return target.parent, iter([Planned((), name)])


def _named(entry: Entry, name: str) -> Entry:
    """The same file under another name, for which the rules of entries hold too."""
    return Entry(
        name,
        entry.kind,
        entry.digest,
        entry.object,
        entry.size_bytes,
        entry.first_stored_ns,
        entry.executable,
        entry.target,
    )


def _walk(handle: RepositoryHandle, located: Located) -> Iterator[Planned]:
    folder: FolderPath = ()
    last = ""
    for path, entry in handle.trees.walk(located.tree):
        parent = path[: -len(entry.name)]
        if parent != last:
            folder, last = tuple(parent.encode("utf-8").split(b"/")[:-1]), parent
        yield Planned(folder, entry)


def plan_checkout(handle: RepositoryHandle, located: Located, target: Path) -> CheckoutPlan:
    """What `checkout` would do, read from the tree and from what lies in `target`.

    Raises `InvalidInputError` where the target is inside the repository, `DataError`, `StorageError`.
    """
    folder, entries = placed_entries(handle, located, target)
    _refuse_inside(handle, folder)
    files = directories = symlinks = size = 0
    obstacles = _Obstacles(folder)
    with obstacles:
        for planned in entries:
            if planned.entry.kind is EntryKind.FILE:
                files += 1
                size += planned.entry.size_bytes
            elif planned.entry.kind is EntryKind.DIRECTORY:
                directories += 1
            else:
                symlinks += 1
            obstacles.look(planned)
    return CheckoutPlan(
        folder,
        files,
        directories,
        symlinks,
        size,
        tuple(obstacles.in_the_way),
        obstacles.count,
        tuple(obstacles.immovable),
    )


def _refuse_inside(handle: RepositoryHandle, folder: Path) -> None:
    if handle.root is not None and folder.resolve().is_relative_to(handle.root.resolve()):
        raise InvalidInputError(
            f"{folder} is inside the repository", hint="check out to a directory outside it", path=str(folder)
        )


class _Obstacles:
    """Looks for what is in the way, in those directories of the tree that exist already, without following symlinks."""

    def __init__(self, folder: Path) -> None:
        self.in_the_way: list[str] = []
        self.count = 0
        self.immovable: list[str] = []
        self._target = TargetFolders(str(folder), force=False) if _has_something(folder) else None
        self._present: set[FolderPath] = {()}

    def look(self, planned: Planned) -> None:
        """Note what lies where `planned` goes; parents must be looked at before children."""
        if self._target is None or planned.folder not in self._present:
            return
        path = planned.path
        with self._target.folder(planned.folder) as parent:
            try:
                mode = os.stat(path[-1], dir_fd=parent, follow_symlinks=False).st_mode
            except OSError:
                return  # nothing there; what the file system cannot name is told when it is written
        if planned.entry.kind is EntryKind.DIRECTORY and stat.S_ISDIR(mode):
            self._present.add(path)
            return
        shown = b"/".join(path).decode("utf-8")
        if stat.S_ISDIR(mode):
            if len(self.immovable) < _LISTED:
                self.immovable.append(shown)
            return
        self.count += 1
        if len(self.in_the_way) < _LISTED:
            self.in_the_way.append(shown)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._target is not None:
            self._target.close()


def _has_something(folder: Path) -> bool:
    try:
        with os.scandir(folder) as scan:
            return next(scan, None) is not None
    except OSError:
        return False  # absent, or told when it is written
