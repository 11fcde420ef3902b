"""Does every way of changing something on a mount fail with EROFS, for root too, and change nothing?

The mount is read-only, so the kernel refuses by itself. That it is remounted writable, which root can do, must not help
either: then the server is asked, and refuses too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.build import Content
from tests.mount.conftest import Mount, MountIt
from tests.needs import libfuse_missing, needs_fuse, needs_root, require

pytestmark = needs_fuse

FILES: dict[str, Content] = {"d": {"f": b"data", "empty": {"x": b""}}, "top": b"top"}
RENAME_EXCHANGE = 2


def _renameat2(old: Path, new: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


WAYS: dict[str, Callable[[Path], object]] = {
    "open to write": lambda at: os.open(at / "d/f", os.O_WRONLY),
    "open to read and write": lambda at: os.open(at / "d/f", os.O_RDWR),
    "open to append": lambda at: os.open(at / "d/f", os.O_WRONLY | os.O_APPEND),
    "open and truncate": lambda at: os.open(at / "d/f", os.O_WRONLY | os.O_TRUNC),
    "open truncating, to read": lambda at: os.open(at / "d/f", os.O_RDONLY | os.O_TRUNC),
    "create": lambda at: os.open(at / "d/new", os.O_WRONLY | os.O_CREAT, 0o644),
    "create exclusively": lambda at: os.open(at / "new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644),
    "nameless file": lambda at: os.open(at / "d", os.O_TMPFILE | os.O_RDWR, 0o600),
    "truncate": lambda at: os.truncate(at / "d/f", 0),
    "unlink": lambda at: os.unlink(at / "d/f"),
    "rmdir": lambda at: os.rmdir(at / "d/empty"),
    "mkdir": lambda at: os.mkdir(at / "d/new"),
    "mkdir at the root": lambda at: os.mkdir(at / "new"),
    "rename": lambda at: os.rename(at / "d/f", at / "d/g"),
    "rename over": lambda at: os.rename(at / "d/f", at / "top"),
    "exchange": lambda at: _renameat2(at / "d/f", at / "top"),
    "symlink": lambda at: os.symlink("f", at / "d/new"),
    "link": lambda at: os.link(at / "d/f", at / "d/new"),
    "mknod": lambda at: os.mknod(at / "d/new", stat.S_IFREG | 0o644),
    "mkfifo": lambda at: os.mkfifo(at / "d/new"),
    "chmod": lambda at: os.chmod(at / "d/f", 0o777),
    "chmod of a directory": lambda at: os.chmod(at / "d", 0o777),
    "chown": lambda at: os.chown(at / "d/f", os.getuid(), os.getgid()),
    "lchown": lambda at: os.lchown(at / "d/f", os.getuid(), os.getgid()),
    "utimes": lambda at: os.utime(at / "d/f"),
    "utimes of the root": lambda at: os.utime(at, (1, 1)),
    "setxattr": lambda at: os.setxattr(at / "d/f", "user.x", b"1"),
    "replace an xattr of ours": lambda at: os.setxattr(at / "d/f", "user.moorage.branch", b"1"),
    "removexattr": lambda at: os.removexattr(at / "d/f", "user.moorage.branch"),
}


@pytest.fixture(scope="module", params=["kernel", "libfuse"])
def mount(request: pytest.FixtureRequest, mount_it: MountIt) -> Mount:
    if request.param == "libfuse":
        require(libfuse_missing)
    return mount_it(FILES, driver=request.param)


@pytest.mark.parametrize("way", WAYS)
def test_it_is_erofs(mount: Mount, way: str) -> None:
    with pytest.raises(OSError) as caught:
        WAYS[way](mount.path)
    assert caught.value.errno == errno.EROFS, caught.value


@pytest.mark.parametrize("write", ["write", "ftruncate", "fallocate"])
def test_an_open_file_cannot_be_written(mount: Mount, write: str) -> None:
    fd = os.open(mount.path / "d/f", os.O_RDONLY)
    try:
        with pytest.raises(OSError) as caught:
            match write:
                case "write":
                    os.write(fd, b"x")
                case "ftruncate":
                    os.ftruncate(fd, 0)
                case _:
                    os.posix_fallocate(fd, 0, 10)
        assert caught.value.errno in (errno.EBADF, errno.EINVAL)  # it is not open for writing, whatever it lies on
    finally:
        os.close(fd)


def test_a_writable_shared_map_is_refused(mount: Mount) -> None:
    program = """
import mmap, sys
file = open(sys.argv[1], "rb")
try:
    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_WRITE)
except PermissionError:
    print("refused")
private = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
private[0:1] = b"D"
print(file.read())
"""
    assert mount.run(program, mount.path / "d/f").stdout == "refused\nb'data'\n"


def test_nothing_has_changed(mount: Mount) -> None:
    assert sorted(os.listdir(mount.path)) == ["d", "top"]
    assert sorted(os.listdir(mount.path / "d")) == ["empty", "f"]
    assert (mount.path / "d/f").read_bytes() == b"data"


@needs_root
def test_remounting_it_writable_does_not_help(mount_it: MountIt) -> None:
    mount = mount_it(FILES)
    done = subprocess.run(["mount", "-i", "-o", "remount,rw", mount.path], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    wrong = {}
    for way, do in WAYS.items():
        try:
            do(mount.path)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EOPNOTSUPP):
                wrong[way] = str(error)
        else:
            wrong[way] = "done"
    assert wrong == {}
    assert (mount.path / "d/f").read_bytes() == b"data"
    assert sorted(os.listdir(mount.path / "d")) == ["empty", "f"]
