"""Does a checkout write exactly the tree, whole files only, and never a byte outside its target?"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
from hypothesis import given

from moorage.errors import (
    AlreadyExistsError,
    CorruptDataError,
    InvalidInputError,
    MoorageError,
    ReadOnlyError,
    StorageDeniedError,
    StorageError,
    StorageFullError,
)
from moorage.model.tree import Entry
from moorage.read import restore
from moorage.read.checkout import CheckoutResult, checkout, plan_checkout
from moorage.read.resolve import Located, Location, locate
from moorage.read.target import TEMPORARY_PREFIX, TargetTree
from moorage.read.target_errors import translate
from moorage.read.target_folders import TargetFolders
from moorage.repository.handle import RepositoryHandle
from moorage.storage.memory import MemoryStorage
from tests.unit.versioning.build import FIRST_STORED_NS, Exe, Files, Leaf, Link, make_snapshot, set_branch
from tests.unit.versioning.strategies import trees

MIXED: Files = {
    "a/b": b"1" * 5000,
    "a/run": Exe(b"#!"),
    "a/link": Link("b"),
    "deep/er/est/file": b"x",
    "empty": b"",
    "none": None,
    "with space/ünïcode": b"y",
    "n" * 255: b"long",
}
ROUNDS = 10_000 if os.environ.get("MOORAGE_SOAK") == "1" else 100
"""Of the race with somebody who turns directories into symlinks."""


@pytest.fixture
def handle() -> Iterator[RepositoryHandle]:
    with RepositoryHandle.on(MemoryStorage()) as opened:
        yield opened


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory beside the target that nothing may be written to."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "precious").write_bytes(b"precious")
    return folder


@pytest.fixture
def small_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files of a few kilobytes count as large."""
    monkeypatch.setattr(restore, "SPAN_BYTES", 4096)


def put(handle: RepositoryHandle, files: Files, path: str = "") -> Located:
    set_branch(handle, "main", make_snapshot(handle, files))
    return locate(handle, Location("main", path))


def on_disk(folder: Path) -> dict[str, Leaf]:
    """What lies below a directory, written down as trees are; symlinks are not followed."""
    found: dict[str, Leaf] = {}
    for here, folders, files in os.walk(folder):
        for name in files + [name for name in folders if os.path.islink(os.path.join(here, name))]:
            path = os.path.join(here, name)
            shown = os.path.relpath(path, folder)
            if os.path.islink(path):
                found[shown] = Link(os.readlink(path))
            else:
                data = Path(path).read_bytes()
                found[shown] = Exe(data) if os.stat(path).st_mode & 0o100 else data
        if here != str(folder) and not folders and not files:
            found[os.path.relpath(here, folder)] = None
    return found


def temporaries(folder: Path) -> list[str]:
    return [name for _, _, files in os.walk(folder) for name in files if os.fsencode(name).startswith(TEMPORARY_PREFIX)]


# -- what is written ---------------------------------------------------------------------------------


def test_a_tree_comes_out_as_it_went_in(handle: RepositoryHandle, target: Path) -> None:
    result = checkout(handle, put(handle, MIXED), target)
    assert on_disk(target) == MIXED
    assert result == CheckoutResult(target, files=6, directories=6, symlinks=1, size_bytes=5008)


@given(files=trees)
def test_any_tree_comes_out_as_it_went_in(tmp_path_factory: pytest.TempPathFactory, files: Files) -> None:
    target = tmp_path_factory.mktemp("any") / "out"
    handle = RepositoryHandle.on(MemoryStorage())
    checkout(handle, put(handle, files), target)
    assert on_disk(target) == files


def test_large_files_are_written_in_spans(handle: RepositoryHandle, target: Path, small_spans: None) -> None:
    data = random.Random(1).randbytes(100_003)
    files: Files = {"big": data, "exe": Exe(data[:50_000]), "zeros": bytes(70_000), "tail": data[:9000] + bytes(60_000)}
    checkout(handle, put(handle, files), target)
    assert on_disk(target) == files


def test_runs_of_zeros_become_holes(handle: RepositoryHandle, target: Path, small_spans: None) -> None:
    most = handle.config.chunking.max_bytes
    data = b"start" + bytes(most - 5) + bytes(8 * most) + b"end"
    set_branch(handle, "main", make_snapshot(handle, {"sparse": data}, chunk_bytes=most))
    checkout(handle, locate(handle, Location("main", "")), target)
    assert (target / "sparse").read_bytes() == data
    assert (target / "sparse").stat().st_blocks * 512 < len(data) // 2


def test_files_with_recipes_of_several_levels(handle: RepositoryHandle, target: Path) -> None:
    data = random.Random(2).randbytes(9_000 * 16)
    set_branch(handle, "main", make_snapshot(handle, {"deep": data}, chunk_bytes=16))
    checkout(handle, locate(handle, Location("main", "")), target)
    assert (target / "deep").read_bytes() == data


def test_more_files_than_one_batch_or_window(
    handle: RepositoryHandle, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorage.read.checkout._WINDOW_FILES", 100)
    files = {f"d{number % 7}/f{number}": b"%d" % (number % 50) for number in range(700)}
    checkout(handle, put(handle, files), target)
    assert on_disk(target) == files


def test_more_directories_than_descriptors(handle: RepositoryHandle, target: Path) -> None:
    files = {f"d{number}/e/f": b"%d" % number for number in range(300)}
    before = len(os.listdir("/proc/self/fd"))
    checkout(handle, put(handle, files), target)
    assert on_disk(target) == files
    assert len(os.listdir("/proc/self/fd")) == before


def test_time_and_mode(handle: RepositoryHandle, target: Path) -> None:
    old = os.umask(0o027)
    try:
        checkout(handle, put(handle, {"f": b"1", "x": Exe(b"2"), "big": bytes(5_000_000)}), target)
    finally:
        os.umask(old)
    for name, mode in (("f", 0o640), ("x", 0o750), ("big", 0o640)):
        status = (target / name).stat()
        assert (status.st_mtime_ns, status.st_mode & 0o7777) == (FIRST_STORED_NS, mode)


def test_part_of_a_tree(handle: RepositoryHandle, target: Path) -> None:
    checkout(handle, put(handle, MIXED, "deep/er"), target)
    assert on_disk(target) == {"est/file": b"x"}


def test_progress_adds_up(handle: RepositoryHandle, target: Path, small_spans: None) -> None:
    class Counting:
        def __init__(self) -> None:
            self.begun: list[tuple[int | None, int | None]] = []
            self.size_bytes = self.files = self.finished = 0

        def begin(self, what: str, *, total_bytes: int | None, total_files: int | None) -> None:
            self.begun.append((total_bytes, total_files))

        def advance(self, *, size_bytes: int = 0, files: int = 0) -> None:
            self.size_bytes += size_bytes
            self.files += files

        def finish(self) -> None:
            self.finished += 1

    progress = Counting()
    checkout(handle, put(handle, {"big": b"12" * 10_000, "a": b"1", "b": b""}), target, progress=progress)
    assert progress.begun == [(20_001, 3)]
    assert (progress.size_bytes, progress.files, progress.finished) == (20_001, 3, 1)


# -- one file ----------------------------------------------------------------------------------------


def test_a_file_goes_to_the_name_given(handle: RepositoryHandle, tmp_path: Path) -> None:
    result = checkout(handle, put(handle, MIXED, "a/run"), tmp_path / "new" / "tool")
    assert on_disk(tmp_path / "new") == {"tool": Exe(b"#!")}
    assert (result.target, result.files) == (tmp_path / "new" / "tool", 1)


def test_a_file_goes_into_a_directory(handle: RepositoryHandle, tmp_path: Path) -> None:
    result = checkout(handle, put(handle, MIXED, "a/b"), tmp_path)
    assert (tmp_path / "b").read_bytes() == b"1" * 5000
    assert result.target == tmp_path / "b"


def test_a_symlink_alone(handle: RepositoryHandle, target: Path) -> None:
    checkout(handle, put(handle, MIXED, "a/link"), target)
    assert os.readlink(target) == "b"


# -- what is in the way ------------------------------------------------------------------------------


def test_existing_files_are_refused_before_anything_is_written(handle: RepositoryHandle, target: Path) -> None:
    target.mkdir()
    (target / "empty").write_bytes(b"mine")
    with pytest.raises(AlreadyExistsError, match="empty") as caught:
        checkout(handle, put(handle, MIXED), target)
    assert caught.value.fields["paths"] == ["empty"]
    assert on_disk(target) == {"empty": b"mine"}


def test_only_a_few_of_many_are_listed(handle: RepositoryHandle, target: Path) -> None:
    files = {f"f{number:02d}": b"1" for number in range(30)}
    located = put(handle, files)
    checkout(handle, located, target)
    with pytest.raises(AlreadyExistsError, match="f09, and 20 more") as caught:
        checkout(handle, located, target)
    assert caught.value.fields["count"] == 30


def test_a_plan_says_what_is_there(handle: RepositoryHandle, target: Path) -> None:
    (target / "a" / "run").mkdir(parents=True)
    (target / "a" / "b").write_bytes(b"mine")
    (target / "deep").symlink_to("a")
    plan = plan_checkout(handle, put(handle, MIXED), target)
    assert (plan.files, plan.directories, plan.symlinks, plan.size_bytes) == (6, 6, 1, 5008)
    assert (plan.in_the_way, plan.in_the_way_count, plan.immovable) == (("a/b", "deep"), 2, ("a/run",))
    assert str(plan) == f"6 files, 6 directories, 1 symlinks, 5008 bytes to {target}; 3 in the way"


def test_force_replaces_files_and_leaves_others_alone(handle: RepositoryHandle, target: Path) -> None:
    (target / "a").mkdir(parents=True)
    (target / "a" / "b").write_bytes(b"mine")
    (target / "a" / "other").write_bytes(b"kept")
    (target / "a" / "link").write_bytes(b"mine")
    (target / "none").write_bytes(b"a file where a directory goes")
    checkout(handle, put(handle, MIXED), target, force=True)
    assert on_disk(target) == {**MIXED, "a/other": b"kept"}


def test_an_open_file_that_is_replaced_keeps_its_bytes(handle: RepositoryHandle, target: Path) -> None:
    target.mkdir()
    (target / "empty").write_bytes(b"mine")
    with open(target / "empty", "rb") as file:
        checkout(handle, put(handle, MIXED), target, force=True)
        assert file.read() == b"mine"


@pytest.mark.parametrize("force", [False, True])
def test_a_directory_is_never_replaced_by_a_file(handle: RepositoryHandle, target: Path, force: bool) -> None:
    (target / "empty" / "mine").mkdir(parents=True)
    with pytest.raises(AlreadyExistsError, match="directories where files should be"):
        checkout(handle, put(handle, MIXED), target, force=force)
    assert on_disk(target) == {"empty/mine": None}


def test_a_target_that_is_a_file(handle: RepositoryHandle, target: Path) -> None:
    target.write_bytes(b"mine")
    for force in (False, True):
        with pytest.raises(AlreadyExistsError):
            checkout(handle, put(handle, MIXED), target, force=force)
    assert target.read_bytes() == b"mine"


def test_a_file_that_appears_meanwhile_is_not_replaced(
    handle: RepositoryHandle, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    located = put(handle, {"f": b"theirs"})
    link = os.link

    def late(*args: object, **options: object) -> None:
        (target / "f").write_bytes(b"mine")
        link(*args, **options)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(AlreadyExistsError, match="exists already"):
        checkout(handle, located, target)
    assert on_disk(target) == {"f": b"mine"}


def test_without_hard_links_too(handle: RepositoryHandle, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    checkout(handle, put(handle, MIXED), target)
    assert on_disk(target) == MIXED
    with TargetTree(str(target), force=False) as tree, pytest.raises(AlreadyExistsError):
        tree.write_file((), _entry(handle, "empty"), [])
    assert temporaries(target) == []


def _entry(handle: RepositoryHandle, path: str) -> Entry:
    entry = locate(handle, Location("main", path)).entry
    assert entry is not None
    return entry


# -- never outside -----------------------------------------------------------------------------------


def test_a_symlink_in_the_place_of_a_directory_is_refused(
    handle: RepositoryHandle, target: Path, outside: Path
) -> None:
    target.mkdir()
    (target / "deep").symlink_to(outside)
    with pytest.raises(AlreadyExistsError, match="deep"):
        checkout(handle, put(handle, MIXED), target)
    assert on_disk(outside) == {"precious": b"precious"}


def test_force_replaces_such_a_symlink_itself(handle: RepositoryHandle, target: Path, outside: Path) -> None:
    target.mkdir()
    (target / "deep").symlink_to(outside)
    (target / "empty").symlink_to(outside / "precious")
    (target / "a").mkdir()
    (target / "a" / "link").symlink_to(outside)
    checkout(handle, put(handle, MIXED), target, force=True)
    assert on_disk(target) == MIXED
    assert on_disk(outside) == {"precious": b"precious"}


def test_a_symlink_of_the_tree_is_not_followed_by_what_comes_after(
    handle: RepositoryHandle, target: Path, outside: Path
) -> None:
    # One version has a symlink where the next has a directory of the same name.
    checkout(handle, put(handle, {"way": Link(str(outside)), "up": Link("..")}), target)
    located = put(handle, {"way/precious": b"overwritten", "up/precious": b"1"})
    with pytest.raises(AlreadyExistsError):
        checkout(handle, located, target)
    checkout(handle, located, target, force=True)
    assert on_disk(target) == {"way/precious": b"overwritten", "up/precious": b"1"}
    assert on_disk(outside) == {"precious": b"precious"}


def test_the_target_itself_may_be_a_symlink(handle: RepositoryHandle, target: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target.symlink_to("real")
    checkout(handle, put(handle, MIXED), target)
    assert on_disk(tmp_path / "real") == MIXED


def test_inside_the_repository_is_refused(tmp_path: Path) -> None:
    with RepositoryHandle.create(tmp_path / "repo") as handle:
        located = put(handle, {"f": b"1"})
        for place in (tmp_path / "repo", tmp_path / "repo" / "packs" / "new"):
            with pytest.raises(InvalidInputError, match="inside the repository"):
                checkout(handle, located, place)


class _Swapper:
    """Makes a directory a symlink and back, again and again, as fast as it can."""

    def __init__(self, folder: Path, elsewhere: Path) -> None:
        self._folder = folder
        self._elsewhere = elsewhere
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.swaps = 0

    def _run(self) -> None:
        aside = self._folder.with_name("aside")
        while not self._stop.is_set():
            # The checkout may make or remove what the next step is about: then that step does nothing.
            with contextlib.suppress(OSError):
                os.rename(self._folder, aside)
            with contextlib.suppress(OSError):
                os.symlink(self._elsewhere, self._folder)
                self.swaps += 1
            with contextlib.suppress(OSError):
                os.unlink(self._folder)
            with contextlib.suppress(OSError):
                os.rename(aside, self._folder)
            with contextlib.suppress(OSError):
                os.unlink(aside)
            shutil.rmtree(aside, ignore_errors=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def _race(handle: RepositoryHandle, target: Path, outside: Path, enough: Callable[[int], bool]) -> None:
    """Check out again and again while a directory of the target turns into a symlink and back."""
    names = [f"e{number}" for number in range(30)]
    located = put(handle, {f"d/{name}/f": name.encode() for name in names})
    (target / "d").mkdir(parents=True)
    for name in names:
        (outside / name).mkdir()
    with _Swapper(target / "d", outside) as swapper:
        done = 0
        while not enough(min(done, swapper.swaps)):
            done += 1
            with contextlib.suppress(MoorageError):  # refused: fine
                checkout(handle, located, target, force=True)


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep next to no directory open, so that each file is found from the target down."""
    monkeypatch.setattr("moorage.read.target_folders._MAX_FOLDERS", 1)


def _files(folder: Path) -> set[str]:
    return {path for path, leaf in on_disk(folder).items() if leaf is not None}


def test_a_concurrent_swapper_gets_nothing_outside(
    handle: RepositoryHandle, target: Path, outside: Path, forgetful: None
) -> None:
    _race(handle, target, outside, lambda rounds: rounds >= ROUNDS)
    assert _files(outside) == {"precious"}


def test_a_checkout_that_follows_symlinks_is_caught(
    handle: RepositoryHandle, target: Path, outside: Path, forgetful: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control of the race above."""
    monkeypatch.setattr("moorage.read.target_folders._FOLDER_FLAGS", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    _race(handle, target, outside, lambda rounds: _files(outside) != {"precious"})
    assert _files(outside) > {"precious"}


def test_a_directory_that_turns_into_a_symlink_is_refused_when_it_is_opened_again(
    target: Path, outside: Path, forgetful: None
) -> None:
    target.mkdir()
    with TargetFolders(str(target), force=True) as folders:
        folders.make_folder((b"a",))
        folders.make_folder((b"b",))
        (target / "a").rmdir()
        (target / "a").symlink_to(outside)
        with pytest.raises(AlreadyExistsError, match="is no directory"), folders.folder((b"a",)):
            pass
        with pytest.raises(AlreadyExistsError, match="is no directory"), folders.folder((b"a", b"e")):
            pass


# -- failing -----------------------------------------------------------------------------------------


def test_a_disk_that_is_full(
    handle: RepositoryHandle, target: Path, monkeypatch: pytest.MonkeyPatch, small_spans: None
) -> None:
    located = put(handle, {**MIXED, "big": b"12" * 50_000})
    write = os.pwritev
    room = itertools.count()

    def full(fd: int, parts: list[bytes], offset: int) -> int:
        if next(room) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, parts, offset)

    monkeypatch.setattr(os, "pwritev", full)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StorageFullError, match="cannot write"):
        checkout(handle, located, target)
    assert temporaries(target) == []
    assert len(os.listdir("/proc/self/fd")) == before
    written = on_disk(target)
    assert {path: leaf for path, leaf in written.items() if leaf is not None} == {
        path: {**MIXED, "big": b"12" * 50_000}[path] for path, leaf in written.items() if leaf is not None
    }


def test_short_writes_are_continued(
    handle: RepositoryHandle, target: Path, monkeypatch: pytest.MonkeyPatch, small_spans: None
) -> None:
    write = os.pwritev

    def short(fd: int, parts: list[bytes], offset: int) -> int:
        return write(fd, [bytes(parts[0])[:700]], offset)

    monkeypatch.setattr(os, "pwritev", short)
    files: Files = {**MIXED, "big": random.Random(3).randbytes(30_000)}
    checkout(handle, put(handle, files), target)
    assert on_disk(target) == files


def test_damage_is_never_written_and_leaves_no_half(tmp_path: Path, target: Path, small_spans: None) -> None:
    with RepositoryHandle.create(tmp_path / "repo") as handle:
        located = put(handle, {"good": b"1", "big": random.Random(4).randbytes(60_000)})
        (pack,) = (tmp_path / "repo" / "packs").rglob("*/*")
        data = bytearray(pack.read_bytes())
        data[30_000] ^= 1
        pack.chmod(0o644)
        pack.write_bytes(data)
        with pytest.raises(CorruptDataError, match="chunk"):
            checkout(handle, located, target)
    assert on_disk(target).items() <= {"good": b"1"}.items()


def test_a_name_that_the_file_system_refuses(
    handle: RepositoryHandle, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def picky(path: object, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EILSEQ, os.strerror(errno.EILSEQ))
        return opened(path, flags, mode, dir_fd=dir_fd)  # type: ignore[arg-type]  # as it was called

    located = put(handle, {"ünnameable": b"1"})
    monkeypatch.setattr(os, "open", picky)
    with pytest.raises(InvalidInputError, match="ünnameable") as caught:
        checkout(handle, located, target)
    assert caught.value.hint == "this file system cannot hold that name"


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EACCES, StorageDeniedError),
        (errno.EDQUOT, StorageFullError),
        (errno.EROFS, ReadOnlyError),
        (errno.EIO, StorageError),
        (errno.ENAMETOOLONG, InvalidInputError),
        (errno.EISDIR, AlreadyExistsError),
        (errno.ELOOP, AlreadyExistsError),
    ],
)
def test_what_the_system_says_is_said_in_our_words(number: int, expected: type[MoorageError]) -> None:
    error = translate(OSError(number, os.strerror(number)), "/target/file")
    assert type(error) is expected
    assert "/target/file" in error.message
    assert error.hint
