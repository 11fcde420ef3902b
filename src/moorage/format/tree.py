"""How a directory is encoded, and what its digest is.

A tree object is MessagePack, in its shortest form, of one array:

    [level, rows]

    level 0       rows are entries, sorted by raw UTF-8 name:
                  [name, kind, digest, object, size_bytes, first_stored_ns, executable, target]
                  kind 1 file, 2 directory, 3 symlink; object is empty bytes where there is none
    level n > 0   rows are spans of a huge directory: [last_name, entries, object of level n - 1]

A directory of more than 8,192 entries is cut into spans by the names themselves (`split_points`), so that a new file
changes one tree object of each level.

The *digest* of a directory says what it is and nothing else: BLAKE3 in key-derivation mode, context
"moorage 2026-11 directory digest v1", over the concatenation of MessagePack arrays
[name, kind, digest, size_bytes, executable, target], one an entry, in order. It does not depend on chunking, spans or
times. The context keeps it apart from the digest of any file. The digest of a symlink is BLAKE3 of its target.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import msgspec
from blake3 import blake3

from moorage.errors import FormatError, InvalidInputError, NewerFormatError
from moorage.model.digest import ContentDigest, ObjectId, RecipeId, TreeId
from moorage.model.tree import MAX_TREE_ENTRIES, MAX_TREE_LEVEL, Entry, EntryKind, Tree, TreeFork, TreeSpan

DIGEST_CONTEXT = "moorage 2026-11 directory digest v1"
_MIN_RUN = 1_024


class _Row(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    name: str
    kind: int
    digest: bytes
    object: bytes
    size_bytes: int
    first_stored_ns: int
    executable: bool
    target: str


class _SpanRow(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    last_name: str
    entries: int
    object: bytes


class _Leaf(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    level: int
    rows: list[_Row]


class _Fork(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    level: int
    rows: list[_SpanRow]


_encoder = msgspec.msgpack.Encoder()
_KINDS = {int(kind): kind for kind in EntryKind}
_leaf_decoder = msgspec.msgpack.Decoder(_Leaf)
_fork_decoder = msgspec.msgpack.Decoder(_Fork)


def encode_tree(tree: Tree) -> bytes:
    """The canonical bytes of a tree object of level 0; at most 8,192 entries."""
    return _encoder.encode(_Leaf(0, [_row(entry) for entry in tree.entries]))


def encode_fork(fork: TreeFork) -> bytes:
    """The canonical bytes of a tree object of a higher level."""
    return _encoder.encode(
        _Fork(fork.level, [_SpanRow(span.last_name, span.entries, bytes(span.object)) for span in fork.spans])
    )


def decode_tree(data: bytes) -> Tree | TreeFork:
    """Read a tree object back. Raises `FormatError`, `NewerFormatError`."""
    try:
        # A two-element array, then the level as a positive fixint: what to decode into is known before decoding.
        if data[:2] == b"\x92\x00":
            return _decode_leaf(data)
        return _decode_fork(data)
    except (msgspec.DecodeError, InvalidInputError, UnicodeDecodeError) as error:
        raise FormatError(f"not a tree object: {error}") from error


def _decode_leaf(data: bytes) -> Tree:
    leaf = _leaf_decoder.decode(data)
    if _encoder.encode(leaf) != data:
        raise FormatError("not a tree object: not in canonical form")
    if len(leaf.rows) > MAX_TREE_ENTRIES:
        raise FormatError(f"not a tree object: {len(leaf.rows)} entries in one object")
    return Tree(tuple(_entries(leaf.rows)))


def _decode_fork(data: bytes) -> TreeFork:
    fork = _fork_decoder.decode(data)
    if _encoder.encode(fork) != data:
        raise FormatError("not a tree object: not in canonical form")
    if not 1 <= fork.level <= MAX_TREE_LEVEL or len(fork.rows) > MAX_TREE_ENTRIES:
        raise FormatError(f"not a tree object: level {fork.level}, {len(fork.rows)} spans")
    spans = tuple(TreeSpan(row.last_name, row.entries, TreeId(row.object)) for row in fork.rows)
    return TreeFork(fork.level, spans)


def _row(entry: Entry) -> _Row:
    return _Row(
        entry.name,
        int(entry.kind),
        bytes(entry.digest),
        bytes(entry.object) if entry.object is not None else b"",
        entry.size_bytes,
        entry.first_stored_ns,
        entry.executable,
        entry.target,
    )


def _entries(rows: list[_Row]) -> list[Entry]:
    entries, time_ns = [], 0
    for row in rows:
        kind = _KINDS.get(row.kind)
        if kind is None:
            raise NewerFormatError(f"unknown kind of entry: {row.kind}", hint="upgrade moorage")
        if row.first_stored_ns != time_ns:
            time_ns = row.first_stored_ns  # kept once for all that came with one commit
        id = _object_id(kind, row.object) if row.object else None
        entries.append(
            Entry(
                row.name,
                kind,
                ContentDigest(row.digest),
                id,
                row.size_bytes,
                time_ns,
                row.executable,
                row.target,
            )
        )
    return entries


def _object_id(kind: EntryKind, raw: bytes) -> ObjectId:
    return TreeId(raw) if kind is EntryKind.DIRECTORY else RecipeId(raw)


def directory_digest(entries: Iterable[Entry]) -> ContentDigest:
    """What a directory with these entries, in canonical order, *is*."""
    hasher = blake3(derive_key_context=DIGEST_CONTEXT)
    for entry in entries:
        row = (
            entry.name,
            int(entry.kind),
            bytes(entry.digest),
            entry.size_bytes,
            entry.executable,
            entry.target,
        )
        hasher.update(_encoder.encode(row))
    return ContentDigest(hasher.digest())


def split_points(names: Sequence[str]) -> list[int]:
    """Where a huge directory is cut into spans: exclusive ends, the last being `len(names)`.

    A span ends after a name whose CRC-32 is divisible by 4,096, but is never shorter than 1,024 or longer than 8,192.
    """
    ends: list[int] = []
    start = 0
    for position, name in enumerate(names):
        length = position + 1 - start
        if length >= MAX_TREE_ENTRIES or (length >= _MIN_RUN and zlib.crc32(name.encode("utf-8")) % 4096 == 0):
            ends.append(position + 1)
            start = position + 1
    if start < len(names):
        ends.append(len(names))
    return ends
