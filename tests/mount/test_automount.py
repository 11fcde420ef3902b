"""Can an automounter mount with moorage, and may other file systems be where it mounts?

An automounter of a few lines: an autofs trap at the mountpoint, and a process group whose members alone are let
through it while somebody waits. In namespaces of its own, so that nothing is left of it whatever happens.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from moorage.mount.host import mountinfo
from tests.mount import build
from tests.needs import needs_autofs, needs_fuse, needs_libfuse

pytestmark = [needs_fuse, needs_autofs]

TIMEOUT_S = 100

AUTOMOUNTER = """
import ctypes, fcntl, os, struct, subprocess, sys
place, command, users = sys.argv[1], sys.argv[2].split("|"), sys.argv[3].split("|")
READY = 0x9360
reading, writing = os.pipe()
options = f"fd={writing},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct".encode()
assert ctypes.CDLL(None).mount(b"auto", os.fsencode(place), b"autofs", 0, options) == 0
trap = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
user = subprocess.Popen(users, start_new_session=True, stdout=subprocess.PIPE)  # outside: it walks into the trap
_, kind, token = struct.unpack_from("iiI", os.read(reading, 4096))
assert kind == 5, kind  # a direct mount is missing
print("asked", user.poll(), flush=True)
print(subprocess.run(command, check=False).returncode, flush=True)
fcntl.ioctl(trap, READY, token)
print(user.communicate()[0].decode(), user.returncode, flush=True)
while subprocess.run(["umount", place], check=False).returncode:
    pass
"""


@pytest.mark.parametrize("driver", ["kernel", pytest.param("libfuse", marks=needs_libfuse)])
def test_a_mount_on_demand(tmp_path: Path, driver: str) -> None:
    place = tmp_path / "mnt"
    place.mkdir()
    with build.create(tmp_path / "repository") as handle:
        build.branch(handle, "prod", {"d": {"f": b"data"}})
    mount = [sys.executable, "-m", "moorage", "-q", "-r", str(tmp_path / "repository"), "mount", "prod", str(place)]
    users = f"cat|{place}/d/f"
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *(
                "setsid",
                "--wait",
                sys.executable,
                "-c",
                AUTOMOUNTER,
                place,
                "|".join([*mount, "--driver", driver]),
                users,
            ),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.stdout.splitlines() == ["asked None", "0", "data 0"], done.stderr
    assert mountinfo.top_at(str(place)) is None
