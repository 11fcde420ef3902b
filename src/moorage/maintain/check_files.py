"""Are configuration records and index segments what they should be, and what lies about under tmp/?"""

from __future__ import annotations

from moorage.errors import DataError, FormatError, KeyNotFoundError
from moorage.format.config import decode_config
from moorage.format.keys import CONFIG_PREFIX, INDEX_PREFIX, TMP_FOLDER, pack_key, parse_number, parse_segment_key
from moorage.format.segment import Segment, decode_segment
from moorage.maintain.findings import Findings
from moorage.maintain.report import ProblemKind, Severity
from moorage.model.digest import PackId, SegmentId
from moorage.storage.base import Storage


def check_config(storage: Storage, findings: Findings) -> None:
    """Every configuration record decodes, and their numbers have no gap. Raises `StorageError`."""
    numbers = []
    for info in storage.list_keys(CONFIG_PREFIX):
        try:
            number = parse_number(info.key)
            if decode_config(storage.get(info.key), key=info.key).number != number:
                findings.add(ProblemKind.CONFIG, info.key, "the record belongs under another number")
            numbers.append(number)
        except (DataError, FormatError, KeyNotFoundError) as error:
            findings.add(ProblemKind.CONFIG, info.key, error.message)
    if sorted(numbers) != list(range(1, len(numbers) + 1)):
        findings.add(ProblemKind.CONFIG, CONFIG_PREFIX, f"records are missing: there are {sorted(numbers)}")


def check_segments(storage: Storage, packs: set[PackId], findings: Findings) -> int:
    """Every index segment decodes, and the packs it lists are there; `packs` are those that are.

    Returns how many segments there are. Raises `StorageError`.
    """
    count = 0
    gone: dict[PackId, tuple[Segment, int, SegmentId]] = {}
    retired: set[PackId] = set()
    for info in storage.list_keys(INDEX_PREFIX):
        try:
            id = parse_segment_key(info.key)
        except FormatError as error:
            findings.add(ProblemKind.FOREIGN, info.key, error.message, Severity.WARNING)
            continue
        count += 1
        try:
            segment = decode_segment(storage.get(info.key), segment=id)
        except (DataError, FormatError, KeyNotFoundError) as error:
            findings.add(ProblemKind.SEGMENT, info.key, f"{error.message}; the packs tell the same")
            continue
        retired.update(segment.retired)
        for position, (pack, _) in enumerate(segment.packs):
            if pack not in packs:
                gone[pack] = (segment, position, id)
    for pack, (segment, position, id) in sorted(gone.items()):
        # Asked again: a writer may have finished between the listing of the packs and that of the segments.
        if pack not in retired and not storage.exists(pack_key(pack)):
            _report_gone(pack, segment, position, id, findings)
    return count


def _report_gone(pack: PackId, segment: Segment, position: int, id: SegmentId, findings: Findings) -> None:
    """A pack that only a segment still knows: its objects are lost, unless another pack has them too."""
    finding = findings.add(ProblemKind.PACK, f"pack {pack.hex()}", f"it is gone; index segment {id.short} lists it")
    findings.spoil_pack(pack, finding)
    try:
        entries = segment.entries(position)
    except (DataError, FormatError) as error:
        findings.add(ProblemKind.SEGMENT, f"index/{id.hex()}", error.message)
        return
    for entry in entries:
        findings.lose_object(entry.id, finding)


def leftovers(storage: Storage) -> tuple[int, int]:
    """How many files lie under tmp/, and how long they are together. Raises `StorageError`."""
    sizes = [info.size_bytes for info in storage.list_keys(TMP_FOLDER + "/")]
    return len(sizes), sum(sizes)
