"""How does one program see a branch where it stood when the program began?

    moorage run --pin prod -- python train.py

The process enters a mount namespace of its own, starts a supervisor there (`private.supervisor`), waits until the
pinned mount answers, and then *becomes* the program, by exec. So there is nothing between the program and whoever
started it: the process id, the terminal, the process group, signals and the exit code are the program's own. Those
behind the mount hold a descriptor of that process and end with it, and with the namespace the mount is gone, whatever
ended it.

Where no namespace is allowed the mount is an ordinary one, made through fusermount3 and seen by all processes of the
user; then it is never made over something else.

Threads: only the main thread of a process of one thread (see `namespace`).
"""

from __future__ import annotations

import errno
import os
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from moorage.errors import CommandNotExecutableError, CommandNotFoundError, MountError, PathNotFoundError
from moorage.mount import daemon, mountpoint, registry
from moorage.mount.host import namespace, places
from moorage.mount.kernel.ending import put_away
from moorage.mount.private import supervisor
from moorage.mount.registry import MountRecord, MountState
from moorage.mount.request import DEFAULT_TIMEOUT_S, MountRequest

SNAPSHOT_VARIABLE = "MOORAGE_SNAPSHOT"
MOUNT_VARIABLE = "MOORAGE_MOUNT"
TEMPORARY_PREFIX = "moorage-run-"


@dataclass(frozen=True, slots=True)
class PrivateMount:
    """A mount that answers, for this process and what it starts."""

    mountpoint: str
    snapshot: str
    """The whole id."""


def run(
    repository: Path,
    revision: str,
    command: Sequence[str],
    *,
    directory: Path | None = None,
    cache_bytes: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> NoReturn:
    """Become `command`, which sees `revision` as it is now in `directory`; without one, where that branch is mounted,
    if it is at exactly one place, else in a new directory under the system's temporary one.

    The program finds the whole id of the snapshot in MOORAGE_SNAPSHOT and the directory in MOORAGE_MOUNT. Raises
    `CommandNotFoundError`, `CommandNotExecutableError`, and as `start`.
    """
    mounted = start(repository, revision, directory=directory, cache_bytes=cache_bytes, timeout_s=timeout_s)
    environment = {**os.environ, SNAPSHOT_VARIABLE: mounted.snapshot, MOUNT_VARIABLE: mounted.mountpoint}
    # Python ignores these, and what is ignored stays so across exec: `command | head` would never end.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    name = command[0]
    try:
        os.execvpe(name, list(command), environment)  # noqa: S606 - words, as the user gave them, and no shell
    except FileNotFoundError as error:
        if os.path.exists(name) and "/" in name:
            raise CommandNotExecutableError(
                f"cannot run {name}: the program that its first line names is not there", command=name
            ) from error
        hint = "if it is in the current directory, say ./" + name if os.path.exists(name) else None
        raise CommandNotFoundError(f"there is no command {name!r}", hint=hint, command=name) from error
    except OSError as error:
        hint = "a script begins with a line such as #!/bin/sh" if error.errno == errno.ENOEXEC else None
        raise CommandNotExecutableError(f"cannot run {name}: {error.strerror}", hint=hint, command=name) from error
    except ValueError as error:
        raise CommandNotFoundError(f"no command can be called {name!r}", command=name) from error


def start(
    repository: Path,
    revision: str,
    *,
    directory: Path | None = None,
    cache_bytes: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> PrivateMount:
    """Mount `revision`, pinned, for this process alone, and go on in it. It lasts as long as this process does.

    Raises `RepositoryNotFoundError`, `NotFoundError`, `InvalidInputError`, `MountError`.
    """
    root = os.path.realpath(repository)
    place = _place_of(root, revision) if directory is None else mountpoint.real_path(directory)
    here = _current_directory()
    is_private = namespace.enter()
    if not is_private and directory is None and place is not None:
        raise MountError(
            f"{revision} is mounted at {place}, and this user may not hide that from one program alone",
            hint="name an empty directory with --at; the command finds its path in MOORAGE_MOUNT",
            mountpoint=place,
        )
    temporary = None if place is not None else tempfile.mkdtemp(prefix=TEMPORARY_PREFIX)
    at = os.path.realpath(temporary) if temporary is not None else place
    assert at is not None
    request = MountRequest(
        root,
        revision,
        at,
        pin=True,
        allow_other=is_private,  # who else could see it is what the program starts, as whatever user
        log=str(places.programs_log()),
        cache_bytes=cache_bytes,
        timeout_s=timeout_s,
        is_temporary=temporary is not None,
        covers=is_private,
    )
    try:
        mounted = _started(request)
        if here is not None and os.path.commonpath([here, at]) == at:
            os.chdir(here)  # whoever was in what is now covered is still there, until he enters it anew
    except BaseException as error:
        if temporary is not None:
            put_away(temporary)
        if isinstance(error, OSError):
            raise PathNotFoundError(f"the snapshot has no {here}, the current directory", path=here) from error
        raise
    return PrivateMount(mounted.mountpoint, mounted.snapshot)


def _place_of(repository: str, revision: str) -> str | None:
    """Where the revision is mounted, if it is at exactly one place. A directory that will be removed is none: with it
    goes whatever is mounted there, in all namespaces."""
    found = {
        record.mountpoint
        for record in registry.mounts()
        if (record.repository, record.revision) == (repository, revision)
        and record.state is not MountState.DETACHED
        and not record.is_temporary
    }
    return found.pop() if len(found) == 1 else None


def _current_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None  # it is gone; whoever is in it knows


def _started(request: MountRequest) -> MountRecord:
    """Start those behind the mount, for this process, and wait until it answers."""
    program = os.pidfd_open(os.getpid())
    try:
        with namespace.may_mount():
            return daemon.start(replace(request, program=program), supervisor.__name__)
    finally:
        os.close(program)
