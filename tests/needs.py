"""What does a test need of the machine, and what happens where that is missing?

A test marked here is skipped with the reason. Where MOORAGE_REQUIRE_ALL=1 (as in CI, which installs everything) it
fails with the same reason instead, so that nobody takes a machine that tests nothing for one on which all is well.

    from tests.needs import needs_fuse, needs_module, needs_tool

    @needs_fuse
    @needs_tool("strace")
    def test_...

`require(probe)` says the same inside a test or a fixture. A probe is a function that returns what is missing, or None;
each runs once a process, when the first test asks. Where it is cheap it tries the thing, since being root or having a
file proves little inside a container.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable

import pytest

Probe = Callable[[], str | None]

OPTIONAL_MODULES = frozenset({"pyfastcdc", "sklearn", "torch"})
"""Tested where they are installed; never a failure, since no environment of ours installs them."""

_MS_NOSUID_NODEV_RDONLY = 2 | 4 | 1
_MNT_DETACH = 2


def everything_is_required() -> bool:
    """Whether a missing thing is a failure."""
    return os.environ.get("MOORAGE_REQUIRE_ALL") == "1"


def is_optional(probe: Probe) -> bool:
    """Whether this probe only ever skips."""
    return isinstance(probe, functools.partial) and probe.func is _module_missing and probe.args[0] in OPTIONAL_MODULES


def require(probe: Probe) -> None:
    """Skip the running test, or fail it under MOORAGE_REQUIRE_ALL=1, if the probe finds something missing."""
    missing = probe()
    if missing is None:
        return
    if everything_is_required() and not is_optional(probe):
        pytest.fail(f"MOORAGE_REQUIRE_ALL=1, and {missing}", pytrace=False)
    pytest.skip(missing)


# -- probes ----------------------------------------------------------------------------------------


@functools.cache
def linux_missing() -> str | None:
    """Linux itself."""
    return None if sys.platform == "linux" else "this is not Linux"


@functools.cache
def root_missing() -> str | None:
    """Being root."""
    return None if os.geteuid() == 0 else "not running as root"


@functools.cache
def ordinary_user_missing() -> str | None:
    """Root that can become the user `nobody`, to try what an ordinary user may do."""
    if os.geteuid() != 0:
        return "not running as root, so no other user can be tried"
    try:
        user = pwd.getpwnam("nobody")
    except KeyError:
        return "there is no user called nobody"
    done = subprocess.run(["/bin/sh", "-c", "id -u"], user=user.pw_uid, check=False, capture_output=True)
    return None if done.returncode == 0 else "becoming the user nobody is not allowed here"


@functools.cache
def fuse_missing() -> str | None:
    """A FUSE mount by the running user: by mount(2) as root, otherwise through fusermount3."""
    if missing := linux_missing() or _fuse_device_missing():
        return missing
    return _kernel_mount_refused() if os.geteuid() == 0 else fusermount_missing()


@functools.cache
def fusermount_missing() -> str | None:
    """fusermount3, and a /dev/fuse that ordinary users may open."""
    if missing := linux_missing() or _fuse_device_missing():
        return missing
    if shutil.which("fusermount3") is None:
        return "fusermount3 is not installed (Debian package fuse3)"
    if os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
        return "/dev/fuse is closed to ordinary users (chmod 0666 /dev/fuse)"
    return None


@functools.cache
def libfuse_missing() -> str | None:
    """libfuse 3, for the portable mount driver."""
    if missing := fuse_missing():
        return missing
    for name in ("libfuse3.so.3", "libfuse3.so.4"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return None
    return "libfuse 3 is not installed (Debian package libfuse3-3)"


@functools.cache
def strace_missing() -> str | None:
    """strace that may trace and inject."""
    if missing := _tool_missing("strace"):
        return missing
    command = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "inject=getcwd:error=EIO", "true"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return None if done.returncode == 0 else f"strace may not trace here: {done.stderr.strip()[:200]}"


@functools.cache
def loop_mounts_missing() -> str | None:
    """Root, loop devices, and a mount of a fresh ext4 image, for power cuts."""
    if missing := root_missing() or linux_missing() or _tool_missing("losetup") or _tool_missing("mkfs.ext4"):
        return missing
    with tempfile.TemporaryDirectory() as folder:
        image, point = os.path.join(folder, "image"), os.path.join(folder, "point")
        os.mkdir(point)
        with open(image, "wb") as file:
            file.truncate(8 * 1024 * 1024)
        for command in (["mkfs.ext4", "-q", "-F", image], ["mount", "-o", "loop", image, point], ["umount", point]):
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode != 0:
                return f"loop mounts do not work here: {' '.join(command[:3])}: {done.stderr.strip()[:200]}"
    return None


@functools.cache
def namespaces_missing() -> str | None:
    """Root that may make a mount namespace of its own and lay one directory over another in it."""
    if missing := root_missing() or linux_missing() or _tool_missing("unshare"):
        return missing
    with tempfile.TemporaryDirectory() as folder:
        script = "mount -t tmpfs none $0 && mkdir $0/u $0/w"
        script += " && mount -t overlay none -o lowerdir=/usr/sbin,upperdir=$0/u,workdir=$0/w /usr/sbin"
        command = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script, folder]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        return None if done.returncode == 0 else f"no mount namespaces here: {done.stderr.strip()[:200]}"


@functools.cache
def autofs_missing() -> str | None:
    """A kernel with autofs, and namespaces to try it in."""
    if missing := namespaces_missing():
        return missing
    with open("/proc/filesystems", encoding="ascii") as file:
        return None if "\tautofs\n" in file.read() else "this kernel has no autofs"


def _tool_missing(name: str) -> str | None:
    return None if shutil.which(name) else f"{name} is not installed"


def _module_missing(name: str) -> str | None:
    return None if importlib.util.find_spec(name) else f"the Python module {name} is not installed"


def _fuse_device_missing() -> str | None:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/fuse cannot be opened: {error.strerror}"
    return None


def _kernel_mount_refused() -> str | None:
    """Root in a container often may not mount, so mount something that nobody serves and let go of it at once."""
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        with tempfile.TemporaryDirectory() as point:
            options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
            where = os.fsencode(point)
            if libc.mount(b"moorage-probe", where, b"fuse.moorage-probe", _MS_NOSUID_NODEV_RDONLY, options) != 0:
                return f"root may not mount here: {os.strerror(ctypes.get_errno())}"
            libc.umount2(where, _MNT_DETACH)
    finally:
        os.close(device)
    return None


# -- marks -----------------------------------------------------------------------------------------


def needs(probe: Probe) -> pytest.MarkDecorator:
    """Mark a test as needing what the probe looks for."""
    return pytest.mark.needs.with_args(probe)  # called with a function, a mark would decorate that function


def needs_tool(name: str) -> pytest.MarkDecorator:
    """A program on PATH."""
    return needs(functools.partial(_tool_missing, name))


def needs_module(name: str) -> pytest.MarkDecorator:
    """A Python module; the test imports it itself."""
    return needs(functools.partial(_module_missing, name))


needs_linux = needs(linux_missing)
needs_root = needs(root_missing)
needs_ordinary_user = needs(ordinary_user_missing)
needs_fuse = needs(fuse_missing)
needs_fusermount = needs(fusermount_missing)
needs_libfuse = needs(libfuse_missing)
needs_strace = needs(strace_missing)
needs_namespaces = needs(namespaces_missing)
needs_autofs = needs(autofs_missing)
needs_loop_mounts = needs(loop_mounts_missing)
