"""What happens in the process that serves a mount, from opening the repository to the last answer?

Open the repository, resolve the revision, look at the mountpoint, mount, claim the mount in the registry, say that it
answers, serve, drop the claim. Runs in the foreground of a command or in the process that `daemon` starts; a repository
that is open must not pass through a fork, so everything from the first of these steps on is in one process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from moorage.errors import InvalidInputError, StorageError
from moorage.model.refs import RefKind
from moorage.mount import libfuse, mountpoint, places, registry
from moorage.mount.driver import Driver, Place, Serving
from moorage.mount.following import Fixed, Following, Root, Standing
from moorage.mount.hydration import Hydration
from moorage.mount.kernel import serve as kernel
from moorage.mount.registry import MountRecord
from moorage.mount.view import View
from moorage.read.cache import FileCache
from moorage.read.resolve import Resolved, resolve
from moorage.repository.handle import RepositoryHandle

_log = logging.getLogger(__name__)

DRIVERS: dict[str, Driver] = {"kernel": kernel.serve, "libfuse": libfuse.serve}


@dataclass(frozen=True, slots=True)
class MountRequest:
    """What somebody wants mounted where."""

    repository: str
    """An absolute path."""
    revision: str
    mountpoint: str
    """An absolute path; may lead through symlinks."""
    pin: bool = False
    """Stay on the snapshot at which the branch stands now."""
    allow_other: bool = False
    driver: str = "kernel"
    log: str = ""
    """Empty when it logs to its terminal."""
    cache_bytes: int | None = None
    """How large the file cache may be; 0 hydrates nothing, None is the default of `FileCache`."""

    def __post_init__(self) -> None:
        """Refuse a driver that does not exist."""
        if self.driver not in DRIVERS:
            raise InvalidInputError(f"there is no driver {self.driver!r}", hint=f"one of: {', '.join(DRIVERS)}")


def run(request: MountRequest, ready: Callable[[MountRecord], None]) -> None:
    """Mount, and serve until it is unmounted; `ready` is called when the mount answers.

    Raises `MoorageError` for whatever keeps it from being mounted.
    """
    with RepositoryHandle.open(Path(request.repository)) as handle:
        resolved = resolve(handle, request.revision)
        path = prepare(request)
        cache = cache_of(request)
        hydration = Hydration(handle, cache)
        view = view_of(handle, resolved, hydration, pin=request.pin)
        source = f"{request.repository}#{request.revision}"
        place = Place(path, source, request.allow_other, None if cache is None else cache.folder)
        _raise_descriptor_limit()
        try:
            DRIVERS[request.driver](view, place, partial(_claim, request, resolved, path, ready))
        finally:
            hydration.close()
            _drop(path)
        _log.info("%s is unmounted", path)


def prepare(request: MountRequest) -> str:
    """The real path to mount on. Raises `InvalidInputError`, `AlreadyExistsError`, `MountError`."""
    return mountpoint.prepare(
        request.mountpoint,
        apart=[
            ("the repository", Path(request.repository)),
            ("the cache", places.cache_directory()),
            ("the records and logs of mounts", places.state_directory()),
        ],
        not_below=[
            ("the log", Path(request.log or places.state_directory())),
            ("moorage itself", Path(__file__).parents[1]),
            ("the Python that runs it", Path(sys.prefix)),
        ],
    )


def cache_of(request: MountRequest) -> FileCache | None:
    """Where files are hydrated to; None where that is not wanted, or there is no place for it."""
    if request.cache_bytes == 0:
        return None
    try:
        return FileCache(limit_bytes=request.cache_bytes)
    except StorageError as error:
        _log.warning("nothing will be hydrated: %s", error)
        return None


def _raise_descriptor_limit() -> None:
    """Each hydrated file that is open takes one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def view_of(handle: RepositoryHandle, resolved: Resolved, hydration: Hydration, *, pin: bool) -> View:
    """The file system that a revision shows: it follows only a branch that was named as it stands, and only unpinned
    (`prod@{1}` and `prod~2` are moments)."""
    record = resolved.record
    is_branch = record is not None and record.ref.kind is RefKind.BRANCH
    standing = Standing.at(resolved.id, resolved.snapshot, record.ref.name if record and is_branch else "")
    root: Root = Fixed(standing)
    if (
        record is not None
        and is_branch
        and not pin
        and resolved.revision
        in (
            record.ref.name,
            f"refs/{record.ref.kind.folder}/{record.ref.name}",
        )
    ):
        root = Following(handle.refs, handle.objects, record, standing)
    return View(handle.trees, hydration.open, root)


def _claim(
    request: MountRequest, resolved: Resolved, path: str, ready: Callable[[MountRecord], None], serving: Serving
) -> None:
    record = registry.of_this_process(
        MountRecord(
            mountpoint=path,
            repository=request.repository,
            revision=request.revision,
            pid=0,
            started_ns=time.time_ns(),
            driver=request.driver,
            log=request.log,
            pinned=request.pin,
            device=serving.device,
            passthrough=serving.passthrough,
        )
    )
    try:
        registry.write(record)
    except OSError as error:
        _log.warning("the mount works, but `moorage mounts` will know little of it: %s", error)
    _log.info(
        "serving %s of %s (snapshot %s) at %s: %s",
        request.revision,
        request.repository,
        resolved.id.short,
        path,
        serving.details,
    )
    ready(record)


def _drop(path: str) -> None:
    try:
        registry.remove(path, os.getpid())
    except OSError as error:
        _log.warning("cannot remove the record of this mount: %s", error)
