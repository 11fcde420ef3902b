"""Under which key does each file of a repository lie?

Keys are paths with `/`, the same for a local directory and an object store. Everything below them is immutable and
create-only.

    config/<16-digit n>                                 numbered configuration records
    packs/<first 2 hex>/<pack id>                       objects
    index/<segment id>                                  lists of packs and what lies in them; derivable from packs
    refs/branches/<quoted name>/<16-digit n>            ref records
    refs/tags/<quoted name>/<16-digit n>
    tmp/                                                work in progress of local writers; never read
    gc/, leases/                                        reserved
    derived/                                            local caches (the LMDB index, the stat cache); deleting loses
    nothing
"""

from __future__ import annotations

from collections.abc import Sequence

from moorage.errors import FormatError, InvalidInputError
from moorage.model.digest import PackId, SegmentId
from moorage.model.names import quote_ref_name, unquote_ref_name
from moorage.model.refs import RefKind, RefName

CONFIG_PREFIX = "config/"
PACKS_PREFIX = "packs/"
INDEX_PREFIX = "index/"
REFS_PREFIX = "refs/"
DERIVED_FOLDER = "derived"
TMP_FOLDER = "tmp"

_NUMBER_DIGITS = 16


def _numbered(number: int) -> str:
    return f"{number:0{_NUMBER_DIGITS}d}"


def parse_number(key: str) -> int:
    """The number that a numbered key ends in. Raises `FormatError`."""
    last = key.rsplit("/", 1)[-1]
    if len(last) != _NUMBER_DIGITS or not last.isascii() or not last.isdigit() or int(last) < 1:
        raise FormatError(f"not a numbered record: {key}", key=key)
    return int(last)


def highest_number(names: Sequence[str]) -> int | None:
    """The highest of some numbers, where they are all numbers from 1 to it, each once; 0 for none.

    None where they are not: then each is worth a look. Names are distinct. Quick, since a ref has one for each of its
    moves: so many distinct numbers of which the least is 1 and the greatest their count are all there are.
    """
    if not names:
        return 0
    together = "".join(names)
    if not (together.isascii() and together.isdigit()) or set(map(len, names)) != {_NUMBER_DIGITS}:
        return None
    return len(names) if int(min(names)) == 1 and int(max(names)) == len(names) else None


def config_key(number: int) -> str:
    """Of configuration record `number`."""
    return CONFIG_PREFIX + _numbered(number)


def pack_key(pack: PackId) -> str:
    """Of a pack."""
    text = pack.hex()
    return f"{PACKS_PREFIX}{text[:2]}/{text}"


def parse_pack_key(key: str) -> PackId:
    """The pack that lies under `key`. Raises `FormatError`."""
    try:
        pack = PackId.parse(key.rsplit("/", 1)[-1])
    except InvalidInputError as error:
        raise FormatError(f"not a pack's key: {key}", key=key) from error
    if pack_key(pack) != key:
        raise FormatError(f"not a pack's key: {key}", key=key)
    return pack


def segment_key(segment: SegmentId) -> str:
    """Of an index segment."""
    return INDEX_PREFIX + segment.hex()


def parse_segment_key(key: str) -> SegmentId:
    """The segment that lies under `key`. Raises `FormatError`."""
    try:
        segment = SegmentId.parse(key.removeprefix(INDEX_PREFIX))
    except InvalidInputError as error:
        raise FormatError(f"not an index segment's key: {key}", key=key) from error
    if segment_key(segment) != key:
        raise FormatError(f"not an index segment's key: {key}", key=key)
    return segment


def refs_prefix(kind: RefKind) -> str:
    """Below which all refs of one kind lie."""
    return f"{REFS_PREFIX}{kind.folder}/"


def ref_prefix(ref: RefName) -> str:
    """Below which all records of one ref lie."""
    return f"{refs_prefix(ref.kind)}{quote_ref_name(ref.name)}/"


def ref_key(ref: RefName, number: int) -> str:
    """Of record `number` of a ref."""
    return ref_prefix(ref) + _numbered(number)


def parse_ref_folder(kind: RefKind, key: str) -> RefName:
    """The ref whose record lies under `key`. Raises `FormatError`."""
    quoted = key.removeprefix(refs_prefix(kind)).split("/", 1)[0]
    try:
        return RefName(kind, unquote_ref_name(quoted))
    except InvalidInputError as error:
        raise FormatError(f"not a ref's key: {key}", key=key) from error
