"""How are many chunks encoded and decoded together? Each as it would be alone, with a few calls for all.

Threads that encode or decode give the GIL away for each call of zstd or of the kernel, and have to get it back, which
takes longer than the call where several of them do so all the time.

The byte planes of a whole run hold the planes of its chunks: byte i of the elements of a chunk that starts at offset s
lies in plane (s + i) mod width of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from moorage import native
from moorage.format.stored import (
    PLANE_WIDTHS,
    Bytes,
    Encoding,
    Method,
    compress_many,
    decompress_many,
    encode_stored,
    planes_payload,
    take_apart,
    with_header,
)
from moorage.model.objects import ObjectKind


def encode_run(
    data: memoryview, ends: Sequence[int], kind: ObjectKind, encoding: Encoding, *, level: int
) -> Iterator[bytes]:
    """What `encode_stored` gives for each of the chunks of `data` that end at `ends`, in order.

    `encoding` suits the first chunk; each other is encoded with `encoding.at` its start. Raises `InvalidInputError`.
    """
    chunks = list(pairwise([0, *ends]))
    width = PLANE_WIDTHS.get(encoding.codec)
    together = 0
    if width is not None:
        # The bytes after the last whole element of the run are in no plane of it.
        whole = len(data) - len(data) % width
        together = sum(end <= whole for _, end in chunks)
        yield from _encode_planes(data, chunks[:together], kind, encoding, level)
    for start, end in chunks[together:]:
        yield encode_stored(data[start:end], kind, encoding.at(start), level=level)


def _encode_planes(
    data: memoryview, chunks: Sequence[tuple[int, int]], kind: ObjectKind, encoding: Encoding, level: int
) -> Iterator[bytes]:
    width = PLANE_WIDTHS[encoding.codec]
    planes = _planes(data, chunks, width)
    packed: list[list[Bytes]] = [list(row) for row in planes]
    for method in (Method.ENTROPY, Method.ZSTD):
        places = [
            (row, number)
            for row, (start, _) in enumerate(chunks)
            for number in range(width)
            if encoding.methods[(start + number) % width] is method and planes[row][number]
        ]
        frames = compress_many([planes[row][number] for row, number in places], method, level)
        for (row, number), frame in zip(places, frames, strict=True):
            packed[row][number] = frame
    for (start, end), own, shorter in zip(chunks, planes, packed, strict=True):
        payload = planes_payload(own, shorter, data[end - (end - start) % width : end])
        yield with_header(data[start:end], kind, encoding.codec, payload)


def _planes(data: memoryview, chunks: Sequence[tuple[int, int]], width: int) -> list[list[memoryview]]:
    """The planes of each chunk, as parts of the planes of all of `data`."""
    split = memoryview(native.split_planes(data, width))
    length = len(data) // width
    found = []
    for start, end in chunks:
        size = (end - start) // width
        first = [number % width * length + number // width for number in range(start, start + width)]
        found.append([split[position : position + size] for position in first])
    return found


def decode_many(stored: Sequence[tuple[memoryview, ObjectKind, int]]) -> list[memoryview]:
    """What `decode_stored` gives for each (stored object, kind, raw bytes), as views of a few large buffers.

    What is stored raw is a view of what was given. Raises `CorruptDataError`, `NewerFormatError`, which do not tell
    whose it is: decode them one by one to know.
    """
    apart = [take_apart(data, kind=kind, raw_bytes=raw_bytes) for data, kind, raw_bytes in stored]
    frames = [(part, size) for _, parts in apart for part, size in parts if size is not None]
    decoded = iter(decompress_many([part for part, _ in frames], [size for _, size in frames]))
    pieces = [(width, [part if size is None else next(decoded) for part, size in parts]) for width, parts in apart]
    joined = memoryview(native.gather([piece for piece in pieces if piece[0] > 1]))
    found: list[memoryview] = []
    position = 0
    for (width, parts), (_, _, raw_bytes) in zip(pieces, stored, strict=True):
        if width == 1:
            found.append(parts[0])
        else:
            found.append(joined[position : position + raw_bytes])
            position += raw_bytes
    return found
