"""What does this machine lack for a good mount, and what can be done about it?

Facts as values, for `moorage doctor` to show. Each check tries the thing itself where trying is harmless, and none asks
a mount anything that a hung server could fail to answer.
"""

from __future__ import annotations

import enum
import os
import re
import shutil
import stat
import sysconfig
import tempfile
from collections.abc import Iterator, Sized
from dataclasses import dataclass
from pathlib import Path

from moorage import native
from moorage.errors import MoorageError
from moorage.mount import mountpoint, registry
from moorage.mount.host import places
from moorage.mount.kernel import connect
from moorage.mount.kernel.limit import PART_OF_LIMIT, kernel_limit_s
from moorage.mount.registry import MountRecord, MountState
from moorage.read.cache import FileCache
from moorage.repository.user_folders import cache_home

FUSE_CONF = "/etc/fuse.conf"
MOUNT_PROGRAM = "/sbin/mount.moorage"
PASSTHROUGH_KERNEL = (6, 9)
GOOD_READ_AHEAD_KIB = 1024
_CAP_SYS_ADMIN = 21


class CheckStatus(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """Something is slower, or not possible, that not everybody needs."""
    FAIL = "fail"
    """Mounting does not work, or a mount is broken."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    """A stable word for programs."""
    status: CheckStatus
    found: str
    advice: str = ""
    """What to do; empty when all is well."""


def checks(repository: Path | None = None, cache_bytes: int | None = None) -> list[Check]:
    """Everything a mount needs; `repository` adds what concerns that one, `cache_bytes` is how large the file cache may
    be where it is not of the usual size."""
    mounts = registry.mounts()
    return [
        _device(),
        _fusermount(),
        _allow_other(),
        _mount_program(),
        _passthrough(mounts),
        _read_ahead(mounts),
        _request_timeout(),
        _stale(mounts),
        *_overlaps(mounts, repository),
        _cache_directory(),
        _file_cache(cache_bytes),
        _writable("state-directory", places.state_directory(), "records and logs of mounts"),
        _native(),
    ]


def _is_root() -> bool:
    return os.geteuid() == 0


def _device() -> Check:
    try:
        os.close(os.open(connect.DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        advice = "modprobe fuse; in a container: --device /dev/fuse"
        return Check("fuse-device", CheckStatus.FAIL, f"{connect.DEVICE} is missing", advice)
    except OSError as error:
        advice = f"as root: chmod 0666 {connect.DEVICE}; in a container: --device {connect.DEVICE}"
        return Check("fuse-device", CheckStatus.FAIL, f"{connect.DEVICE} cannot be opened: {error.strerror}", advice)
    mode = os.stat(connect.DEVICE).st_mode
    if mode & 0o006 != 0o006:
        found = f"{connect.DEVICE} is open to this user, but not to all ({stat.filemode(mode)})"
        return Check("fuse-device", CheckStatus.WARN, found, f"for others to mount: chmod 0666 {connect.DEVICE}")
    return Check("fuse-device", CheckStatus.OK, f"{connect.DEVICE} can be opened")


def _fusermount() -> Check:
    path = shutil.which(connect.FUSERMOUNT)
    advice = "install the package fuse3"
    if path is None:
        status = CheckStatus.WARN if _has_sys_admin() else CheckStatus.FAIL
        return Check("fusermount", status, f"{connect.FUSERMOUNT} is missing: only root can mount", advice)
    found = os.stat(path)
    if not found.st_mode & stat.S_ISUID and not _has_file_capabilities(path):
        status = CheckStatus.WARN if _has_sys_admin() else CheckStatus.FAIL
        return Check("fusermount", status, f"{path} is not setuid: only root can mount", f"chmod u+s {path}")
    return Check("fusermount", CheckStatus.OK, path)


def _has_file_capabilities(path: str) -> bool:
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


def _allow_other() -> Check:
    try:
        lines = Path(FUSE_CONF).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    if any(line.strip() == "user_allow_other" for line in lines):
        return Check("user-allow-other", CheckStatus.OK, f"{FUSE_CONF} lets ordinary users mount with --allow-other")
    found = f"{FUSE_CONF} does not let ordinary users mount with --allow-other"
    if _is_root():
        return Check("user-allow-other", CheckStatus.OK, f"{found}; root may")
    return Check("user-allow-other", CheckStatus.WARN, found, f"if that is wanted: add user_allow_other to {FUSE_CONF}")


def _mount_program() -> Check:
    if os.access(MOUNT_PROGRAM, os.X_OK):
        return Check("mount-program", CheckStatus.OK, f"{MOUNT_PROGRAM} is there: `mount -t moorage` and fstab work")
    ours = os.path.join(sysconfig.get_path("scripts"), os.path.basename(MOUNT_PROGRAM))
    found = f"{MOUNT_PROGRAM} is missing: `mount -t moorage` and fstab do not work"
    if os.path.lexists(MOUNT_PROGRAM):
        found = f"{MOUNT_PROGRAM} cannot be run: `mount -t moorage` and fstab do not work"
    return Check(
        "mount-program", CheckStatus.WARN, found, f"if they are wanted, as root: ln -sf {ours} {MOUNT_PROGRAM}"
    )


def _passthrough(mounts: list[MountRecord]) -> Check:
    release = os.uname().release
    match = re.match(r"(\d+)\.(\d+)", release)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    name = "kernel-passthrough"
    if version < PASSTHROUGH_KERNEL:
        found = f"kernel {release} has none: files are served from the page cache"
        return Check(name, CheckStatus.WARN, found, "Linux 6.9 or later")
    if not _has_sys_admin():
        found = f"kernel {release} has it, this user may not use it: files are served from the page cache"
        return Check(name, CheckStatus.WARN, found, "mount as root (CAP_SYS_ADMIN)")
    found = f"kernel {release} has it, and this user may use it"
    if mounts:
        using = sum(record.passthrough for record in mounts)
        found += f"; {using} of {len(mounts)} {'mount uses' if len(mounts) == 1 else 'mounts use'} it"
    return Check(name, CheckStatus.OK, found)


def _has_sys_admin() -> bool:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return _is_root()
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(match and int(match[1], 16) >> _CAP_SYS_ADMIN & 1)


def _read_ahead(mounts: list[MountRecord]) -> Check:
    slow = []
    for record in mounts:
        kib = _read_ahead_of(record)
        if kib is not None and kib < GOOD_READ_AHEAD_KIB:
            slow.append((record, kib))
    if slow:
        record, kib = slow[0]
        found = f"{record.mountpoint} reads at most {kib} KiB at a time"
        advice = f"as root: echo {connect.READ_AHEAD_KIB} > {connect.read_ahead_file(record.device)}"
        return Check("read-ahead", CheckStatus.WARN, found, advice)
    if not os.access("/sys/class/bdi", os.W_OK) or not _is_root():
        found = "only root can raise it: cold reads of mounts by ordinary users are of 128 KiB"
        return Check("read-ahead", CheckStatus.WARN, found, "mount as root where cold reads matter")
    return Check("read-ahead", CheckStatus.OK, f"mounts get {connect.READ_AHEAD_KIB} KiB")


def _read_ahead_of(record: MountRecord) -> int | None:
    try:
        return int(Path(connect.read_ahead_file(record.device)).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _request_timeout() -> Check:
    seconds = kernel_limit_s()
    if seconds:
        found = f"the kernel aborts a whole mount when one request takes longer than {seconds} s"
        answered = f"requests are answered within {seconds * PART_OF_LIMIT:g} s, with EIO if need be; for more time"
        advice = f"{answered}: sysctl fs.fuse.max_request_timeout=0 fs.fuse.default_request_timeout=0"
        return Check("request-timeout", CheckStatus.WARN, found, advice)
    return Check("request-timeout", CheckStatus.OK, "the kernel sets no limit on requests")


def _stale(mounts: list[MountRecord]) -> Check:
    stale = [record.mountpoint for record in mounts if record.state is MountState.STALE]
    if stale:
        return Check(
            "stale-mounts", CheckStatus.FAIL, f"nobody serves {', '.join(stale)}", f"moorage umount {stale[0]}"
        )
    return Check("stale-mounts", CheckStatus.OK, f"{_count(mounts, 'mount')}, none stale")


def _count(things: Sized, word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"


def _overlaps(mounts: list[MountRecord], repository: Path | None) -> Iterator[Check]:
    if repository is None:
        return
    root = os.path.realpath(repository)
    for record in mounts:
        relation = mountpoint.overlap(record.mountpoint, root)
        if relation is not None:
            found = f"the mount at {record.mountpoint} {relation} the repository {root}"
            yield Check("overlap", CheckStatus.FAIL, found, f"moorage umount {record.mountpoint}")
            return
    yield Check("overlap", CheckStatus.OK, "no mount overlaps the repository")


def _writable(name: str, directory: Path, use: str) -> Check:
    existing = directory
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            return Check(name, CheckStatus.OK, f"{directory} can be written")
    except OSError as error:
        variable = "XDG_CACHE_HOME" if "cache" in name else "XDG_STATE_HOME"
        found = f"{directory} cannot be written ({error.strerror}): no place for {use}"
        return Check(name, CheckStatus.WARN, found, f"set {variable} to a directory that can be written")


def _cache_directory() -> Check:
    name, holds = "cache-directory", "hydrated files and indexes"
    try:
        return _writable(name, cache_home(), holds)
    except MoorageError as error:
        return Check(name, CheckStatus.WARN, f"{error.message}: no {holds}", error.hint or "")


def _file_cache(cache_bytes: int | None) -> Check:
    name = "file-cache"
    if cache_bytes == 0:
        return Check(name, CheckStatus.WARN, "switched off: every read of a mount decodes chunks", "[cache] size")
    try:
        usage = FileCache(limit_bytes=cache_bytes).usage()
    except (MoorageError, OSError) as error:
        return Check(name, CheckStatus.WARN, f"cannot be used: {error}", "set XDG_CACHE_HOME")
    used, limit = usage.size_bytes / (1 << 30), usage.limit_bytes / (1 << 30)
    return Check(name, CheckStatus.OK, f"{_count(range(usage.files), 'hydrated file')}: {used:.1f} of {limit:.1f} GiB")


def _native() -> Check:
    backend = native.backend_name()
    if backend == "c":
        return Check("native-kernel", CheckStatus.OK, "files are cut by the compiled kernel")
    why = "; ".join(native.why_not_faster())
    found = f"files are cut by the {backend} fallback: the same result, much slower ({why})"
    return Check("native-kernel", CheckStatus.WARN, found, "install a C compiler, then reinstall moorage")
