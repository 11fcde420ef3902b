"""How does a program read several files of one moment? It resolves once, and reads below what that gives.

    model = moorage.resolve("/srv/models/bert").path     # /srv/models/.snapshots/ID/bert
    config = json.load(open(f"{model}/config.json"))
    weights = safetensors.numpy.load_file(f"{model}/weights.safetensors")

What it gives is a path like any other: it may be handed to other processes, and holds nothing open. In a mount of
everything it is below `snapshots/ID`, where a `realpath` would lead too; in a mount of one revision below
`.snapshots/ID` (see `stood`).

How a path enters a mount is found from the kernel's table of mounts, and what it is inside from the pinned snapshot:
links inside a tree are never followed in a tree that may move. Asks the mount for its snapshot once.

Threads: any.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

from moorage.api import AnyPath, Repository
from moorage.errors import InvalidInputError, MountError, MountNotFoundError, PathNotFoundError
from moorage.model.digest import DIGEST_BYTES
from moorage.model.refs import RefKind
from moorage.mount.host import mountinfo
from moorage.mount.host.mountinfo import MountEntry
from moorage.mount.shown.all_branches import BELOW, BRANCHES
from moorage.mount.shown.view import SNAPSHOTS, XATTR_BRANCH, XATTR_SNAPSHOT
from moorage.read.resolve import Located, parse_location
from moorage.repository.find import find_repository

_MOST_LINKS = 40
"""As many as Linux follows."""
_BELOW_ID = re.compile(rf"/\.?snapshots/([0-9a-f]{{{2 * DIGEST_BYTES}}})(?:/|\Z)")


@dataclass(frozen=True, slots=True)
class Pinned:
    """What stays on one snapshot, whatever branches do."""

    path: str
    """What to read from now on: a path below the mount; for what was no path a location, `ID:path`."""
    snapshot: str
    """The whole id."""
    branch: str | None
    """That led there, where one was asked for by its name."""


def resolve(what: AnyPath, repo: AnyPath | Repository | None = None) -> Pinned:
    """Where a path below a mount, a revision or a location leads now, so that it leads there for good.

    `what` is a path if it is no string (such as a `Path`), or starts with `/`, `./` or `../`; else a revision or a
    location of `repo`, by default of the nearest `.moorage` upwards. What it names must be there.

    Raises `MountNotFoundError` for a path outside of all mounts, `PathNotFoundError`, `MountError` where the mount does
    not answer, `InvalidInputError` for what belongs to no snapshot, and as `Repository.locate`.
    """
    path = os.fspath(what)
    if isinstance(what, str) and not path.startswith(("/", "./", "../")):
        return _resolve_location(path, repo)
    try:
        return _resolve_path(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PathNotFoundError(f"there is no {path}", path=path) from error
    except OSError as error:
        raise MountError(f"cannot resolve {path}: {error.strerror}", path=path) from error


def _resolve_location(text: str, repo: AnyPath | Repository | None) -> Pinned:
    location = parse_location(text)
    if isinstance(repo, Repository):
        found = repo.locate(text)
    else:
        with Repository.open(Path(repo) if repo is not None else find_repository(Path.cwd())) as opened:
            found = opened.locate(text)
    id = found.resolved.id.hex()
    return Pinned(f"{id}:{location.path}", id, _branch_of(found))


def _branch_of(found: Located) -> str | None:
    ref = found.resolved.ref
    return ref.name if ref is not None and ref.kind is RefKind.BRANCH else None


def _resolve_path(path: str) -> Pinned:
    entry, rest = _entered(os.path.abspath(path))
    root = entry.mountpoint
    if entry.root != "/":
        # A bind mount of a directory inside: the kernel holds that directory, so it stays where it was.
        real = os.path.realpath(os.path.join(root, rest), strict=True)
        return Pinned(real, _attribute(root, XATTR_SNAPSHOT) or _nowhere(path), _attribute(root, XATTR_BRANCH))
    snapshot = _attribute(root, XATTR_SNAPSHOT)
    if snapshot is None or rest.startswith(SNAPSHOTS + "/"):
        real = os.path.realpath(os.path.join(root, rest), strict=True)
        below = _BELOW_ID.match(real.removeprefix(root.rstrip("/")))
        return Pinned(real, below[1] if below else _nowhere(path), _branch_on(root, rest))
    return _below_root(path, root, rest, snapshot)


def _below_root(path: str, root: str, rest: str, snapshot: str) -> Pinned:
    """A path in a mount of one revision, whose root stands on `snapshot`."""
    base = os.path.join(root, SNAPSHOTS, snapshot)
    if not os.path.isdir(base):
        raise MountError(
            f"{root} does not show snapshots below {SNAPSHOTS}",
            hint=f"its tree has a {SNAPSHOTS} of its own; show it with `moorage mount --all`, or use `moorage run`",
            path=path,
        )
    real = os.path.realpath(os.path.join(base, rest), strict=True)
    if os.path.commonpath([real, base]) != base:
        raise InvalidInputError(f"{path} leads out of its snapshot, to {real}", path=path)
    return Pinned(real, snapshot, _attribute(root, XATTR_BRANCH))


def _branch_on(root: str, rest: str) -> str | None:
    """Through which branch a path leads in a mount of everything: that whose symlink comes first."""
    names = rest.split("/")
    if names[0] != BRANCHES or ".." in names:
        return None
    for count in range(2, len(names) + 1):
        if os.path.islink(os.path.join(root, *names[:count])):
            return "/".join(name.removesuffix(BELOW) for name in names[1:count])
    return None


def _nowhere(path: str) -> str:
    raise InvalidInputError(
        f"{path} is in no snapshot", hint="name a directory below branches/NAME, tags/NAME or snapshots/ID", path=path
    )


def _entered(path: str) -> tuple[MountEntry, str]:
    """The first mount of ours on the way along `path`, and what of the path is left there. Symlinks on the way are
    followed one at a time, as the kernel does, and none after it. Raises `MountNotFoundError`, `OSError`."""
    tops = {entry.mountpoint: entry for entry in mountinfo.mounted()}
    ours = {mountpoint: entry for mountpoint, entry in tops.items() if entry.is_ours}
    here, left, links = "/", path.split("/"), 0
    while here not in ours:
        if not left:
            raise MountNotFoundError(
                f"{path} is not below a mount of moorage", hint="`moorage mounts` lists what is mounted", path=path
            )
        name = left.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            here = os.path.dirname(here)
            continue
        step = os.path.join(here, name)
        if step not in ours and os.path.islink(step):
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink(step)
            left = target.split("/") + left
            here = "/" if target.startswith("/") else here
        else:
            here = step
    return ours[here], "/".join(name for name in left if name not in ("", "."))


def _attribute(path: str, name: str) -> str | None:
    """An extended attribute, where there is one. Raises `OSError`."""
    try:
        return os.getxattr(path, name).decode("utf-8")
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return None
        raise
