"""What does a mount do when the disks around it are full, too small, or gone for a while?"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moorage.read.cache import FileCache
from tests.mount.build import Content
from tests.mount.conftest import eventually
from tests.mount.counted import Counted, counted
from tests.mount.test_passthrough import warm
from tests.needs import needs_fuse, needs_root
from tests.unit.read.caches import MIB, noise

pytestmark = [needs_fuse, needs_root]

COUNT = 100 if os.environ.get("MOORAGE_SOAK") == "1" else 12
SIZE = 3 * MIB


def files_of(count: int) -> dict[str, Content]:
    return {"models": {f"{number:03}": noise(SIZE, number) for number in range(count)}}


def right(path: Path, number: int) -> bool:
    """Whether a file is as `files_of` made it, read in a row."""
    with open(path / "models" / f"{number:03}", "rb") as file:
        return zlib.crc32(file.read()) == zlib.crc32(noise(SIZE, number))


def errno_of(path: Path) -> int:
    """Why a file cannot be read; 0 if it can."""
    try:
        path.read_bytes()
    except OSError as error:
        return error.errno or -1
    return 0


def drop_pages(path: Path) -> None:
    """Forget what the kernel has of a file."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's cache, on a disk of its own of 16 MiB."""
    place = tmp_path / "cache"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "moorage-test", str(place)]
    subprocess.run(command, check=True, timeout=30)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True, timeout=30)


@contextlib.contextmanager
def sizes_of(disk: Path) -> Iterator[list[int]]:
    """How much of a disk was taken, looked at again and again inside the block."""
    found: list[int] = []
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            status = os.statvfs(disk)  # of one moment, which a walk through the folders is not
            found.append((status.f_blocks - status.f_bfree) * status.f_frsize)

    watching = threading.Thread(target=look)
    watching.start()
    yield found
    is_over.set()
    watching.join()


def test_a_cache_smaller_than_what_is_read(tmp_path: Path, cache: Path) -> None:
    limit = 3 * SIZE + MIB
    with counted(tmp_path, files_of(COUNT), "retry=0", cache_bytes=limit) as mount:
        warm(mount, "models/000", limit).close()
        with sizes_of(cache) as sizes, ThreadPoolExecutor(4) as pool:
            numbers = [number * step % COUNT for step in (1, 5, 7) for number in range(COUNT)]
            assert all(pool.map(lambda number: right(mount.path, number), numbers))
        assert sizes
        assert max(sizes) <= limit
        assert FileCache(limit_bytes=limit).usage().files > 0
        # Nobody has one open: all descriptors of cached files are given back.
        eventually(lambda: mount.held()["backings"] == 0)


def test_a_full_disk_of_the_cache(tmp_path: Path, cache: Path) -> None:
    filler = cache / "filler"
    filler.write_bytes(bytes(15 * MIB))
    with counted(tmp_path, files_of(4), "retry=0.1", cache_bytes=64 * MIB) as mount:
        for _ in range(3):
            for number in range(4):
                drop_pages(mount.path / "models" / f"{number:03}")
                assert right(mount.path, number)
        said = [line for line in mount.log.splitlines() if "reads go on from chunks" in line]
        assert len(said) == 1
        assert "No space left" in said[0]
        assert FileCache(limit_bytes=64 * MIB).usage().files == 0
        filler.unlink()
        eventually(lambda: _is_hydrated_when_read(mount))
        assert len([line for line in mount.log.splitlines() if "reads go on from chunks" in line]) == 1


def _is_hydrated_when_read(mount: Counted) -> bool:
    drop_pages(mount.path / "models/001")
    assert right(mount.path, 1)
    return FileCache(limit_bytes=64 * MIB).usage().files > 0


def test_a_repository_that_is_gone_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with counted(tmp_path, files_of(4), cache_bytes=64 * MIB) as mount:
        warm(mount, "models/000").close()
        assert os.listdir(mount.path / "models") == ["000", "001", "002", "003"]
        assert (mount.path / "models/003").stat().st_size == SIZE
        (tmp_path / "repository").rename(tmp_path / "away")
        for _ in range(3):
            assert right(mount.path, 0)
            assert errno_of(mount.path / "models/001") == errno.EIO
        assert "EIO because of" in mount.log
        (tmp_path / "away").rename(tmp_path / "repository")
        assert [right(mount.path, number) for number in range(4)] == [True] * 4
