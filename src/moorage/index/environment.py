"""One LMDB environment a path and process, shared, checked before it is opened, and grown when it is full.

LMDB forbids opening a path twice in one process and using an environment across `fork`; both are seen to here, so that
the workers which a data loader forks can read on. Writers of all processes take turns by a lock file, which also covers
the seal (see `seal`); readers never wait for it: an opener that finds it taken knows that a live writer vouches for the
file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import lmdb

from moorage.index.base import IndexDamaged, IndexUnwritable
from moorage.index.seal import is_sound, write_seal

_MAP_BYTES = 64 * 1024 * 1024 * 1024
"""Address space, not disk: room for 600 million objects before the map has to grow."""
_MAX_READERS = 1024
T = TypeVar("T")

_open: dict[str, Environment] = {}
_open_lock = threading.Lock()


class Environment:
    """A shared handle; get one with `acquire`, give it back with `release`."""

    def __init__(self, folder: Path, databases: tuple[bytes, ...]) -> None:
        """Open, or make, the environment in `folder`, deleting what is damaged. Raises `OSError`, `lmdb.Error`."""
        self.folder = folder
        self.users = 0
        self._names = databases
        folder.mkdir(parents=True, exist_ok=True)
        self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._thread_lock = threading.Lock()
        self._lock_fd = os.open(self.folder / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._discard_unsound()
            self.env = lmdb.open(
                str(self.folder),
                map_size=_MAP_BYTES,
                max_dbs=len(self._names),
                max_readers=_MAX_READERS,
                mode=0o666,
                lib_version=0,
            )
            self.env.reader_check()
            self.databases = self._open_databases(self._names)
        except BaseException:
            os.close(self._lock_fd)
            raise

    def open_again_after_fork(self) -> None:
        """In a forked child, close what was inherited, which LMDB allows, and open it anew.

        The lock file too: an inherited descriptor shares its lock with the parent.
        """
        if os.getpid() != self._pid:
            self.env.close()
            os.close(self._lock_fd)
            self._open()

    def _open_databases(self, names: tuple[bytes, ...]) -> dict[bytes, lmdb._Database]:
        try:
            return {name: self.env.open_db(name, create=False) for name in names}
        except lmdb.NotFoundError:
            with self._writing():
                return {name: self.env.open_db(name) for name in names}

    def _discard_unsound(self) -> None:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        try:
            if not is_sound(self.folder):
                for name in ("seal", "data.mdb", "lock.mdb"):
                    (self.folder / name).unlink(missing_ok=True)
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._thread_lock:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            try:
                self.env.reader_check()
                yield
                write_seal(self.folder)
            finally:
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def read(self, work: Callable[[lmdb.Transaction], T]) -> T:
        """Run `work` in a read transaction. Raises `IndexDamaged` for whatever LMDB cannot make sense of."""
        try:
            self.open_again_after_fork()
            return self._read(work)
        except lmdb.Error as error:
            raise IndexDamaged(f"{self.folder}: {error}") from error

    def _read(self, work: Callable[[lmdb.Transaction], T]) -> T:
        while True:
            try:
                with self.env.begin(buffers=False) as transaction:
                    return work(transaction)
            except lmdb.MapResizedError:
                self.env.set_mapsize(0)
            except lmdb.ReadersFullError:
                if not self.env.reader_check():
                    raise

    def write(self, work: Callable[[lmdb.Transaction], None]) -> None:
        """Run `work` in a write transaction, durably, and seal; `work` is run again when the map had to grow.

        Raises `IndexUnwritable`, and what `work` raises.
        """
        try:
            self.open_again_after_fork()
            self._write(work)
        except (lmdb.Error, OSError) as error:
            raise IndexUnwritable(f"{self.folder}: {error}") from error

    def _write(self, work: Callable[[lmdb.Transaction], None]) -> None:
        with self._writing():
            while True:
                try:
                    with self.env.begin(write=True) as transaction:
                        work(transaction)
                    return
                except lmdb.MapFullError:
                    self.env.set_mapsize(self.env.info()["map_size"] * 2)
                except lmdb.MapResizedError:
                    self.env.set_mapsize(0)

    def close(self) -> None:
        """Close; the last user does."""
        self.env.close()
        os.close(self._lock_fd)


def acquire(folder: Path, databases: tuple[bytes, ...]) -> Environment:
    """The environment of `folder` in this process, opened if it is not. Raises `OSError`, `lmdb.Error`."""
    key = os.path.realpath(folder)
    with _open_lock:
        environment = _open.get(key)
        if environment is None:
            environment = _open[key] = Environment(folder, databases)
        else:
            environment.open_again_after_fork()
        environment.users += 1
        return environment


def release(environment: Environment) -> None:
    """Give an environment back; closed when nobody in this process uses it."""
    with _open_lock:
        environment.users -= 1
        if environment.users == 0:
            del _open[os.path.realpath(environment.folder)]
            environment.close()
