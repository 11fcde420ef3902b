"""What if somebody else has mounted, and hands over the open device?

    /dev/fd/N     as a mountpoint: descriptor N is an open /dev/fuse that something is mounted with already

The convention of libfuse 3, for container runtimes that let a server have neither the privilege to mount nor the
mountpoint. So there is no place to look at, and nothing to unmount: whoever has mounted takes it away, which ends the
server.

Source: `fuse_session_mount` of libfuse; `/proc/PID/fdinfo` of Linux 6.16 for the number of the connection.
"""

from __future__ import annotations

import os
import re
import stat

from moorage.errors import InvalidInputError

DEVICE = "/dev/fuse"
_FOLDER = "/dev/fd/"
_PLACE = re.compile(r"/dev/fd/(\d{1,9})")
_CONNECTION = re.compile(r"^fuse_connection:\s*(\d+)$", re.MULTILINE)


def descriptor(mountpoint: str) -> int | None:
    """The descriptor that is meant; None for a mountpoint that is a place."""
    match = _PLACE.fullmatch(mountpoint)
    return None if match is None else int(match[1])


def descriptors(mountpoint: str) -> list[int]:
    """What a process that is to serve must inherit."""
    fd = descriptor(mountpoint)
    return [] if fd is None else [fd]


def check(mountpoint: str) -> None:
    """Raises `InvalidInputError` if a descriptor is meant that is none, or not an open `/dev/fuse`."""
    fd = descriptor(mountpoint)
    if fd is None:
        if mountpoint.startswith(_FOLDER):
            raise InvalidInputError(
                f"{mountpoint} is no descriptor",
                hint=f"{_FOLDER} and the number of an open {DEVICE} that something is mounted with",
                mountpoint=mountpoint,
            )
        return
    try:
        found = os.fstat(fd)
        is_fuse = stat.S_ISCHR(found.st_mode) and found.st_rdev == os.stat(DEVICE).st_rdev
    except OSError:
        is_fuse = False
    if not is_fuse:
        raise InvalidInputError(
            f"{mountpoint} is not an open {DEVICE}",
            hint="whoever starts this opens it, mounts with it, and lets it be inherited",
            mountpoint=mountpoint,
        )


def device(fd: int) -> str:
    """major:minor of what is mounted with `fd`; empty where the kernel does not tell."""
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
            match = _CONNECTION.search(file.read())
    except OSError:
        return ""
    return "" if match is None else f"{os.major(int(match[1]))}:{os.minor(int(match[1]))}"
