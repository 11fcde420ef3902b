"""Can a user who may not mount do so through fusermount3, and does he get the same?

The whole of it runs as `nobody`, in a directory of his own, in a program that reports in JSON.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorage.mount import serve
from moorage.mount.host import mountinfo
from tests.mount import build
from tests.mount.build import CHUNK_BYTES
from tests.mount.conftest import wait_for_end
from tests.mount.supervised import resend_missing
from tests.needs import everything_is_required, fusermount_missing, needs_fuse, needs_ordinary_user, require

pytestmark = [needs_fuse, needs_ordinary_user]

TIMEOUT_S = 120
DATA = bytes(range(256)) * 8192

PROLOGUE = """
import json, os, sys, errno
from pathlib import Path
from moorage.errors import MoorageError
from moorage.mount import registry, serve
from moorage.mount.host import mountinfo
here = Path(sys.argv[1])
"""

CYCLE = """
record = serve.mount(here / "repository", "prod", here / "mnt", driver=sys.argv[2])
found = {"uid": os.getuid(), "alive": registry.is_alive(record)}
found["same"] = (here / "mnt/d/f").read_bytes() == bytes(range(256)) * 8192
found["owner"] = os.stat(here / "mnt/d/f").st_uid
entry = mountinfo.top_at(str(here / "mnt"))
found["type"], found["source"] = entry.fstype, entry.source
found["options"] = entry.options.split(",")
found["listed"] = [other.pid for other in registry.mounts() if other.mountpoint == str(here / "mnt")] == [record.pid]
try:
    os.open(here / "mnt/d/new", os.O_CREAT | os.O_WRONLY)
except OSError as error:
    found["create"] = errno.errorcode[error.errno]
serve.umount(here / "mnt")
found["left"] = os.listdir(here / "mnt")
found["gone"] = not registry.is_alive(record)
found["wrote"] = sorted(str(path) for path in (here / "repository").rglob("*") if path.stat().st_uid == os.getuid())
print(json.dumps(found))
"""

DEATH = """
import signal, time
record = serve.mount(here / "repository", "prod", here / "mnt")
bytes_of = lambda: (here / "mnt/d/f").read_bytes() == bytes(range(256)) * 8192
now = lambda: next(other for other in registry.mounts() if other.mountpoint == record.mountpoint)
with open(here / "mnt/d/f", "rb", buffering=0) as file:
    os.kill(record.server_pid, signal.SIGKILL)
    found = {"killed": [file.read() == bytes(range(256)) * 8192, bytes_of()]}
found["replaced"] = now().server_pid not in (0, record.server_pid) and now().restarts
found["upgraded"] = serve.upgrade(here / "mnt").upgrades
found["after"] = bytes_of()
both = now()
os.kill(both.pid, signal.SIGKILL)
os.kill(both.server_pid, signal.SIGKILL)
while registry.is_alive(both):
    time.sleep(0.01)
try:
    bytes_of()
except OSError as error:
    found["dead"] = errno.errorcode[error.errno]
found["state"] = now().state
serve.mount(here / "repository", "prod", here / "mnt")
found["again"] = bytes_of()
serve.umount(here / "mnt")
print(json.dumps(found))
"""

HYDRATED = """
from moorage.api import Repository
if sys.argv[2] == "warm":
    with Repository.open(here / "repository") as repo:
        print(json.dumps({"files": repo.warm(["prod"]).files}))
    sys.exit()
record = serve.mount(here / "repository", "prod", here / "mnt")
found = {"passthrough": record.passthrough, "log": Path(record.log).read_text()}
try:
    found["same"] = (here / "mnt/d/f").read_bytes() == bytes(range(256)) * 8192
except OSError as error:
    found["same"] = errno.errorcode[error.errno]
serve.umount(here / "mnt")
print(json.dumps(found))
"""

UNREADABLE = """
import stat
record = serve.mount(here / "repository", "prod", here / "mnt")
repository, file = here / "repository", here / "mnt/d/f"
def read():
    try:
        return file.read_bytes() == bytes(range(256)) * 8192
    except OSError as error:
        return errno.errorcode[error.errno]
found = {"size": file.stat().st_size}
mode = stat.S_IMODE(repository.stat().st_mode)
repository.chmod(0)
found["meanwhile"] = [read(), read()]
repository.chmod(mode)
found["afterwards"] = read()
found["log"] = Path(record.log).read_text()
serve.umount(here / "mnt")
print(json.dumps(found))
"""

FAILURE = """
try:
    serve.mount(here / "repository", "prod", here / sys.argv[2], allow_other=sys.argv[3] == "allow_other")
except MoorageError as error:
    print(json.dumps({"kind": error.kind, "message": error.message, "hint": error.hint}))
else:
    print(json.dumps({"kind": "mounted"}))
    serve.umount(here / sys.argv[2])
"""


@pytest.fixture(scope="module", autouse=True)
def _open_device() -> Iterator[None]:
    """On a machine without udev the device may be closed to ordinary users."""
    mode = os.stat("/dev/fuse").st_mode
    os.chmod("/dev/fuse", 0o666)
    fusermount_missing.cache_clear()
    require(fusermount_missing)
    yield
    os.chmod("/dev/fuse", mode)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that `nobody` owns, with a repository that he may only read."""
    user = pwd.getpwnam("nobody")
    directory = Path(tempfile.mkdtemp(prefix="moorage-nobody-"))
    directory.chmod(0o755)
    with build.create(directory / "repository") as handle:
        build.branch(handle, "prod", {"d": {"f": DATA}})
    for name in ("mnt", "home"):
        (directory / name).mkdir()
        os.chown(directory / name, user.pw_uid, user.pw_gid)
    (directory / "roots").mkdir(mode=0o755)
    for path in (directory / "repository").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    yield directory
    while mountinfo.top_at(str(directory / "mnt")) is not None:
        subprocess.run(["umount", "-l", directory / "mnt"], check=True, timeout=30)
    shutil.rmtree(directory)


def interpreter(environment: dict[str, str]) -> str:
    """A Python that `nobody` may run and that finds moorage; ours may lie in somebody's home."""
    for candidate in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}", "/usr/bin/python3"):
        try:
            done = as_nobody([candidate, "-c", "import moorage.mount.serve"], environment)
        except OSError:
            continue
        if done.returncode == 0:
            return candidate
    reason = "no Python that the user nobody may run finds moorage"
    if everything_is_required():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def as_nobody(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    user = pwd.getpwnam("nobody")
    return subprocess.run(
        command,
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )


def report(place: Path, program: str, *arguments: str) -> dict[str, Any]:
    """What a program of `nobody` found."""
    home = str(place / "home")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": home,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        **{f"XDG_{name}_HOME": f"{home}/{name.lower()}" for name in ("CACHE", "CONFIG", "DATA", "STATE")},
    }
    done = as_nobody([interpreter(environment), "-c", PROLOGUE + program, str(place), *arguments], environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_mount_of_an_ordinary_user_survives_its_server_too(place: Path) -> None:
    require(resend_missing)
    assert report(place, DEATH) == {
        "killed": [True, True],
        "replaced": 1,
        "upgraded": 1,
        "after": True,
        "dead": "ENOTCONN",
        "state": "stale",
        "again": True,
    }


@pytest.mark.parametrize("driver", ["kernel", "libfuse"])
def test_the_whole_way(place: Path, driver: str) -> None:
    found = report(place, CYCLE, driver)
    nobody = pwd.getpwnam("nobody").pw_uid
    assert found["uid"] == found["owner"] == nobody
    assert found["same"]
    assert found["alive"]
    assert found["listed"]
    assert found["gone"]
    assert found["type"] == mountinfo.FSTYPE
    assert found["source"] == f"{place}/repository#prod"
    assert {"ro", "nosuid", "nodev"} <= set(found["options"])
    assert found["create"] == "EROFS"
    assert found["left"] == []
    assert found["wrote"] == []


@pytest.mark.parametrize("is_warm", [True, False])
def test_a_hydrated_file_is_read_from_the_cache_without_passthrough(place: Path, is_warm: bool) -> None:
    """Its chunks are damaged, so that there is nowhere else to read it from; the control has nothing hydrated."""
    if is_warm:
        assert report(place, HYDRATED, "warm") == {"files": 1}
    for pack in (place / "repository/packs").glob("*/*"):
        pack.chmod(0o644)
        pack.write_bytes(pack.read_bytes().replace(DATA[:CHUNK_BYTES], bytes(CHUNK_BYTES)))
    found = report(place, HYDRATED, "")
    assert found["same"] == (True if is_warm else "EIO")
    assert not found["passthrough"]
    assert "no passthrough (this user may not)" in found["log"]


EVERYTHING = """
from moorage.mount.journal import open_log
from moorage.mount.host import places
record = serve.mount(here / "repository", serve.EVERYTHING, here / "mnt", log_opens=True)
found = {"same": (here / "mnt/branches/prod/d/f").read_bytes() == bytes(range(256)) * 8192}
found["names"] = sorted(os.listdir(here / "mnt")) + os.listdir(here / "mnt/branches")
found["snapshot"] = os.path.basename(os.path.realpath(here / "mnt/branches/prod"))
found["revision"], found["source"] = record.revision, mountinfo.top_at(str(here / "mnt")).source
serve.umount(here / "mnt")
[found["opened"]] = open_log.lines_of(places.opens_file(str(here / "mnt")))
found["pid"] = os.getpid()
print(json.dumps(found))
"""


def test_everything_at_once_and_what_was_opened(place: Path) -> None:
    found = report(place, EVERYTHING)
    assert found["same"]
    assert found["names"] == ["at", "branches", "snapshots", "tags", "prod"]
    assert (found["revision"], found["source"]) == ("--all", f"{place}/repository#--all")
    opened = found["opened"]
    assert opened["path"] == f"{place}/mnt/snapshots/{found['snapshot']}/d/f"
    assert (opened["snapshot"], opened["pid"]) == (found["snapshot"], found["pid"])
    assert opened["uid"] == pwd.getpwnam("nobody").pw_uid


BLOCK = """
import moorage
with moorage.mount(here / "repository", "prod") as path:
    found = {"same": (path / "d/f").read_bytes() == bytes(range(256)) * 8192}
    entry = mountinfo.top_at(str(path))
    found["owner"], file = os.stat(path).st_uid, open(path / "d/f", "rb")
found["left"], found["open"] = path.exists(), file.read(1) == b"\\0"
print(json.dumps(found))
"""


def test_a_mount_for_the_length_of_a_block(place: Path) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    assert report(place, BLOCK) == {"same": True, "owner": nobody, "left": False, "open": True}


OWNED = """
serve.mount(here / "repository", "prod", here / "mnt", uid=1234, gid=4321, umask=0o007, driver=sys.argv[2])
found = {"root": os.stat(here / "mnt").st_uid, "mode": oct(os.stat(here / "mnt").st_mode)}
[line] = [line for line in Path(mountinfo.MOUNTINFO).read_text().splitlines() if f" {here}/mnt " in line]
found["options"] = line.split()[-1].split(",")
found["gone"] = [(record.mountpoint, error) for record, error in serve.umount_all()]
found["left"] = mountinfo.top_at(str(here / "mnt")) is not None
print(json.dumps(found))
"""


@pytest.mark.parametrize("driver", ["kernel", "libfuse"])
def test_owners_are_checked_here_too_and_all_of_ones_own_is_unmounted(place: Path, driver: str) -> None:
    (place / "roots2").mkdir()
    kept = serve.mount(place / "repository", "prod", place / "roots2", allow_other=True)
    try:
        found = report(place, OWNED, driver)
        assert (found["root"], found["mode"]) == (1234, "0o40550")
        assert "default_permissions" in found["options"]
        assert found["gone"] == [[f"{place}/mnt", None]]
        assert not found["left"]
        assert mountinfo.top_at(kept.mountpoint) is not None  # root's own
    finally:
        serve.umount(place / "roots2")


def test_others_and_even_root_stay_out(place: Path) -> None:
    """A mount of an ordinary user is his own, unless he asks for others and the administrator allows it."""
    program = """
record = serve.mount(here / "repository", "prod", here / "mnt")
print(json.dumps({"pid": record.pid}))
"""
    report(place, program)
    with pytest.raises(PermissionError):
        os.listdir(place / "mnt")


def test_allow_other_without_leave_says_what_is_missing(place: Path) -> None:
    if "\nuser_allow_other" in "\n" + Path("/etc/fuse.conf").read_text(encoding="utf-8"):
        pytest.skip("/etc/fuse.conf allows it here")
    found = report(place, FAILURE, "mnt", "allow_other")
    assert found["kind"] == "mount_denied"
    assert "user_allow_other" in found["hint"]


def test_a_directory_of_somebody_else(place: Path) -> None:
    found = report(place, FAILURE, "roots", "")
    assert found["kind"] == "mount_denied"
    assert "directory of your own" in found["hint"]


def test_a_mount_of_root_cannot_be_taken_away(place: Path) -> None:
    serve.mount(place / "repository", "prod", place / "mnt", allow_other=True)
    program = """
same = (here / "mnt/d/f").read_bytes() == bytes(range(256)) * 8192
try:
    serve.umount(here / "mnt")
except MoorageError as error:
    print(json.dumps({"kind": error.kind, "same": same, "message": error.message}))
"""
    message = f"{place}/mnt was mounted by another user"
    assert report(place, program) == {"kind": "mount_denied", "same": True, "message": message}
    serve.umount(place / "mnt")


PINNED = """
from moorage.mount.host import namespace
from moorage.mount.private import run as private
if "refused" in sys.argv:
    namespace.enter = lambda: False
is_mounted = "mounted" in sys.argv
if is_mounted:
    serve.mount(here / "repository", "prod", here / "mnt")
outside = os.stat("/proc/self/ns/mnt").st_ino
try:
    mounted = private.start(here / "repository", "prod", directory=here / "mnt" if "at" in sys.argv else None)
except MoorageError as error:
    found = {"kind": error.kind, "hint": error.hint}
else:
    found = {"same": Path(mounted.mountpoint, "d/f").read_bytes() == bytes(range(256)) * 8192}
    found["at"], found["uid"], found["owner"] = mounted.mountpoint, os.getuid(), os.stat(mounted.mountpoint).st_uid
    found["is_private"] = os.stat("/proc/self/ns/mnt").st_ino != outside
    found["layers"] = sum(entry.mountpoint == str(here / "mnt") for entry in mountinfo.mounted())
if is_mounted and not found.get("is_private"):
    serve.umount(here / "mnt")
print(json.dumps(found))
"""


@pytest.mark.parametrize("where", ["", "at", "mounted"])
def test_a_private_mount_in_a_user_namespace(place: Path, where: str) -> None:
    found = report(place, PINNED, where)
    if not found["is_private"]:
        pytest.skip("ordinary users may make no namespaces here")
    nobody = pwd.getpwnam("nobody").pw_uid
    assert (found["same"], found["uid"], found["owner"]) == (True, nobody, nobody)
    assert found["at"] == str(place / "mnt") or not where
    assert found["layers"] == {"": 0, "at": 1, "mounted": 2}[where]
    entry = mountinfo.top_at(str(place / "mnt"))
    assert (entry is not None) == (where == "mounted")


@pytest.mark.parametrize("where", ["", "at"])
def test_a_pinned_mount_where_namespaces_are_refused(place: Path, where: str) -> None:
    found = report(place, PINNED, where, "refused")
    assert (found["same"], found["is_private"]) == (True, False)
    deadline = time.monotonic() + TIMEOUT_S
    while mountinfo.top_at(found["at"]) is not None or (not where and os.path.exists(found["at"])):
        assert time.monotonic() < deadline
        time.sleep(0.01)


PROGRAM = """
import select, signal
from moorage.mount.host import namespace
from moorage.mount.private import run as private
if "refused" in sys.argv:
    namespace.enter = lambda: False
def behind(what):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_text()
        except OSError:
            continue
        if all(word in words for word in (what, str(here / "repository"), "programs.log")):
            found.append(int(path.parent.name))
    return found
def end(pid):
    process = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([process], [], [])
outside = os.stat("/proc/self/ns/mnt").st_ino
mounted = private.start(here / "repository", "prod")
file = Path(mounted.mountpoint, "d/f")
found = {"at": mounted.mountpoint, "is_private": os.stat("/proc/self/ns/mnt").st_ino != outside, "same": []}
with file.open("rb", buffering=0) as kept:
    for _ in range(2):
        if "unsupervised" in sys.argv:
            [end(pid) for pid in behind("private.supervisor")]
        [end(pid) for pid in behind("supervise.supervised")]
        try:
            os.posix_fadvise(kept.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            same = [os.pread(kept.fileno(), 2 << 20, 0), file.read_bytes()] == [bytes(range(256)) * 8192] * 2
        except OSError as error:
            same = errno.errorcode[error.errno]
        found["same"].append(same)
found["behind"] = behind("private.supervisor") + behind("supervise.supervised")
print(json.dumps(found))
"""


@pytest.mark.parametrize("where", ["namespace", "refused"])
def test_the_mount_of_a_program_survives_its_server(place: Path, where: str) -> None:
    require(resend_missing)
    found = report(place, PROGRAM, where)
    if where == "namespace" and not found["is_private"]:
        pytest.skip("ordinary users may make no namespaces here")
    assert found["same"] == [True, True]
    assert len(found["behind"]) == 2
    wait_for_end(*found["behind"])
    assert mountinfo.top_at(found["at"]) is None
    assert not os.path.exists(found["at"])


def test_control_without_a_supervisor_it_does_not(place: Path) -> None:
    found = report(place, PROGRAM, "refused", "unsupervised")
    assert found["same"] == ["ENOTCONN", "ENOTCONN"]
    subprocess.run(["umount", "-l", found["at"]], check=True, timeout=30)
    os.rmdir(found["at"])


def test_what_is_mounted_is_not_covered_for_everybody(place: Path) -> None:
    found = report(place, PINNED, "mounted", "refused")
    assert found["kind"] == "mount_failed"
    assert "--at" in found["hint"]


def test_a_repository_that_may_not_be_read_for_a_while(place: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(place / "repository", nobody.pw_uid, nobody.pw_gid)
    found = report(place, UNREADABLE)
    assert found["size"] == len(DATA)
    assert found["meanwhile"] == ["EACCES", "EACCES"]
    assert found["afterwards"] is True
    assert "READ /d/f: EACCES because of StorageDeniedError" in found["log"]
    assert "cannot tell where branch 'prod' stands" in found["log"]
