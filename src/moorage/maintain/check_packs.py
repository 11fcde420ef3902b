"""Does every pack hold what its footer says, and does the index agree?

A footer proves itself and its pack's length; whether the bytes before it are what it promises takes reading them, which
is done on all cores, and only if asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from moorage.errors import DataError, FormatError, KeyNotFoundError, StorageDeniedError, StorageError
from moorage.format.keys import PACKS_PREFIX, pack_key, parse_pack_key
from moorage.format.pack import PACK_MAGIC
from moorage.format.stored import checksum
from moorage.maintain.findings import Findings, object_name
from moorage.maintain.report import ProblemKind, Severity
from moorage.model.digest import PackId
from moorage.model.objects import PackEntry, PackLocation
from moorage.model.progress import Progress
from moorage.packs.reader import decode_object, read_entries
from moorage.repository.locator import Locator
from moorage.storage.base import Storage

_READ_BYTES = 4 * 1024 * 1024
_LOOKUP_BATCH = 4096


@dataclass(slots=True)
class PacksChecked:
    """What there is."""

    sizes: dict[PackId, int] = field(default_factory=dict)
    """Of all packs, in bytes."""
    objects: int = 0
    data_bytes: int = 0


@dataclass(slots=True)
class _PackOutcome:
    """What one thread found out about one pack."""

    pack: PackId
    entries: Sequence[PackEntry] = ()
    fault: str | None = None
    """Why nothing in the pack can be trusted."""
    flaws: list[str] = field(default_factory=list)
    """What is wrong with the pack, but not with its objects."""
    damaged: list[tuple[PackEntry, str]] = field(default_factory=list)
    """Objects in it, and what is wrong with each."""


def list_packs(storage: Storage, findings: Findings) -> PacksChecked:
    """Which packs there are. Raises `StorageError`."""
    checked = PacksChecked()
    for info in storage.list_keys(PACKS_PREFIX):
        try:
            checked.sizes[parse_pack_key(info.key)] = info.size_bytes
        except FormatError as error:
            findings.add(ProblemKind.FOREIGN, info.key, error.message, Severity.WARNING)
    return checked


def check_packs(
    storage: Storage, locator: Locator, checked: PacksChecked, findings: Findings, progress: Progress, *, data: bool
) -> bool:
    """Check the packs that are listed; returns whether the index agrees with all of them. Raises `StorageError`."""
    progress.begin("checking packs", total_bytes=sum(checked.sizes.values()) if data else None, total_files=None)
    agrees = True
    check = partial(_check_pack, storage, progress=progress, data=data)
    with ThreadPoolExecutor(_workers(), thread_name_prefix="moorage-check") as pool:
        packs = iter(sorted(checked.sizes))
        while batch := list(islice(packs, 64)):
            for outcome in pool.map(check, batch):
                agrees &= _note(outcome, storage, locator, checked, findings, data=data)
    progress.finish()
    return agrees


def _workers() -> int:
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _note(
    outcome: _PackOutcome, storage: Storage, locator: Locator, checked: PacksChecked, findings: Findings, *, data: bool
) -> bool:
    """Write down what was found in one pack; whether the index agrees with it."""
    name = f"pack {outcome.pack.hex()}"
    checked.objects += len(outcome.entries)
    if data:
        checked.data_bytes += sum(entry.raw_bytes for entry in outcome.entries)
    if outcome.fault is not None:
        findings.spoil_pack(outcome.pack, findings.add(ProblemKind.PACK, name, outcome.fault))
    for flaw in outcome.flaws:
        findings.add(ProblemKind.PACK, name, flaw)
    for entry, why in outcome.damaged:
        finding = findings.add(ProblemKind.CORRUPT_OBJECT, f"{object_name(entry.id)} in {name}", why)
        # Another pack may hold the same object, and the index lead there.
        place = locator.lookup([entry.id])[0]
        if place is None or place.pack == outcome.pack:
            findings.spoil_object(entry.id, finding)
    return _index_agrees(storage, locator, outcome)


def _index_agrees(storage: Storage, locator: Locator, outcome: _PackOutcome) -> bool:
    """Whether the index knows each object of a pack, here or in another pack that has it too."""
    elsewhere: dict[PackId, list[tuple[PackEntry, PackLocation]]] = {}
    for start in range(0, len(outcome.entries), _LOOKUP_BATCH):
        batch = outcome.entries[start : start + _LOOKUP_BATCH]
        for entry, place in zip(batch, locator.lookup([entry.id for entry in batch]), strict=True):
            if place is None:
                return False
            if place.pack != outcome.pack:
                elsewhere.setdefault(place.pack, []).append((entry, place))
            elif not _is_at(entry, place):
                return False
    for pack, places in elsewhere.items():
        try:
            listed = {(entry.kind, entry.id): entry for entry in read_entries(storage, pack)}
        except (DataError, FormatError):
            continue  # told where that pack is checked
        for entry, place in places:
            found = listed.get((entry.kind, entry.id))
            if found is None or not _is_at(found, place):
                return False
    return True


def _is_at(entry: PackEntry, place: PackLocation) -> bool:
    return (place.offset_bytes, place.stored_bytes, place.raw_bytes, place.codec) == (
        entry.offset_bytes,
        entry.stored_bytes,
        entry.raw_bytes,
        entry.codec,
    )


def _check_pack(storage: Storage, pack: PackId, progress: Progress, *, data: bool) -> _PackOutcome:
    outcome = _PackOutcome(pack)
    try:
        outcome.entries = read_entries(storage, pack)
        if storage.get_range(pack_key(pack), 0, len(PACK_MAGIC)) != PACK_MAGIC:
            outcome.flaws.append("it does not start as a pack does; what it holds can still be read")
        if data:
            for group in _pieces(outcome.entries):
                outcome.damaged += _check_piece(storage, pack, group)
                progress.advance(size_bytes=sum(entry.stored_bytes for entry in group))
    except StorageDeniedError:
        raise
    except (DataError, FormatError, KeyNotFoundError, StorageError) as error:
        # A disk that cannot read a sector is damage too: the other packs are still looked at.
        outcome.fault = error.message
    return outcome


def _pieces(entries: Sequence[PackEntry]) -> Iterator[list[PackEntry]]:
    """Neighbouring objects, of about 4 MiB together."""
    group: list[PackEntry] = []
    size = 0
    for entry in entries:
        if group and size + entry.stored_bytes > _READ_BYTES:
            yield group
            group, size = [], 0
        group.append(entry)
        size += entry.stored_bytes
    yield group


def _check_piece(storage: Storage, pack: PackId, group: Sequence[PackEntry]) -> list[tuple[PackEntry, str]]:
    start = group[0].offset_bytes
    stop = group[-1].offset_bytes + group[-1].stored_bytes
    data = memoryview(storage.get_range(pack_key(pack), start, stop))
    damaged = []
    for entry in group:
        stored = data[entry.offset_bytes - start :][: entry.stored_bytes]
        try:
            if checksum(stored) != entry.checksum:
                damaged.append((entry, "its stored bytes are not what the footer says"))
            else:
                decode_object(stored, entry.id, entry.kind, entry.raw_bytes, pack)
        except (DataError, FormatError) as error:
            damaged.append((entry, error.message))
    return damaged
