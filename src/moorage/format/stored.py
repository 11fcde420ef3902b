"""How one object's bytes are stored inside a pack, and how they are got back.

    offset   size   field
    0        1      codec
    1        1      kind (see `pack`)
    2        2      zero
    4        4      raw length, at least 1
    8        4      payload length, at least 1
    12       ...    payload

    codec            payload
    0 raw            the raw bytes
    1 zstd           one zstd frame with content size, without checksum or dictionary
    2 planes of 2    byte planes of 2-byte elements
    3 planes of 4    ... of 4-byte elements
    4 planes of 8    ... of 8-byte elements
    5                reserved for OpenZL
    16-31            reserved for deltas against another chunk

    planes of w      size      field
    0                4*w       of each plane: bits 0-30 its stored length, bit 31 set where it is a zstd frame, else raw
    4*w              ...       the planes; plane i holds byte i of every element
    ...              raw % w   the bytes after the last whole element, as they are

Numbers of one type have one noisy byte and one tame one at the same place (of bf16 weights the mantissa and the
exponent); apart, the tame plane compresses and the noisy one is left alone.

Nothing that comes out of here has been verified: whoever asked for the object compares BLAKE3. What *is* checked here,
before any memory is taken, is every length, because a frame of 25 kB can claim 800 MiB.
"""

from __future__ import annotations

import enum
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import xxhash
import zstandard

from moorage import native
from moorage.errors import CorruptDataError, InvalidInputError, NewerFormatError
from moorage.model.objects import Codec, ObjectKind

_HEADER = struct.Struct("<BBHII")
HEADER_BYTES = _HEADER.size
MAX_RAW_BYTES = 64 * 1024 * 1024
"""The longest object; chunks are at most 16 MiB, and metadata objects are split long before."""
WORTHWHILE = 0.97
"""An encoding must bring bytes to this part of their length, or they are stored raw: decoding is not free."""
_ZSTD_BIT = 1 << 31
PLANE_WIDTHS = {Codec.PLANES_2: 2, Codec.PLANES_4: 4, Codec.PLANES_8: 8}
_ENTROPY_PARAMETERS = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_FAST,
    window_log=17,
    hash_log=6,
    min_match=7,
    target_length=0,
    search_log=1,
    chain_log=6,
)
"""Entropy coding with next to no search for matches: of exponents of weights it is both smaller (67.1 % against 69.0 %
of the whole chunk) and 2.3 times faster than level 1, whose chance matches cost more than they save."""


class Method(enum.Enum):
    """How the bytes of one plane, or of a whole chunk, are written."""

    RAW = "raw"
    ENTROPY = "entropy"
    """A zstd frame made by entropy coding alone."""
    ZSTD = "zstd"
    """A zstd frame of the repository's level."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How to write a chunk: a codec, and a method for each of its planes (one for the codecs without planes)."""

    codec: Codec
    methods: tuple[Method, ...]

    def at(self, offset: int) -> Encoding:
        """The same for a chunk that starts `offset` bytes after one that this encoding suits.

        Chunks are cut anywhere: one that starts in the middle of an element has its tame byte in another plane.
        """
        shift = offset % len(self.methods)
        return Encoding(self.codec, self.methods[shift:] + self.methods[:shift]) if shift else self


RAW = Encoding(Codec.RAW, (Method.RAW,))
ZSTD = Encoding(Codec.ZSTD, (Method.ZSTD,))


class _Contexts(threading.local):
    """zstd contexts are costly to make and not thread-safe: one set a thread."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()
        self.entropy = zstandard.ZstdCompressor(compression_params=_ENTROPY_PARAMETERS)
        self.levels: dict[int, zstandard.ZstdCompressor] = {}

    def level(self, level: int) -> zstandard.ZstdCompressor:
        compressor = self.levels.get(level)
        if compressor is None:
            compressor = self.levels[level] = zstandard.ZstdCompressor(level=level)
        return compressor


_contexts = _Contexts()


Bytes: TypeAlias = bytes | memoryview


def compress(data: bytes | memoryview, method: Method, level: int) -> bytes | memoryview:
    """One frame, or `data` itself for `Method.RAW`."""
    if method is Method.RAW:
        return data
    if method is Method.ENTROPY:
        return _contexts.entropy.compress(data)
    return _contexts.level(level).compress(data)


def compress_many(parts: Sequence[memoryview], method: Method, level: int) -> list[Bytes]:
    """What `compress` gives for each, in one call that gives the GIL away once."""
    if method is Method.RAW:
        return list(parts)
    compressor = _contexts.entropy if method is Method.ENTROPY else _contexts.level(level)
    if len(parts) > 1 and hasattr(compressor, "multi_compress_to_buffer"):  # PyPy's has not
        frames = compressor.multi_compress_to_buffer(list(parts), threads=1)
        each = [frames[number] for number in range(len(frames))]
        return [memoryview(frame) for frame in each]  # type: ignore[arg-type]  # a buffer, which its stub leaves out
    return [compressor.compress(part) for part in parts]


def encode_stored(raw: bytes | memoryview, kind: ObjectKind, encoding: Encoding, *, level: int) -> bytes:
    """Header and payload of one object; falls back to raw where the encoding saves next to nothing.

    Raises `InvalidInputError` for an object that no reader would take: an empty one, or one above `MAX_RAW_BYTES`.
    """
    if encoding.codec is Codec.RAW:
        payload: list[Bytes] = [raw]
    elif encoding.codec is Codec.ZSTD:
        payload = [compress(raw, encoding.methods[0], level)]
    else:
        width = PLANE_WIDTHS[encoding.codec]
        length = len(raw) // width
        split = memoryview(native.split_planes(raw, width))
        planes = [split[number * length : (number + 1) * length] for number in range(width)]
        packed = [compress(plane, method, level) for plane, method in zip(planes, encoding.methods, strict=True)]
        payload = planes_payload(planes, packed, split[width * length :])
    return with_header(raw, kind, encoding.codec, payload)


def planes_payload(planes: Sequence[memoryview], packed: Sequence[Bytes], tail: Bytes) -> list[Bytes]:
    """The payload of the codecs of planes; a plane that is no shorter packed (or is itself what is packed) is raw."""
    table: list[int] = []
    parts: list[Bytes] = [b""]
    for plane, frame in zip(planes, packed, strict=True):
        if len(frame) >= len(plane):
            table.append(len(plane))
            parts.append(plane)
        else:
            table.append(len(frame) | _ZSTD_BIT)
            parts.append(frame)
    parts[0] = struct.pack(f"<{len(table)}I", *table)
    parts.append(tail)
    return parts


def with_header(raw: bytes | memoryview, kind: ObjectKind, codec: Codec, payload: Sequence[Bytes]) -> bytes:
    """A stored object of `raw` as `payload` encodes it, or raw where that saves next to nothing.

    Raises `InvalidInputError` for an object that no reader would take.
    """
    if not 1 <= len(raw) <= MAX_RAW_BYTES:
        raise InvalidInputError(f"an object holds 1 to {MAX_RAW_BYTES} bytes, not {len(raw)}")
    payload_bytes = sum(map(len, payload))
    if codec is not Codec.RAW and payload_bytes > len(raw) * WORTHWHILE:
        codec, payload, payload_bytes = Codec.RAW, [raw], len(raw)
    return b"".join([_HEADER.pack(codec, kind, 0, len(raw), payload_bytes), *payload])


def raw_header(kind: ObjectKind, raw_bytes: int) -> bytes:
    """How an object starts that is stored raw."""
    return _HEADER.pack(Codec.RAW, kind, 0, raw_bytes, raw_bytes)


def checksum(stored: bytes | memoryview) -> int:
    """XXH3-64 of a stored object, as its pack's footer lists it."""
    return xxhash.xxh3_64_intdigest(stored)


def decode_stored(stored: bytes | memoryview, *, kind: ObjectKind, raw_bytes: int) -> bytes:
    """The raw bytes of one stored object, not yet verified against its id.

    `kind` and `raw_bytes` are what the footer or the index promised. Raises `CorruptDataError`, `NewerFormatError`.
    """
    width, parts = take_apart(stored, kind=kind, raw_bytes=raw_bytes)
    decoded = [part if length is None else _decompress(part, length) for part, length in parts]
    return bytes(decoded[0]) if width == 1 else native.gather([(width, decoded)])


def take_apart(
    stored: bytes | memoryview, *, kind: ObjectKind, raw_bytes: int
) -> tuple[int, list[tuple[memoryview, int | None]]]:
    """The width of the elements (1 where there are no planes), and the parts that make an object's bytes.

    Each part is a zstd frame and what it must decode to in bytes, or the bytes themselves and None. Raises
    `CorruptDataError`, `NewerFormatError`.
    """
    if len(stored) < HEADER_BYTES:
        raise CorruptDataError("a stored object is cut short")
    codec, kind_found, zero, raw_found, payload_bytes = _HEADER.unpack_from(stored)
    if kind_found != kind or zero or raw_found != raw_bytes or payload_bytes != len(stored) - HEADER_BYTES:
        raise CorruptDataError("the header of a stored object does not say what the index says")
    if not 1 <= raw_bytes <= MAX_RAW_BYTES:
        raise CorruptDataError(f"a stored object claims {raw_bytes} bytes")
    payload = memoryview(stored)[HEADER_BYTES:]
    if codec == Codec.RAW:
        if len(payload) != raw_bytes:
            raise CorruptDataError("a stored object has the wrong length")
        return 1, [(payload, None)]
    if codec == Codec.ZSTD:
        return 1, [(payload, raw_bytes)]
    try:
        width = PLANE_WIDTHS[Codec(codec)]
    except (ValueError, KeyError) as error:
        raise NewerFormatError(f"an object is stored with unknown codec {codec}", hint="upgrade moorage") from error
    return width, _planes_of(payload, width, raw_bytes)


def _planes_of(payload: memoryview, width: int, raw_bytes: int) -> list[tuple[memoryview, int | None]]:
    length, tail = divmod(raw_bytes, width)
    position = 4 * width
    if len(payload) < position + tail:
        raise CorruptDataError("a stored object is cut short")
    table = struct.unpack_from(f"<{width}I", payload)
    if position + sum(size & ~_ZSTD_BIT for size in table) + tail != len(payload):
        raise CorruptDataError("the planes of a stored object do not add up")
    parts: list[tuple[memoryview, int | None]] = []
    for size in table:
        stop = position + (size & ~_ZSTD_BIT)
        is_frame = bool(size & _ZSTD_BIT)
        if not is_frame and stop - position != length:
            raise CorruptDataError("a plane of a stored object has the wrong length")
        parts.append((payload[position:stop], length if is_frame else None))
        position = stop
    parts.append((payload[position:], None))
    return parts


def _decompress(frame: memoryview, raw_bytes: int) -> bytes:
    """Decode exactly one frame of exactly `raw_bytes`; the size is compared before anything is allocated."""
    try:
        _check_frame(frame, raw_bytes)
        raw = _contexts.decompressor.decompress(frame, max_output_size=raw_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptDataError(f"a stored object does not decompress: {error}") from error
    if len(raw) != raw_bytes:
        raise CorruptDataError(f"a zstd frame holds {len(raw)} bytes instead of {raw_bytes}")
    return raw


def _check_frame(frame: memoryview, raw_bytes: int) -> None:
    parameters = zstandard.get_frame_parameters(frame)
    if parameters.content_size != raw_bytes or parameters.dict_id or parameters.has_checksum:
        raise CorruptDataError(f"a zstd frame claims {parameters.content_size} bytes instead of {raw_bytes}")


def decompress_many(frames: Sequence[memoryview], sizes: Sequence[int]) -> list[memoryview]:
    """What each of several frames holds, in one call that gives the GIL away once; each exactly of its size.

    Raises `CorruptDataError`, which does not tell whose frame it is.
    """
    decompressor = _contexts.decompressor
    if len(frames) < 2 or not hasattr(decompressor, "multi_decompress_to_buffer"):  # PyPy's has not
        return [memoryview(_decompress(frame, size)) for frame, size in zip(frames, sizes, strict=True)]
    try:
        for frame, size in zip(frames, sizes, strict=True):
            _check_frame(frame, size)
            # What follows a frame is silently left alone when many are decoded.
            if _frame_bytes(frame) != len(frame):
                raise CorruptDataError("a zstd frame is cut short, or followed by something")
        found = decompressor.multi_decompress_to_buffer(list(frames), threads=1)
    except zstandard.ZstdError as error:
        raise CorruptDataError(f"a stored object does not decompress: {error}") from error
    decoded = [memoryview(found[at]) for at in range(len(found))]  # type: ignore[arg-type]  # see compress_many
    if list(map(len, decoded)) != list(sizes):
        raise CorruptDataError("a zstd frame does not hold what it claims")
    return decoded


def _frame_bytes(frame: memoryview) -> int:
    """How long a frame is, by the headers of its blocks (3 bytes: last, type, size; a run of type 1 is one byte)."""
    position = zstandard.frame_header_size(frame)
    while True:
        if position + 3 > len(frame):
            return position + 3
        header = int.from_bytes(frame[position : position + 3], "little")
        position += 3 + (1 if header >> 1 & 3 == 1 else header >> 3)
        if header & 1:
            return position
