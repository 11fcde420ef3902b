"""Does a program that reads from a mount see exactly what was stored, by both drivers?

The server is a process of its own, so reading here, in the tests' process, is what any program does.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest
from blake3 import blake3

from tests.mount import build
from tests.mount.build import MOMENT_NS, Content, Link, Program, Repeated
from tests.mount.conftest import Mount, MountIt
from tests.needs import libfuse_missing, needs_fuse, needs_libfuse, needs_tool, require

pytestmark = needs_fuse

LONG = "n" * 255
WIDE = "ü" * 127
MANY = 1_000
SPARSE_BYTES = 64 * 1024 * 1024


def _random(seed: int, size: int) -> bytes:
    return hashlib.shake_128(seed.to_bytes(8, "little")).digest(size)


MODEL = _random(1, 5 * 1024 * 1024 + 12345)
FILES: dict[str, Content] = {
    "models": {
        "model.bin": MODEL,
        "config.json": b'{"layers": 12}\n',
        "deeper": {"and": {"deeper": {"leaf": b"leaf"}}},
        "link": Link("model.bin"),
        "up": Link("../top"),
        "dangling": Link("nowhere/at all"),
    },
    "names": {
        " a b  c ": b"blanks",
        LONG: b"long",
        WIDE: b"wide",
        "日本語 🚢.bin": b"unicode",
        "new\nline": b"newline",
        'quote"\\back': b"quote",
        "-dash": b"dash",
        "UPPER": b"1",
        "upper": b"2",
    },
    "sizes": {
        "empty": b"",
        "one": b"1",
        "page": _random(2, 4096),
        "page+1": _random(3, 4097),
        "chunk": _random(4, build.CHUNK_BYTES),
        "chunk+1": _random(5, build.CHUNK_BYTES + 1),
        "sparse": b"start" + bytes(SPARSE_BYTES) + b"end",
    },
    "many": {f"{number:05}.txt": b"%d" % number for number in range(MANY)},
    "program": Program(b"#!/bin/sh\necho it runs\n"),
    "top": b"top",
}


@pytest.fixture(scope="module", params=["kernel", "libfuse"])
def mount(request: pytest.FixtureRequest, mount_it: MountIt) -> Mount:
    if request.param == "libfuse":
        require(libfuse_missing)
    return mount_it(FILES, driver=request.param)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tree on an ordinary file system."""
    directory = tmp_path_factory.mktemp("plain")
    build.write_out(FILES, directory)
    return directory


def test_every_file_is_byte_for_byte_what_was_stored(mount: Mount) -> None:
    for path, content in build.flat(FILES).items():
        place = mount.path / path
        if isinstance(content, Link):
            assert os.readlink(place) == content.target
        else:
            assert isinstance(content, bytes | Program)
            wanted = content.data if isinstance(content, Program) else content
            assert place.read_bytes() == wanted, path


@needs_tool("diff")
def test_diff_finds_no_difference(mount: Mount, plain: Path) -> None:
    done = mount.command("diff", "-r", "--no-dereference", plain, mount.path)
    assert (done.returncode, done.stdout) == (0, "")


@needs_tool("cp")
def test_cp_copies_the_tree(mount: Mount, plain: Path, tmp_path: Path) -> None:
    assert mount.command("cp", "-a", f"{mount.path}/names", f"{mount.path}/sizes", tmp_path).returncode == 0
    for name in ("names", "sizes"):
        assert mount.command("diff", "-r", plain / name, tmp_path / name).returncode == 0


def test_listings_are_complete_and_agree_with_stat(mount: Mount, plain: Path) -> None:
    for directory, names, files in os.walk(plain):
        there = mount.path / Path(directory).relative_to(plain)
        assert sorted(os.listdir(there)) == sorted(names + files)
        for found in os.scandir(there):
            assert found.inode() == found.stat(follow_symlinks=False).st_ino
            assert found.is_dir(follow_symlinks=False) == (found.name in names)


def test_attributes(mount: Mount, plain: Path) -> None:
    for path in ("models/model.bin", "program", "names", "models/link", "sizes/empty", "top"):
        there, here = os.lstat(mount.path / path), os.lstat(plain / path)
        assert stat.S_IFMT(there.st_mode) == stat.S_IFMT(here.st_mode)
        assert there.st_mtime_ns == there.st_ctime_ns == there.st_atime_ns == MOMENT_NS
        assert (there.st_uid, there.st_gid) == (os.getuid(), os.getgid())
        if not stat.S_ISDIR(there.st_mode):
            assert (there.st_size, there.st_nlink) == (here.st_size, 1)
            assert there.st_blocks == -(-there.st_size // 512)
    modes = {path: stat.S_IMODE(os.lstat(mount.path / path).st_mode) for path in ("top", "program", "names")}
    assert modes == {"top": 0o444, "program": 0o555, "names": 0o555}
    assert stat.S_IMODE(os.stat(mount.path).st_mode) == 0o555


def test_equal_files_have_one_inode(mount: Mount) -> None:
    numbers = [os.stat(mount.path / path).st_ino for path in ("sizes/one", "names/UPPER")]
    assert numbers[0] == numbers[1] != os.stat(mount.path / "top").st_ino


def test_a_program_runs(mount: Mount) -> None:
    assert mount.command(mount.path / "program").stdout == "it runs\n"
    assert os.access(mount.path / "program", os.X_OK)
    assert not os.access(mount.path / "top", os.X_OK)
    assert not os.access(mount.path / "top", os.W_OK)


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("nothing", errno.ENOENT),
        ("models/nothing", errno.ENOENT),
        ("models/dangling", errno.ENOENT),
        ("top/below", errno.ENOTDIR),
        ("models/" + "x" * 256, errno.ENAMETOOLONG),
        ("x" * 256, errno.ENAMETOOLONG),
        (b"models/\xff\xfe", errno.ENOENT),
        (b"\xff", errno.ENOENT),
    ],
)
def test_what_is_not_there(mount: Mount, path: str | bytes, number: int) -> None:
    place = os.fsencode(mount.path) + b"/" + (path if isinstance(path, bytes) else path.encode())
    for _ in range(2):  # the second time the kernel may know it already
        with pytest.raises(OSError) as caught:
            os.stat(place)
        if mount.record.driver == "libfuse" and number == errno.ENAMETOOLONG:
            assert caught.value.errno in (errno.ENAMETOOLONG, errno.ENOENT)  # libfuse asks us by path
        else:
            assert caught.value.errno == number


def test_reading_anywhere(mount: Mount) -> None:
    data = MODEL
    fd = os.open(mount.path / "models/model.bin", os.O_RDONLY)
    try:
        for offset in (0, 1, 4095, 65535, 65536, 1 << 20, len(data) - 1, len(data), len(data) + 10):
            for size in (1, 4096, 65537, 2 << 20):
                assert os.pread(fd, size, offset) == data[offset : offset + size]
        assert os.lseek(fd, -7, os.SEEK_END) == len(data) - 7
        assert os.read(fd, 100) == data[-7:]
    finally:
        os.close(fd)


def test_a_sparse_file_is_all_data(mount: Mount) -> None:
    fd = os.open(mount.path / "sizes/sparse", os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        assert os.lseek(fd, 1000, os.SEEK_DATA) == 1000
        assert os.lseek(fd, 1000, os.SEEK_HOLE) == size
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            with pytest.raises(OSError, match=os.strerror(errno.ENXIO)):
                os.lseek(fd, size, whence)
    finally:
        os.close(fd)


def test_direct_reads(mount: Mount) -> None:
    program = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
room = mmap.mmap(-1, 1 << 20)
n = os.preadv(fd, [room], 1 << 20)
print(n == 1 << 20 and room[:n] == open(sys.argv[1], "rb").read()[1 << 20 : 2 << 20])
"""
    assert mount.run(program, mount.path / "models/model.bin").stdout == "True\n"


def test_mapping_memory(mount: Mount, plain: Path) -> None:
    program = """
import mmap, sys
files = [open(name, "rb") for name in sys.argv[1:]]
maps = []
for file in files:
    maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    maps.append(mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ))
print(all(map[:] == maps[0][:] for map in maps), len(maps))
"""
    name = "models/model.bin"
    assert mount.run(program, plain / name, mount.path / name).stdout == "True 6\n"


def test_extended_attributes(mount: Mount) -> None:
    head = build.head(mount.handle, "prod")
    for path in ("models/model.bin", "sizes/empty", "many", ""):
        attributes = {name: os.getxattr(mount.path / path, name) for name in os.listxattr(mount.path / path)}
        tree = attributes.pop("user.moorage.tree", None)
        assert tree == (attributes["user.moorage.blake3"] if (mount.path / path).is_dir() else None)
        assert sorted(attributes) == ["user.moorage.blake3", "user.moorage.branch", "user.moorage.snapshot"]
        assert attributes["user.moorage.snapshot"] == head.hex().encode()
        assert attributes["user.moorage.branch"] == b"prod"
    digest = os.getxattr(mount.path / "models/model.bin", "user.moorage.blake3").decode()
    assert digest == blake3((mount.path / "models/model.bin").read_bytes()).hexdigest()
    with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
        os.getxattr(mount.path / "top", "user.other")
    for name in ("link", "dangling"):  # what is listed can be read, and Linux lets none of a symlink be read
        assert os.listxattr(mount.path / "models" / name, follow_symlinks=False) == []


def test_statvfs_is_a_full_medium_of_the_right_size(mount: Mount) -> None:
    found = os.statvfs(mount.path)
    logical = build.logical_bytes(FILES)
    assert found.f_blocks == -(-logical // found.f_frsize)
    assert (found.f_bfree, found.f_bavail, found.f_namemax) == (0, 0, 255)
    assert found.f_flag & os.ST_RDONLY
    assert found.f_flag & os.ST_NOSUID


@needs_tool("stat")
def test_the_time_of_birth_is_when_it_was_first_stored(mount_it: MountIt) -> None:
    mount = mount_it({"f": b"x"})
    assert mount.command("stat", "-c", "%W", mount.path / "f").stdout == f"{MOMENT_NS // 1_000_000_000}\n"


def test_many_readers_at_once(mount: Mount) -> None:
    program = """
import sys, threading
wrong = []
def read(path, want):
    for _ in range(20):
        with open(path, "rb") as file:
            if file.read() != want:
                wrong.append(path)
wants = {path: open(path, "rb").read() for path in sys.argv[1:]}
threads = [threading.Thread(target=read, args=item) for item in wants.items() for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(wrong)
"""
    paths = [mount.path / "models/model.bin", mount.path / "sizes/chunk+1", mount.path / "top"]
    assert mount.run(program, *paths).stdout == "[]\n"


@needs_libfuse
def test_both_drivers_show_the_same_inodes(mount_it: MountIt) -> None:
    small: dict[str, Content] = {"d": {"f": b"x", "l": Link("f")}, "t": Program(b"#!")}
    kernel, libfuse = mount_it(small), mount_it(small, driver="libfuse")
    for path in ("d", "d/f", "d/l", "t"):
        assert os.lstat(kernel.path / path).st_ino == os.lstat(libfuse.path / path).st_ino


def test_twenty_thousand_names(mount_it: MountIt) -> None:
    names = [f"{number:05}-{'x' * (number % 200)}" for number in range(20_000)]
    mount = mount_it({"many": {name: b"%d" % number for number, name in enumerate(names)}})
    directory = mount.path / "many"
    assert sorted(os.listdir(directory)) == sorted(names)
    assert sum(1 for found in os.scandir(directory) if found.stat().st_size < 6) == len(names)
    assert sorted(os.listdir(directory)) == sorted(names)  # now from the kernel's own cache
    for number in (0, 9_999, 19_999):
        assert (directory / names[number]).read_bytes() == b"%d" % number


def test_a_file_of_many_gigabytes(mount_it: MountIt) -> None:
    """Its recipe has two levels, and its offsets do not fit in 32 bits."""
    huge = Repeated(_random(7, build.CHUNK_BYTES), 90_000, b"the end")
    mount = mount_it({"huge": huge})
    fd = os.open(mount.path / "huge", os.O_RDONLY)
    try:
        assert os.fstat(fd).st_size == huge.size_bytes > 5 << 30
        for middle in (1 << 31, 1 << 32, 8192 * build.CHUNK_BYTES, huge.size_bytes):
            for offset in (middle - 100_000, middle - 1, middle):
                assert os.pread(fd, 200_000, offset) == huge.at(offset, 200_000)
        assert os.lseek(fd, 0, os.SEEK_HOLE) == huge.size_bytes
    finally:
        os.close(fd)


def test_two_gigabytes_from_start_to_end(mount_it: MountIt) -> None:
    huge = Repeated(_random(8, build.CHUNK_BYTES), (2 << 30) // build.CHUNK_BYTES, b"and a little")
    mount = mount_it({"huge": huge})
    program = """
import sys
from blake3 import blake3
print(blake3().update_mmap(sys.argv[1]).hexdigest())
digest = blake3()
with open(sys.argv[1], "rb", buffering=0) as file:
    while piece := file.read(1 << 20):
        digest.update(piece)
print(digest.hexdigest())
"""
    wanted = os.getxattr(mount.path / "huge", "user.moorage.blake3").decode()
    assert mount.run(program, mount.path / "huge").stdout == f"{wanted}\n{wanted}\n"
