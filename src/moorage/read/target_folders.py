"""How are directories below a target found and made, without ever leaving it?

Every step names one component, relative to the open descriptor of its parent, and never follows a symlink: a path is
only a way to find descriptors, so that a directory which somebody replaces by a symlink at any moment leads to an error
and not to another place. Names come from `model.names`, which knows no `..` and no slash.

Thread-safe but for `make_folder`, which one thread calls for a parent before its children.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from moorage.errors import MoorageError
from moorage.read.target_errors import translate, translated_for

_MAX_FOLDERS = 128
"""Descriptors kept open; a limit of 1,024 for the process is common."""
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

FolderPath = tuple[bytes, ...]
"""Names below the target; empty for the target itself."""


class _Folder:
    __slots__ = ("fd", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 1


class TargetFolders:
    """The directories below one directory. A context manager: leaving it closes its descriptors."""

    def __init__(self, root: str, *, force: bool) -> None:
        """`root` is an existing directory, or a symlink to one: what the caller names is followed, nothing below it.

        With `force`, files and symlinks that are where directories should be are removed. Raises `StorageError`.
        """
        self.root = root
        self.force = force
        self._lock = threading.Lock()
        self._open: OrderedDict[FolderPath, _Folder] = OrderedDict()
        with translated_for(root):
            self._root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @contextmanager
    def folder(self, path: FolderPath) -> Iterator[int]:
        """The descriptor of a directory below the target, good inside the `with`.

        Raises `AlreadyExistsError` where something else is in its place, `StorageError`.
        """
        if not path:
            yield self._root_fd
            return
        folder = self._acquire(path)
        try:
            yield folder.fd
        finally:
            with self._lock:
                folder.users -= 1

    def _acquire(self, path: FolderPath) -> _Folder:
        with self._lock:
            found = self._open.get(path)
            if found is not None:
                found.users += 1
                self._open.move_to_end(path)
                return found
        with self._walk_to(path[:-1]) as parent:
            try:
                fd = os.open(path[-1], _FOLDER_FLAGS, dir_fd=parent)
            except OSError as error:
                raise self.failed(error, path) from error
        return self._keep(path, fd)

    @contextmanager
    def _walk_to(self, path: FolderPath) -> Iterator[int]:
        """The descriptor of `path`, through the nearest ancestor that is open."""
        start = len(path)
        with self._lock:
            while start and path[:start] not in self._open:
                start -= 1
            nearest = self._open.get(path[:start])
            if nearest is not None:
                nearest.users += 1
        fd = nearest.fd if nearest is not None else self._root_fd
        opened = -1
        try:
            for depth in range(start, len(path)):
                try:
                    deeper = os.open(path[depth], _FOLDER_FLAGS, dir_fd=fd)
                except OSError as error:
                    raise self.failed(error, path[: depth + 1]) from error
                if opened >= 0:
                    os.close(opened)
                fd = opened = deeper
            yield fd
        finally:
            if opened >= 0:
                os.close(opened)
            if nearest is not None:
                with self._lock:
                    nearest.users -= 1

    def _keep(self, path: FolderPath, fd: int) -> _Folder:
        with self._lock:
            there = self._open.get(path)
            if there is not None:  # another thread was faster
                os.close(fd)
                there.users += 1
                return there
            folder = self._open[path] = _Folder(fd)
            if len(self._open) > _MAX_FOLDERS:
                idle = next((path for path, folder in self._open.items() if not folder.users), None)
                if idle is not None:
                    os.close(self._open.pop(idle).fd)
            return folder

    def make_folder(self, path: FolderPath) -> None:
        """Make a directory, or use the one that is there.

        Raises `AlreadyExistsError` where something else has its name (with `force` it is removed), `StorageError`.
        """
        with self.folder(path[:-1]) as parent:
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path[-1], dir_fd=parent)
                    return
                if not stat.S_ISDIR(os.stat(path[-1], dir_fd=parent, follow_symlinks=False).st_mode) and self.force:
                    os.unlink(path[-1], dir_fd=parent)
                    os.mkdir(path[-1], dir_fd=parent)
            except OSError as error:
                raise self.failed(error, path) from error
        with self.folder(path):
            pass  # a directory it is, or this raises

    def failed(self, error: OSError, path: FolderPath) -> MoorageError:
        """The error to raise from `error`, which happened at `path`."""
        return translate(error, f"{self.root}/{os.fsdecode(b'/'.join(path))}")

    def close(self) -> None:
        """Close all descriptors."""
        for folder in self._open.values():
            os.close(folder.fd)
        self._open.clear()
        os.close(self._root_fd)

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
