"""How is the kernel told to mount, and to unmount?

Who may, calls mount(2) and umount2(2); who may not, asks `fusermount3`, a small setuid program of every distribution,
which mounts and hands back the descriptor over a socket. Which of the two is found by trying: user ids say nothing
inside a container or a user namespace.

A mount is always `ro,nosuid,nodev` and always has `default_permissions`, so the kernel itself checks modes: without it
`allow_other` would let any user read whatever the mounting user may.

Source: mount(2), umount(2), `util/fusermount.c` of libfuse.
"""

from __future__ import annotations

import array
import ctypes
import errno
import functools
import os
import shutil
import socket
import subprocess
import sys
import time
from typing import NoReturn

from moorage.errors import LockedError, MountDeniedError, MountError, MountNotFoundError
from moorage.mount.host import mountinfo

DEVICE = "/dev/fuse"
FUSERMOUNT = "fusermount3"
MAX_READ_BYTES = 1024 * 1024
READ_AHEAD_KIB = 4096
"""What root raises the mount's read-ahead to. The default, 128 KiB, is also the largest read that the kernel then
sends; with 4 MiB it sends four of 1 MiB at once, which keep four threads busy."""

_MS_RDONLY_NOSUID_NODEV = 1 | 2 | 4
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_FUSERMOUNT_TIMEOUT_S = 30
DETACH_TIMEOUT_S = 4.0
"""No unmount takes longer unless something on the way to the mountpoint hangs."""
_DETACH = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
sys.exit(ctypes.get_errno() if libc.umount2(os.fsencode(sys.argv[1]), int(sys.argv[2])) else 0)
"""


def connect(mountpoint: str, source: str, *, allow_other: bool) -> int:
    """Mount on `mountpoint` (a real path) and return the descriptor to serve; the caller closes it. Raises
    `MountError`."""
    options = f"rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},max_read={MAX_READ_BYTES}"
    options += ",default_permissions" + (",allow_other" if allow_other else "")
    refused = None
    try:
        return _mount(mountpoint, source, options)
    except PermissionError as error:
        refused = error
    except FileNotFoundError as error:
        raise MountError(
            f"{DEVICE} is missing: this kernel has no FUSE, or this container was not given the device",
            hint="modprobe fuse, or run the container with --device /dev/fuse",
        ) from error
    except OSError as error:
        raise MountError(f"cannot mount on {mountpoint}: {error.strerror}", mountpoint=mountpoint) from error
    if shutil.which(FUSERMOUNT) is None:
        raise MountDeniedError(
            f"this user may not mount ({refused.strerror}), and {FUSERMOUNT} is not installed",
            hint="install the package fuse3, or mount as root",
        ) from refused
    return _fusermount(mountpoint, source, allow_other=allow_other)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _mount(mountpoint: str, source: str, options: str) -> int:
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        _check(
            _libc().mount(
                os.fsencode(source),
                os.fsencode(mountpoint),
                mountinfo.FSTYPE.encode(),
                ctypes.c_ulong(_MS_RDONLY_NOSUID_NODEV),
                f"fd={fd},{options}".encode(),
            ),
            mountpoint,
        )
    except OSError:
        os.close(fd)
        raise
    return fd


def _check(result: int, path: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def _fusermount(mountpoint: str, source: str, *, allow_other: bool) -> int:
    # rootmode, user and group are set by fusermount3 itself. It splits options at commas, unless they are escaped.
    name = source.replace("\\", "\\\\").replace(",", "\\,")
    subtype = mountinfo.FSTYPE.partition(".")[2]
    options = f"ro,nosuid,nodev,default_permissions,max_read={MAX_READ_BYTES},subtype={subtype},fsname={name}"
    options += ",allow_other" if allow_other else ""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        process = subprocess.Popen(
            [FUSERMOUNT, "-o", options, "--", mountpoint],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno()), "LC_ALL": "C"},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        theirs.close()
        fd = _received(ours)
        _, said = process.communicate(timeout=_FUSERMOUNT_TIMEOUT_S)
    if fd is None:
        _refuse_to_mount(mountpoint, said.decode("utf-8", "replace").strip())
    return fd


def _received(connection: socket.socket) -> int | None:
    """The descriptor that comes over `connection`, or None when the other side closes it without."""
    connection.settimeout(_FUSERMOUNT_TIMEOUT_S)
    room = array.array("i").itemsize
    _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(room))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fd = array.array("i", data[:room])[0]
            os.set_inheritable(fd, False)
            return fd
    return None


def _refuse_to_mount(mountpoint: str, said: str) -> NoReturn:
    hint = None
    kind: type[MountError] = MountDeniedError
    if "user_allow_other" in said:
        hint = "add a line 'user_allow_other' to /etc/fuse.conf, or mount without --allow-other"
    elif "failed to open /dev/fuse" in said:
        hint = f"let ordinary users open it: chmod 0666 {DEVICE}"
    elif "no write access" in said or "not owned" in said or "Permission denied" in said:
        hint = "mount on a directory of your own"
    else:
        kind = MountError
    raise kind(f"{FUSERMOUNT} would not mount: {said or 'it gave no reason'}", hint=hint, mountpoint=mountpoint)


def detach(mountpoint: str, *, lazy: bool = False) -> None:
    """Unmount what is mounted at `mountpoint` (a real path).

    `lazy` takes it out of sight at once, and lets go when the last open file is closed. Raises `LockedError` when it is
    in use, `MountNotFoundError` when nothing is mounted there, `MountError`.
    """
    failed = _libc().umount2(os.fsencode(mountpoint), _flags(lazy=lazy))
    _detached(ctypes.get_errno() if failed else 0, mountpoint, lazy=lazy, timeout_s=DETACH_TIMEOUT_S)


def detach_within(timeout_s: float, mountpoint: str, *, lazy: bool = False) -> None:
    """As `detach`, by a child that is left behind if something on the way to the mountpoint hangs: that is a
    `MountError` too."""
    deadline = time.monotonic() + timeout_s
    command = [sys.executable, "-I", "-S", "-c", _DETACH, mountpoint, str(_flags(lazy=lazy))]
    number, _ = _disposable(command, mountpoint, timeout_s)
    _detached(number, mountpoint, lazy=lazy, timeout_s=deadline - time.monotonic())


def _flags(*, lazy: bool) -> int:
    return _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)


def _detached(number: int, mountpoint: str, *, lazy: bool, timeout_s: float) -> None:
    """What follows from the errno of umount2(2)."""
    if number in (errno.EPERM, errno.EACCES):
        _fusermount_detach(mountpoint, lazy=lazy, timeout_s=timeout_s)
    elif number == errno.EBUSY:
        raise LockedError(f"{mountpoint} is in use", mountpoint=mountpoint)
    elif number in (errno.EINVAL, errno.ENOENT):
        raise MountNotFoundError(f"nothing is mounted at {mountpoint}", mountpoint=mountpoint)
    elif number:
        raise MountError(f"cannot unmount {mountpoint}: {os.strerror(number)}", mountpoint=mountpoint)


def _disposable(command: list[str], mountpoint: str, timeout_s: float) -> tuple[int, str]:
    """Run what unmounts, and leave it behind if it hangs; its exit code, and what it said. Raises `MountError`, and
    `FileNotFoundError` for a program that is not there."""
    child = subprocess.Popen(
        command,
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd="/",
        text=True,
        errors="replace",
    )
    try:
        _, said = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        child.kill()
        child.returncode = 0  # nobody waits for it any more
        assert child.stderr is not None
        child.stderr.close()
        raise MountError(
            f"{mountpoint} was not unmounted within {timeout_s:.0f} s: something on the way to it hangs",
            hint=f"try it lazily: moorage umount --lazy {mountpoint}",
            mountpoint=mountpoint,
        ) from error
    return child.returncode, said.strip()


def _fusermount_detach(mountpoint: str, *, lazy: bool, timeout_s: float) -> None:
    try:
        command = [FUSERMOUNT, "-uz" if lazy else "-u", "--", mountpoint]
        code, said = _disposable(command, mountpoint, timeout_s)
    except FileNotFoundError as error:
        raise MountDeniedError(
            f"this user may not unmount {mountpoint}, and {FUSERMOUNT} is not installed",
            hint="install the package fuse3, or unmount as root",
        ) from error
    if code == 0:
        return
    if "busy" in said:
        raise LockedError(f"{mountpoint} is in use", mountpoint=mountpoint)
    if "not found" in said:
        raise MountDeniedError(
            f"{mountpoint} was mounted by another user",
            hint="unmount it as that user, or as root",
            mountpoint=mountpoint,
        )
    raise MountError(f"{FUSERMOUNT} would not unmount: {said or 'it gave no reason'}", mountpoint=mountpoint)


def read_ahead_file(device: str) -> str:
    """Where the kernel keeps the read-ahead of a mounted file system."""
    return f"/sys/class/bdi/{device}/read_ahead_kb"


def raise_read_ahead(device: str) -> int | None:
    """Raise the read-ahead of the file system `device` where that is allowed; the KiB it has then, None if unknown."""
    path = read_ahead_file(device)
    try:
        with open(path, "r+b", buffering=0) as file:
            file.write(b"%d" % READ_AHEAD_KIB)
    except OSError:
        pass  # an ordinary user, or /sys is read-only: reads are smaller, nothing else differs
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
