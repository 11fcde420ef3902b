"""How does a test or a notebook have a mount for as long as a block lasts?

    with moorage.mount("/srv/store", "prod") as path:
        model = pickle.load(open(path / "models/model.pkl", "rb"))

The same mount as `moorage mount` makes, served by a process of its own: the block may fork, and hold locks. It is gone
when the block is left, however it is left; if something below it is still open, whoever has it open is served on. It is
gone when the process that entered the block ends, too, also by a SIGKILL, and takes no signals before that.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict, Unpack

from moorage.api import AnyPath, Repository
from moorage.errors import InvalidInputError, LockedError, MountNotFoundError
from moorage.mount import serve
from moorage.mount.host import places
from moorage.mount.kernel.ending import put_away
from moorage.mount.request import KERNEL
from moorage.repository.find import find_repository


class MountOptions(TypedDict, total=False):
    """What `serve.mount` takes, but for what goes with a server in the foreground."""

    pin: bool
    allow_other: bool
    uid: int | None
    gid: int | None
    umask: int | None
    driver: str
    log: Path | None
    log_format: str
    cache_bytes: int | None
    log_opens: bool
    sticky: bool
    timeout_s: float | None
    metrics: str


@contextmanager
def mounted(
    repo: AnyPath | Repository | None = None,
    revision: str = serve.EVERYTHING,
    *,
    directory: AnyPath | None = None,
    **options: Unpack[MountOptions],
) -> Iterator[Path]:
    """Mount a branch, a tag or a snapshot for the length of a block, which is given its path; exported as
    `moorage.mount`.

    `repo` may be left out where a `.moorage` lies in the current directory or above it. Without a revision it is all of
    them at once, as `moorage mount --all`. Without a directory it is one below the system's temporary ones, which is
    removed afterwards. Options are those of `serve.mount`. Raises as that, and `InvalidInputError` for a repository
    that lies in no directory.
    """
    repository = _directory_of(repo)
    if directory is None:
        options.setdefault("log", places.programs_log())  # one named after the directory would outlive it
    with _temporary() if directory is None else contextlib.nullcontext(Path(directory)) as place:
        with _here(options.get("driver", KERNEL)) as program:
            record = serve.mount(
                repository,
                revision,
                place,
                foreground=False,  # named, so that no option can ask for it
                program=program,
                is_temporary=directory is None,
                **options,
            )
        try:
            yield Path(record.mountpoint)
        finally:
            _unmount(Path(record.mountpoint))


@contextmanager
def _here(driver: str) -> Iterator[int | None]:
    """A descriptor of this process; None where nobody would look at it."""
    program = os.pidfd_open(os.getpid()) if driver == KERNEL else None
    try:
        yield program
    finally:
        if program is not None:
            os.close(program)


def _directory_of(repo: AnyPath | Repository | None) -> Path:
    if not isinstance(repo, Repository):
        return find_repository(Path.cwd()) if repo is None else Path(repo)
    if repo.root is None:
        raise InvalidInputError(
            "only a repository in a directory can be mounted", hint="its server opens it in a process of its own"
        )
    return repo.root


@contextmanager
def _temporary() -> Iterator[Path]:
    """A place to mount on, which is gone afterwards."""
    place = Path(tempfile.mkdtemp(prefix="moorage-"))
    try:
        yield place
    finally:
        put_away(str(place))  # or those behind the mount do, whoever comes last


def _unmount(path: Path) -> None:
    """Take it away; when the block itself has done so, all the better."""
    with contextlib.suppress(MountNotFoundError):
        try:
            serve.umount(path)
        except LockedError:
            serve.umount(path, lazy=True)
