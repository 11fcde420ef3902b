"""Is all of a source found, and everything that cannot be stored refused by name before anything is written?"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from moorage.errors import InvalidInputError, SourceNotFoundError, UnreadableSourceError, UnsupportedFileError
from moorage.ingest.scan import FoundDirectory, FoundFile, scan
from moorage.repository.handle import RepositoryHandle
from tests.needs import needs_linux, needs_root
from tests.unit.ingest.sources import committed, held, lay_out
from tests.unit.versioning.build import Exe, Link


def found(source: Path, at: str = "", leave_out: Path | None = None) -> list[str]:
    """The paths of what was found, directories with a slash at their end."""

    def below(directory: FoundDirectory, path: str) -> list[str]:
        here = [path + file.name for file in directory.files] + [path + link.name for link in directory.links]
        for inner in directory.directories:
            here += [f"{path}{inner.name}/", *below(inner, f"{path}{inner.name}/")]
        return here

    root = scan(source, at, leave_out)
    assert isinstance(root, FoundDirectory)
    return sorted(below(root, ""))


def test_everything_is_found(tmp_path: Path) -> None:
    source = lay_out(tmp_path / "s", {"a": b"1", "d/b": Exe(b"2"), "d/e": None, "l": Link("a"), ".hidden/x": b"3"})
    assert found(source) == [".hidden/", ".hidden/x", "a", "d/", "d/b", "d/e/", "l"]
    root = scan(source, "", None)
    assert isinstance(root, FoundDirectory)
    assert [file.name for file in root.all_files()] == ["a", "x", "b"]
    assert {file.name: file.executable for file in root.all_files()} == {"a": False, "x": False, "b": True}
    assert root.count_links() == 1


def test_a_single_file(tmp_path: Path) -> None:
    source = lay_out(tmp_path / "s", {"a": Exe(b"12")})
    file = scan(source / "a", "tools/run", None)
    assert isinstance(file, FoundFile)
    assert (file.name, file.executable, file.identity.size_bytes) == ("run", True, 2)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError):
        scan(tmp_path / "nowhere", "", None)
    with pytest.raises(UnreadableSourceError):
        scan(lay_out(tmp_path / "s", {"a": b""}) / "a" / "b", "", None)


# -- what is refused ---------------------------------------------------------------------------------


def make_specials(folder: Path) -> set[str]:
    os.mkfifo(folder / "a fifo")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "a socket"))
    return {"a fifo", "a socket"}


@needs_linux
def test_specials_are_refused_by_name_and_nothing_is_written(handle: RepositoryHandle, tmp_path: Path) -> None:
    source = lay_out(tmp_path / "s", {"a": b"1", "d/b": b"2"})
    make_specials(source / "d")
    os.symlink(b"target-\xff", bytes(source / "bad link"))
    (source / os.fsdecode(b"bad-\xff-name")).write_bytes(b"")
    with pytest.raises(UnsupportedFileError) as caught:
        committed(handle, source)
    paths, reasons = caught.value.fields["paths"], caught.value.fields["reasons"]
    assert isinstance(paths, list)
    assert isinstance(reasons, list)
    assert {path.removeprefix(f"{source}/"): reason for path, reason in zip(paths, reasons, strict=True)} == {
        "d/a fifo": "it is a fifo",
        "d/a socket": "it is a socket",
        "bad link": "its target is not UTF-8",
        r"bad-\xff-name": "its name is not UTF-8",
    }
    for path, reason in zip(paths, reasons, strict=True):
        assert f"{path} ({reason})" in caught.value.message
    assert list(handle.storage.list_keys("packs/")) == []


@pytest.mark.parametrize(("name", "way"), [(b"fifo", "remove it, or name it"), (b"bad-\xff", "rename it, or name it")])
@needs_linux
def test_a_refused_file_is_told_what_helps(tmp_path: Path, name: bytes, way: str) -> None:
    source = lay_out(tmp_path / "s", {})
    os.mkfifo(bytes(source / "") + b"/" + name)
    with pytest.raises(UnsupportedFileError) as caught:
        scan(source, "", None)
    assert (caught.value.hint or "").startswith(way)


@needs_linux
def test_of_many_refused_files_a_few_are_named(tmp_path: Path) -> None:
    source = lay_out(tmp_path / "s", {})
    for number in range(12):
        os.mkfifo(source / f"fifo{number:02d}")
    with pytest.raises(UnsupportedFileError, match="and 7 more") as caught:
        scan(source, "", None)
    assert len(caught.value.fields["paths"]) == 12  # type: ignore[arg-type]  # a list
    assert caught.value.message.count("fifo0") == 5


@needs_linux
@pytest.mark.parametrize("name", ["a fifo", "a socket"])
def test_a_special_as_the_source(tmp_path: Path, name: str) -> None:
    make_specials(tmp_path)
    with pytest.raises(UnsupportedFileError):
        scan(tmp_path / name, "x", None)


@needs_root
@needs_linux
def test_a_device(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "null", 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("devices cannot be made here")
    with pytest.raises(UnsupportedFileError, match="character device"):
        scan(tmp_path, "", None)


def test_a_path_that_the_tree_cannot_hold(tmp_path: Path) -> None:
    source = lay_out(tmp_path / "s", {"d/file": b""})
    fits = "/".join(["x" * 255] * 15 + ["y" * 248])
    assert len(f"{fits}/d/file") == 4_095
    assert found(source, fits)
    with pytest.raises(UnsupportedFileError, match="longer than 4095 bytes"):
        scan(source, fits + "z", None)


def test_what_is_ignored_is_not_refused(tmp_path: Path) -> None:
    source = lay_out(tmp_path / "s", {"a": b"", ".moorageignore": b"*.sock\nbad*\n"})
    os.mkfifo(source / "x.sock")
    (source / os.fsdecode(b"bad-\xff")).write_bytes(b"")
    assert found(source) == [".moorageignore", "a"]


@pytest.mark.parametrize("name", ["a", "d"])
def test_what_vanishes_while_it_is_looked_at_is_passed_over(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the listing of a directory and the look at what is in it."""
    source = lay_out(tmp_path / "s", {"a": b"", "b": b"", "d/x": b""})
    listing = os.scandir

    def scandir(path: str) -> object:
        listed = listing(path)
        if path == str(source):
            items = list(listed)
            target = source / name
            if target.is_dir():
                shutil.rmtree(target)
            elif target.exists():
                target.unlink()
            return _Listed(items)
        return listed

    monkeypatch.setattr(os, "scandir", scandir)
    expected = {"a": ["b", "d/", "d/x"], "d": ["a", "b"]}[name]
    assert found(source) == expected


class _Listed:
    def __init__(self, items: Sequence[object]) -> None:
        self._items = items

    def __enter__(self) -> Sequence[object]:
        return self._items

    def __exit__(self, *_: object) -> None:
        pass


def test_a_directory_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = lay_out(tmp_path / "s", {"d/x": b""})
    listing = os.scandir

    def scandir(path: str) -> object:
        if path == str(source / "d"):
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UnreadableSourceError, match="Permission denied"):
        scan(source, "", None)


def test_a_tree_as_deep_as_a_path_can_be(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1_500):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    try:
        root = scan(tmp_path, "", None)
        assert isinstance(root, FoundDirectory)
        assert sum(1 for _ in root.walk()) == 1_501
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)  # Python's own way recurses


# -- the repository itself -----------------------------------------------------------------------------


def test_the_repository_inside_the_source_is_left_out(tmp_path: Path) -> None:
    source = lay_out(tmp_path / "project", {"a": b"1", "d/b": b"2"})
    with RepositoryHandle.create(source / ".moorage") as handle:
        assert held(handle, committed(handle, source)) == {"a": b"1", "d/b": b"2"}
        assert held(handle, committed(handle, source / "d")) == {"b": b"2"}
        (tmp_path / "link").symlink_to(source)
        assert held(handle, committed(handle, tmp_path / "link")) == {"a": b"1", "d/b": b"2"}


@pytest.mark.parametrize("inside", ["", "packs", "config"])
def test_the_repository_as_the_source_is_refused(handle: RepositoryHandle, inside: str) -> None:
    assert handle.root is not None
    committed(handle, b"x", at="a")
    with pytest.raises(InvalidInputError, match="repository itself"):
        committed(handle, handle.root / inside)


def test_another_repository_is_data_like_any_other(handle: RepositoryHandle, tmp_path: Path) -> None:
    with RepositoryHandle.create(tmp_path / "source" / ".moorage"):
        pass
    assert ".moorage/config/0000000000000001" in held(handle, committed(handle, tmp_path / "source"))
