"""Is this directory on a disk of this machine? Locks and memory maps mean what they say only there."""

from __future__ import annotations

import os
from pathlib import Path

_SHARED = ("nfs", "cifs", "smb", "9p", "ceph", "lustre", "gluster", "afs", "gfs2", "ocfs2", "beegfs", "fuse")
"""How the types of file systems begin that several machines may share, or that promise little about locks."""
_MOUNTINFO = "/proc/self/mountinfo"


def filesystem_type(path: Path) -> str:
    """The type of the file system that `path` lies on; empty where that cannot be told.

    Source: proc(5), `/proc/pid/mountinfo`: the device is the third field, the type the first after " - ".
    """
    try:
        device = os.stat(path).st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        with open(_MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                before, _, after = line.partition(" - ")
                if before.split(" ", 3)[2] == wanted:
                    return after.split(" ", 1)[0]
    except OSError:
        pass
    return ""


def is_shared(path: Path) -> bool:
    """Whether `path` lies on a network file system, or on one that a program serves."""
    return filesystem_type(path).startswith(_SHARED)
