"""What happens in the process that serves a mount, from opening the repository to the last answer?

Open the repository, resolve the revision, look at the mountpoint, mount, claim the mount in the registry, say that it
answers, serve, drop the claim. Runs in the foreground of a command or in the process that `daemon` starts; a repository
that is open must not pass through a fork, so everything from the first of these steps on is in one process.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from moorage.errors import MountError, StorageError
from moorage.model.digest import SHORT_HEX_LENGTH
from moorage.model.refs import RefKind, RefName
from moorage.mount import libfuse, mountpoint, places, registry
from moorage.mount.all_branches import Everything
from moorage.mount.driver import Driver, Place, Serving
from moorage.mount.following import Fixed, Following, Root, Standing
from moorage.mount.hydration import Hydration
from moorage.mount.kernel import serve as kernel
from moorage.mount.kernel.deadline import below_kernel_limit
from moorage.mount.log_format import fields
from moorage.mount.open_log import OpenLog
from moorage.mount.owner import Owner
from moorage.mount.patience import Patience
from moorage.mount.registry import MountRecord
from moorage.mount.request import KERNEL, LIBFUSE, MountRequest
from moorage.mount.stood import Stood
from moorage.mount.view import View
from moorage.native.freed_memory import keep_freed_memory
from moorage.read.cache import FileCache
from moorage.read.resolve import Resolved, resolve
from moorage.repository.handle import RepositoryHandle
from moorage.repository.user_folders import CACHE, user_folder

_log = logging.getLogger(__name__)

DRIVERS: dict[str, Driver] = {KERNEL: kernel.serve, LIBFUSE: libfuse.serve}


def run(request: MountRequest, ready: Callable[[MountRecord], None]) -> None:
    """Mount, and serve until it is unmounted; `ready` is called when the mount answers.

    Raises `MoorageError` for whatever keeps it from being mounted.
    """
    keep_freed_memory()
    collect_rarely()
    patience = Patience(below_kernel_limit(request.timeout_s))
    handle = RepositoryHandle.open(Path(request.repository), patience.through)
    try:
        _serve(request, handle, patience, ready)
    finally:
        if not patience.calls:  # a thread that never came back must not find the index closed under it when it does
            handle.close()


def _serve(
    request: MountRequest, handle: RepositoryHandle, patience: Patience, ready: Callable[[MountRecord], None]
) -> None:
    resolved = None if request.is_everything else resolve(handle, request.revision)
    path = prepare(request)
    cache = cache_of(request)
    hydration = Hydration(handle, cache)
    claim = Claim(request, path, ready)
    if resolved is None:
        view = View(handle.trees, hydration.open, Everything(handle.refs, handle.objects, handle.history))
    else:
        claim.moved(Standing.at(resolved.id, resolved.snapshot))
        view = view_of(handle, resolved, hydration, pin=request.pin, moved=claim.moved)
    opens = opens_of(request, path)
    source = f"{request.repository}#{request.revision}"
    owner = Owner.of(request.uid, request.gid, request.umask)
    folder = None if cache is None else cache.folder
    place = Place(path, source, request.allow_other, owner, folder, opens, request.sticky, patience)
    raise_descriptor_limit()
    try:
        DRIVERS[request.driver](view, place, claim.answers)
    finally:
        hydration.close()
        if opens is not None:
            opens.close()
        claim.drop()
    _log.info("%s is unmounted", path, extra=fields(mountpoint=path))


def prepare(request: MountRequest, *, covers: bool = False) -> str:
    """The real path to mount on; with `covers` also over a mount that is there.

    Raises `InvalidInputError`, `AlreadyExistsError`, `MountError`.
    """
    return mountpoint.prepare(
        request.mountpoint,
        apart=[
            ("the repository", Path(request.repository)),
            *[("the cache", folder) for folder in (user_folder(*CACHE),) if folder is not None],
            ("the records and logs of mounts", places.state_directory()),
        ],
        not_below=[
            ("the log", Path(request.log or places.state_directory())),
            ("moorage itself", Path(__file__).parents[1]),
            ("the Python that runs it", Path(sys.prefix)),
        ],
        covers=covers,
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


def opens_of(request: MountRequest, path: str) -> OpenLog | None:
    """Where opens are written down, if that is wanted. Raises `MountError`: who asks for a record wants one."""
    if not request.log_opens:
        return None
    file = places.opens_file(path)
    try:
        return OpenLog(file)
    except OSError as error:
        raise MountError(
            f"cannot write down opens in {file}: {error.strerror}", hint="set XDG_STATE_HOME", mountpoint=path
        ) from error


def collect_rarely() -> None:
    """Look for garbage in cycles less often: there is next to none, and the table of nodeids may be a million objects
    that are looked through each time. A first listing takes a fifth less."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def raise_descriptor_limit() -> None:
    """Each hydrated file that is open takes one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def view_of(
    handle: RepositoryHandle,
    resolved: Resolved,
    hydration: Hydration,
    *,
    pin: bool,
    moved: Callable[[Standing], None] = lambda standing: None,
) -> View:
    """The file system that a revision shows: it follows only a branch that was named as it stands, and only unpinned
    (`prod@{1}` and `prod~2` are moments). `moved` is called when it has followed."""
    record = resolved.record
    is_branch = record is not None and record.ref.kind is RefKind.BRANCH
    standing = Standing.at(resolved.id, resolved.snapshot, record.ref.name if record and is_branch else "")
    root: Root = Fixed(standing)
    followed: RefName | None = None
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
        root, followed = Following(handle.refs, handle.objects, record, standing, moved), record.ref
    return View(handle.trees, hydration.open, root, Stood(root, handle.refs, handle.objects, followed))


class Claim:
    """What the registry is told about this mount. Thread-safe."""

    def __init__(self, request: MountRequest, path: str, ready: Callable[[MountRecord], None]) -> None:
        """Claim `path` once it is mounted, then call `ready`."""
        self._ready = ready
        self._record = MountRecord(
            mountpoint=path,
            repository=request.repository,
            revision=request.revision,
            pid=0,
            started_ns=0,
            driver=request.driver,
            log=request.log,
            pinned=request.pin,
            log_opens=request.log_opens,
            sticky=request.sticky,
        )
        self._is_made = False
        self._lock = threading.Lock()

    def moved(self, standing: Standing) -> None:
        """What it shows from now on."""
        with self._lock:
            self._record = replace(self._record, snapshot=standing.snapshot.hex())
            if self._is_made:
                self._write()

    def answers(self, serving: Serving) -> None:
        """Say that it is mounted."""
        with self._lock:
            self._record = registry.of_this_process(
                replace(
                    self._record,
                    started_ns=time.time_ns(),
                    device=serving.device,
                    passthrough=serving.passthrough,
                )
            )
            self._is_made = True
            self._write()
            record = self._record
        shown = f" (snapshot {record.snapshot[:SHORT_HEX_LENGTH]})" if record.snapshot else ""
        _log.info(
            "serving %s of %s%s at %s: %s",
            record.revision,
            record.repository,
            shown,
            record.mountpoint,
            serving.details,
            extra=fields(
                mountpoint=record.mountpoint,
                repository=record.repository,
                revision=record.revision,
                snapshot=record.snapshot or None,
                passthrough=record.passthrough,
            ),
        )
        self._ready(record)

    def drop(self) -> None:
        """Say that it is no more."""
        with self._lock:
            self._is_made = False
        try:
            registry.remove(self._record.mountpoint, os.getpid())
        except OSError as error:
            _log.warning("cannot remove the record of this mount: %s", error)

    def _write(self) -> None:
        try:
            registry.write(self._record)
        except OSError as error:
            _log.warning("the mount works, but `moorage mounts` will know little of it: %s", error)
