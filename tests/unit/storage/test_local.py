"""Is what a directory storage acknowledges there for good, whole, and under one name only?"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moorage.errors import (
    AlreadyExistsError,
    CorruptDataError,
    KeyNotFoundError,
    MoorageError,
    OutcomeUnknownError,
    ReadOnlyError,
    StorageDeniedError,
    StorageError,
    StorageFullError,
)
from moorage.model.ranges import ByteRange
from moorage.storage import local
from moorage.storage.base import KeyInfo, Storage
from moorage.storage.local import LocalStorage
from moorage.storage.os_errors import translate, translated
from moorage.storage.rename import rename_noreplace
from tests.needs import needs_linux


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "store")


class Calls:
    """The system calls that make a key durable, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self._paths: dict[int, str] = {}
        self._patch = monkeypatch
        self.wrap("open", lambda result, path, *_: self._paths.__setitem__(result, os.fspath(path)))
        self.wrap("fsync", lambda _, fd: self.made.append(f"fsync {self._name(fd)}"))
        self.wrap("link", lambda _, source, target: self.made.append(f"link {Path(target).name}"))
        self.wrap("mkdir", lambda _, path, *rest: self.made.append(f"mkdir {Path(path).name}"))
        self.wrap("unlink", lambda _, path, *rest: self.made.append("unlink"))

    def _name(self, fd: int) -> str:
        path = Path(self._paths.get(fd, "?"))
        return "file" if path.parent.name == "tmp" else path.name

    def wrap(self, name: str, note: Callable[..., object]) -> None:
        call = getattr(os, name)

        def noted(*arguments: object, **options: object) -> object:
            result = call(*arguments, **options)
            note(result, *arguments)
            return result

        self._patch.setattr(os, name, noted)


# -- steps -------------------------------------------------------------------------------------------


def test_a_key_is_made_in_this_order(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.create("config/1", b"so that the root is there")
    calls = Calls(monkeypatch)
    storage.create("packs/ab/key", b"data")
    assert calls.made == [
        "fsync file",
        "mkdir packs",
        "fsync store",
        "mkdir ab",
        "fsync packs",
        "link key",
        "fsync ab",
        "unlink",
    ]
    calls.made.clear()
    storage.create("packs/ab/other", b"data")
    assert calls.made == ["fsync file", "link other", "fsync ab", "unlink"]


def test_another_process_syncs_the_folders_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever made them may not have got there."""
    LocalStorage(tmp_path / "store").create("packs/ab/key", b"data")
    calls = Calls(monkeypatch)
    LocalStorage(tmp_path / "store").create("packs/ab/other", b"data")
    synced = [call for call in calls.made if call.startswith("fsync")]
    assert synced == ["fsync file", f"fsync {tmp_path.name}", "fsync store", "fsync packs", "fsync ab"]


def test_everything_above_a_new_root_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    LocalStorage(tmp_path / "a" / "b" / "store").create("key", b"data")
    assert calls.made[:6] == [
        "mkdir a",
        f"fsync {tmp_path.name}",
        "mkdir b",
        "fsync a",
        "mkdir store",
        "fsync b",
    ]


def test_a_key_that_is_taken_is_durable_when_that_is_said(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.create("refs/key", b"first")
    calls = Calls(monkeypatch)
    with pytest.raises(AlreadyExistsError):
        storage.create("refs/key", b"second")
    assert calls.made == ["fsync file", "fsync refs", "unlink"]
    assert storage.get("refs/key") == b"first"


def test_nothing_is_left_under_tmp(storage: LocalStorage) -> None:
    storage.create("a", b"data")
    with pytest.raises(AlreadyExistsError):
        storage.create("a", b"data")
    with storage.upload() as upload:
        upload.write([b"never published"])
    upload.discard()
    assert list((storage.root / "tmp").iterdir()) == []


def test_files_are_read_only(storage: LocalStorage) -> None:
    storage.create("packs/a", b"data")
    assert os.stat(storage.root / "packs" / "a").st_mode & 0o777 == 0o444


def test_many_parts_and_large_ones(storage: LocalStorage) -> None:
    parts = [bytes([number % 256]) * (number % 1_000) for number in range(3_000)]
    with storage.upload() as upload:
        upload.write([])
        upload.write(parts)
        upload.write([bytearray(b"x"), memoryview(b"yz")[1:]])
        upload.publish("a/b")
    assert storage.get("a/b") == b"".join(parts) + b"xz"


def test_an_upload_is_published_once(storage: LocalStorage) -> None:
    with storage.upload() as upload:
        upload.write([b"x"])
        upload.publish("a")
        with pytest.raises(AssertionError):
            upload.publish("b")
    assert not storage.exists("b")


# -- failures ----------------------------------------------------------------------------------------


def fail(monkeypatch: pytest.MonkeyPatch, name: str, number: int, at: int = 1) -> None:
    call = getattr(os, name)
    left = [at]

    def failing(*arguments: object, **options: object) -> object:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(number, os.strerror(number))
        return call(*arguments, **options)

    monkeypatch.setattr(os, name, failing)


@pytest.mark.parametrize(
    ("call", "number", "error"),
    [
        ("writev", errno.ENOSPC, StorageFullError),
        ("writev", errno.EDQUOT, StorageFullError),
        ("writev", errno.EIO, StorageError),
        ("fsync", errno.EIO, StorageError),
        ("fsync", errno.ENOSPC, StorageFullError),
        ("link", errno.ENOSPC, StorageFullError),
        ("link", errno.EACCES, StorageDeniedError),
        ("link", errno.EROFS, ReadOnlyError),
        ("link", errno.EIO, OutcomeUnknownError),
    ],
)
def test_a_failure_before_the_link_leaves_nothing(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, call: str, number: int, error: type[MoorageError]
) -> None:
    storage.create("refs/a", b"data")
    fail(monkeypatch, call, number)
    with pytest.raises(error):
        storage.create("refs/b", b"data")
    monkeypatch.undo()
    assert not storage.exists("refs/b")
    assert list((storage.root / "tmp").iterdir()) == []
    storage.create("refs/b", b"data")


def test_where_nothing_can_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = LocalStorage(tmp_path / "store")
    fail(monkeypatch, "open", errno.EACCES)
    with pytest.raises(StorageDeniedError) as refused:
        storage.create("refs/a", b"data")
    assert refused.value.message == f"cannot write to {tmp_path}/store: Permission denied"


def test_a_failure_after_the_link_is_an_unknown_outcome(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.create("refs/a", b"data")
    fail(monkeypatch, "fsync", errno.EIO, at=2)
    with pytest.raises(OutcomeUnknownError):
        storage.create("refs/b", b"data")
    assert storage.get("refs/b") == b"data"  # not undone


def test_a_leftover_that_cannot_be_removed_is_nobodys_failure(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, "unlink", errno.EIO)
    storage.create("refs/a", b"data")
    assert storage.get("refs/a") == b"data"
    assert len(list((storage.root / "tmp").iterdir())) == 1


def test_short_writes_are_continued(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    writev = os.writev

    def short(fd: int, parts: list[bytes]) -> int:
        return writev(fd, [memoryview(parts[0])[:3]])

    monkeypatch.setattr(os, "writev", short)
    with storage.upload() as upload:
        upload.write([b"hello ", b"", b"wide ", b"world"])
        upload.publish("a")
    assert storage.get("a") == b"hello wide world"


@needs_linux
def test_without_hard_links_a_rename_does(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    storage.create("a", b"first")
    with pytest.raises(AlreadyExistsError):
        storage.create("a", b"second")
    assert storage.get("a") == b"first"
    assert list((storage.root / "tmp").iterdir()) == []


def test_with_neither_it_is_said(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(local, "rename_noreplace", refused)
    with pytest.raises(StorageError):
        storage.create("a", b"data")


@needs_linux
def test_a_rename_takes_no_name_from_another(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"1")
    target.write_bytes(b"2")
    with pytest.raises(FileExistsError):
        rename_noreplace(str(source), str(target))
    assert target.read_bytes() == b"2"
    target.unlink()
    rename_noreplace(str(source), str(target))
    assert target.read_bytes() == b"1"
    assert not source.exists()


def test_a_root_below_a_directory_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a home directory below one of mode 0711. Root may read anything, so open(2) is told what to say."""
    (tmp_path / "store").mkdir()
    call = os.open

    def denied(path: str | bytes | int, *arguments: int, **options: int) -> int:
        if path == str(tmp_path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return call(path, *arguments, **options)  # type: ignore[arg-type]  # as it came

    monkeypatch.setattr(os, "open", denied)
    LocalStorage(tmp_path / "store").create("a", b"data")
    with pytest.raises(StorageDeniedError):
        LocalStorage(tmp_path / "new").create("a", b"data")


# -- reading -----------------------------------------------------------------------------------------


def test_ranges(storage: LocalStorage) -> None:
    storage.create("a", bytes(range(100)))
    assert storage.get_ranges("a", [ByteRange(5, 8), ByteRange(0, 0), ByteRange(90, 100)]) == [
        bytes([5, 6, 7]),
        b"",
        bytes(range(90, 100)),
    ]
    assert storage.get_range("a", 1, 3) == bytes([1, 2])
    with pytest.raises(CorruptDataError, match="cut short"):
        storage.get_range("a", 95, 101)


def test_what_is_not_there(storage: LocalStorage) -> None:
    storage.create("a/b", b"")
    asks: list[Callable[[str], object]] = [
        storage.get,
        storage.size,
        storage.delete,
        lambda key: storage.get_range(key, 0, 1),
        lambda key: storage.confirm([key]),
    ]
    for ask in asks:
        for key in ("nope", "a/nope", "nope/b", "a/b/c"):
            with pytest.raises(KeyNotFoundError):
                ask(key)
    assert not storage.exists("nope")
    assert not storage.exists("a/b/c")


def listed(keys: Iterator[KeyInfo]) -> list[tuple[str, int]]:
    return sorted((info.key, info.size_bytes) for info in keys)


def test_listing(storage: LocalStorage) -> None:
    assert listed(storage.list_keys("")) == []
    for number, key in enumerate(["a/x", "a/b/y", "a/b/z", "c"]):
        storage.create(key, bytes(number))
    (storage.root / "tmp").rmdir()
    assert listed(storage.list_keys("")) == [("a/b/y", 1), ("a/b/z", 2), ("a/x", 0), ("c", 3)]
    assert listed(storage.list_keys("a/b/")) == [("a/b/y", 1), ("a/b/z", 2)]
    assert listed(storage.list_keys("nope/")) == []
    assert listed(storage.list_keys("c/")) == []
    assert storage.list_names("a/") == Storage.list_names(storage, "a/") == ["x"]
    assert sorted(storage.list_names("a/b/")) == sorted(Storage.list_names(storage, "a/b/")) == ["y", "z"]
    assert storage.list_names("nope/") == storage.list_names("c/") == []
    assert storage.list_folders("a/") == ["b"]
    assert storage.list_folders("nope/") == storage.list_folders("c/") == []


def test_what_vanishes_while_it_is_listed_is_passed_over(storage: LocalStorage) -> None:
    for key in ("a/1", "a/2", "a/3"):
        storage.create(key, b"")
    listing = storage.list_keys("a/")
    first = next(listing).key
    others = {"a/1", "a/2", "a/3"} - {first}
    gone = min(others)
    storage.delete(gone)
    assert {info.key for info in listing} == others - {gone}


def test_confirming_syncs_every_folder_on_the_way(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("packs/ab/1", "packs/ab/2", "packs/cd/3"):
        storage.create(key, b"")
    calls = Calls(monkeypatch)
    storage.confirm(["packs/ab/1", "packs/ab/2", "packs/cd/3"])
    assert sorted(calls.made) == ["fsync ab", "fsync cd", "fsync packs", "fsync store"]


# -- errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOENT, KeyNotFoundError),
        (errno.ENOTDIR, KeyNotFoundError),
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EROFS, ReadOnlyError),
        (errno.EACCES, StorageDeniedError),
        (errno.EPERM, StorageDeniedError),
        (errno.EIO, StorageError),
        (errno.EMFILE, StorageError),
    ],
)
def test_what_the_system_says_is_translated(number: int, error: type[MoorageError]) -> None:
    found = translate(OSError(number, os.strerror(number)), "read", "packs/a")
    assert type(found) is error
    assert found.fields["key"] == "packs/a"
    assert os.strerror(number) in found.message


def test_the_cause_is_kept_and_other_errors_pass() -> None:
    with pytest.raises(StorageError) as caught, translated("read", "a"):
        raise OSError(errno.EIO, "Input/output error")
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(ValueError), translated("read", "a"):
        raise ValueError
