"""What happens in the process that serves a mount, from opening the repository to the last answer?

Open the repository, resolve the revision, look at the mountpoint, mount, claim the mount in the registry, say that it
answers, serve, drop the claim. Runs in the foreground of a command or in the process that `daemon` starts; a repository
that is open must not pass through a fork, so everything from the first of these steps on is in one process.

That is the whole life of a mount through libfuse. One by the kernel's protocol lives longer than its server: there a
`supervisor` starts a `supervised` one, which does the same in other steps.

    python -m moorage.mount.server PIPE REQUEST      see `daemon`
"""

from __future__ import annotations

import contextlib
import gc
import logging
import resource
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from moorage.errors import MountError, StorageError
from moorage.mount import daemon, gauges, given, mountpoint
from moorage.mount.claim import Claim
from moorage.mount.driver import Driver, Place, Serving
from moorage.mount.host import places
from moorage.mount.host.owner import Owner
from moorage.mount.journal import exporter
from moorage.mount.journal.log_format import fields
from moorage.mount.journal.metrics import Metrics
from moorage.mount.journal.open_log import OpenLog
from moorage.mount.kernel.limit import below_kernel_limit
from moorage.mount.registry import MountRecord
from moorage.mount.request import DEFAULT_TIMEOUT_S, KERNEL, LIBFUSE, MountRequest
from moorage.mount.shown.hydration import Hydration
from moorage.mount.shown.patience import Patience
from moorage.mount.shown.revision import of_request
from moorage.native.freed_memory import keep_freed_memory
from moorage.read.cache import FileCache
from moorage.repository.handle import RepositoryHandle
from moorage.repository.user_folders import CACHE, user_folder

_log = logging.getLogger("moorage.mount.server")  # run as a program it is called __main__

_DRIVERS = {KERNEL: "moorage.mount.kernel.serve", LIBFUSE: "moorage.mount.libfuse"}


def run(request: MountRequest, ready: Callable[[MountRecord], None]) -> None:
    """Mount, and serve until it is unmounted, without a supervisor; `ready` is called when the mount answers.

    Raises `MoorageError` for whatever keeps it from being mounted.
    """
    with repository_of(request) as (handle, patience):
        shown = of_request(handle, request)
        path = prepare(request)
        claim = Claim.of(request, path)
        if shown.standing is not None:
            claim.shows(shown.standing.snapshot.hex())
        with resources(handle, request, path, patience) as (hydration, place):
            view = shown.view(handle, hydration, lambda standing: claim.shows(standing.snapshot.hex()), claim.notes)

            def answers(serving: Serving) -> None:
                claim.answers(path, serving.device, serving.details, passthrough=serving.passthrough)
                ready(claim.record)

            if place.exporter is not None:
                place.exporter.start()
            try:
                serve: Driver = import_module(_DRIVERS[request.driver]).serve
                serve(view, place, answers)
            finally:
                claim.drop()
        _log.info("%s is unmounted", path, extra=fields(mountpoint=path))


@contextlib.contextmanager
def repository_of(request: MountRequest) -> Iterator[tuple[RepositoryHandle, Patience]]:
    """The repository, and how long it is waited for."""
    patience = Patience(below_kernel_limit(request.timeout_s or DEFAULT_TIMEOUT_S))
    handle = RepositoryHandle.open(Path(request.repository), patience.through)
    try:
        yield handle, patience
    finally:
        if not patience.calls:  # a thread that never came back must not find the index closed under it when it does
            handle.close()


@contextlib.contextmanager
def resources(
    handle: RepositoryHandle, request: MountRequest, path: str, patience: Patience
) -> Iterator[tuple[Hydration, Place]]:
    """What a server needs to serve a mount on `path`, for as long as it does. Raises `MountError`."""
    raise_descriptor_limit()
    keep_freed_memory()
    collect_rarely()
    cache = cache_of(request)
    with contextlib.ExitStack() as stack:
        opens = opens_of(request, path)
        if opens is not None:
            stack.callback(opens.close)
        hydration = Hydration(handle, cache, patience)
        stack.callback(hydration.close)
        numbers = exporter_of(request, path, hydration, patience)
        if numbers is not None:
            stack.callback(numbers.close)
        source = f"{request.repository}#{request.revision}"
        owner = Owner.of(request.uid, request.gid, request.umask)
        folder = None if cache is None else cache.folder
        yield (
            hydration,
            Place(path, source, request.allow_other, owner, folder, opens, request.sticky, patience, numbers),
        )


def prepare(request: MountRequest) -> str:
    """The real path to mount on. What is mounted already (`given`) stays as it is called.

    Raises `InvalidInputError`, `AlreadyExistsError`, `MountError`.
    """
    if given.descriptor(request.mountpoint) is not None:
        given.check(request.mountpoint)
        return request.mountpoint
    return mountpoint.prepare(
        request.mountpoint,
        apart=[
            ("the repository", Path(request.repository)),
            *[("the cache", folder) for folder in (user_folder(*CACHE),) if folder is not None],
            ("the records and logs of mounts", places.state_directory()),
        ],
        not_below=[
            ("the log", Path(request.log or places.state_directory())),
            *[("the metrics", file) for file in (_metrics_file(request),) if file is not None],
            ("moorage itself", Path(__file__).parents[1]),
            ("the Python that runs it", Path(sys.prefix)),
        ],
        covers=request.covers,
    )


def _metrics_file(request: MountRequest) -> Path | None:
    where = exporter.target(request.metrics) if request.metrics else None
    return where if isinstance(where, Path) else None


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


def exporter_of(request: MountRequest, path: str, hydration: Hydration, patience: Patience) -> exporter.Exporter | None:
    """What puts out numbers, if that is wanted. Raises `InvalidInputError`."""
    if not request.metrics:
        return None
    metrics = Metrics()
    metrics.add(gauges.of_mount(request, path))
    metrics.add(gauges.of_hydration(hydration))
    metrics.add(gauges.of_patience(patience))
    metrics.add(gauges.of_process)
    return exporter.Exporter(exporter.target(request.metrics), metrics)


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


if __name__ == "__main__":
    daemon.main(sys.argv[1:], run)
