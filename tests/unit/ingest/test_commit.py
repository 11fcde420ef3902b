"""Does a commit hold what the source held, and does a failed one change nothing?"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moorage.errors import (
    InvalidInputError,
    RefMovedError,
    RefNotFoundError,
    SourceNotFoundError,
    StorageDeniedError,
    StorageFullError,
)
from moorage.ingest import files as files_module
from moorage.model.digest import ContentDigest
from moorage.model.refs import RefAction, RefKind, RefName
from moorage.repository.handle import RepositoryHandle
from moorage.repository.writer import ObjectWriter, WriteStats
from tests.unit.ingest.sources import committed, entry_at, held, lay_out, write
from tests.unit.native.backends import random_bytes
from tests.unit.repository.stores import in_memory, opened
from tests.unit.versioning.build import Exe, Leaf, Link

PROD = RefName(RefKind.BRANCH, "prod")
FILES: Mapping[str, Leaf] = {
    "model.pkl": random_bytes("model", 5_000),
    "notes.txt": b"some text\n" * 300,
    "empty": b"",
    "one": b"1",
    "run.sh": Exe(b"#!/bin/sh\n"),
    "nested/deeper/copy.pkl": random_bytes("model", 5_000),
    "nested/empty directory": None,
    "link": Link("nested/deeper"),
    "dangling": Link("../nowhere"),
    "na\u00efve \U0001f6a2": b"a ship",
    "n" * 255: b"a long name",
    "new\nline": b"a name of two lines",
}


def packs(handle: RepositoryHandle) -> int:
    return len(list(handle.storage.list_keys("packs/")))


def test_who_may_not_write_is_told_before_anything_is_read(
    handle: RepositoryHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Source(io.BytesIO):
        reads = 0

        def readinto(self, buffer: object) -> int:
            self.reads += 1
            return super().readinto(buffer)  # type: ignore[arg-type]  # whatever it is

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            return super().read(size)

    def refused() -> None:
        raise StorageDeniedError("cannot write to /srv/store: Permission denied")

    source = Source(b"data")
    committed(handle, source, at="a")
    assert source.reads, "negative control: otherwise it is read"
    monkeypatch.setattr(handle.storage, "upload", refused)
    source = Source(b"data")
    with pytest.raises(StorageDeniedError):
        committed(handle, source, at="a")
    assert source.reads == 0


def test_only_if_it_changed(handle: RepositoryHandle, tmp_path: Path) -> None:
    source = lay_out(tmp_path / "source", FILES)
    first = committed(handle, source, if_changed=True)
    assert (first.committed, first.unchanged) == (True, False)
    before = packs(handle)
    again = committed(handle, source, if_changed=True)
    assert (again.snapshot, again.committed, again.unchanged) == (first.snapshot, False, True)
    assert (packs(handle), len(handle.refs.log(PROD))) == (before, 1), "nothing was written"
    assert committed(handle, source).committed, "unless that is asked for, there is one more"
    write(source / "one", b"2")
    last = committed(handle, source, if_changed=True)
    assert (last.committed, last.unchanged, len(handle.refs.log(PROD))) == (True, False, 3)


def test_a_branch_that_moves_meanwhile_is_not_called_unchanged(
    handle: RepositoryHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = lay_out(tmp_path / "source", FILES)
    first = committed(handle, source).snapshot
    other = committed(handle, b"other", branch="other", at="x").snapshot
    finish = ObjectWriter.finish

    def late(writer: ObjectWriter) -> WriteStats:
        handle.refs.move(PROD, other, expected=first, actor="ada", reason="")
        return finish(writer)

    monkeypatch.setattr(ObjectWriter, "finish", late)
    with pytest.raises(RefMovedError):
        committed(handle, source, if_changed=True)


# -- what it holds -----------------------------------------------------------------------------------


def test_everything_comes_back(handle: RepositoryHandle, tmp_path: Path) -> None:
    result = committed(handle, lay_out(tmp_path / "source", FILES))
    assert held(handle, result) == dict(FILES)
    assert result.files == 11
    assert result.read_files == 9
    assert result.branch == "prod"
    assert result.new_bytes == sum(len(data) for data in _contents() if data) - 5_000
    snapshot = handle.objects.snapshot(result.snapshot)
    assert snapshot.size_bytes == result.logical_bytes == handle.objects.snapshot(result.snapshot).size_bytes
    assert result.digest == snapshot.digest
    assert not result.unchanged


def _contents() -> list[bytes]:
    plain = [leaf.data if isinstance(leaf, Exe) else leaf for leaf in FILES.values()]
    return [data for data in plain if isinstance(data, bytes)]


def test_digests_are_those_of_the_contents(handle: RepositoryHandle, tmp_path: Path) -> None:
    committed(handle, lay_out(tmp_path / "source", FILES))
    for path, leaf in FILES.items():
        data = leaf.data if isinstance(leaf, Exe) else leaf.target.encode() if isinstance(leaf, Link) else leaf
        if data is not None:
            assert entry_at(handle, f"prod:{path}").digest == ContentDigest.of(data)


@settings(max_examples=settings().max_examples // 2, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.lists(st.sampled_from(["a", "b", "c", "\u00e9"]), min_size=1, max_size=3).map("/".join),
        st.binary(max_size=3_000) | st.none() | st.builds(Exe, st.binary(max_size=50)),
        max_size=6,
    )
)
def test_any_directory_comes_back(tmp_path_factory: pytest.TempPathFactory, files: dict[str, Leaf]) -> None:
    kept = {path: leaf for path, leaf in files.items() if not any(other.startswith(path + "/") for other in files)}
    folder = tmp_path_factory.mktemp("any")
    _, handle = in_memory()
    assert held(handle, committed(handle, lay_out(folder / "source", kept))) == kept


def test_an_empty_directory(handle: RepositoryHandle, tmp_path: Path) -> None:
    result = committed(handle, lay_out(tmp_path / "source", {}))
    assert held(handle, result) == {}
    assert (result.files, result.logical_bytes) == (0, 0)


def test_large_files_and_small_ones_are_cut_alike(
    handle: RepositoryHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read whole, in spans or as a stream: the same content makes the same chunks."""
    data = random_bytes("cut alike", 60_000)
    source = lay_out(tmp_path / "source", {"a": data})
    small = committed(handle, source, branch="small")
    monkeypatch.setattr(files_module, "LARGE_BYTES", 1_000)
    monkeypatch.setattr(files_module, "SPAN_BYTES", 4_096)
    (tmp_path / "source" / "a").touch()
    large = committed(handle, source, branch="large")
    stream = committed(handle, io.BytesIO(data), branch="stream", at="a")
    assert small.new_bytes == len(data)
    assert large.read_files == 1
    assert large.new_bytes == stream.new_bytes == 0
    assert (
        entry_at(handle, "small:a").object == entry_at(handle, "large:a").object == entry_at(handle, "stream:a").object
    )


@pytest.mark.parametrize("size", [0, 1, 4_095, 4_096, 4_097, 8_192, 100_000])
def test_files_of_every_length_in_spans(
    handle: RepositoryHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(files_module, "LARGE_BYTES", 0)
    monkeypatch.setattr(files_module, "SPAN_BYTES", 4_096)
    data = random_bytes("length", size)
    result = committed(handle, lay_out(tmp_path / "source", {"a": data, "b": bytes(size)}))
    assert held(handle, result) == {"a": data, "b": bytes(size)}


# -- history -----------------------------------------------------------------------------------------


def test_a_commit_follows_the_one_before(handle: RepositoryHandle, tmp_path: Path) -> None:
    source = lay_out(tmp_path / "source", {"a": b"1"})
    first = committed(handle, source, message="first", metadata={"accuracy": 0.5})
    write(source / "a", b"2")
    second = committed(handle, source, message="second\n\nmore", author="ada")
    snapshot = handle.objects.snapshot(second.snapshot)
    assert snapshot.parents == (first.snapshot,)
    assert (snapshot.author, snapshot.message, dict(snapshot.metadata)) == ("ada", "second\n\nmore", {})
    assert snapshot.time_ns > handle.objects.snapshot(first.snapshot).time_ns
    assert dict(handle.objects.snapshot(first.snapshot).metadata) == {"accuracy": 0.5}
    log = handle.refs.log(PROD)
    assert [(record.snapshot, record.reason) for record in log] == [
        (first.snapshot, "commit: first"),
        (second.snapshot, "commit: second"),
    ]


def test_a_branch_is_made_only_when_asked(handle: RepositoryHandle, tmp_path: Path) -> None:
    source = lay_out(tmp_path / "source", {"a": b"1"})
    with pytest.raises(RefNotFoundError):
        committed(handle, source, create=False)
    assert packs(handle) == 0
    committed(handle, source)
    committed(handle, source, create=False)


def test_a_branch_that_was_ended_starts_anew(handle: RepositoryHandle, tmp_path: Path) -> None:
    source = lay_out(tmp_path / "source", {"a": b"1"})
    committed(handle, source)
    handle.refs.delete(PROD, actor="ada", reason="")
    with pytest.raises(RefNotFoundError):
        committed(handle, source, create=False)
    again = committed(handle, source)
    assert handle.objects.snapshot(again.snapshot).parents == ()
    assert [record.action for record in handle.refs.log(PROD)] == [RefAction.SET, RefAction.DELETE, RefAction.SET]


def test_the_same_source_again_is_unchanged(handle: RepositoryHandle, tmp_path: Path) -> None:
    source = lay_out(tmp_path / "source", FILES)
    first = committed(handle, source)
    again = committed(handle, source)
    assert again.unchanged
    assert again.digest == first.digest
    assert again.new_bytes == 0
    assert again.snapshot != first.snapshot
    trees = {handle.objects.snapshot(result.snapshot).tree for result in (first, again)}
    assert len(trees) == 1


def test_a_very_long_message_fits_into_the_log(handle: RepositoryHandle) -> None:
    message = "m" * 2_000_000
    result = committed(handle, b"x", at="a", message=message)
    assert handle.objects.snapshot(result.snapshot).message == message
    assert handle.refs.head(PROD).snapshot == result.snapshot
    assert len(handle.refs.head(PROD).reason) < 300


@pytest.mark.parametrize("message", ["", "\n", " \n\n"])
def test_a_message_of_nothing(handle: RepositoryHandle, message: str) -> None:
    committed(handle, b"x", at="a", message=message)
    assert handle.refs.head(PROD).reason == "commit"


@pytest.mark.parametrize(
    "options",
    [
        {"message": "\udc80"},
        {"metadata": {"a": float("nan")}},
        {"metadata": {"a": "\udc80"}},
        {"branch": "a:b"},
        {"branch": ""},
        {"at": "../x"},
        {"at": "a/\0"},
    ],
)
def test_what_can_never_be_right_is_said_before_anything_is_stored(
    handle: RepositoryHandle, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        committed(handle, b"x", **{"at": "a", **options})
    assert packs(handle) == 0


# -- below a path ------------------------------------------------------------------------------------


def test_a_file_below_a_path(handle: RepositoryHandle, tmp_path: Path) -> None:
    source = lay_out(tmp_path / "source", {"a": b"1", "models/old": b"2", "models/v2/x": b"3"})
    committed(handle, source)
    result = committed(handle, b"new", at="models/v2/model.pkl")
    assert held(handle, result) == {
        "a": b"1",
        "models/old": b"2",
        "models/v2/x": b"3",
        "models/v2/model.pkl": b"new",
    }
    assert (result.files, result.logical_bytes) == (1, 3)


def test_a_directory_below_a_path_replaces_what_is_there(handle: RepositoryHandle, tmp_path: Path) -> None:
    committed(handle, lay_out(tmp_path / "one", {"a": b"1", "models/old": b"2"}))
    result = committed(handle, lay_out(tmp_path / "two", {"new": b"3"}), at="models")
    assert held(handle, result) == {"a": b"1", "models/new": b"3"}
    result = committed(handle, lay_out(tmp_path / "three", {"x": Exe(b"4")}), at="deep/er/models")
    assert held(handle, result) == {"a": b"1", "models/new": b"3", "deep/er/models/x": Exe(b"4")}


def test_a_file_and_a_directory_take_each_others_place(handle: RepositoryHandle, tmp_path: Path) -> None:
    source = lay_out(tmp_path / "source", {"x": b"1"})
    committed(handle, source, at="a")
    result = committed(handle, b"a file now", at="a")
    assert held(handle, result) == {"a": b"a file now"}
    result = committed(handle, source, at="a")
    assert held(handle, result) == {"a/x": b"1"}


def test_nothing_lies_below_a_file(handle: RepositoryHandle, tmp_path: Path) -> None:
    committed(handle, lay_out(tmp_path / "source", {"a": b"1", "link": Link("a")}))
    for at in ("a/b", "a/b/c", "link/b"):
        with pytest.raises(InvalidInputError, match="nothing can lie below"):
            committed(handle, b"x", at=at)


def test_what_lies_beside_the_path_is_not_read(handle: RepositoryHandle, tmp_path: Path) -> None:
    committed(handle, lay_out(tmp_path / "source", {"big/a": b"1", "models/x": b"2"}))
    before = entry_at(handle, "prod:big")
    committed(handle, b"3", at="models/x")
    assert entry_at(handle, "prod:big") == before


def test_a_single_file_needs_a_path(handle: RepositoryHandle, tmp_path: Path) -> None:
    source = lay_out(tmp_path / "source", {"a": Exe(b"1")})
    for single in (source / "a", b"bytes", io.BytesIO(b"stream")):
        with pytest.raises(InvalidInputError):
            committed(handle, single)
    result = committed(handle, source / "a", at="tools/run")
    assert held(handle, result) == {"tools/run": Exe(b"1")}
    assert result.files == 1


def test_a_source_given_by_a_symlink_is_what_it_points_to(handle: RepositoryHandle, tmp_path: Path) -> None:
    source = lay_out(tmp_path / "source", {"a": b"1"})
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "file link").symlink_to(source / "a")
    assert held(handle, committed(handle, tmp_path / "link")) == {"a": b"1"}
    assert held(handle, committed(handle, tmp_path / "file link", at="b"))["b"] == b"1"


def test_a_source_that_is_not_there(handle: RepositoryHandle, tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError):
        committed(handle, tmp_path / "nowhere")
    with pytest.raises(SourceNotFoundError):
        committed(handle, str(tmp_path / "nowhere"), at="x")


# -- bytes and streams ------------------------------------------------------------------------------


class OnlyRead:
    """A stream that can nothing but read, a few bytes at a time, as pipes do it."""

    def __init__(self, data: bytes, most: int) -> None:
        self._inner = io.BytesIO(data)
        self._most = most

    def read(self, size: int = -1) -> bytes:
        return self._inner.read(min(size, self._most))


@pytest.mark.parametrize("size", [0, 1, 1_000, 50_000])
@pytest.mark.parametrize("most", [1, 777, 10**6])
def test_streams(handle: RepositoryHandle, size: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "SPAN_BYTES", 8_192)
    data = random_bytes("stream", size)
    stream: BinaryIO = OnlyRead(data, most)  # type: ignore[assignment]  # as much of one as is asked of it
    result = committed(handle, stream, at="models/model.bin")
    assert held(handle, result) == {"models/model.bin": data}
    assert (result.files, result.read_files, result.logical_bytes) == (1, 1, size)
    again = committed(handle, data, at="models/model.bin")
    assert again.unchanged
    assert again.new_bytes == 0


def test_a_stream_is_stored_from_where_it_stands(handle: RepositoryHandle) -> None:
    stream = io.BytesIO(b"skipped and stored")
    stream.seek(12)
    assert held(handle, committed(handle, stream, at="a")) == {"a": b"stored"}


def test_a_stream_that_fails_changes_nothing(handle: RepositoryHandle) -> None:
    class Fails(OnlyRead):
        def read(self, size: int = -1) -> bytes:
            raise ConnectionResetError("peer")

    with pytest.raises(ConnectionResetError):
        committed(handle, Fails(b"", 1), at="a")  # type: ignore[arg-type]  # as much of one as is asked of it
    assert handle.refs.last(PROD) is None


class NotReady:
    """A stream that does not block, and has nothing yet."""

    def read(self, size: int) -> None:
        return None


class TooMuch:
    """A stream that does as it likes."""

    def read(self, size: int) -> bytes:
        return bytes(size + 1)


@pytest.mark.parametrize("stream", [io.StringIO("text"), NotReady(), TooMuch()])
def test_a_stream_that_is_none_is_refused(handle: RepositoryHandle, stream: BinaryIO) -> None:
    with pytest.raises(InvalidInputError, match="bytes"):
        committed(handle, stream, at="a")
    assert handle.refs.last(PROD) is None


# -- others ------------------------------------------------------------------------------------------


def test_who_moved_the_branch_meanwhile_is_named(handle: RepositoryHandle, tmp_path: Path) -> None:
    committed(handle, b"0", at="a")

    class MovesMeanwhile(OnlyRead):
        def read(self, size: int = -1) -> bytes:
            data = super().read(size)
            if not data:
                committed(opened(handle.storage), b"theirs", at="b", author="eve", message="was faster")
            return data

    with pytest.raises(RefMovedError) as caught:
        committed(handle, MovesMeanwhile(b"mine", 9), at="a")  # type: ignore[arg-type]  # as much as is asked of it
    theirs = handle.refs.head(PROD)
    assert caught.value.fields["actual"] == theirs.snapshot.hex()
    assert "eve" in caught.value.message
    assert handle.objects.snapshot(theirs.snapshot).parents == (handle.refs.log(PROD)[0].snapshot,)


def test_several_threads_commit_to_branches_of_their_own(handle: RepositoryHandle) -> None:
    failures: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for number in range(5):
                data = random_bytes(f"{name}/{number}", 3_000)
                result = committed(handle, data, branch=f"b{name}", at=f"f{number}")
                assert held(handle, result)[f"f{number}"] == data
        except BaseException as error:  # noqa: BLE001  # told to the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(handle.refs.heads(RefKind.BRANCH)) == 4


@pytest.mark.parametrize("what", ["write", "publish"])
def test_a_full_disk_changes_nothing(tmp_path: Path, what: str) -> None:
    storage, handle = in_memory()
    source = lay_out(tmp_path / "source", FILES)
    committed(handle, b"before", at="a")

    def full(found: str, key: str) -> None:
        if found == what:
            raise StorageFullError("no space left")

    storage.before = full
    with pytest.raises(StorageFullError):
        committed(handle, source)
    storage.before = lambda found, key: None
    assert held(handle, committed(handle, b"after", at="a")) == {"a": b"after"}
    assert held(handle, committed(handle, source)) == dict(FILES)


class Told:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int | None, int | None]] = []
        self.size_bytes = self.files = self.finished = 0

    def begin(self, what: str, *, total_bytes: int | None, total_files: int | None) -> None:
        self.phases.append((what, total_bytes, total_files))

    def advance(self, *, size_bytes: int = 0, files: int = 0) -> None:
        self.size_bytes += size_bytes
        self.files += files

    def finish(self) -> None:
        self.finished += 1


@pytest.mark.usefixtures("_well_after")
def test_progress_adds_up(handle: RepositoryHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "LARGE_BYTES", 4_000)
    source = lay_out(tmp_path / "source", FILES)
    told = Told()
    committed(handle, source, progress=told)
    total = sum(map(len, _contents()))
    assert told.phases == [("storing", total, 9)]
    assert (told.size_bytes, told.files, told.finished) == (total, 9, 1)
    again = Told()
    committed(handle, source, progress=again)
    assert again.phases == [("storing", 0, 0)]
