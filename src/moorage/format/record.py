"""How small records that people may want to read (configuration, refs) are kept: a line of JSON and a line of checksum.

    line 1    canonical JSON of one object, no newline inside
    line 2    "blake3 " and 64 hexadecimal digits: BLAKE3 of line 1 without its newline

Both lines end in a newline and nothing follows. `cat` shows a record; a flipped bit, a truncation or a torn write is a
`CorruptDataError` that names the key.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from blake3 import blake3

from moorage.errors import CorruptDataError, FormatError, InvalidInputError, NewerFormatError

T = TypeVar("T", bound=msgspec.Struct)
MAX_RECORD_BYTES = 1024 * 1024
"""Checksum line included."""


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not JSON of the right kind: no JSON, no UTF-8, nested without end."""


class _Versioned(msgspec.Struct):
    """All that records of every version have in common."""

    format: int = 1


def encode_record(value: msgspec.Struct) -> bytes:
    """The bytes of one record file. Raises `InvalidInputError` for one that no reader would take, being too long."""
    line = msgspec.json.encode(value)
    data = line + b"\nblake3 " + blake3(line).hexdigest().encode() + b"\n"
    if len(data) > MAX_RECORD_BYTES:
        raise InvalidInputError(f"a record is at most {MAX_RECORD_BYTES} bytes long, this one would be {len(data)}")
    return data


def decode_record(data: bytes, into: type[T], *, key: str) -> T:
    """Read a record file back.

    Raises `CorruptDataError` for damage, `NewerFormatError` for a format version above ours, `FormatError` for what
    does not follow the format although its checksum is right.
    """
    line, newline, rest = data.partition(b"\n")
    if len(data) > MAX_RECORD_BYTES or not newline or rest != b"blake3 " + blake3(line).hexdigest().encode() + b"\n":
        raise CorruptDataError(f"damaged record: {key}", hint="run `moorage check`", key=key)
    try:
        value = msgspec.json.decode(line, type=into)
    except _UNREADABLE as error:
        _refuse_newer(line, key)
        raise FormatError(f"not a record of this format: {key}: {error}", key=key) from error
    if msgspec.json.encode(value) != line:
        _refuse_newer(line, key)
        raise FormatError(f"not canonical: {key}", key=key)
    return value


def _refuse_newer(line: bytes, key: str) -> None:
    """Tell "written by a newer version" from "wrong": a newer record says so in `format`."""
    try:
        version = msgspec.json.decode(line, type=_Versioned).format
    except _UNREADABLE:
        return
    if version > 1:
        raise NewerFormatError(
            f"{key} is of format {version}; this version of moorage reads format 1",
            hint="upgrade moorage",
            key=key,
            format=version,
        )
