"""Do the files of a mount belong to whom they are said to, and does the kernel keep the others out?"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from pathlib import Path

import pytest

from moorage.mount.host import mountinfo
from tests.mount.build import Content
from tests.mount.conftest import Mount, MountIt
from tests.needs import needs_fuse, needs_libfuse, needs_ordinary_user

pytestmark = needs_fuse

FILES: dict[str, Content] = {"d": {"f": b"data"}}
DRIVERS = ["kernel", pytest.param("libfuse", marks=needs_libfuse)]


def shown(path: Path) -> tuple[int, int, str]:
    found = os.stat(path)
    return found.st_uid, found.st_gid, stat.filemode(found.st_mode)


@pytest.fixture(scope="module")
def plain(mount_it: MountIt) -> Mount:
    """A mount with nothing said of owners."""
    return mount_it(FILES)


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_was_said(plain: Mount, driver: str) -> None:
    mounted = plain.again("prod", driver=driver, uid=1234, gid=4321, umask=0o27)
    assert shown(mounted.path / "d/f") == (1234, 4321, "-r--r-----")
    assert shown(mounted.path / "d") == (1234, 4321, "dr-xr-x---")
    assert shown(mounted.path) == (1234, 4321, "dr-xr-x---")


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_was_not_said(plain: Mount, driver: str) -> None:
    mounted = plain if driver == "kernel" else plain.again("prod", driver=driver)
    assert shown(mounted.path / "d/f") == (os.getuid(), os.getgid(), "-r--r--r--")
    assert shown(mounted.path / "d") == (os.getuid(), os.getgid(), "dr-xr-xr-x")


def read_as_nobody(mounted: Mount) -> int:
    """The exit code of an ordinary user's `cat`, who has come as far as the root of the mount."""
    nobody = pwd.getpwnam("nobody")
    root = os.open(mounted.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        command = ["cat", f"/proc/self/fd/{root}/d/f"]
        done = subprocess.run(
            command,
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
            pass_fds=[root],
            check=False,
            capture_output=True,
        )
        return done.returncode
    finally:
        os.close(root)


@needs_ordinary_user
@pytest.mark.parametrize("driver", DRIVERS)
def test_the_kernel_checks_modes_where_others_are_let_in(plain: Mount, driver: str) -> None:
    nobody = pwd.getpwnam("nobody")
    own = plain.again("prod", driver=driver, allow_other=True, uid=nobody.pw_uid, umask=0o77)
    others = plain.again("prod", driver=driver, allow_other=True, umask=0o77)
    everybodys = plain.again("prod", driver=driver, allow_other=True)
    assert read_as_nobody(own) == 0
    assert read_as_nobody(others) != 0
    assert read_as_nobody(everybodys) == 0  # the control: it is the umask that keeps him out


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("allow_other", [False, True])
def test_every_mount_is_read_only_without_devices_and_checked(plain: Mount, driver: str, *, allow_other: bool) -> None:
    mounted = plain.again("prod", driver=driver, allow_other=allow_other)
    [line] = [line for line in Path(mountinfo.MOUNTINFO).read_text().splitlines() if f" {mounted.path} " in line]
    before, _, after = line.partition(" - ")
    assert {"ro", "nosuid", "nodev"} <= set(before.split()[5].split(","))
    filesystem = set(after.split()[-1].split(","))
    assert "default_permissions" in filesystem
    assert ("allow_other" in filesystem) == allow_other
