"""How is a tree written below a directory without ever leaving it, whatever the tree says and whatever lies there?

Every step names one component, relative to the open descriptor of its parent, and never follows a symlink: a path is
only a way to find descriptors, so that a directory which somebody replaces by a symlink at any moment leads to an error
and not to another place. Names come from `model.names`, which knows no `..` and no slash.

Files appear whole: written under a temporary name in their own directory, then renamed. Nothing is synced: a checkout
is a copy and not the store, and after a power cut it is made again.

Thread-safe but for `make_folder`, which one thread calls for a parent before its children.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from moorage.errors import MoorageError
from moorage.model.tree import Entry
from moorage.read.target_errors import translate, translated_for

TEMPORARY_PREFIX = b".moorage-"
_MAX_FOLDERS = 128
"""Descriptors kept open; a limit of 1,024 for the process is common."""
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_MAX_PARTS = 512
"""Of one pwritev(2); the kernel allows 1,024."""

FolderPath = tuple[bytes, ...]
"""Names below the target; empty for the target itself."""


class _Folder:
    __slots__ = ("fd", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 1


class TargetTree:
    """A directory that a tree is written into. A context manager: leaving it closes its descriptors."""

    def __init__(self, root: str, *, force: bool) -> None:
        """`root` is an existing directory, or a symlink to one: what the caller names is followed, nothing below it.

        With `force`, files and symlinks that are in the way are replaced. Raises `StorageError`.
        """
        self.root = root
        self._force = force
        self._lock = threading.Lock()
        self._open: OrderedDict[FolderPath, _Folder] = OrderedDict()
        with translated_for(root):
            self._root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    # -- directories -----------------------------------------------------------------------------------

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
                raise self._failed(error, path) from error
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
                    raise self._failed(error, path[: depth + 1]) from error
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
                if not stat.S_ISDIR(os.stat(path[-1], dir_fd=parent, follow_symlinks=False).st_mode) and self._force:
                    os.unlink(path[-1], dir_fd=parent)
                    os.mkdir(path[-1], dir_fd=parent)
            except OSError as error:
                raise self._failed(error, path) from error
        with self.folder(path):
            pass  # a directory it is, or this raises

    # -- files and symlinks ----------------------------------------------------------------------------

    def create(self, folder: FolderPath, entry: Entry) -> NewFile:
        """Start a file. Raises `StorageError`, and as `folder`."""
        return NewFile(self, folder, entry)

    def symlink(self, folder: FolderPath, entry: Entry) -> None:
        """Make a symlink. Raises `AlreadyExistsError` unless `force`, `StorageError`, and as `folder`."""
        name, target = entry.name.encode("utf-8"), entry.target.encode("utf-8")
        with self.folder(folder) as parent:
            try:
                if not self._force:
                    os.symlink(target, name, dir_fd=parent)
                    return
                temporary = _temporary_name()
                os.symlink(target, temporary, dir_fd=parent)
                self.put_in_place(parent, temporary, name)
            except OSError as error:
                raise self._failed(error, (*folder, name)) from error

    def put_in_place(self, parent: int, temporary: bytes, name: bytes) -> None:
        """Give what was made its name, replacing what has it only with `force`; on an error it is gone. `OSError`."""
        try:
            if self._force:
                os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
                return
            # link(2) refuses a name that somebody took since the plan was made; rename would replace it.
            try:
                os.link(temporary, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                self._rename_if_free(parent, temporary, name)
                return
            os.unlink(temporary, dir_fd=parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise

    def _rename_if_free(self, parent: int, temporary: bytes, name: bytes) -> None:
        """Without hard links there is a moment between looking and renaming."""
        try:
            os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        else:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    def _failed(self, error: OSError, path: FolderPath) -> MoorageError:
        return translate(error, f"{self.root}/{os.fsdecode(b'/'.join(path))}")

    # -- the end ---------------------------------------------------------------------------------------

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


class NewFile:
    """A file on its way: several threads may `write`; whoever wrote last calls `publish`."""

    def __init__(self, target: TargetTree, folder: FolderPath, entry: Entry) -> None:
        """Make the temporary file. Its mode is the process's umask and the executable bit."""
        self._target = target
        self._folder = folder
        self._entry = entry
        self._temporary = _temporary_name()
        with target.folder(folder) as parent, self._translated():
            self._fd = os.open(self._temporary, _FILE_FLAGS, 0o777 if entry.executable else 0o666, dir_fd=parent)

    def set_size(self) -> None:
        """Make it as long as it will be, all of it a hole. Raises `StorageError`."""
        with self._translated():
            os.ftruncate(self._fd, self._entry.size_bytes)

    def write(self, offset: int, parts: Sequence[bytes]) -> None:
        """Write `parts` back to back from `offset`. Raises `StorageError`, `StorageFullError`."""
        with self._translated():
            for start in range(0, len(parts), _MAX_PARTS):
                offset = _pwrite_all(self._fd, offset, list(parts[start : start + _MAX_PARTS]))

    def publish(self) -> None:
        """Give it its time and its name. Raises `AlreadyExistsError`, `StorageError`."""
        with self._translated():
            stored_ns = self._entry.first_stored_ns
            os.utime(self._fd, ns=(stored_ns, stored_ns))
            fd, self._fd = self._fd, -1
            os.close(fd)
            with self._target.folder(self._folder) as parent:
                self._target.put_in_place(parent, self._temporary, self._entry.name.encode("utf-8"))

    def discard(self) -> None:
        """Remove what was written, if it was not published."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
            with contextlib.suppress(OSError, MoorageError), self._target.folder(self._folder) as parent:
                os.unlink(self._temporary, dir_fd=parent)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        path = os.fsdecode(b"/".join((*self._folder, self._entry.name.encode("utf-8"))))
        with translated_for(f"{self._target.root}/{path}"):
            yield


def _temporary_name() -> bytes:
    return TEMPORARY_PREFIX + secrets.token_hex(8).encode()


def _pwrite_all(fd: int, offset: int, parts: list[bytes | memoryview]) -> int:
    """Write all parts; returns the offset after them."""
    while parts:
        written = os.pwritev(fd, parts, offset)
        offset += written
        while parts and written >= len(parts[0]):
            written -= len(parts.pop(0))
        if parts and written:
            parts[0] = memoryview(parts[0])[written:]
    return offset
