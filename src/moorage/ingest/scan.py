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

    def all_files(self) -> Iterator[FoundFile]:
        """The files in it and below it, in the order in which they are read: what lies together is stored together."""
        pending = [self]
        while pending:
            directory = pending.pop()
            yield from directory.files
            pending.extend(reversed(directory.directories))


@dataclass(slots=True)
class _Problems:
    refused: list[str] = field(default_factory=list)

    def add(self, location: str, why: str) -> None:
        self.refused.append(f"{os.fsencode(location).decode('utf-8', 'backslashreplace')} ({why})")

    def raise_if_any(self) -> None:
        if not self.refused:
            return
        named = "; ".join(self.refused[:_NAMED])
        more = f"; and {len(self.refused) - _NAMED} more" if len(self.refused) > _NAMED else ""
        raise UnsupportedFileError(
            f"cannot store {named}{more}",
            hint=f"rename or remove them, or name them in {IGNORE_FILE}; nothing was written",
            paths=self.refused,
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
        raise UnreadableSourceError(f"cannot read {source}: {error.strerror}", path=str(source)) from error
    if stat.S_ISREG(status.st_mode):
        return found_file(at.rsplit("/", 1)[-1], str(source), status)
    if not stat.S_ISDIR(status.st_mode):
        kind = _SPECIAL.get(stat.S_IFMT(status.st_mode), "not a file")
        raise UnsupportedFileError(f"cannot store {source}: it is {kind}", path=str(source))
    if leave_out is not None and _same_or_inside(source, leave_out):
        raise InvalidInputError(f"{source} is the repository itself, or lies in it", path=str(source))
    scanner = _Scanner(_own_id(leave_out))
    root = scanner.directory(str(source), "", "", at, IgnoreRules())
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


class _Scanner:
    def __init__(self, own_id: tuple[int, int] | None) -> None:
        self.problems = _Problems()
        self._own_id = own_id

    def directory(self, location: str, name: str, path: str, tree_path: str, rules: IgnoreRules) -> FoundDirectory:
        """`path` is below the source, for ignore rules; `tree_path` is where it will be in the tree."""
        found = FoundDirectory(name)
        try:
            with os.scandir(location) as entries:
                items = sorted(entries, key=lambda item: item.name)
        except OSError as error:
            raise UnreadableSourceError(f"cannot read {location}: {error.strerror}", path=location) from error
        if any(item.name == IGNORE_FILE for item in items):
            rules = rules.descend(Path(location), path)
        for item in items:
            self._item(item, found, join_path(path, item.name), join_path(tree_path, item.name), rules)
        return found

    def _item(
        self, item: os.DirEntry[str], found: FoundDirectory, path: str, tree_path: str, rules: IgnoreRules
    ) -> None:
        is_directory = item.is_dir(follow_symlinks=False)
        if rules.specs and rules.ignores(path, is_directory=is_directory):
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
                    found.directories.append(self.directory(item.path, item.name, path, tree_path, rules))
            elif stat.S_ISREG(status.st_mode):
                found.files.append(found_file(item.name, item.path, status))
            elif stat.S_ISLNK(status.st_mode):
                self._link(item, found)
            else:
                self.problems.add(item.path, f"it is {_SPECIAL.get(stat.S_IFMT(status.st_mode), 'no file')}")
        except FileNotFoundError:
            return  # removed since it was listed: the source without it is as good a moment as any
        except OSError as error:
            raise UnreadableSourceError(f"cannot read {item.path}: {error.strerror}", path=item.path) from error

    def _link(self, item: os.DirEntry[str], found: FoundDirectory) -> None:
        target = os.readlink(item.path)
        try:
            target.encode("utf-8")
        except UnicodeEncodeError:
            self.problems.add(item.path, "its target is not UTF-8")
            return
        found.links.append(FoundLink(item.name, target))
