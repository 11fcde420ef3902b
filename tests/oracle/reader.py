"""Can a repository be read by docs/format/v1.md alone? This reader knows that page and nothing of the code.

BLAKE3, XXH3 and zstd come from their libraries, everything else is here: keys, records, packs, planes, MessagePack,
recipes, trees, digests. Slow and strict: what the page does not allow is an AssertionError.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import xxhash
import zstandard
from blake3 import blake3

CHUNK, RECIPE, TREE, SNAPSHOT = 1, 2, 3, 4
FILE, DIRECTORY, SYMLINK = 1, 2, 3


def record(data: bytes) -> dict[str, Any]:
    """Records: a line of JSON, a line of checksum."""
    assert len(data) <= 1_048_576
    line, second, rest = data.split(b"\n")
    assert rest == b""
    assert second == b"blake3 " + blake3(line).hexdigest().encode()
    value: dict[str, Any] = json.loads(line)
    return value


def unpack(data: bytes) -> Any:
    """MessagePack, of which the format uses integers, booleans, strings, bytes and arrays; shortest forms only."""
    value, end = _value(data, 0)
    assert end == len(data)
    return value


_NUMBERS = {0xCC: ("B", 0x80), 0xCD: (">H", 1 << 8), 0xCE: (">I", 1 << 16), 0xCF: (">Q", 1 << 32)}
_LENGTHS = {
    0xC4: ("B", 0, "bytes"),
    0xC5: (">H", 1 << 8, "bytes"),
    0xC6: (">I", 1 << 16, "bytes"),
    0xD9: ("B", 32, "text"),
    0xDA: (">H", 1 << 8, "text"),
    0xDB: (">I", 1 << 16, "text"),
    0xDC: (">H", 16, "array"),
    0xDD: (">I", 1 << 16, "array"),
}


def _value(data: bytes, at: int) -> tuple[Any, int]:
    first = data[at]
    at += 1
    if first < 0x80:
        return first, at
    if first in (0xC2, 0xC3):
        return first == 0xC3, at
    if first in _NUMBERS:
        code, least = _NUMBERS[first]
        (number,) = struct.unpack_from(code, data, at)
        assert number >= least
        return number, at + struct.calcsize(code)
    if first & 0xE0 == 0xA0:
        return _sized(data, at, first & 0x1F, "text")
    if first & 0xF0 == 0x90:
        return _sized(data, at, first & 0x0F, "array")
    code, least, kind = _LENGTHS[first]
    (length,) = struct.unpack_from(code, data, at)
    assert length >= least
    return _sized(data, at + struct.calcsize(code), length, kind)


def _sized(data: bytes, at: int, length: int, kind: str) -> tuple[Any, int]:
    if kind == "array":
        items = []
        for _ in range(length):
            item, at = _value(data, at)
            items.append(item)
        return items, at
    assert at + length <= len(data)
    raw = data[at : at + length]
    return (raw if kind == "bytes" else raw.decode("utf-8")), at + length


def pack(value: Any) -> bytes:
    """The same, the other way round, for digests of directories."""
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        if value < 0x80:
            return bytes([value])
        code, struct_code = next((c, s) for c, (s, _) in _NUMBERS.items() if value < 1 << 8 * struct.calcsize(s))
        return bytes([code]) + struct.pack(struct_code, value)
    if isinstance(value, list):
        assert len(value) < 16
        return bytes([0x90 | len(value)]) + b"".join(pack(item) for item in value)
    raw, codes = (value, (0xC4, 0xC5, 0xC6)) if isinstance(value, bytes) else (value.encode(), (0xD9, 0xDA, 0xDB))
    if isinstance(value, str) and len(raw) < 32:
        return bytes([0xA0 | len(raw)]) + raw
    for code in codes:
        struct_code = _LENGTHS[code][0]
        if len(raw) < 1 << 8 * struct.calcsize(struct_code):
            return bytes([code]) + struct.pack(struct_code, len(raw)) + raw
    raise AssertionError("too long")


def frame(data: bytes, raw_bytes: int) -> bytes:
    """One zstd frame that states its content size."""
    parameters = zstandard.get_frame_parameters(data)
    assert parameters.content_size == raw_bytes
    assert not parameters.has_checksum
    assert not parameters.dict_id
    return zstandard.ZstdDecompressor().decompress(data, max_output_size=raw_bytes, allow_extra_data=False)


def stored_object(stored: bytes, kind: int, codec: int, raw_bytes: int) -> bytes:
    """A stored object, decoded."""
    found_codec, found_kind, zero, found_raw, length = struct.unpack_from("<BBHII", stored)
    assert (found_codec, found_kind, zero, found_raw, length) == (codec, kind, 0, raw_bytes, len(stored) - 12)
    payload = stored[12:]
    if codec == 0:
        return payload
    if codec == 1:
        return frame(payload, raw_bytes)
    width = {2: 2, 3: 4, 4: 8}[codec]
    count = raw_bytes // width
    at = 4 * width
    raw = bytearray(raw_bytes)
    for plane, length in enumerate(struct.unpack_from(f"<{width}I", payload)):
        piece = payload[at : at + (length & 0x7FFF_FFFF)]
        at += len(piece)
        raw[plane : count * width : width] = frame(piece, count) if length >> 31 else piece
    assert len(payload) - at == raw_bytes % width
    raw[count * width :] = payload[at:]
    return bytes(raw)


@dataclass
class Repository:
    """A repository, read by key."""

    root: Path

    def __post_init__(self) -> None:
        numbers = sorted((self.root / "config").iterdir())
        self.config = record(numbers[-1].read_bytes())
        assert self.config["format"] == 1
        assert self.config["features"] == []
        assert self.config["chunking"]["algorithm"] == "gear64"
        assert int(numbers[-1].name) == self.config["number"]
        self.objects: dict[tuple[int, bytes], bytes] = {}
        for file in (self.root / "packs").glob("*/*"):
            assert file.parent.name == file.name[:2]
            for entry in self._footer(file):
                self._take_in(file, *entry)

    def _footer(self, file: Path) -> Iterator[tuple[bytes, int, int, int, int, int, int]]:
        data = file.read_bytes()
        assert data[:8] == b"MOORPACK"
        length, pack_id, magic = struct.unpack("<Q32s8s", data[-48:])
        footer = data[-48 - length : -48]
        assert magic == b"MOORTAIL"
        assert blake3(footer).digest() == pack_id == bytes.fromhex(file.name)
        magic, version, count = struct.unpack_from("<8sII", footer)
        assert (magic, version, len(footer)) == (b"MOORFOOT", 1, 16 + 64 * count)
        at = 8
        for id, offset, checksum, stored, raw, kind, codec in struct.iter_unpack("<32sQQIIBB6x", footer[16:]):
            assert offset == at
            at += stored
            yield id, offset, checksum, stored, raw, kind, codec
        assert at == len(data) - 48 - length

    def _take_in(
        self, file: Path, id: bytes, offset: int, checksum: int, length: int, raw_bytes: int, kind: int, codec: int
    ) -> None:
        stored = file.read_bytes()[offset : offset + length]
        assert xxhash.xxh3_64_intdigest(stored) == checksum
        raw = stored_object(stored, kind, codec, raw_bytes)
        assert blake3(raw).digest() == id
        self.objects[kind, id] = raw

    def segments(self) -> Iterator[tuple[list[str], list[str], list[str]]]:
        """(superseded, retired, listed) of each segment."""
        for file in (self.root / "index").glob("*"):
            data = file.read_bytes()
            assert blake3(data).hexdigest() == file.name
            magic, version, superseded, retired, listed = struct.unpack_from("<8sIIII", data)
            assert (magic, version) == (b"MOORSEGM", 1)
            at = 24 + 32 * (superseded + retired)
            ids = [data[start : start + 32].hex() for start in range(24, at, 32)]
            packs = []
            for _ in range(listed):
                (length,) = struct.unpack_from("<I", data, at)
                packs.append(blake3(data[at + 4 : at + 4 + length]).hexdigest())
                at += 4 + length
            assert at == len(data)
            assert packs == sorted(set(packs))
            yield ids[:superseded], ids[superseded:], packs

    def logs(self) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
        """(kind, name, records) of each ref."""
        for folder in (self.root / "refs").glob("*/*"):
            kind = {"branches": "branch", "tags": "tag"}[folder.parent.name]
            name = unquote_to_bytes(folder.name).decode("utf-8")
            records = [record(file.read_bytes()) for file in sorted(folder.iterdir())]
            for number, found in enumerate(records, 1):
                assert (found["kind"], found["name"], found["number"]) == (kind, name, number)
                assert (folder / f"{number:016d}").exists()
                assert found["repository"] == self.config["repository"]
                assert found["previous"] == (records[number - 2]["transaction"] if number > 1 else "")
            yield kind, name, records

    def snapshot(self, id: str) -> list[Any]:
        """The fields of a snapshot."""
        fields: list[Any] = unpack(self.objects[SNAPSHOT, bytes.fromhex(id)])
        assert fields[0] == 1
        return fields

    def entries(self, tree: bytes, level: int | None = None) -> list[list[Any]]:
        """The entries of one directory."""
        found, rows = unpack(self.objects[TREE, tree])
        assert level in (None, found)
        if found == 0:
            return rows  # type: ignore[no-any-return]  # a list, as the page says
        entries: list[list[Any]] = []
        for last_name, count, object_id in rows:
            span = self.entries(object_id, found - 1)
            assert (span[-1][0], len(span)) == (last_name, count)
            entries += span
        return entries

    def content(self, entry: list[Any]) -> bytes:
        """What a file holds."""
        _, _, digest, object_id, size, *_ = entry
        if object_id:
            data = self._recipe(object_id, size)
        else:
            data = self.objects[CHUNK, digest] if size else b""
        assert len(data) == size
        return data

    def _recipe(self, id: bytes, size: int, level: int | None = None) -> bytes:
        data = self.objects[RECIPE, id]
        found, count = struct.unpack_from("<B3xI", data)
        assert level in (None, found)
        width = 8 if found else 4
        sizes = struct.unpack_from(f"<{count}{'Q' if found else 'I'}", data, 8)
        ids = data[8 + width * count :]
        assert (len(ids), sum(sizes)) == (32 * count, size)
        parts = []
        for number, part in enumerate(sizes):
            reference = ids[32 * number : 32 * number + 32]
            parts.append(self._recipe(reference, part, found - 1) if found else self.objects[CHUNK, reference])
        return b"".join(parts)

    def digest(self, entry: list[Any]) -> bytes:
        """What an entry is, worked out from what it holds."""
        _, kind, _, object_id, *_, target = entry
        if kind == FILE:
            return blake3(self.content(entry)).digest()
        if kind == SYMLINK:
            return blake3(target.encode()).digest()
        return self.directory_digest(object_id)

    def directory_digest(self, tree: bytes) -> bytes:
        """What a directory is, worked out from all below it."""
        hasher = blake3(derive_key_context="moorage 2026-11 directory digest v1")
        for entry in self.entries(tree):
            name, kind, _, _, size, _, executable, target = entry
            hasher.update(pack([name, kind, self.digest(entry), size, executable, target]))
        return hasher.digest()

    def walk(self, tree: bytes, path: str = "") -> Iterator[tuple[str, list[Any]]]:
        """Everything below a directory, parents before children."""
        names = [entry[0].encode() for entry in self.entries(tree)]
        assert names == sorted(set(names))
        for entry in self.entries(tree):
            here = f"{path}/{entry[0]}" if path else entry[0]
            yield here, entry
            if entry[1] == DIRECTORY:
                yield from self.walk(entry[3], here)
