"""How does one mount and unmount?

The two verbs behind `moorage mount` and `moorage umount`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
from pathlib import Path

from moorage.errors import LockedError, MountNotFoundError
from moorage.mount import daemon, mountinfo, mountpoint, places, registry
from moorage.mount.kernel import connect
from moorage.mount.registry import MountRecord
from moorage.mount.server import EVERYTHING, MountRequest, run

__all__ = ["EVERYTHING", "mount", "umount"]

END_TIMEOUT_S = 5.0
"""How long `umount` waits for the server to be gone; the mount itself is gone before."""


def mount(
    repository: Path,
    revision: str,
    directory: Path,
    *,
    foreground: bool = False,
    pin: bool = False,
    allow_other: bool = False,
    driver: str = "kernel",
    log: Path | None = None,
    cache_bytes: int | None = None,
    log_opens: bool = False,
) -> MountRecord:
    """Mount a branch, a tag or a snapshot of the repository in `repository` on `directory`; with `EVERYTHING` for
    `revision`, all of them together.

    Returns when the mount answers, and serves it in the background; with `foreground`, serves it here and returns when
    it is unmounted or a signal ends it. A branch is followed unless `pin`. `log` is where the server logs; by default a
    file under the XDG state directory, in the foreground the standard error. `cache_bytes` is how large the cache of
    hydrated files may be, by default the smaller of 20 GiB and a tenth of the disk; 0 hydrates nothing. `log_opens`
    writes down who opens what (`places.opens_file`).

    Raises `RepositoryNotFoundError`, `RefNotFoundError`, `InvalidInputError` (a directory that cannot be mounted on),
    `AlreadyExistsError` (a mount of moorage is there), `MountError`, and what opening a repository raises.
    """
    request = MountRequest(
        repository=os.path.realpath(repository),
        revision=revision,
        mountpoint=os.path.abspath(directory),
        pin=pin,
        allow_other=allow_other,
        driver=driver,
        log="" if log is None and foreground else os.path.abspath(log or _default_log(directory)),
        cache_bytes=cache_bytes,
        log_opens=log_opens,
    )
    if not foreground:
        return daemon.start(request)
    _log_in_foreground(request.log)
    records: list[MountRecord] = []
    run(request, records.append)
    return records[0]


def _default_log(directory: Path) -> Path:
    return places.log_file(mountpoint.real_path(directory))


def _log_in_foreground(path: str) -> None:
    """Log to `path`, or to the standard error if nobody has set up anything else."""
    logger = logging.getLogger("moorage")
    if path:
        daemon.open_log(path)
    elif logger.hasHandlers():
        return
    handler = logging.FileHandler(path) if path else logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(daemon.LOG_FORMAT))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def umount(directory: Path, *, lazy: bool = False) -> MountRecord:
    """Unmount what moorage has mounted on `directory`, and wait until its server is gone.

    `lazy` takes it out of sight at once, also when it is in use; those who use it are served until they are done.
    Returns what was mounted. Raises `MountNotFoundError`, `LockedError` (with `users`), `MountError`.
    """
    path = mountpoint.real_path(directory)
    entry = mountinfo.top_at(path)
    if entry is None or not entry.is_ours:
        what = "nothing is" if entry is None else f"a file system of type {entry.fstype} is"
        raise MountNotFoundError(f"{what} mounted at {path}", hint="`moorage mounts` lists what is", mountpoint=path)
    record = registry.find(entry.device)
    try:
        connect.detach(path, lazy=lazy)
    except LockedError as error:
        raise mountpoint.busy(path, error) from error
    if record is None:
        repository, _, revision = entry.source.rpartition("#")
        return MountRecord(path, repository, revision, 0, 0, "", "", device=entry.device)
    if not lazy:
        _wait_for_end(record)
        with contextlib.suppress(OSError):
            registry.remove(path, record.pid)
    return record


def _wait_for_end(record: MountRecord) -> None:
    """Wait for the server's process, if it is the one that was recorded."""
    if record.pid in (0, os.getpid()) or not registry.is_alive(record):
        return
    try:
        process = os.pidfd_open(record.pid)
    except OSError:
        return  # gone in between, or a system without process descriptors
    try:
        select.select([process], [], [], END_TIMEOUT_S)
    finally:
        os.close(process)
