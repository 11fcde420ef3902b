"""Is a damaged chunk an error for its own bytes, and for nothing else?"""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from moorage.mount import serve
from tests.mount import build
from tests.mount.build import CHUNK_BYTES
from tests.mount.conftest import Mount, MountIt
from tests.needs import needs_fuse

pytestmark = needs_fuse

CHUNKS = 40
DAMAGED = 17


def _piece(number: int) -> bytes:
    return hashlib.shake_128(b"%d" % number).digest(CHUNK_BYTES)


DATA = b"".join(_piece(number) for number in range(CHUNKS))


def damage(repository: Path, piece: bytes) -> None:
    """Flip one bit in the middle of a stored chunk."""
    for pack in sorted((repository / "packs").rglob("*")):
        if pack.is_file() and (at := pack.read_bytes().find(piece)) >= 0:
            pack.chmod(0o600)
            with pack.open("r+b") as file:
                file.seek(at + len(piece) // 2)
                byte = file.read(1)[0]
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte ^ 1]))
            return
    raise AssertionError("no pack holds the piece")


@pytest.fixture
def mount(mount_it: MountIt) -> Mount:
    made = mount_it({"models": {"whole": DATA, "other": b"fine"}})
    assert made.handle.root is not None
    damage(made.handle.root, _piece(DAMAGED))
    return made


def readable(path: Path) -> list[bool]:
    """Which chunks of the file can be read, each asked for alone."""
    found = []
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    try:
        for number in range(CHUNKS):
            try:
                data = os.pread(fd, CHUNK_BYTES, number * CHUNK_BYTES)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                found.append(False)
            else:
                assert data == _piece(number)
                found.append(True)
    finally:
        os.close(fd)
    return found


def test_only_the_damaged_range_is_lost(mount: Mount) -> None:
    wanted = [number != DAMAGED for number in range(CHUNKS)]
    assert readable(mount.path / "models/whole") == wanted
    assert readable(mount.path / "models/whole") == wanted  # now partly from the page cache


def test_reading_from_the_start_gives_everything_before_it(mount: Mount) -> None:
    """Read-ahead asks for a megabyte at once and fails as a whole; the kernel then asks page by page."""
    fd = os.open(mount.path / "models/whole", os.O_RDONLY)
    read = b""
    with pytest.raises(OSError) as caught:
        while piece := os.read(fd, 10_000):
            read += piece
    os.close(fd)
    assert caught.value.errno == errno.EIO
    assert read == DATA[: DAMAGED * CHUNK_BYTES]


def test_the_server_lives_and_the_log_names_path_and_chunk(mount: Mount) -> None:
    assert not all(readable(mount.path / "models/whole"))
    assert (mount.path / "models/other").read_bytes() == b"fine"
    assert "READ /models/whole: EIO because of CorruptDataError" in mount.log
    assert "Traceback" not in mount.log
    assert len(mount.log.splitlines()) < 20


def test_a_mapping_reader_of_the_damaged_page_dies_alone(mount: Mount) -> None:
    program = """
import mmap, sys
file = open(sys.argv[1], "rb")
map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
map[0], map[len(map) - 1]
print("fine", flush=True)
map[int(sys.argv[2])]
print("not reached")
"""
    with mount.talk(program, mount.path / "models/whole", str(DAMAGED * CHUNK_BYTES + 5)) as child:
        assert child.read() == "fine"
        assert child.read() == ""  # SIGBUS
    assert (mount.path / "models/other").read_bytes() == b"fine"


def test_a_file_that_is_whole_again_is_read_again(mount: Mount) -> None:
    """An error is not remembered: after a repair the same open file can be read, without a remount."""
    path = mount.path / "models/whole"
    assert not all(readable(path))
    assert mount.handle.root is not None
    repaired = bytearray(_piece(DAMAGED))
    repaired[CHUNK_BYTES // 2] ^= 1
    damage(mount.handle.root, bytes(repaired))  # flips the same bit back
    assert all(readable(path))


def test_a_missing_pack_is_eio(mount_it: MountIt) -> None:
    mount = mount_it({"f": DATA})
    root = mount.handle.root
    assert root is not None
    for pack in [path for path in (root / "packs").rglob("*") if path.is_file()]:
        pack.rename(root / "tmp" / pack.name)
    with pytest.raises(OSError) as caught:
        (mount.path / "f").read_bytes()
    assert caught.value.errno == errno.EIO
    assert "LOOKUP /f: EIO because of MissingObjectError" in mount.log
    serve.umount(mount.path)


def test_a_damaged_tree_is_eio_and_not_an_empty_directory(mount_it: MountIt) -> None:
    mount = mount_it({"d": {"below": {"f": b"x"}}, "other": b"fine"})
    assert mount.handle.root is not None
    for pack in [path for path in (mount.handle.root / "packs").rglob("*") if path.is_file()]:
        pack.chmod(0o600)
        pack.write_bytes(bytes(pack.stat().st_size))
    # The root's tree was read when it was mounted or is read now; what is below was not.
    with pytest.raises(OSError) as caught:
        os.listdir(mount.path / "d/below")
    assert caught.value.errno == errno.EIO
    assert os.path.ismount(mount.path)


def test_a_sparse_pack_is_never_zeros(mount_it: MountIt) -> None:
    """Control of the rule that a read is all or nothing: what cannot be verified is never handed out as anything."""
    mount = mount_it({"f": DATA})
    assert mount.handle.root is not None
    for number in range(CHUNKS):
        damage(mount.handle.root, _piece(number))
    assert readable(mount.path / "f") == [False] * CHUNKS
    assert os.stat(mount.path / "f").st_size == build.CHUNK_BYTES * CHUNKS
