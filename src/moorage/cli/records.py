"""What do the JSON objects of the command line look like? One function a kind of thing; docs/cli.md lists the keys.

Sizes are exact and in bytes, times ISO 8601 in UTC, ids full. A key is there whether it has a value or not: null says
there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from moorage.cli.formatting import utc
from moorage.mount import registry
from moorage.mount.registry import MountRecord

if TYPE_CHECKING:
    from moorage.model.digest import SnapshotId
    from moorage.model.refs import RefRecord
    from moorage.model.snapshot import Snapshot
    from moorage.model.tree import Entry
    from moorage.read.resolve import Located

Record = dict[str, object]


def snapshot_record(id: SnapshotId, snapshot: Snapshot) -> Record:
    """One line of the log."""
    return {
        "snapshot": id.hex(),
        "parents": [parent.hex() for parent in snapshot.parents],
        "message": snapshot.message,
        "author": snapshot.author,
        "time": utc(snapshot.time_ns),
        "metadata": dict(snapshot.metadata),
        "size_bytes": snapshot.size_bytes,
        "blake3": snapshot.digest.hex(),
    }


def entry_record(path: str, entry: Entry) -> Record:
    """One line of a listing; `path` is from the root of the snapshot."""
    return {
        "path": path,
        "type": entry.kind.word,
        "size_bytes": entry.size_bytes,
        "blake3": entry.digest.hex(),
        "object": entry.object.hex() if entry.object else None,
        "executable": entry.executable,
        "target": entry.target or None,
        "first_stored": utc(entry.first_stored_ns),
    }


def place_record(place: Located) -> Record:
    """One place of one snapshot: an entry, or the root, which has none."""
    snapshot = place.resolved.snapshot
    if place.entry is not None:
        record = entry_record(place.path, place.entry)
    else:
        record = {
            "path": "",
            "type": "directory",
            "size_bytes": snapshot.size_bytes,
            "blake3": snapshot.digest.hex(),
            "object": snapshot.tree.hex(),
            "executable": False,
            "target": None,
            "first_stored": None,
        }
    return {"snapshot": place.resolved.id.hex(), **record}


def ref_record(record: RefRecord) -> Record:
    """A branch or a tag, and what put it where it stands; `branch` or `tag` is its name."""
    return {
        record.ref.kind.value: record.ref.name,
        "snapshot": record.snapshot.hex(),
        "time": utc(record.time_ns),
        "actor": record.actor,
        "reason": record.reason,
    }


def log_record(record: RefRecord, position: int | None) -> Record:
    """One line of a ref log; `position` is its n in `name@{n}`."""
    return {
        "branch": record.ref.name,
        "selector": None if position is None else f"{record.ref.name}@{{{position}}}",
        "number": record.number,
        "action": record.action.value,
        "snapshot": record.snapshot.hex(),
        "other": record.other or None,
        "actor": record.actor,
        "reason": record.reason,
        "time": utc(record.time_ns),
    }


def mount_record(record: MountRecord) -> Record:
    """One line of `mounts --json`; what the kernel does not tell of other users' mounts is null."""
    is_known = record.is_recorded
    return {
        "mountpoint": record.mountpoint,
        "repository": record.repository,
        "revision": record.revision,
        "snapshot": record.snapshot or None,
        "state": record.state.value,
        "pinned": record.pinned if is_known else None,
        "sticky": record.sticky if is_known else None,
        "passthrough": record.passthrough if is_known else None,
        "driver": record.driver or None,
        "supervisor_pid": registry.supervisor_of(record),
        "server_pid": registry.server_of(record),
        "restarts": record.restarts if is_known else None,
        "trouble": record.trouble or None,
        "note": record.note or None,
        "opens": registry.opens(record),
        "log_opens": record.log_opens if is_known else None,
        "started": utc(record.started_ns) if record.started_ns else None,
        "served_since": utc(record.served_ns or record.started_ns) if record.started_ns else None,
        "log": record.log or None,
    }
