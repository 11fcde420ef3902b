"""A directory as a storage: how does a file come to be, whole and for good, exactly once?

    1  write the bytes to a file of a random name under tmp/
    2  fsync that file
    3  make the folders of the key that are missing; fsync the parent of each
    4  link(2) the file to its key: the one step that can win or lose a race
    5  fsync the folder of the key
    6  unlink the temporary name

A crash before step 4 leaves a file under tmp/ that nobody reads, and that a later writer removes (`leftovers`); after
it, a whole object. An error in step 5 is
`OutcomeUnknownError`: the object is there, and may be gone after a power cut. `link` refuses an existing name, which a
check followed by a rename does not (that lost 150 of 600 raced records). Where a file system has no hard links,
renameat2(RENAME_NOREPLACE) does steps 4 and 6 at once.

Thread- and process-safe: there is no state but the directory (and a note of which folders are known to be durable).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from moorage.errors import AlreadyExistsError, CorruptDataError, KeyNotFoundError, OutcomeUnknownError
from moorage.model.ranges import ByteRange
from moorage.storage import leftovers
from moorage.storage.base import Buffer, KeyInfo, Storage, Upload
from moorage.storage.filesystem import is_shared
from moorage.storage.os_errors import translate, translated
from moorage.storage.prefetching import prefetch
from moorage.storage.rename import rename_noreplace
from moorage.storage.splicing import can_splice, splice_ranges
from moorage.storage.writing import write_all

TMP_FOLDER = "tmp"
"""Also named in `moorage.format.keys`, which this layer does not know."""
_FILE_MODE = 0o444
"""Objects are never changed; the mode says so to everybody."""
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class LocalStorage(Storage):
    """A directory that holds one repository."""

    def __init__(self, root: Path) -> None:
        """`root` is made when the first object is created."""
        self.root = root
        self._folders = _Folders(str(root))
        self._has_swept = False

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"

    def get(self, key: str) -> bytes:
        """See `Storage.get`."""
        with translated("read", key), open(self._path(key), "rb", buffering=0) as file:
            return file.read()

    def get_ranges(self, key: str, ranges: Sequence[ByteRange]) -> list[bytes]:
        """See `Storage.get_ranges`."""
        with translated("read", key):
            fd = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
            try:
                return [_pread(fd, wanted, key) for wanted in ranges]
            finally:
                os.close(fd)

    def prefetch(self, key: str, wanted: ByteRange) -> None:
        """See `Storage.prefetch`. Not from a network: where its server is gone, mmap(2) would hold up the process."""
        if not self._is_shared:
            with contextlib.suppress(OSError):
                prefetch(self._path(key), wanted)

    @functools.cached_property
    def _is_shared(self) -> bool:
        return is_shared(self.root)

    def copy_ranges(self, key: str, ranges: Sequence[tuple[ByteRange, int]], fd: int) -> bool:
        """See `Storage.copy_ranges`."""
        if not can_splice():
            return False
        try:
            source = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return splice_ranges(source, ranges, fd)
        except OSError:
            return False
        finally:
            os.close(source)

    def size(self, key: str) -> int:
        """See `Storage.size`."""
        with translated("find", key):
            return os.stat(self._path(key)).st_size

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        try:
            self.size(key)
        except KeyNotFoundError:
            return False
        return True

    def list_keys(self, prefix: str) -> Iterator[KeyInfo]:
        """See `Storage.list_keys`."""
        for item in self._scan(prefix):
            try:
                is_folder = item.is_dir(follow_symlinks=False)
                info = None if is_folder else KeyInfo(prefix + item.name, item.stat(follow_symlinks=False).st_size)
            except FileNotFoundError:
                continue  # removed since its folder was read
            except OSError as error:
                raise translate(error, "list", prefix) from error
            if info is None:
                yield from self.list_keys(f"{prefix}{item.name}/")
            else:
                yield info

    def list_names(self, prefix: str) -> list[str]:
        """See `Storage.list_names`."""
        with translated("list", prefix):
            return [item.name for item in self._scan(prefix) if not item.is_dir(follow_symlinks=False)]

    def list_folders(self, prefix: str) -> list[str]:
        """See `Storage.list_folders`."""
        with translated("list", prefix):
            return sorted(item.name for item in self._scan(prefix) if item.is_dir(follow_symlinks=False))

    def _scan(self, prefix: str) -> list[os.DirEntry[str]]:
        try:
            with translated("list", prefix), os.scandir(self._path(prefix)) as scan:
                return list(scan)
        except KeyNotFoundError:
            return []

    def create(self, key: str, data: Buffer) -> None:
        """See `Storage.create`."""
        with self.upload() as upload:
            upload.write([data])
            upload.publish(key)

    def upload(self) -> LocalUpload:
        """See `Storage.upload`."""
        if not self._has_swept:
            self._has_swept = True  # whether it works or not
            leftovers.sweep(self._path(TMP_FOLDER))
        return LocalUpload(self._folders)

    def confirm(self, keys: Iterable[str]) -> None:
        """See `Storage.confirm`: the folders of the keys, and theirs up to the root, are synced."""
        folders: set[str] = set()
        for key in keys:
            self.size(key)
            folder = os.path.dirname(self._path(key))
            while folder not in folders and len(folder) >= len(str(self.root)):
                folders.add(folder)
                folder = os.path.dirname(folder)
        for folder in folders:
            with translated("sync", folder):
                _fsync_folder(folder)

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        with translated("delete", key):
            os.unlink(self._path(key))


class _Folders:
    """Makes the folders that keys need, durably.

    A folder that is there may have been made a moment ago by another process that has not yet synced its parent, so the
    parent of every folder is synced once by each process before anything in the folder is relied on.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._durable: set[str] = set()

    def make(self, folder: str) -> None:
        if folder in self._durable and os.path.isdir(folder):
            return
        parent = os.path.dirname(folder)
        if folder != self.root:
            self.make(parent)
        else:
            _make_durably(parent)
        try:
            os.mkdir(folder, 0o777)
            is_new = True
        except FileExistsError:
            is_new = False
        try:
            _fsync_folder(parent)
        except PermissionError:
            # Above the root may lie a directory that may be passed through but not opened.
            if is_new or folder != self.root:
                raise
        self._durable.add(folder)


class LocalUpload(Upload):
    """A file under tmp/ on its way to a key."""

    def __init__(self, folders: _Folders) -> None:
        """Make the temporary file."""
        self._folders = folders
        self._temporary: str | None = None
        folder = os.path.join(folders.root, TMP_FOLDER)
        name = f"{folder}/{os.urandom(16).hex()}"
        with translated("write to", self._folders.root):
            try:
                self._fd = _create(name)
            except FileNotFoundError:
                folders.make(folder)
                self._fd = _create(name)
        self._temporary = name
        leftovers.hold(self._fd)

    def write(self, parts: Sequence[Buffer]) -> None:
        """See `Upload.write`."""
        with translated("write to", self._folders.root):
            write_all(self._fd, parts)

    def publish(self, key: str) -> None:
        """See `Upload.publish`."""
        target = f"{self._folders.root}/{key}"
        folder = os.path.dirname(target)
        if self._temporary is None:
            raise AssertionError("published or discarded before")
        with translated("write", key):
            os.fsync(self._fd)
            self._folders.make(folder)
            try:
                moved = _link(self._temporary, target)
            except FileExistsError as error:
                # Whoever created it may not have synced the folder yet, and our caller will rely on the object.
                _fsync_folder(folder)
                raise AlreadyExistsError(f"{key} exists already", key=key) from error
            except OSError as error:
                if error.errno == errno.EIO:
                    raise _unknown(key, error) from error
                raise
        if moved:
            self._temporary = None
        try:
            _fsync_folder(folder)
        except OSError as error:
            raise _unknown(key, error) from error
        self.discard()

    def discard(self) -> None:
        """See `Upload.discard`."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
        if self._temporary is not None:
            # Of a failed removal only a file under tmp/ is left, which nobody reads.
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)
            self._temporary = None


def _unknown(key: str, error: OSError) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        f"{key} was written, but it is not sure that it stays: {error.strerror}",
        hint="look whether it is there before you try again",
        key=key,
    )


def _pread(fd: int, wanted: ByteRange, key: str) -> bytes:
    data = os.pread(fd, wanted.size_bytes, wanted.start)
    while len(data) < wanted.size_bytes:
        more = os.pread(fd, wanted.size_bytes - len(data), wanted.start + len(data))
        if not more:
            raise CorruptDataError(
                f"{key} is cut short: bytes up to {wanted.stop} were promised, it ends at {wanted.start + len(data)}",
                hint="run `moorage check`",
                key=key,
            )
        data += more
    return data


def _create(name: str) -> int:
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)


def _link(source: str, target: str) -> bool:
    """Give the file at `source` the name `target`; True where its old name went away with that."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        rename_noreplace(source, target)
        return True
    return False


def _make_durably(folder: str) -> None:
    """Make a folder above the root, and those above it, where they are missing."""
    if os.path.isdir(folder):
        return
    _make_durably(os.path.dirname(folder))
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o777)
    _fsync_folder(os.path.dirname(folder))


def _fsync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
