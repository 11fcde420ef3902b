"""How a snapshot is encoded: MessagePack, in its shortest form, of one array.

    [version, tree, digest, size_bytes, parents, author, time_ns, message, metadata]

`version` is 1; `tree` and `digest` are 32 bytes; `parents` is an array of 32-byte ids; `metadata` is a string of
canonical JSON (object keys sorted, no white space), so that any JSON goes in and equal metadata has equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from moorage.errors import FormatError, InvalidInputError, NewerFormatError
from moorage.model.digest import ContentDigest, SnapshotId, TreeId
from moorage.model.snapshot import Json, Snapshot

_VERSION = 1
_MAX_NESTING = 64
"""Of arrays and objects in metadata. How deep a decoder goes depends on how deep its caller stands, and what one commit
could write every reader must be able to read."""


class _Wire(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    tree: bytes
    digest: bytes
    size_bytes: int
    parents: list[bytes]
    author: str
    time_ns: int
    message: str
    metadata: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Wire)


def canonical_json(metadata: Mapping[str, Json]) -> str:
    """Canonical JSON of one object. Raises `InvalidInputError` for what JSON cannot say, such as NaN, and for what is
    nested more than 64 deep."""
    if _nesting(metadata) > _MAX_NESTING:
        raise InvalidInputError(f"metadata is nested more than {_MAX_NESTING} deep")
    try:
        text = msgspec.json.encode(dict(metadata), order="sorted").decode("utf-8")
        again = msgspec.json.decode(text)
        same = msgspec.json.encode(again, order="sorted").decode("utf-8") == text and again == dict(metadata)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidInputError(f"metadata is not JSON: {error}") from error
    if not same:
        raise InvalidInputError("metadata does not survive JSON: use strings for keys, and numbers that JSON can hold")
    return text


def _nesting(value: object) -> int:
    """How deep arrays and objects are nested in `value`; looks no deeper than it must to refuse."""
    level: list[object] = [value]
    for depth in range(_MAX_NESTING + 1):
        inner: list[object] = []
        for item in level:
            if isinstance(item, Mapping):
                inner += item.values()
            elif isinstance(item, list | tuple):
                inner += item
        level = [item for item in inner if isinstance(item, Mapping | list | tuple)]
        if not level:
            return depth + 1
    return _MAX_NESTING + 1


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The canonical bytes, whose BLAKE3 is the snapshot's id. Raises `InvalidInputError` for metadata that is not
    JSON."""
    return _encoder.encode(
        _Wire(
            _VERSION,
            bytes(snapshot.tree),
            bytes(snapshot.digest),
            snapshot.size_bytes,
            [bytes(parent) for parent in snapshot.parents],
            snapshot.author,
            snapshot.time_ns,
            snapshot.message,
            canonical_json(snapshot.metadata),
        )
    )


def decode_snapshot(data: bytes) -> Snapshot:
    """Read a snapshot back. Raises `FormatError`, `NewerFormatError`."""
    # A newer version may have other fields, so its number, a small integer at the front of an array, is looked at
    # before the rest.
    if len(data) >= 2 and data[0] & 0xF0 == 0x90 and _VERSION < data[1] < 0x80:
        raise NewerFormatError(f"a snapshot of version {data[1]}", hint="upgrade moorage")
    try:
        wire = _decoder.decode(data)
        if wire.version != _VERSION:
            raise FormatError(f"not a snapshot: there is no version {wire.version}")
        metadata = msgspec.json.decode(wire.metadata, type=dict[str, object])
        snapshot = Snapshot(
            tree=TreeId(wire.tree),
            digest=ContentDigest(wire.digest),
            size_bytes=wire.size_bytes,
            parents=tuple(SnapshotId(parent) for parent in wire.parents),
            author=wire.author,
            time_ns=wire.time_ns,
            message=wire.message,
            metadata=metadata,  # type: ignore[arg-type]  # msgspec decodes JSON only into JSON
        )
        canonical = encode_snapshot(snapshot) == data
    except (msgspec.DecodeError, InvalidInputError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"not a snapshot: {error}") from error
    if not canonical:
        raise FormatError("not a snapshot: not in canonical form")
    return snapshot
