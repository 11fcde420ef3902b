"""How do files and symlinks of a tree appear below a directory, whole or not at all, and nowhere else?

They are written under a temporary name in their own directory, which `target_folders` finds, then given their own name.
Nothing is synced: a checkout is a copy and not the store, and after a power cut it is made again. Thread-safe.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from moorage.errors import MoorageError
from moorage.model.tree import Entry
from moorage.read.target_folders import FolderPath, TargetFolders
from moorage.storage.base import Buffer
from moorage.storage.writing import write_all_at

TEMPORARY_PREFIX = b".moorage-"
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class TargetTree(TargetFolders):
    """A directory that a tree is written into."""

    def __init__(self, root: str, *, force: bool) -> None:
        """See `TargetFolders`; with `force`, files and symlinks with names of files are replaced too."""
        super().__init__(root, force=force)
        self._temporary_prefix = b"%s%s-" % (TEMPORARY_PREFIX, os.urandom(8).hex().encode())
        self._temporary_count = itertools.count()

    def create(self, folder: FolderPath, entry: Entry) -> NewFile:
        """Start a file that several threads write. Raises `StorageError`, and as `folder`."""
        return NewFile(self, folder, entry)

    def write_file(self, folder: FolderPath, entry: Entry, parts: Sequence[Buffer]) -> None:
        """Write a whole file at once. Raises `AlreadyExistsError`, `StorageError`, `StorageFullError`."""
        name = entry.name.encode("utf-8")
        with self.folder(folder) as parent:
            try:
                temporary, fd = self.open_temporary(parent, executable=entry.executable)
                try:
                    write_all_at(fd, parts, 0)
                    os.utime(fd, ns=(entry.first_stored_ns, entry.first_stored_ns))
                except BaseException:
                    with contextlib.suppress(OSError):
                        os.unlink(temporary, dir_fd=parent)
                    raise
                finally:
                    os.close(fd)
                self.put_in_place(parent, temporary, name)
            except OSError as error:
                raise self.failed(error, (*folder, name)) from error

    def open_temporary(self, parent: int, *, executable: bool) -> tuple[bytes, int]:
        """A new file under a name that nobody has; its mode is the process's umask and the bit. Raises `OSError`."""
        temporary = self.temporary_name()
        return temporary, os.open(temporary, _FILE_FLAGS, 0o777 if executable else 0o666, dir_fd=parent)

    def temporary_name(self) -> bytes:
        """One that nobody guesses, so that nobody is there first; a count tells those of one checkout apart."""
        return b"%s%d" % (self._temporary_prefix, next(self._temporary_count))

    def symlink(self, folder: FolderPath, entry: Entry) -> None:
        """Make a symlink. Raises `AlreadyExistsError` unless `force`, `StorageError`, and as `folder`."""
        name, target = entry.name.encode("utf-8"), entry.target.encode("utf-8")
        with self.folder(folder) as parent:
            try:
                if not self.force:
                    os.symlink(target, name, dir_fd=parent)
                    return
                temporary = self.temporary_name()
                os.symlink(target, temporary, dir_fd=parent)
                self.put_in_place(parent, temporary, name)
            except OSError as error:
                raise self.failed(error, (*folder, name)) from error

    def put_in_place(self, parent: int, temporary: bytes, name: bytes) -> None:
        """Give what was made its name, replacing what has it only with `force`; on an error it is gone. `OSError`."""
        try:
            if self.force:
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


class NewFile:
    """A file on its way: several threads may `write`; whoever wrote last calls `publish`."""

    def __init__(self, target: TargetTree, folder: FolderPath, entry: Entry) -> None:
        """Make the temporary file, as long as it will be, all of it a hole."""
        self._target = target
        self._folder = folder
        self._entry = entry
        self._name = entry.name.encode("utf-8")
        with target.folder(folder) as parent, self._translated():
            self._temporary, self._fd = target.open_temporary(parent, executable=entry.executable)
            os.ftruncate(self._fd, entry.size_bytes)

    def write(self, offset: int, parts: Sequence[Buffer]) -> None:
        """Write `parts` back to back from `offset`. Raises `StorageError`, `StorageFullError`."""
        with self._translated():
            write_all_at(self._fd, parts, offset)

    def publish(self) -> None:
        """Give it its time and its name. Raises `AlreadyExistsError`, `StorageError`."""
        with self._translated():
            os.utime(self._fd, ns=(self._entry.first_stored_ns, self._entry.first_stored_ns))
            fd, self._fd = self._fd, -1
            os.close(fd)
            with self._target.folder(self._folder) as parent:
                self._target.put_in_place(parent, self._temporary, self._name)

    def discard(self) -> None:
        """Remove what was written, if it was not published."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
            with contextlib.suppress(OSError, MoorageError), self._target.folder(self._folder) as parent:
                os.unlink(self._temporary, dir_fd=parent)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._target.failed(error, (*self._folder, self._name)) from error
