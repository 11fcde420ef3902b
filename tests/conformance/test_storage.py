"""Do our own storages keep the promises of a storage? The shipped suite, run over each of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.errors import AlreadyExistsError
from moorage.storage.base import Buffer, Storage
from moorage.storage.local import LocalStorage
from moorage.storage.memory import MemoryStorage
from moorage.testing.faults import FaultyStorage
from moorage.testing.storage import StorageConformance


class TestLocalStorage(StorageConformance):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[Storage]:
        storage = LocalStorage(tmp_path / "store")
        yield storage
        storage.close()


class TestMemoryStorage(StorageConformance):
    @pytest.fixture
    def storage(self) -> Storage:
        return MemoryStorage()


class TestFaultyStorageWithoutFaults(StorageConformance):
    @pytest.fixture
    def storage(self) -> Storage:
        return FaultyStorage(MemoryStorage())


class TestFaultyStorageOverDisk(StorageConformance):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return FaultyStorage(LocalStorage(tmp_path / "store"))


# -- negative controls -------------------------------------------------------------------------------


class _Overwrites(MemoryStorage):
    """Looks first, and then writes: what a storage without create-if-absent can do."""

    def create(self, key: str, data: Buffer) -> None:
        if self.exists(key):
            raise AlreadyExistsError(f"{key} exists already", key=key)
        time.sleep(0.001)  # as long as a request takes
        self._objects[key] = bytes(data)


class _InHalves(MemoryStorage):
    """Shows an object before all of it is there."""

    def create(self, key: str, data: Buffer) -> None:
        super().create(key, bytes(data)[: len(data) // 2])
        time.sleep(0.001)
        self._objects[key] = bytes(data)


def test_a_storage_that_overwrites_is_caught() -> None:
    suite = StorageConformance()
    with pytest.raises(AssertionError):
        suite.test_one_of_many_creates_a_key(_Overwrites(), uploading=False)


def test_a_storage_that_shows_halves_is_caught() -> None:
    suite = StorageConformance()
    with pytest.raises(AssertionError):
        suite.test_a_key_appears_whole(_InHalves())
