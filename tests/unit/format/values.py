"""Values of every kind that is written down, for hypothesis, and what to do with each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from blake3 import blake3
from hypothesis import strategies as st

from moorage.errors import InvalidInputError
from moorage.format.config import decode_config, encode_config
from moorage.format.keys import config_key, ref_key
from moorage.format.pack import decode_footer, encode_footer
from moorage.format.recipe import decode_recipe, encode_recipe
from moorage.format.refs import decode_ref_record, encode_ref_record
from moorage.format.segment import decode_segment, encode_segment
from moorage.format.snapshot import decode_snapshot, encode_snapshot
from moorage.format.tree import decode_tree, encode_fork, encode_tree
from moorage.model.config import ChunkingParams, RepositoryConfig
from moorage.model.digest import (
    ChunkId,
    ContentDigest,
    Digest,
    PackId,
    RecipeId,
    SegmentId,
    SnapshotId,
    TreeId,
)
from moorage.model.names import check_ref_name
from moorage.model.objects import Codec, ObjectKind, PackEntry
from moorage.model.recipe import Recipe
from moorage.model.refs import RefAction, RefKind, RefName, RefRecord
from moorage.model.snapshot import Snapshot
from moorage.model.tree import Entry, EntryKind, Tree, TreeFork, TreeSpan

REPOSITORY = "0f" * 16
ID_TYPES = {
    ObjectKind.CHUNK: ChunkId,
    ObjectKind.RECIPE: RecipeId,
    ObjectKind.TREE: TreeId,
    ObjectKind.SNAPSHOT: SnapshotId,
}


def digests(type_: Callable[[bytes], Digest]) -> st.SearchStrategy[Any]:
    return st.binary(min_size=32, max_size=32).map(type_)


def _is_ref_name(name: str) -> bool:
    try:
        check_ref_name(name)
    except InvalidInputError:
        return False
    return True


SIZES = st.integers(0, 2**63 - 1)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
ENTRY_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=60).filter(
    lambda name: name not in (".", "..")
)
REF_NAMES = (st.text("abZ/._-%+ \u00e9\U0001f6a2@", min_size=1, max_size=20) | TEXTS).filter(_is_ref_name)
HEX_IDS = st.binary(min_size=16, max_size=16).map(bytes.hex)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(EntryKind))
    size = draw(SIZES)
    object_id = None
    target = ""
    if kind is EntryKind.DIRECTORY:
        object_id = draw(digests(TreeId))
    elif kind is EntryKind.SYMLINK:
        target = draw(ENTRY_NAMES)
    elif size:
        object_id = draw(st.none() | digests(RecipeId))
    executable = kind is EntryKind.FILE and draw(st.booleans())
    digest = draw(digests(ContentDigest))
    return Entry(draw(ENTRY_NAMES), kind, digest, object_id, size, draw(SIZES), executable, target)


TREES = st.lists(entries(), max_size=6, unique_by=lambda entry: entry.name).map(Tree.of)
FORKS = st.builds(
    lambda level, spans: TreeFork(level, tuple(sorted(spans, key=lambda span: span.last_name.encode()))),
    st.integers(1, 4),
    st.lists(
        st.builds(TreeSpan, ENTRY_NAMES, st.integers(1, 2**40), digests(TreeId)),
        min_size=1,
        max_size=5,
        unique_by=lambda span: span.last_name,
    ),
)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    level = draw(st.integers(0, 8))
    sizes = draw(st.lists(st.integers(1, 16 * 1024 * 1024 if level == 0 else 2**50), min_size=1, max_size=6))
    return Recipe(level, tuple(sizes), draw(st.binary(min_size=32 * len(sizes), max_size=32 * len(sizes))))


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
SNAPSHOTS = st.builds(
    Snapshot,
    tree=digests(TreeId),
    digest=digests(ContentDigest),
    size_bytes=SIZES,
    parents=st.lists(digests(SnapshotId), max_size=2, unique=True).map(tuple),
    author=TEXTS,
    time_ns=SIZES,
    message=TEXTS,
    metadata=st.dictionaries(TEXTS, JSON, max_size=3),
)


@st.composite
def ref_records(draw: st.DrawFn) -> RefRecord:
    action = draw(st.sampled_from(RefAction))
    number = draw(st.integers(1, 10**16 - 1))
    is_rename = action in (RefAction.RENAMED_FROM, RefAction.RENAMED_TO)
    return RefRecord(
        ref=RefName(draw(st.sampled_from(RefKind)), draw(REF_NAMES)),
        number=number,
        action=action,
        snapshot=draw(digests(SnapshotId)),
        transaction=draw(HEX_IDS),
        previous=draw(HEX_IDS) if number > 1 else "",
        time_ns=draw(SIZES),
        actor=draw(TEXTS),
        reason=draw(TEXTS),
        other=draw(REF_NAMES) if is_rename else "",
    )


@st.composite
def configs(draw: st.DrawFn) -> RepositoryConfig:
    least, target, most = sorted(2**power for power in draw(st.lists(st.integers(6, 24), min_size=3, max_size=3)))
    return RepositoryConfig(
        repository_id=draw(HEX_IDS),
        created_ns=draw(SIZES),
        number=draw(st.integers(1, 10**16 - 1)),
        chunking=ChunkingParams(least, target, most),
        compression_level=draw(st.integers(1, 19)),
        pack_target_bytes=draw(st.integers(1024, 2**32)),
    )


@st.composite
def footers(draw: st.DrawFn) -> list[PackEntry]:
    found, offset = [], 8
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(ObjectKind))
        stored = draw(st.integers(13, 2**32 - 1))
        raw, codec = draw(st.integers(1, 2**32 - 1)), draw(st.sampled_from(Codec))
        checksum = draw(st.integers(0, 2**64 - 1))
        found.append(PackEntry(kind, draw(digests(ID_TYPES[kind])), offset, stored, raw, codec, checksum))
        offset += stored
    return found


@st.composite
def segments(draw: st.DrawFn) -> tuple[list[bytes], list[SegmentId], list[PackId]]:
    lists = draw(st.lists(footers(), max_size=2))
    old = draw(st.lists(digests(SegmentId), max_size=2, unique=True))
    retired = draw(st.lists(digests(PackId), max_size=2, unique=True))
    return [encode_footer(each) for each in lists], old, retired


@dataclass(frozen=True)
class Format:
    """One kind of file or object: values, their bytes, and the way back.

    `sealed` makes a checksum or an id right again after the bytes have been tampered with, as far as the bytes hold
    one, so that tampering gets past it.
    """

    values: st.SearchStrategy[Any]
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    """Takes bytes whose id, where they have one, is computed from them."""
    sealed: Callable[[bytes], bytes] = lambda data: data


def _sealed_record(data: bytes) -> bytes:
    line = data.partition(b"\n")[0]
    return line + b"\nblake3 " + blake3(line).hexdigest().encode() + b"\n"


def _decode_segment(data: bytes) -> tuple[list[bytes], list[SegmentId], list[PackId]]:
    segment = decode_segment(data, segment=SegmentId.of(data))
    for position in range(len(segment.packs)):
        segment.entries(position)
    return [footer for _, footer in segment.packs], list(segment.supersedes), list(segment.retired)


def _key_of_config(data: bytes) -> str:
    """The key under which a record lies that says its number; a wrong key is another test's affair."""
    number = hashlib.sha256(data).digest()[0]
    digits = data.partition(b'"number":')[2].partition(b",")[0]
    return config_key(int(digits) if digits.isdigit() and 0 < int(digits) < 10**16 else 1 + number)


def _key_of_record(data: bytes) -> str:
    try:
        kind = RefKind.TAG if b'"kind":"tag"' in data else RefKind.BRANCH
        name = data.partition(b'"name":"')[2].partition(b'","number":')[0].decode().encode().decode("unicode_escape")
        name = name.encode("latin-1").decode("utf-8")
        number = int(data.partition(b'"number":')[2].partition(b",")[0])
        return ref_key(RefName(kind, name), number)
    except (ValueError, UnicodeError):
        return "refs/branches/a/0000000000000001"


FORMATS: dict[str, Format] = {
    "config": Format(
        configs(), encode_config, lambda data: decode_config(data, key=_key_of_config(data)), _sealed_record
    ),
    "ref record": Format(
        ref_records(),
        lambda record: encode_ref_record(record, repository_id=REPOSITORY),
        lambda data: decode_ref_record(data, key=_key_of_record(data), repository_id=REPOSITORY),
        _sealed_record,
    ),
    "recipe": Format(recipes(), encode_recipe, decode_recipe),
    "tree": Format(TREES, encode_tree, decode_tree),
    "fork": Format(FORKS, encode_fork, decode_tree),
    "snapshot": Format(SNAPSHOTS, encode_snapshot, decode_snapshot),
    "footer": Format(footers(), encode_footer, lambda data: decode_footer(data, pack=PackId.of(data))),
    "segment": Format(segments(), lambda value: encode_segment(*value), _decode_segment),
}
