"""May this directory be mounted on, and who keeps it busy?

Refused: what is not a directory, and what overlaps something that must stay reachable while the mount is there (the
repository, caches, logs, moorage itself): the same directory, one inside the other, or the other way round, also
through symlinks and bind mounts. A server that reads through its own mount waits for itself for ever.

A directory that is not empty is refused: the mount would hide what is in it. One that something is mounted on already
is allowed, because automounters do it, and not looked into: that would trigger an automount, or wait for it. A living
mount of moorage is refused: that is the same command typed twice, and would leave two servers of which one can no
longer be reached. A dead one (its server was killed) is cleared out of the way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from moorage.errors import AlreadyExistsError, InvalidInputError, LockedError, MountError
from moorage.mount.host import mountinfo
from moorage.mount.kernel import connect

SAME, CONTAINS, INSIDE = "is", "contains", "is inside"
"""How a mountpoint overlaps something else, as the words between the two."""
MAX_STALE_LAYERS = 16
"""Dead mounts on top of each other; nobody has more."""

ANSWER_TIMEOUT_S = 3.0
USERS_TIMEOUT_S = 1.0
_ASK = """
import os, sys
try:
    os.statvfs(sys.argv[1])
except OSError as error:
    sys.exit(error.errno)
"""


def real_path(mountpoint: str | os.PathLike[str]) -> str:
    """The path of `mountpoint` as the kernel knows it, also when what is mounted there is dead."""
    given = os.path.abspath(mountpoint)
    parent, name = os.path.split(given)
    path = os.path.join(os.path.realpath(parent), name)
    # Asking the last component itself would ask the mount, so it is asked only when nothing is mounted there.
    return path if mountinfo.top_at(path) is not None else os.path.realpath(path)


def prepare(
    mountpoint: str | os.PathLike[str],
    apart: Iterable[tuple[str, Path]],
    not_below: Iterable[tuple[str, Path]] = (),
    *,
    covers: bool = False,
) -> str:
    """The real path of a directory that may be mounted on.

    `apart` names what it must not overlap in any way, `not_below` what it must only not hide. With `covers` a mount of
    ours may be there, living or dead, or files, and stay below. Raises `InvalidInputError`, `AlreadyExistsError`,
    `MountError`.
    """
    path = real_path(mountpoint)
    was_dead = not covers and clear_dead(path)
    if not covers:
        _refuse_living(path)
    if not _is_ours(path):
        if not os.path.exists(path):
            raise InvalidInputError(f"there is no directory {path}", hint=f"make it: mkdir -p {path}", mountpoint=path)
        if not os.path.isdir(path):
            raise InvalidInputError(f"{path} is not a directory", hint="mount on an empty directory", mountpoint=path)
    for what, other in apart:
        _refuse_overlap(path, what, other, INSIDE)
    for what, other in not_below:
        _refuse_overlap(path, what, other)
    if not covers and not was_dead and mountinfo.top_at(path) is None:
        _refuse_full(path)
    return path


def _refuse_full(path: str) -> None:
    with contextlib.suppress(OSError), os.scandir(path) as entries:  # who cannot look in hides nothing that he has
        entry = next(entries, None)
        if entry is not None:
            raise InvalidInputError(
                f"{path} is not empty: the mount would hide {entry.name}",
                hint="mount on an empty directory, or empty this one",
                mountpoint=path,
            )


def _refuse_overlap(path: str, what: str, other: Path, *refused: str) -> None:
    relation = overlap(path, os.path.realpath(other))
    if relation in (SAME, CONTAINS, *refused):
        raise InvalidInputError(
            f"{path} {relation} {what} ({other})", hint="mount on an empty directory elsewhere", mountpoint=path
        )


def clear_dead(path: str) -> bool:
    """Unmount what is mounted at `path` (a real path) and has no server any more; whether there was such a thing.
    Raises `MountError`."""
    for layer in range(MAX_STALE_LAYERS):
        if not is_dead(path):
            return layer > 0
        top = mountinfo.top_at(path)
        if top is None or not top.is_ours:
            kind = "something" if top is None else f"a mount of type {top.fstype}"
            raise MountError(
                f"{path} is {kind} whose server is gone",
                hint=f"unmount it first: umount -l {path}, or {connect.FUSERMOUNT} -uz {path}",
                mountpoint=path,
            )
        connect.detach(path, lazy=True)
    raise MountError(f"cannot clear the dead mounts at {path}", hint=f"umount -l {path}", mountpoint=path)


def question(path: str) -> subprocess.Popen[bytes]:
    """Ask what is mounted at `path`, by a child that may be left behind: it ends when it has an answer, with an errno,
    0 for none. Raises `OSError`."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _ASK, path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )


def is_dead(path: str) -> bool:
    """Whether nobody serves what is mounted at `path` (a real path); a server that does not answer is not dead."""
    if _is_ours(path):
        return path in dead_among([path])
    try:
        os.stat(path)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def dead_among(paths: Iterable[str]) -> set[str]:
    """At which of these (real paths of mounts of ours) nobody serves.

    The kernel knows the attributes of their roots, and gives them although nobody is there, so a question is asked that
    it cannot answer itself: of all at once, each by a child, which is left behind if it gets no answer.
    """
    children = {}
    for path in paths:
        with contextlib.suppress(OSError):  # no process more, just now: who is not asked is not called dead
            children[path] = question(path)
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    dead = set()
    for path, child in children.items():
        try:
            if child.wait(max(0.0, deadline - time.monotonic())) == errno.ENOTCONN:
                dead.add(path)
        except subprocess.TimeoutExpired:
            child.returncode = 0  # nobody waits for it any more
    return dead


def _is_ours(path: str) -> bool:
    top = mountinfo.top_at(path)
    return top is not None and top.is_ours


def _refuse_living(path: str) -> None:
    top = mountinfo.top_at(path)
    if top is not None and top.is_ours:
        raise AlreadyExistsError(
            f"{path} already is a mount of {top.source}",
            hint=f"unmount it first: moorage umount {path}",
            mountpoint=path,
        )


def overlap(path: str, other: str) -> str | None:
    """How two real paths overlap, as the words between them; None if they do not.

    By name, and by (device, inode) of each directory on the way up, which sees through bind mounts.
    """
    hides, is_inside = _is_within(other, path), _is_within(path, other)
    if hides:
        return SAME if is_inside else CONTAINS
    return INSIDE if is_inside else None


def _is_within(path: str, directory: str) -> bool:
    """Whether `path` is `directory` or below it."""
    if os.path.commonpath([path, directory]) == directory:
        return True
    try:
        found = os.stat(directory)
    except OSError:
        return False
    return any(_is_same(above, found) for above in _upwards(path))


def _is_same(path: str, found: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), found)
    except OSError:
        return False


def _upwards(path: str) -> Iterable[str]:
    while True:
        yield path
        parent = os.path.dirname(path)
        if parent == path:
            return
        path = parent


def users_of(path: str) -> list[str]:
    """Who has something open below `path` (a real path), as `name (pid)`; only what this user may see.

    Reads links in `/proc`, and asks nothing of what is mounted at `path`.
    """
    users = []
    for pid in sorted(int(name) for name in _names_in("/proc") if name.isdecimal()):
        links = [f"/proc/{pid}/cwd", f"/proc/{pid}/root", f"/proc/{pid}/exe"]
        links += [f"/proc/{pid}/fd/{name}" for name in _names_in(f"/proc/{pid}/fd")]
        targets = [target for link in links if (target := _target_of(link))] + _mapped(pid)
        if any(target == path or target.startswith(path + "/") for target in targets):
            users.append(f"{_name_of(pid)} ({pid})")
    return users


def busy(path: str, cause: LockedError) -> LockedError:
    """The error for a mount that is in use, with those who use it, as far as they are found in a second: to read the
    maps of a process may mean to wait for what it waits for."""
    users: list[str] = []
    search = threading.Thread(target=lambda: users.extend(users_of(path)), daemon=True)
    search.start()
    search.join(USERS_TIMEOUT_S)
    shown = ", ".join(users[:5]) + (f" and {len(users) - 5} more" if len(users) > 5 else "")
    error = LockedError(
        cause.message + (f" by {shown}" if users else ""),
        hint=f"close what is open there and try again, or detach it at once: moorage umount --lazy {path}",
        mountpoint=path,
        users=users,
    )
    error.__cause__ = cause
    return error


def _names_in(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _target_of(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _mapped(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
            return [fields[5].rstrip("\n") for line in file if len(fields := line.split(maxsplit=5)) == 6]
    except OSError:
        return []


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "?"
