"""Is a hydrated file read by the kernel alone, with the right bytes, and given back, whoever else has it open?"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import subprocess
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import pytest

from moorage.mount import serve
from moorage.mount.host import mountinfo
from moorage.read.cache import FileCache
from moorage.read.cached_file import CachedFile
from moorage.read.hydrate import hydrate
from moorage.read.resolve import locate, parse_location
from tests.mount import build
from tests.mount.build import Content, Program
from tests.mount.conftest import MountIt
from tests.mount.counted import Counted, counted
from tests.needs import needs_fuse, needs_module, needs_root, require
from tests.unit.read.caches import MIB, noise, room_for

pytestmark = [needs_fuse, needs_root]

BIG = noise(6 * MIB + 1234, 1)
OTHER = noise(3 * MIB, 2)
FILES: dict[str, Content] = {
    "models": {"big": BIG, "other": OTHER, "tiny": b"tiny", "tool": Program(b"#!/bin/sh\necho ran\n")},
    "copies": {"same": BIG},
    "version": b"1",
}


class ServeIt(Protocol):
    def __call__(self, *broken: str, cache_bytes: int = ...) -> AbstractContextManager[Counted]: ...


def passthrough_missing() -> str | None:
    """A kernel with FUSE passthrough."""
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    return None if release >= (6, 9) else f"kernel {os.uname().release} has no passthrough"


@pytest.fixture
def serve_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServeIt:
    """Mount with a cache of its own."""
    require(passthrough_missing)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda *broken, cache_bytes=64 * MIB: counted(tmp_path, FILES, *broken, cache_bytes=cache_bytes)


def warm(mount: Counted, path: str, limit_bytes: int = 64 * MIB) -> CachedFile:
    """Hydrate a file from here, as another process would; waits for the server where that is at it."""
    entry = locate(mount.handle, parse_location(f"prod:{path}")).file
    return hydrate(mount.handle, FileCache(limit_bytes=limit_bytes), entry)


def mapped(path: Path) -> bytes:
    """The bytes of a file through a map."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        return view[:]


# -- the kernel reads ---------------------------------------------------------------------------------


def test_a_hydrated_file_is_read_and_mapped_without_asking(serve_it: ServeIt) -> None:
    with serve_it() as mount:
        warm(mount, "models/big").close()
        with mount.asked() as asked:
            assert (mount.path / "models/big").read_bytes() == BIG
            assert mapped(mount.path / "copies/same") == BIG
        assert "READ" not in asked
        assert asked["OPEN"] == 2


def test_control_without_a_cache_the_server_is_asked(serve_it: ServeIt) -> None:
    with serve_it(cache_bytes=0) as mount:
        warm(mount, "models/big").close()
        with mount.asked() as asked:
            assert (mount.path / "models/big").read_bytes() == BIG
        assert asked["READ"] > 0


def test_a_file_that_is_read_is_hydrated_and_the_next_open_is_passed_through(serve_it: ServeIt) -> None:
    with serve_it() as mount:
        assert (mount.path / "models/big").read_bytes() == BIG
        warm(mount, "models/big").close()  # waits for the server, which is at it
        with mount.asked() as asked:
            assert mapped(mount.path / "models/big") == BIG
        assert "READ" not in asked


def test_a_twin_that_is_open_in_a_third_way_is_passed_over(serve_it: ServeIt) -> None:
    """The kernel knows the first nodeid by one name, has the second one open by another, and can share neither."""
    with serve_it() as mount, contextlib.ExitStack() as held:
        names = [mount.path / "models/big", mount.path / "copies/same"]
        assert os.stat(names[0]).st_ino == os.stat(names[1]).st_ino
        held.enter_context(open(names[0], "rb"))
        for _ in range(3):
            hydrated = warm(mount, "models/big")
            hydrated.close()
            held.enter_context(open(names[0], "rb"))
            os.unlink(hydrated.path)
            warm(mount, "models/big").close()
            assert held.enter_context(open(names[1], "rb")).read() == BIG
            assert mapped(names[1]) == BIG
        for name in names:
            assert mapped(name) == BIG


def test_a_look_at_a_file_does_not_hydrate_it(serve_it: ServeIt) -> None:
    with serve_it() as mount:
        with open(mount.path / "models/big", "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            for offset in range(0, len(BIG), 2 * MIB):
                assert os.pread(file.fileno(), 4096, offset) == BIG[offset : offset + 4096]
        (mount.path / "models/tiny").read_bytes()
        entry = locate(mount.handle, parse_location("prod:models/big")).file
        assert FileCache(limit_bytes=64 * MIB).find(entry, verify=True) is None


def test_a_program_runs_from_its_backing_file(serve_it: ServeIt) -> None:
    with serve_it() as mount:
        warm(mount, "models/tool").close()
        done = subprocess.run([mount.path / "models/tool"], check=True, capture_output=True, timeout=60)
        assert done.stdout == b"ran\n"


def test_direct_reads_work_in_both_modes(serve_it: ServeIt) -> None:
    with serve_it() as mount:
        for name in ("models/other", "models/big"):
            if name == "models/big":
                warm(mount, name).close()
            fd = os.open(mount.path / name, os.O_RDONLY | os.O_DIRECT)
            room = mmap.mmap(-1, MIB)
            assert os.readv(fd, [room]) == MIB
            assert room[:] == (BIG if name == "models/big" else OTHER)[:MIB]
            room.close()
            os.close(fd)


@needs_module("numpy")
@needs_module("safetensors")
def test_libraries_map_it(serve_it: ServeIt, tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    array: Any = np.arange(500_000, dtype=np.float32)
    np.save(tmp_path / "array.npy", array)
    save_file({"weight": array}, tmp_path / "model.safetensors")
    names = ("array.npy", "model.safetensors")
    with serve_it() as mount:
        build.branch(mount.handle, "prod", {"m": {name: (tmp_path / name).read_bytes() for name in names}})
        for name in names:
            warm(mount, f"m/{name}").close()
        with mount.asked() as asked:
            assert np.array_equal(np.load(mount.path / "m/array.npy", mmap_mode="r"), array)
            assert np.array_equal(load_file(mount.path / "m/model.safetensors")["weight"], array)
        assert "READ" not in asked


# -- two modes at once ----------------------------------------------------------------------------------


def test_who_has_it_open_cold_keeps_nobody_from_passthrough(serve_it: ServeIt) -> None:
    with serve_it() as mount, open(mount.path / "models/big", "rb", buffering=0) as cold:
        assert cold.read(10) == BIG[:10]
        warm(mount, "models/big").close()
        with mount.asked() as asked:
            with open(mount.path / "models/big", "rb") as passed:
                assert os.fstat(passed.fileno()).st_ino == os.fstat(cold.fileno()).st_ino
                assert passed.read() == BIG
            assert mapped(mount.path / "models/big") == BIG
        assert "READ" not in asked
        assert asked["OPEN"] == 3  # one of them refused
        assert os.pread(cold.fileno(), 100, 5 * MIB) == BIG[5 * MIB : 5 * MIB + 100]
        assert mount.held()["backings"] == 0


def test_control_modes_that_mix_are_an_error(serve_it: ServeIt) -> None:
    with serve_it("mix-modes") as mount, open(mount.path / "models/big", "rb", buffering=0) as cold:
        assert cold.read(10) == BIG[:10]
        warm(mount, "models/big").close()
        with pytest.raises(OSError) as caught:
            (mount.path / "models/big").read_bytes()
        assert caught.value.errno == errno.EIO


def test_an_open_without_a_name_shares_the_mode(serve_it: ServeIt) -> None:
    with serve_it() as mount, open(mount.path / "models/big", "rb") as cold:
        cold.read(10)
        warm(mount, "models/big").close()
        with open(f"/proc/self/fd/{cold.fileno()}", "rb") as again:
            assert again.read() == BIG


def test_two_names_and_a_moved_branch_share_the_backing_file(serve_it: ServeIt) -> None:
    with serve_it() as mount:
        warm(mount, "models/big").close()
        with open(mount.path / "models/big", "rb") as first:
            build.branch(mount.handle, "prod", {**FILES, "version": b"2"})
            assert (mount.path / "version").read_bytes() == b"2"
            with open(mount.path / "copies/same", "rb") as second:
                assert mount.held()["backings"] == 1
                assert first.read() == second.read() == BIG


def test_an_open_file_and_a_map_keep_their_bytes_when_the_branch_moves(serve_it: ServeIt) -> None:
    with serve_it() as mount:
        warm(mount, "models/big").close()
        with (
            open(mount.path / "models/big", "rb") as file,
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view,
        ):
            build.branch(mount.handle, "prod", {"models": {"big": OTHER}})
            assert (mount.path / "models/big").read_bytes() == OTHER
            assert view[:] == BIG
            assert file.read() == BIG


# -- what goes, and what breaks -------------------------------------------------------------------------


def test_backing_files_are_given_back(serve_it: ServeIt) -> None:
    with serve_it() as mount:
        warm(mount, "models/big").close()
        warm(mount, "models/other").close()
        with open(mount.path / "models/big", "rb"), open(mount.path / "models/other", "rb"):
            with open(mount.path / "copies/same", "rb"):
                assert mount.held()["backings"] == 2
            assert mount.held()["backings"] == 2
        settle(mount)
        assert mount.held()["backings"] == mount.held()["modes"] == mount.held()["files"] == 0


def settle(mount: Counted) -> None:
    """Releases come after the close returned, and in no order: ask until they are there, within the test's own time."""
    while mount.held()["files"]:
        os.stat(mount.path / "version")


def test_a_file_that_is_passed_through_is_not_evicted(serve_it: ServeIt) -> None:
    limit = room_for(len(BIG), len(OTHER)) - 4096
    with serve_it(cache_bytes=limit) as mount:
        warm(mount, "models/big", limit).close()
        with open(mount.path / "models/big", "rb") as held:
            with pytest.raises(Exception, match="full of files in use"):
                warm(mount, "models/other", len(BIG) + MIB)
            assert held.read() == BIG
        settle(mount)
        warm(mount, "models/other", len(BIG) + MIB).close()
        assert FileCache(limit_bytes=limit).usage().files == 1


def test_a_deleted_cache_takes_nothing_from_who_reads(serve_it: ServeIt, tmp_path: Path) -> None:
    with serve_it() as mount:
        warm(mount, "models/big").close()
        with (
            open(mount.path / "models/big", "rb") as file,
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view,
        ):
            subprocess.run(["rm", "-rf", tmp_path / "cache" / "moorage" / "files"], check=True)
            assert file.read() == view[:] == BIG
            assert (mount.path / "models/big").read_bytes() == BIG
        assert (mount.path / "models/big").read_bytes() == BIG


def test_a_damaged_cache_is_noticed_and_never_served(serve_it: ServeIt) -> None:
    with serve_it() as mount:
        cached = warm(mount, "models/big")
        cached.path.chmod(0o644)
        with open(cached.path, "r+b") as file:
            file.write(b"damage")
        assert (mount.path / "models/big").read_bytes() == BIG
        again = warm(mount, "models/big")
        assert again.path.read_bytes() == BIG


def test_a_full_disk_of_the_cache_hurts_no_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], check=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(small))
    try:
        with counted(tmp_path, FILES, cache_bytes=64 * MIB) as mount:
            for _ in range(2):
                assert (mount.path / "models/big").read_bytes() == BIG
                assert mapped(mount.path / "copies/same") == BIG
            with pytest.raises(Exception, match="No space left"):
                warm(mount, "models/big")
            assert [path.name for path in (small / "moorage" / "files").glob("*/*")] == []
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_many_open_at_once_while_it_is_hydrated(serve_it: ServeIt) -> None:
    wrong: list[object] = []

    def read(path: Path) -> None:
        for _ in range(5):
            try:
                if path.read_bytes() != BIG or mapped(path) != BIG:
                    wrong.append("other bytes")
            except OSError as error:
                wrong.append(error)

    with serve_it() as mount:
        names = ["models/big", "copies/same"] * 4
        readers = [threading.Thread(target=read, args=(mount.path / name,)) for name in names]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(100)
        assert wrong == []
        settle(mount)
        assert mount.held()["backings"] == 0


def test_nothing_grows_over_many_opens(serve_it: ServeIt) -> None:
    def open_often(count: int) -> None:
        for _ in range(count):
            os.close(os.open(mount.path / "models/big", os.O_RDONLY))

    with serve_it() as mount:
        warm(mount, "models/big").close()
        os.stat(mount.path / "version")  # which `settle` looks at
        open_often(2_000)
        settle(mount)
        before = mount.held()
        open_often(int(os.environ.get("MOORAGE_OPENS", "18000")))
        settle(mount)
        after = mount.held()
        assert after["nodeids"] <= before["nodeids"]
        assert after["descriptors"] == before["descriptors"]
        assert after["memory_kib"] - before["memory_kib"] < 4096


# -- as users see it ------------------------------------------------------------------------------------


@pytest.fixture
def other_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_the_registry_says_whether_files_are_passed_through(mount_it: MountIt, other_cache: None) -> None:
    require(passthrough_missing)
    files: Mapping[str, Content] = {"f": b"x"}
    mounted = mount_it(files)
    assert mounted.record.passthrough
    assert "passthrough" in mounted.log
    assert not mounted.again("prod", cache_bytes=0).record.passthrough


def test_the_portable_driver_reads_the_cache_too(mount_it: MountIt, other_cache: None) -> None:
    mounted = mount_it({"d": {"f": BIG}}, driver="libfuse")
    assert not mounted.record.passthrough
    entry = locate(mounted.handle, parse_location("prod:d/f")).file
    hydrate(mounted.handle, FileCache(limit_bytes=64 * MIB), entry).close()
    assert (mounted.path / "d/f").read_bytes() == BIG


def test_unmounting_in_the_middle_leaves_nothing_that_counts(serve_it: ServeIt, tmp_path: Path) -> None:
    with serve_it() as mount:
        with open(mount.path / "models/big", "rb", buffering=0) as file:
            file.read(2 * MIB)
        path = mount.path
    assert mountinfo.top_at(str(path)) is None
    files = FileCache(limit_bytes=64 * MIB).folder.glob("*/*")
    assert all(found.suffix in ("", ".seen", ".part") for found in files)
    with pytest.raises(Exception, match="nothing is mounted"):
        serve.umount(path)
