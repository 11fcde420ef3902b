"""One LMDB environment a path and process, shared, checked before it is opened, and grown when it is full.

LMDB forbids opening a path twice in one process and using an environment across `fork`; both are seen to here, so that
the workers which a data loader forks can read on. Two lock files:

    writer.lock   held during a write transaction and until its seal is written (see `seal`). Readers never wait for it:
                  an opener that finds it taken knows that a live writer vouches for the file.
    open.lock     held from the look at the seal until the environment is open, a moment: else one process could delete
                  the files of an unsound environment while another is between opening its lock file and its data file,
                  and two processes with different lock files on one data file read pages that are being written over.

Everything lies in the one nameless database: to open a named one takes a write transaction, and so would wait for
whoever is in one.

Nobody waits for a lock for ever: a process that was stopped while it held one must not stop all others. Whoever has
waited `PATIENCE_S` goes on without this index.

An environment whose files another process has replaced notices before it writes, and opens the new ones.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import lmdb

from moorage.index.base import IndexDamaged, IndexUnwritable
from moorage.index.gate import Gate
from moorage.index.seal import discard_unsound, write_seal

MAP_BYTES = 64 * 1024 * 1024 * 1024
"""Address space, not disk: room for 600 million objects before the map has to grow."""
PATIENCE_S = 30.0
"""Locks are held for the blink of an eye, and for a second or two by who takes in 200,000 objects at a time."""
_LONGEST_NAP_S = 0.005
_MAX_READERS = 1024
T = TypeVar("T")

_open: dict[str, Environment] = {}
_open_lock = threading.Lock()


class Environment:
    """A shared handle; get one with `acquire`, give it back with `release`."""

    def __init__(self, folder: Path) -> None:
        """Open, or make, the environment in `folder`, deleting what is damaged. Raises `OSError`, `lmdb.Error`."""
        self.folder = folder
        self.users = 0
        self._fork_lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._open()

    def _open(self) -> None:
        self._gate = Gate()
        self._thread_lock = threading.Lock()
        self._lock_fd = _open_lock_file(self.folder / "writer.lock")
        try:
            self._open_files()
        except BaseException:
            os.close(self._lock_fd)
            raise
        self._pid = os.getpid()

    def _open_files(self, *, is_writing: bool = False) -> None:
        """`is_writing` says that this thread holds the writers' lock already."""
        opening = _open_lock_file(self.folder / "open.lock")
        try:
            _take(opening)
            may_seal = is_writing or _try_to_take(self._lock_fd)
            try:
                if may_seal:
                    discard_unsound(self.folder)
                self.env = lmdb.open(
                    str(self.folder),
                    map_size=MAP_BYTES,
                    max_readers=_MAX_READERS,
                    mode=0o666,
                    lib_version=0,
                )
                try:
                    self._inode = self._inode_now()
                    self.env.reader_check()
                    if may_seal and not (self.folder / "seal").exists():
                        write_seal(self.folder)
                except BaseException:
                    self.env.close()  # LMDB would refuse to open it once more
                    raise
            finally:
                if may_seal and not is_writing:
                    fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
        finally:
            os.close(opening)

    def _inode_now(self) -> int:
        return os.stat(self.folder / "data.mdb").st_ino

    def open_again_after_fork(self) -> None:
        """In a forked child, close what was inherited, which LMDB allows, and open it anew.

        The lock file too: an inherited descriptor shares its lock with the parent.
        """
        if os.getpid() == self._pid:
            return
        with self._fork_lock:
            if os.getpid() != self._pid:
                self.env.close()
                os.close(self._lock_fd)
                self._open()

    def forget_locks(self) -> None:
        """Called in a forked child: threads that held the locks in the parent do not exist here."""
        self._fork_lock = threading.Lock()

    @contextlib.contextmanager
    def _writers_lock(self) -> Iterator[None]:
        _take(self._lock_fd)
        try:
            yield
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._thread_lock, self._writers_lock():
            if self._is_replaced():
                with self._gate.alone():
                    self.env.close()
                    self._open_files(is_writing=True)
            self.env.reader_check()
            yield
            write_seal(self.folder)

    def _is_replaced(self) -> bool:
        """Whether another process found our files unsound and made new ones."""
        try:
            return self._inode_now() != self._inode
        except FileNotFoundError:
            return True

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
                with self._gate, self.env.begin(buffers=False) as transaction:
                    return work(transaction)
            except lmdb.MapResizedError:
                self._resize(0)
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
                    with self._gate, self.env.begin(write=True) as transaction:
                        work(transaction)
                    return
                except lmdb.MapFullError:
                    self._resize(self.env.info()["map_size"] * 2)
                except lmdb.MapResizedError:
                    self._resize(0)

    def clear(self) -> None:
        """Forget everything. Raises `IndexUnwritable`."""
        self.write(lambda transaction: transaction.drop(self.env.open_db(None), delete=False))

    def _resize(self, map_bytes: int) -> None:
        """Map the file anew, which moves it under the feet of whoever reads; 0 takes the size that the file says."""
        with self._gate.alone():
            self.env.set_mapsize(map_bytes)

    def close(self) -> None:
        """Close; the last user does."""
        with self._gate.alone():
            self.env.close()
        os.close(self._lock_fd)


def _open_lock_file(file: Path) -> int:
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _try_to_take(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take(fd: int) -> None:
    """Wait for a lock, but not for ever. Raises `TimeoutError`, which is an `OSError`."""
    give_up = time.monotonic() + PATIENCE_S
    nap_s = _LONGEST_NAP_S / 64
    while not _try_to_take(fd):
        if time.monotonic() > give_up:
            raise TimeoutError(errno.ETIMEDOUT, "another process holds a lock of the index and does not go on")
        time.sleep(nap_s)
        nap_s = min(2 * nap_s, _LONGEST_NAP_S)


def acquire(folder: Path) -> Environment:
    """The environment of `folder` in this process, opened if it is not. Raises `OSError`, `lmdb.Error`."""
    key = os.path.realpath(folder)
    with _open_lock:
        environment = _open.get(key)
        if environment is None:
            environment = _open[key] = Environment(folder)
        else:
            environment.open_again_after_fork()
        environment.users += 1
        return environment


def release(environment: Environment) -> None:
    """Give an environment back; closed when nobody in this process uses it."""
    with _open_lock:
        environment.users -= 1
        if environment.users == 0:
            for key in [key for key, value in _open.items() if value is environment]:
                del _open[key]
            environment.close()


def _after_fork_in_child() -> None:
    global _open_lock
    _open_lock = threading.Lock()
    for environment in _open.values():
        environment.forget_locks()


os.register_at_fork(after_in_child=_after_fork_in_child)
