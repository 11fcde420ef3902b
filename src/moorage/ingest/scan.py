"""What is there to store? The whole source is looked at, and everything that cannot be stored refused by name, first.

So nothing is written for a source that would fail half-way for a reason that could have been seen from the start.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from moorage.errors import InvalidInputError, SourceNotFoundError, UnreadableSourceError, UnsupportedFileError
from moorage.index.stat_cache import FileIdentity
from moorage.ingest.ignore import IGNORE_FILE, IgnoreRules
from moorage.model.names import MAX_PATH_BYTES, check_entry_name, join_path

_NAMED = 5
"""How many refused files one message names."""
_OF_NAMES = ("its name", "its path")
"""How the reasons begin against which another name helps."""
_SPECIAL = {
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
}


@dataclass(slots=True)
class FoundFile:
    """A regular file of the source."""

    name: str
    location: str
    """Where it is on disk."""
    identity: FileIdentity
    executable: bool


@dataclass(slots=True)
class FoundLink:
    """A symlink of the source, kept as one."""

    name: str
    target: str


@dataclass(slots=True)
class FoundDirectory:
    """A directory of the source."""

    name: str
    files: list[FoundFile] = field(default_factory=list)
    links: list[FoundLink] = field(default_factory=list)
    directories: list[FoundDirectory] = field(default_factory=list)

    def walk(self) -> Iterator[FoundDirectory]:
        """It and all below it, parents before children."""
        pending = [self]
        while pending:
            directory = pending.pop()
            yield directory
            pending.extend(reversed(directory.directories))

    def all_files(self) -> Iterator[FoundFile]:
        """The files in it and below it, in the order in which they are read: what lies together is stored together."""
        for directory in self.walk():
            yield from directory.files

    def count_links(self) -> int:
        """The symlinks in it and below it."""
        return sum(len(directory.links) for directory in self.walk())


@dataclass(slots=True)
class _Problems:
    refused: list[tuple[str, str]] = field(default_factory=list)
    """A path, and why it cannot be stored."""

    def add(self, location: str, why: str) -> None:
        self.refused.append((os.fsencode(location).decode("utf-8", "backslashreplace"), why))

    def raise_if_any(self) -> None:
        if not self.refused:
            return
        named = "; ".join(f"{path} ({why})" for path, why in self.refused[:_NAMED])
        more = f"; and {len(self.refused) - _NAMED} more" if len(self.refused) > _NAMED else ""
        reasons = [why for _, why in self.refused]
        way = "rename" if all(why.startswith(_OF_NAMES) for why in reasons) else "remove"
        them = "it" if len(reasons) == 1 else "them"
        raise UnsupportedFileError(
            f"cannot store {named}{more}",
            hint=f"{way} {them}, or name {them} in {IGNORE_FILE}; nothing was written",
            paths=[path for path, _ in self.refused],
            reasons=reasons,
        )


def identity_of(status: os.stat_result) -> FileIdentity:
    """What tells whether a file is still the same."""
    return FileIdentity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def found_file(name: str, location: str, status: os.stat_result) -> FoundFile:
    """A regular file, from what stat says; executable if anybody may execute it."""
    return FoundFile(name, location, identity_of(status), bool(status.st_mode & 0o111))


def scan(source: Path, at: str, leave_out: Path | None) -> FoundFile | FoundDirectory:
    """Look at a file, or at a directory and all below it.

    `at` is the path in the tree that it is meant for; `leave_out`, the repository, is passed over if it lies inside.
    Raises `SourceNotFoundError`, `UnreadableSourceError`, `UnsupportedFileError`, `InvalidInputError`.
    """
    try:
        status = os.stat(source)
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"no such file or directory: {source}", path=str(source)) from error
    except OSError as error:
        raise _unreadable(str(source), error) from error
    if stat.S_ISREG(status.st_mode):
        return found_file(at.rsplit("/", 1)[-1], str(source), status)
    if not stat.S_ISDIR(status.st_mode):
        kind = _SPECIAL.get(stat.S_IFMT(status.st_mode), "not a file")
        raise UnsupportedFileError(f"cannot store {source}: it is {kind}", path=str(source))
    if leave_out is not None and _same_or_inside(source, leave_out):
        raise InvalidInputError(f"{source} is the repository itself, or lies in it", path=str(source))
    scanner = _Scanner(_own_id(leave_out))
    root = scanner.scan(str(source), at)
    scanner.problems.raise_if_any()
    return root


def _own_id(leave_out: Path | None) -> tuple[int, int] | None:
    if leave_out is None:
        return None
    try:
        status = os.stat(leave_out)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _same_or_inside(source: Path, repository: Path) -> bool:
    inner, outer = os.path.realpath(source), os.path.realpath(repository)
    return inner == outer or inner.startswith(outer + os.sep)


@dataclass(slots=True)
class _Pending:
    """A directory that is to be looked into."""

    found: FoundDirectory
    parent: FoundDirectory | None
    location: str
    path: str
    """Below the source, for ignore rules."""
    tree_path: str
    """Where it will be in the tree."""
    rules: IgnoreRules


class _Scanner:
    """Looks into one directory after the other; not by recursion, since a path has room for 2,048 of them."""

    def __init__(self, own_id: tuple[int, int] | None) -> None:
        self.problems = _Problems()
        self._own_id = own_id
        self._pending: list[_Pending] = []

    def scan(self, location: str, at: str) -> FoundDirectory:
        root = FoundDirectory("")
        self._pending = [_Pending(root, None, location, "", at, IgnoreRules())]
        while self._pending:
            here = self._pending.pop()
            first = len(self._pending)
            self._look_into(here)
            self._pending[first:] = reversed(self._pending[first:])
        return root

    def _look_into(self, here: _Pending) -> None:
        try:
            with os.scandir(here.location) as entries:
                items = sorted(entries, key=lambda item: item.name)
        except FileNotFoundError as error:
            if here.parent is None:
                raise _unreadable(here.location, error) from error
            here.parent.directories.remove(here.found)  # removed since it was listed, as a file may be (see `_item`)
            return
        except OSError as error:
            raise _unreadable(here.location, error) from error
        if any(item.name == IGNORE_FILE and item.is_file() for item in items):
            here.rules = here.rules.descend(Path(here.location), here.path)
        for item in items:
            self._item(item, here)

    def _item(self, item: os.DirEntry[str], here: _Pending) -> None:
        is_directory = item.is_dir(follow_symlinks=False)
        path, tree_path = join_path(here.path, item.name), join_path(here.tree_path, item.name)
        if here.rules.specs and here.rules.ignores(path, is_directory=is_directory):
            return
        try:
            check_entry_name(item.name)
        except InvalidInputError:
            self.problems.add(item.path, "its name is not UTF-8")
            return
        if len(tree_path) * 4 > MAX_PATH_BYTES and len(tree_path.encode()) > MAX_PATH_BYTES:
            self.problems.add(item.path[:80] + "...", f"its path is longer than {MAX_PATH_BYTES} bytes")
            return
        try:
            status = item.stat(follow_symlinks=False)
            if is_directory:
                if (status.st_dev, status.st_ino) != self._own_id:
                    below = FoundDirectory(item.name)
                    here.found.directories.append(below)
                    self._pending.append(_Pending(below, here.found, item.path, path, tree_path, here.rules))
            elif stat.S_ISREG(status.st_mode):
                here.found.files.append(found_file(item.name, item.path, status))
            elif stat.S_ISLNK(status.st_mode):
                self._link(item, here.found)
            else:
                self.problems.add(item.path, f"it is {_SPECIAL.get(stat.S_IFMT(status.st_mode), 'no file')}")
        except FileNotFoundError:
            return  # removed since it was listed: the source without it is as good a moment as any
        except OSError as error:
            raise _unreadable(item.path, error) from error

    def _link(self, item: os.DirEntry[str], found: FoundDirectory) -> None:
        target = os.readlink(item.path)
        try:
            target.encode("utf-8")
        except UnicodeEncodeError:
            self.problems.add(item.path, "its target is not UTF-8")
            return
        found.links.append(FoundLink(item.name, target))


def _unreadable(location: str, error: OSError) -> UnreadableSourceError:
    return UnreadableSourceError(f"cannot read {location}: {error.strerror}", path=location)
