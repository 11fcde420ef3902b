"""How does one mount and unmount?

The verbs behind `moorage mount`, `moorage umount` and `moorage upgrade`.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from importlib import import_module
from pathlib import Path

from moorage.errors import LockedError, MoorageError, MountDeniedError, MountError, MountNotFoundError
from moorage.mount import daemon, given, mountpoint, registry
from moorage.mount.foreground import serve_here
from moorage.mount.host import mountinfo, places
from moorage.mount.journal import exporter, logs
from moorage.mount.journal.log_format import TEXT
from moorage.mount.kernel import connect
from moorage.mount.registry import MountRecord, MountState
from moorage.mount.request import EVERYTHING, MountRequest, check_text
from moorage.mount.supervise import supervisor

__all__ = ["EVERYTHING", "mount", "umount", "umount_all", "upgrade"]

END_TIMEOUT_S = 4.5
"""How long `umount` takes at most: when the mount is gone, its server has the rest of this to end."""

TRIES = 5
TRY_AGAIN_S = 0.05
UPGRADE_TIMEOUT_S = 90.0
UPGRADE_LOOK_S = 0.02


def mount(
    repository: Path,
    revision: str,
    directory: Path,
    *,
    foreground: bool = False,
    pin: bool = False,
    allow_other: bool = False,
    uid: int | None = None,
    gid: int | None = None,
    umask: int | None = None,
    driver: str = "kernel",
    log: Path | None = None,
    log_format: str = TEXT,
    cache_bytes: int | None = None,
    log_opens: bool = False,
    sticky: bool = False,
    timeout_s: float | None = None,
    metrics: str = "",
    program: int | None = None,
    is_temporary: bool = False,
) -> MountRecord:
    """Mount a branch, a tag or a snapshot of the repository in `repository` on `directory`; with `EVERYTHING` for
    `revision`, all of them together.

    Returns when the mount answers, and serves it in the background; with `foreground`, serves it here and returns when
    it is unmounted or a signal ends it. A branch is followed unless `pin`. `allow_other` lets other users in; all seems
    to belong to `uid` and `gid` (by default of this process), and no mode has the bits of `umask`. `log` is where the
    server logs; by default a file under the XDG state directory, in the foreground the standard error; `log_format` is
    `text` or `json`. `cache_bytes` is how large the cache of hydrated files may be, by default the smaller of 20 GiB
    and a tenth of the disk; 0 hydrates nothing. `log_opens` writes down who opens what (`places.opens_file`).
    `sticky` shows each process one snapshot for as long as it reads. Every request is answered within `timeout_s`
    (30 unasked; the libfuse driver has none). `metrics` puts out numbers at `ADDRESS:PORT` of this machine, or into a
    file. With `program`, a descriptor of a process, the mount ends with that and by no signal. If `is_temporary`, the
    directory is removed when it is over.

    Raises `RepositoryNotFoundError`, `RefNotFoundError`, `InvalidInputError` (a directory that cannot be mounted on),
    `AlreadyExistsError` (a mount of moorage is there), `MountError`, and what opening a repository raises.
    """
    request = MountRequest(
        repository=os.path.realpath(repository),
        revision=revision,
        mountpoint=os.path.abspath(directory),
        pin=pin,
        allow_other=allow_other,
        uid=uid,
        gid=gid,
        umask=umask,
        driver=driver,
        log="" if log is None and foreground else os.path.abspath(log or _default_log(directory)),
        log_format=log_format,
        cache_bytes=cache_bytes,
        log_opens=log_opens,
        sticky=sticky,
        timeout_s=timeout_s,
        metrics=_absolute(metrics),
        program=-1 if program is None else program,
        is_temporary=is_temporary,
    )
    return _serve(request, foreground=foreground)


def _serve(request: MountRequest, *, foreground: bool) -> MountRecord:
    given.check(request.mountpoint)
    if not foreground:
        return daemon.start(request)
    with logs.made_for_a_mount(request.log):
        logs.log_in_foreground(request.log, request.log_format)
        return serve_here(request, import_module(daemon.PROGRAMS[request.driver]).run)


def _absolute(metrics: str) -> str:
    """Where numbers go, as a process in another directory understands it. Raises `InvalidInputError`."""
    check_text("metrics", metrics)
    where = exporter.target(metrics) if metrics else None
    return os.path.abspath(where) if isinstance(where, Path) else metrics


def _default_log(directory: Path) -> Path:
    place = os.path.abspath(directory)
    return places.log_file(place if given.descriptor(place) is not None else mountpoint.real_path(place))


def umount(directory: Path, *, lazy: bool = False) -> MountRecord:
    """Unmount what moorage has mounted on `directory`, and wait until its server is gone, but not longer than 5 s.

    `lazy` takes it out of sight at once, also when it is in use; those who use it are served until they are done.
    Returns what was mounted. Raises `MountNotFoundError`, `LockedError` (with `users`), `MountError`.
    """
    deadline = time.monotonic() + END_TIMEOUT_S
    path = os.path.abspath(directory)
    # What the kernel lists is a real path already. To look for symlinks would be to ask the file systems on the way.
    is_real = mountinfo.top_at(path) is not None or given.descriptor(path) is not None
    record = _detach(path if is_real else mountpoint.real_path(path), lazy=lazy)
    if not lazy:
        _wait_for_end(record, deadline)
    return record


def umount_all(*, lazy: bool = False) -> list[tuple[MountRecord, MoorageError | None]]:
    """Unmount all that moorage has mounted for this user, the newest first, since it may lie in an older one; each with
    what kept it from being unmounted. Waits for their servers as `umount` does, for all of them together."""
    done: list[tuple[MountRecord, MoorageError | None]] = []
    for record in sorted(registry.own(), key=lambda record: record.started_ns, reverse=True):
        if record.state is MountState.DETACHED or given.descriptor(record.mountpoint) is not None:
            continue
        try:
            done.append((_detach(record.mountpoint, lazy=lazy), None))
        except MoorageError as error:
            done.append((record, error))
    deadline = time.monotonic() + END_TIMEOUT_S
    for record, kept in done:
        if kept is None and not lazy:
            _wait_for_end(record, deadline)
    return done


def _detach(path: str, *, lazy: bool) -> MountRecord:
    if given.descriptor(path) is not None:
        raise MountNotFoundError(f"{path} is no place", hint="who has mounted it unmounts it", mountpoint=path)
    entry = mountinfo.top_at(path)
    if entry is None or not entry.is_ours:
        what = "nothing is" if entry is None else f"a file system of type {entry.fstype}, not one of moorage, is"
        raise MountNotFoundError(f"{what} mounted at {path}", hint="`moorage mounts` lists what is", mountpoint=path)
    record = registry.find(entry.device)
    _let_go(path, lazy=lazy)
    if record is None:
        repository, _, revision = entry.source.rpartition("#")
        return MountRecord(path, repository, revision, 0, 0, "", "", device=entry.device)
    return record


def _let_go(path: str, *, lazy: bool) -> None:
    """Unmount. In use by nobody who can be named, it is tried again for a moment: somebody has just looked at it, as
    `df` and other commands of moorage do."""
    for is_last in (False,) * TRIES + (True,):
        try:
            connect.detach_within(connect.DETACH_TIMEOUT_S, path, lazy=lazy)
        except LockedError as error:
            in_use = mountpoint.busy(path, error)
            if is_last or in_use.fields["users"]:
                raise in_use from error
            time.sleep(TRY_AGAIN_S)
        else:
            return


def _wait_for_end(record: MountRecord, deadline: float) -> None:
    """Wait for the processes behind a mount, if they are the ones that were recorded, and see to it that nothing is
    left of them."""
    if registry.has_main_process(record):
        _wait_for_process(record.pid, deadline)
    if registry.has_server(record):
        _wait_for_process(record.server_pid, deadline)
    with contextlib.suppress(OSError):
        registry.remove(record.mountpoint, record.pid)


def _wait_for_process(pid: int, deadline: float) -> None:
    if pid == os.getpid():
        return
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return  # gone in between, or a system without process descriptors
    try:
        select.select([process], [], [], max(0.0, deadline - time.monotonic()))
    finally:
        os.close(process)


def upgrade(directory: Path) -> MountRecord:
    """Let the mount on `directory` be served by a new process, of the version that is installed now; no read fails.

    A mount that somebody else has made may also be called `/dev/fd/N`, as it was given. Returns when the new process
    serves. Raises `MountNotFoundError`, and `MountError` when the old one goes on.
    """
    place = os.path.abspath(directory)
    before = _given_as(place) if given.descriptor(place) is not None else _mounted_at(mountpoint.real_path(place))
    path = before.mountpoint
    _check_supervised(before)
    os.kill(before.pid, supervisor.UPGRADE_SIGNAL)
    deadline = time.monotonic() + UPGRADE_TIMEOUT_S
    while time.monotonic() < deadline:
        after = registry.served_by(path, before.pid)
        if after is None or not registry.has_main_process(after):
            break
        if after.upgrades > before.upgrades:
            if after.trouble:
                raise MountError(after.trouble, hint=_log_hint(after), mountpoint=path)
            return after
        time.sleep(UPGRADE_LOOK_S)
    raise MountError(f"{path} was not upgraded", hint=_log_hint(before), mountpoint=path)


def _given_as(path: str) -> MountRecord:
    """The mount that was given as this descriptor, which may be another one to each process."""
    found = [record for record in registry.own() if record.mountpoint == path]
    if not found:
        raise MountNotFoundError(f"no mount was given as {path}", hint="`moorage mounts` lists them", mountpoint=path)
    if len(found) > 1:
        raise MountError(
            f"{len(found)} mounts were given as {path}", hint="name the directory where it is mounted", mountpoint=path
        )
    return found[0]


def _mounted_at(path: str) -> MountRecord:
    entry = mountinfo.top_at(path)
    if entry is None or not entry.is_ours:
        raise MountNotFoundError(
            f"no mount of moorage is at {path}", hint="`moorage mounts` lists them", mountpoint=path
        )
    record = registry.find(entry.device)
    if record is None:
        raise MountDeniedError(f"{path} was mounted by another user", hint="upgrade it as that user", mountpoint=path)
    return record


def _check_supervised(record: MountRecord) -> None:
    """Raises `MountError` where nobody could replace its server."""
    path = record.mountpoint
    if record.server_pid == 0:
        why = f"a mount through {record.driver} has no supervisor that could replace its server"
    elif record.state is not MountState.SERVING:
        why = f"the supervisor of {path} is gone, and nobody else can replace its server"
    else:
        return
    hint = "mount it anew"
    if given.descriptor(path) is None:
        hint += f": moorage umount {path}, and moorage mount"
    raise MountError(why, hint=hint, mountpoint=path)


def _log_hint(record: MountRecord) -> str:
    return f"its log says more: {record.log or 'the terminal it was mounted from'}"
