"""One process's open handle on a repository: where everything below is joined, and the only place that does it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from moorage.errors import (
    AlreadyExistsError,
    InvalidInputError,
    KeyNotFoundError,
    RepositoryNotFoundError,
    StorageError,
)
from moorage.format.config import decode_config, encode_config
from moorage.format.keys import CONFIG_PREFIX, DERIVED_FOLDER, TMP_FOLDER, config_key, parse_number
from moorage.index.base import Index
from moorage.index.memory import MemoryIndex
from moorage.index.open import open_index
from moorage.model.config import RepositoryConfig
from moorage.repository.history import History
from moorage.repository.locator import Locator
from moorage.repository.objects import ObjectStore
from moorage.repository.refs import RefStore
from moorage.repository.trees import TreeReader
from moorage.repository.user_folders import cache_home
from moorage.repository.writer import ObjectWriter
from moorage.storage.base import Storage
from moorage.storage.local import LocalStorage
from moorage.storage.os_errors import translated

Through: TypeAlias = Callable[[Storage, Index], tuple[Storage, Index]]
"""Puts something before a storage and an index."""

_CONFIG = CONFIG_PREFIX.rstrip("/")
_LEFT_BY_CREATE = {TMP_FOLDER, _CONFIG}


class RepositoryHandle:
    """Storage, index, objects, trees, refs and history of one repository.

    Thread-safe. A child made by `fork` may go on using it, if no other thread did at the moment of the fork.
    """

    def __init__(self, storage: Storage, config: RepositoryConfig, index: Index, root: Path | None = None) -> None:
        """Join what is open already; most callers want `open` or `create`."""
        self.storage = storage
        self.config = config
        self.root = root
        self.locator = Locator(storage, index)
        self.objects = ObjectStore(storage, self.locator)
        self.trees = TreeReader(self.objects)
        self.refs = RefStore(storage, config.repository_id)
        self.history = History(self.objects)
        self._closed = False
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: Path, config: RepositoryConfig | None = None) -> Self:
        """Make a repository in `path`, a directory that is empty or does not exist yet.

        Raises `AlreadyExistsError`, `StorageError`, `ReadOnlyError`.
        """
        root = Path(os.path.abspath(path))
        storage = LocalStorage(root)
        config = config or new_config()
        if config.number != 1:
            raise InvalidInputError(f"a new repository's configuration has number 1, not {config.number}")
        if storage.exists(config_key(1)):
            raise AlreadyExistsError(f"there is a repository in {root} already", path=str(root))
        if not _is_free(root):
            raise AlreadyExistsError(
                f"{root} is not an empty directory", hint="name a directory that does not exist yet", path=str(root)
            )
        storage.create(config_key(1), encode_config(config))
        return cls.open(root)

    @classmethod
    def open(cls, path: Path, through: Through = lambda storage, index: (storage, index)) -> Self:
        """Open the repository in `path`; nothing of the repository proper is written.

        `through` may put something of its own before the storage and the index.

        Raises `RepositoryNotFoundError`, `CorruptDataError`, `NewerFormatError`, `StorageError`.
        """
        root = Path(os.path.abspath(path))
        storage = LocalStorage(root)
        config = read_config(storage, str(root))
        index = open_index(_derived_folders(root, config.repository_id, "index"))
        storage_before, index_before = through(storage, index)
        return cls(storage_before, config, index_before, root)

    @classmethod
    def on(cls, storage: Storage) -> Self:
        """A repository on any storage, made there if there is none, with its index in memory."""
        if not storage.exists(config_key(1)):
            with contextlib.suppress(AlreadyExistsError):
                storage.create(config_key(1), encode_config(new_config()))
        return cls(storage, read_config(storage, "storage"), MemoryIndex())

    def writer(self) -> ObjectWriter:
        """Start a transaction, if anything can be written at all: better known now than after an hour of reading.

        Raises `StorageDeniedError`, `ReadOnlyError`, `StorageError`.
        """
        self.storage.upload().discard()
        return ObjectWriter(self.storage, self.locator, self.config)

    def close(self) -> None:
        """Give the index and the storage back; calling it twice is fine."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self.locator.close()
                self.storage.close()

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def _is_free(root: Path) -> bool:
    """Whether there is nothing in `root` but what a `create` that was interrupted leaves: tmp/, and config/ empty."""
    with translated("look into", str(root)):
        try:
            found = set(os.listdir(root))
            return found <= _LEFT_BY_CREATE and not (_CONFIG in found and os.listdir(root / _CONFIG))
        except FileNotFoundError:
            return True
        except NotADirectoryError:
            return False


def new_config() -> RepositoryConfig:
    """The configuration of a new repository: a random id, everything else by default."""
    return RepositoryConfig(repository_id=os.urandom(16).hex(), created_ns=time.time_ns())


def read_config(storage: Storage, where: str) -> RepositoryConfig:
    """The configuration that holds. Raises `RepositoryNotFoundError`, `CorruptDataError`, `NewerFormatError`."""
    numbers = [parse_number(info.key) for info in storage.list_keys(CONFIG_PREFIX)]
    absent = RepositoryNotFoundError(
        f"there is no repository in {where}", hint="make one with `moorage init`, or name one with -r", path=where
    )
    if not numbers:
        raise absent
    key = config_key(max(numbers))
    try:
        return decode_config(storage.get(key), key=key)
    except KeyNotFoundError as error:
        raise absent from error


def given_path(path: str | PathLike[str]) -> Path:
    """A path that somebody has given; an empty one would mean the current directory. Raises `InvalidInputError`."""
    if path == "":
        raise InvalidInputError("a path is empty", hint="the current directory is '.'")
    return Path(path)


def derived_folders(handle: RepositoryHandle, name: str) -> list[Path]:
    """Where something derived, called `name`, may be kept, best first: beside the repository, then in the user's
    cache."""
    return _derived_folders(handle.root, handle.config.repository_id, name)


def _derived_folders(root: Path | None, repository_id: str, name: str) -> list[Path]:
    folders = [root / DERIVED_FOLDER / name] if root is not None else []
    with contextlib.suppress(StorageError):
        folders.append(cache_folder(repository_id) / name)
    return folders


def cache_folder(repository_id: str) -> Path:
    """Where this user keeps what is derived from a repository that he cannot write to. Raises as `cache_home`."""
    return cache_home() / repository_id
