"""How do `mount -t moorage /srv/store#prod /srv/models` and a line of /etc/fstab mount?

    /srv/store#prod   /srv/models   moorage  allow_other,uid=models,_netdev,nofail  0  0
    /srv/store#--all  /srv/moorage  moorage  allow_other                            0  0

mount(8) runs `/sbin/mount.TYPE SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`, as the user who may mount, and
takes what it ends with for its own exit code: 0 when the mount answers, 1 for words that can never be right, 32 when it
was not mounted, 8 when it was interrupted.

What is mounted is written as in the kernel's table of mounts: by that `mount -a` knows what is mounted already.

Options have the names of those of `moorage mount`, with `_` for `-`. Those for mount(8), systemd and the kernel say
nothing to us. What is in neither list is passed over too, with a line that says so: at boot nobody would want a machine
without its models for a misspelt option.
"""

from __future__ import annotations

import ctypes
import getopt
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from moorage.cli.config import Config, parse_size, read_config
from moorage.cli.options import Settings
from moorage.cli.output import prepare_streams, write_error
from moorage.cli.session import repository_path
from moorage.cli.style import shown
from moorage.errors import InvalidInputError, MoorageError, MountError, RepositoryNotFoundError
from moorage.mount import serve
from moorage.mount.host.owner import group_id, umask_of, user_id
from moorage.mount.request import LIBFUSE

OK, USAGE, INTERRUPTED, FAILED = 0, 1, 8, 32
"""Of mount(8)."""
PROGRAM = "mount.moorage"
USAGE_LINE = f"{PROGRAM} REPOSITORY#REVISION DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS]"
_CLONE_NEWNS = 0x00020000
_REVISION_MARK = "#"


@dataclass(slots=True)
class Wanted:
    """What a command line of mount(8) asks for."""

    repository: str
    revision: str
    directory: str
    options: dict[str, Any] = field(default_factory=dict)
    """Keywords of `serve.mount`."""
    passed_over: list[str] = field(default_factory=list)
    """Options that mean nothing here."""
    namespace: str | None = None
    is_fake: bool = False
    is_verbose: bool = False
    is_writable: bool = False


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InvalidInputError(f"timeout={text} is not a number of seconds", hint="for example timeout=30") from error


FLAGS = {"pin": "pin", "sticky": "sticky", "allow_other": "allow_other", "log_opens": "log_opens"}
VALUES: dict[str, tuple[str, Callable[[str], object]]] = {
    # option: (keyword, what its text means)
    "uid": ("uid", user_id),
    "gid": ("gid", group_id),
    "umask": ("umask", umask_of),
    "cache_size": ("cache_bytes", lambda text: parse_size(text, "cache_size")),
    "timeout": ("timeout_s", _seconds),
    "log": ("log", Path),
    "log_format": ("log_format", str),
    "driver": ("driver", str),
    "metrics": ("metrics", str),
}
_FOR_OTHERS = """
ro rw defaults auto noauto user users nouser owner group nofail _netdev comment exec noexec suid nosuid dev nodev sync
async atime noatime diratime nodiratime relatime norelatime strictatime nostrictatime lazytime nolazytime silent loud
iversion noiversion mand nomand context fscontext defcontext rootcontext default_permissions uhelper helper
"""
FOR_OTHERS = frozenset(_FOR_OTHERS.split())
"""Options of mount(8), systemd and the kernel; those with a value are named without it."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Mount, and return what mount(8) is to be told."""
    prepare_streams()
    try:
        wanted = parse(sys.argv[1:] if arguments is None else arguments)
    except MoorageError as error:
        _tell(error)
        return USAGE
    for option in wanted.passed_over:
        _say(f"there is no option {option!r}: passed over")
    try:
        _enter(wanted.namespace)
        if not wanted.is_fake:
            _mount(wanted)
    except (MoorageError, OSError) as error:
        _tell(error)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return OK


def parse(arguments: Sequence[str]) -> Wanted:
    """What is asked for. Raises `InvalidInputError`."""
    try:
        switches, words = getopt.gnu_getopt(list(arguments), "sfnvrwhN:o:t:")
    except getopt.GetoptError as error:
        raise InvalidInputError(str(error), hint=USAGE_LINE) from error
    if len(words) != 2:
        raise InvalidInputError("what to mount, and where?", hint=USAGE_LINE)
    repository, mark, revision = words[0].rpartition(_REVISION_MARK)
    if not mark:
        repository = words[0]
    if not repository:
        raise InvalidInputError(f"{words[0]!r} does not say which repository", hint=f"for example /srv/store{words[0]}")
    if not mark or not revision:
        _without_revision(words[0], repository)
    wanted = Wanted(repository, revision, words[1])
    options: list[str] = []
    for switch, value in switches:
        wanted.is_fake |= switch == "-f"
        wanted.is_verbose |= switch == "-v"
        if switch == "-N":
            wanted.namespace = value
        if switch == "-o":
            options += [option for option in value.split(",") if option]
    for option in options:
        _take(wanted, option)
    return wanted


def _take(wanted: Wanted, option: str) -> None:
    name, _, value = option.partition("=")
    if name in FLAGS:
        wanted.options[FLAGS[name]] = True
    elif name in VALUES:
        keyword, meaning = VALUES[name]
        wanted.options[keyword] = meaning(value)
    elif name == "remount":
        raise InvalidInputError("a mount cannot be changed", hint=f"umount {wanted.directory}, then mount it again")
    elif name == "rw":
        wanted.is_writable = True
    elif name not in FOR_OTHERS and not name.lower().startswith("x-"):
        wanted.passed_over.append(option)


def _without_revision(spec: str, repository: str) -> NoReturn:
    one, everything = (f"{repository}{_REVISION_MARK}{revision}" for revision in ("prod", serve.EVERYTHING))
    raise InvalidInputError(
        f"{spec!r} does not say which revision", hint=f"for example {one}, or {everything} for all of them"
    )


def _enter(namespace: str | None) -> None:
    """Go into another mount namespace. Raises `OSError`, `MountError`."""
    if namespace is None:
        return
    fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNS):
            raise MountError(f"cannot enter the namespace {namespace}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(fd)


def _mount(wanted: Wanted) -> None:
    """Mount, and wait until it answers. Raises `MoorageError`."""
    repository = repository_path(Settings(repository=wanted.repository))
    config: Config = read_config()
    options = {"cache_bytes": config.cache_bytes, **wanted.options}
    if options.get("driver") != LIBFUSE:
        options.setdefault("timeout_s", config.mount_timeout_s)
    try:
        record = serve.mount(repository, wanted.revision, Path(wanted.directory), **options)
    except RepositoryNotFoundError as error:
        hint = f"make one: moorage init {wanted.repository}"  # there is no -r here
        raise RepositoryNotFoundError(error.message, hint=hint, **error.fields) from error
    if wanted.is_verbose:
        if wanted.is_writable:  # mount(8) says `rw` where nobody says `ro`: worth a word to who wants many
            _say("mounted read-only, as always")
        _say(f"{wanted.revision} of {shown(record.repository)} is mounted at {shown(record.mountpoint)}")
        _say(f"it logs to {shown(record.log)}")


def _tell(error: Exception) -> None:
    if isinstance(error, OSError):
        _say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return
    assert isinstance(error, MoorageError)
    _say(error.message)
    if error.hint:
        write_error(f"hint: {shown(error.hint)}")


def _say(line: str) -> None:
    write_error(f"{PROGRAM}: {shown(line)}")
