"""How does a test or a notebook have a mount for as long as a block lasts?

    with moorage.mount("/srv/store", "prod") as path:
        model = pickle.load(open(path / "models/model.pkl", "rb"))

The same mount as `moorage mount` makes, served by a process of its own: the block may fork, and hold locks. It is gone
when the block is left, however it is left; if something below it is still open, whoever has it open is served on. A
process that is killed leaves it behind, as `moorage mounts` shows.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict, Unpack

from moorage.api import AnyPath, Repository
from moorage.errors import InvalidInputError, LockedError, MoorageError, MountNotFoundError
from moorage.mount import serve
from moorage.repository.handle import find_repository


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
    with _temporary() if directory is None else contextlib.nullcontext((Path(directory), None)) as (place, log):
        if log is not None:
            options.setdefault("log", log)
        record = serve.mount(repository, revision, place, foreground=False, **options)
        try:
            yield Path(record.mountpoint)
        finally:
            _unmount(Path(record.mountpoint))


def _directory_of(repo: AnyPath | Repository | None) -> Path:
    if not isinstance(repo, Repository):
        return find_repository(Path.cwd()) if repo is None else Path(repo)
    if repo.root is None:
        raise InvalidInputError(
            "only a repository in a directory can be mounted", hint="its server opens it in a process of its own"
        )
    return repo.root


@contextmanager
def _temporary() -> Iterator[tuple[Path, Path | None]]:
    """A place to mount on, and one for the log beside it; both are gone afterwards, unless an error points to the
    log."""
    folder = Path(tempfile.mkdtemp(prefix="moorage-"))
    place, log = folder / "mnt", folder / "server.log"
    place.mkdir()
    keeps_log = False
    try:
        yield place, log
    except MoorageError as error:
        keeps_log = str(log) in (error.hint or "")
        raise
    finally:
        place.rmdir()  # never a tree that may still be mounted
        if not keeps_log:
            shutil.rmtree(folder)


def _unmount(path: Path) -> None:
    """Take it away; when the block itself has done so, all the better."""
    with contextlib.suppress(MountNotFoundError):
        try:
            serve.umount(path)
        except LockedError:
            serve.umount(path, lazy=True)
