"""Which mounts does this user have, and which of them still live?

One small JSON file a mount, written when it answers and removed when it ends. The file is a claim, not the truth: what
the kernel has mounted and whether the process is still the same one (its id *and* when it started, in this boot) decide
what `mounts` says. A claim about something that is neither mounted nor running is removed by the one who reads it.

    fields   mountpoint, repository, revision, pid, process_start, boot, started_ns, driver, pinned, log, device,
             passthrough, snapshot, log_opens, sticky, is_temporary; where it is supervised: server_pid, server_start,
             served_ns, restarts, upgrades, trouble, note, ledger

One place may have several: a mount that was taken out of sight while it was read stays until its server ends, also when
something is mounted there again.

Written by rename, so a reader never sees half a file. Threads and processes: any; each mount has its own file.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from moorage.mount import given, mountpoint
from moorage.mount.host import mountinfo, places
from moorage.mount.host.mountinfo import MountEntry
from moorage.mount.ledger import file as ledger_file


class MountState(enum.StrEnum):
    """What became of a mount."""

    SERVING = "serving"
    UNSUPERVISED = "unsupervised"
    """Serving, but its supervisor died: when the server dies too, the mount does."""
    STALE = "stale"
    """Mounted, but nobody serves it: every access is ENOTCONN until it is unmounted (the next mount does that)."""
    DETACHED = "detached"
    """Unmounted lazily, and serving those who still have files open."""


@dataclass(frozen=True, slots=True)
class MountRecord:
    """One mount."""

    mountpoint: str
    """A real path."""
    repository: str
    revision: str
    pid: int
    """Of the process that unmounts when it gets a SIGTERM, unless it is for one program: the supervisor, or the server
    where there is none; 0 when it is not known (a mount of another user)."""
    started_ns: int
    """Unix time."""
    driver: str
    log: str
    """Empty when it logs to its terminal."""
    pinned: bool = False
    device: str = ""
    """major:minor of the mounted file system."""
    passthrough: bool = False
    """Whether the kernel reads hydrated files itself."""
    snapshot: str = ""
    """What it showed when it was last looked at; empty for a mount of everything, and where it is not known."""
    log_opens: bool = False
    """Whether it writes down who opens what."""
    sticky: bool = False
    """Whether it shows each process one snapshot for as long as it reads."""
    is_temporary: bool = False
    """Whether its mountpoint is removed with it."""
    process_start: int = 0
    """Clock ticks from the start of the machine to the start of the process."""
    boot: str = ""
    server_pid: int = 0
    """Of the server under a supervisor; 0 where the mount was never supervised."""
    server_start: int = 0
    served_ns: int = 0
    """Since when that server serves, Unix time."""
    restarts: int = 0
    """How many servers died and were replaced."""
    upgrades: int = 0
    """How often a server was to be replaced on purpose, whether that succeeded or not."""
    note: str = ""
    """Why it does not follow its branch, or under which other name; empty if it does, or follows none."""
    trouble: str = ""
    """What went wrong when it was last tried; empty when all is well."""
    ledger: int = -1
    """The descriptor, in both processes, of what `opens` reads."""
    state: MountState = MountState.SERVING

    @property
    def is_recorded(self) -> bool:
        """Whether its user has recorded it. Of others the kernel tells what is mounted where, and nothing else here
        means anything."""
        return bool(self.driver)


def of_this_process(record: MountRecord) -> MountRecord:
    """`record`, saying that this process serves it."""
    pid = os.getpid()
    return replace(record, pid=pid, process_start=_start_of(pid), boot=_boot())


def of_server(record: MountRecord, pid: int) -> MountRecord:
    """`record`, saying that the process `pid` serves it now, under a supervisor."""
    if pid == record.server_pid:
        return record
    return replace(record, server_pid=pid, server_start=_start_of(pid), served_ns=time.time_ns())


def write(record: MountRecord) -> None:
    """Claim a mount, replacing an earlier claim of the same process on the same place. Raises `OSError`."""
    path = _file_of(record.mountpoint, record.pid)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(f".{record.pid}.tmp")
    temporary.write_text(json.dumps(to_fields(record), indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def to_fields(record: MountRecord) -> dict[str, str | int | bool]:
    """A record as JSON has it, without its state, which is found out and never written down."""
    fields = asdict(record)
    del fields["state"]
    return fields


def from_fields(fields: dict[str, Any]) -> MountRecord:
    """The inverse of `to_fields`. Raises `TypeError` for fields that are unknown or missing."""
    return MountRecord(**fields)


def remove(path: str, pid: int) -> None:
    """Drop the claim of process `pid` on `path`. Raises `OSError`."""
    _file_of(path, pid).unlink(missing_ok=True)


def remove_of_server(path: str, server_pid: int) -> None:
    """Drop the claim of a supervisor that is gone, by the server that it left."""
    record = served_by(path, server_pid)
    if record is not None:
        remove(path, record.pid)


def mounts() -> list[MountRecord]:
    """All mounts of moorage that this user can know of, by mountpoint: his own, and what else the kernel shows."""
    entries = [entry for entry in mountinfo.mounted() if entry.is_ours]
    found = _claimed(entries)
    claimed = {record.device for record in found}
    unclaimed = [entry for entry in entries if entry.device not in claimed]
    dead = mountpoint.dead_among({entry.mountpoint for entry in unclaimed})
    found.extend(_unclaimed(entry, is_dead=entry.mountpoint in dead) for entry in unclaimed)
    return sorted(found, key=_place_and_age)


def own() -> list[MountRecord]:
    """The mounts of this user, by mountpoint, the newest first; asks nothing of any file system but the one with the
    records."""
    return _claimed([entry for entry in mountinfo.mounted() if entry.is_ours])


def _claimed(entries: list[MountEntry]) -> list[MountRecord]:
    claims = [(record, path) for path in _files() if (record := _read(path))]
    found: list[MountRecord] = []
    for record, path in sorted(claims, key=lambda claim: _place_and_age(claim[0])):
        # A number of a device is used again when what had it is gone, so it is that of the newest mount there.
        taken = {newer.device for newer in found if newer.mountpoint == record.mountpoint}
        state = _state_of(record, [entry for entry in entries if entry.device not in taken])
        if state is None:
            path.unlink(missing_ok=True)
        else:
            found.append(replace(record, state=state))
    return found


def _place_and_age(record: MountRecord) -> tuple[str, int]:
    """By mountpoint, the newest first."""
    return record.mountpoint, -record.started_ns


def served_by(path: str, server_pid: int) -> MountRecord | None:
    """What is recorded of the mount at `path` that this process serves, whether there is a supervisor or not."""
    return next(
        (
            record
            for file in _files()
            if (record := _read(file)) and record.mountpoint == path and server_pid in (record.pid, record.server_pid)
        ),
        None,
    )


def find(device: str) -> MountRecord | None:
    """What this user has recorded of the mounted file system `device`."""
    return next((record for record in own() if record.device == device), None)


def is_alive(record: MountRecord) -> bool:
    """Whether anybody still serves it: the same process as then, not another with its number."""
    return has_main_process(record) or has_server(record)


def has_main_process(record: MountRecord) -> bool:
    """Whether the process that unmounts on SIGTERM runs."""
    return _is_process(record.pid, record.process_start, record.boot)


def has_server(record: MountRecord) -> bool:
    """Whether the server under a supervisor runs."""
    return _is_process(record.server_pid, record.server_start, record.boot)


def supervisor_of(record: MountRecord) -> int | None:
    """The process of its supervisor; None where there is none, or none any more."""
    return record.pid if record.server_pid and has_main_process(record) else None


def server_of(record: MountRecord) -> int | None:
    """The process of its server; None where it is gone, or not known."""
    if record.server_pid:
        return record.server_pid if has_server(record) else None
    return record.pid if has_main_process(record) else None


def opens(record: MountRecord) -> int | None:
    """How many files were opened there so far; None where nobody counts, or it is not this user's."""
    for pid in (record.pid, record.server_pid):
        if record.ledger >= 0 and _is_living(record, pid):
            with contextlib.suppress(OSError):
                return ledger_file.opens(f"/proc/{pid}/fd/{record.ledger}")
    return None


def _is_living(record: MountRecord, pid: int) -> bool:
    return has_main_process(record) if pid == record.pid else has_server(record)


def _is_process(pid: int, start: int, boot: str) -> bool:
    return pid != 0 and boot == _boot() and _start_of(pid) == start


def _state_of(record: MountRecord, entries: list[MountEntry]) -> MountState | None:
    is_given = given.descriptor(record.mountpoint) is not None  # perhaps in a namespace that cannot be seen from here
    if is_given and not is_alive(record):
        return None
    is_mounted = is_given or any(
        entry.device == record.device and entry.mountpoint == record.mountpoint for entry in entries
    )
    if has_main_process(record):
        return MountState.SERVING if is_mounted else MountState.DETACHED
    if has_server(record):
        return MountState.UNSUPERVISED if is_mounted else MountState.DETACHED
    return MountState.STALE if is_mounted and record.boot == _boot() else None


def _unclaimed(entry: MountEntry, *, is_dead: bool) -> MountRecord:
    """What the kernel alone tells of a mount that nobody claims: another user's, or one of another home directory."""
    repository, _, revision = entry.source.rpartition("#")
    state = MountState.STALE if is_dead else MountState.SERVING
    return MountRecord(entry.mountpoint, repository, revision, 0, 0, "", "", device=entry.device, state=state)


def _files() -> list[Path]:
    directory = places.records_directory()
    return sorted(directory.glob("*.json")) if directory.is_dir() else []


def _file_of(path: str, pid: int) -> Path:
    return places.records_directory() / f"{places.slug(f'{path} of {pid}')}.json"


def _read(path: Path) -> MountRecord | None:
    """The claim in a file; None for what is not one, for example of another version."""
    try:
        return from_fields(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _boot() -> str:
    """What tells this boot of the machine from others; empty where there is no `/proc`."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _start_of(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if none of that number runs."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # the name may hold anything, also blanks and brackets
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
