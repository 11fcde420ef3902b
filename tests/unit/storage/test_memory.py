"""Does the storage in memory keep the promises that tests rely on?"""

from __future__ import annotations

import pytest

from moorage.errors import AlreadyExistsError, CorruptDataError, KeyNotFoundError
from moorage.model.ranges import ByteRange
from moorage.storage.memory import MemoryStorage


def test_keys_are_made_once() -> None:
    storage = MemoryStorage()
    storage.create("a/b", b"first")
    with pytest.raises(AlreadyExistsError):
        storage.create("a/b", b"second")
    with storage.upload() as upload:
        upload.write([b"sec", b"ond"])
        with pytest.raises(AlreadyExistsError):
            upload.publish("a/b")
    assert storage.get("a/b") == b"first"
    storage.delete("a/b")
    storage.create("a/b", b"third")
    assert storage.get_ranges("a/b", [ByteRange(1, 3), ByteRange(5, 5)]) == [b"hi", b""]


def test_what_was_given_may_change_afterwards() -> None:
    storage, data = MemoryStorage(), bytearray(b"data")
    storage.create("a", data)
    data[:] = b"else"
    assert storage.get("a") == b"data"


def test_what_is_not_there() -> None:
    storage = MemoryStorage()
    storage.create("a", b"123")
    for ask in (storage.get, storage.size, storage.delete, lambda key: storage.confirm(["a", key])):
        with pytest.raises(KeyNotFoundError):
            ask("b")
    with pytest.raises(CorruptDataError):
        storage.get_range("a", 2, 4)
    assert not storage.exists("b")


def test_listing() -> None:
    storage = MemoryStorage()
    for key in ("a/x", "a/b/y", "a/c/z", "ab/w"):
        storage.create(key, key.encode())
    assert sorted(info.key for info in storage.list_keys("a/")) == ["a/b/y", "a/c/z", "a/x"]
    assert [info.size_bytes for info in storage.list_keys("ab/")] == [4]
    assert storage.list_folders("a/") == ["b", "c"]
