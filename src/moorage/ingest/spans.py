"""How do chunks get into the store? Hashed, claimed, and what is new encoded and added, many at a time.

This is what runs on all cores; everything costly in it (BLAKE3, zstd, byte planes) releases the GIL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from moorage.format.choose import Chooser
from moorage.format.many import encode_run
from moorage.format.stored import ZSTD, Encoding, encode_stored
from moorage.model.digest import ChunkId
from moorage.model.objects import ObjectKind
from moorage.packs.writer import StoredObject
from moorage.repository.writer import ObjectWriter

SMALL_BYTES = 8 * 1024
"""Below this choosing costs more than trying: zstd, or raw if that does not help."""


class Piece(NamedTuple):
    """One chunk of a small file."""

    data: memoryview
    offset: int
    """Where it starts in its file."""
    chooser: Chooser


def store_span(
    data: memoryview, ends: Sequence[int], offset: int, writer: ObjectWriter, chooser: Chooser
) -> list[tuple[ChunkId, int]]:
    """Store the chunks of a run of one file that end at `ends`; returns (id, raw bytes) of each, in order.

    `data` starts at `offset` of the file. One encoding is chosen for the whole run. Raises `StorageError`,
    `CorruptDataError`.
    """
    starts = [0, *ends[:-1]]
    pieces = [data[start:end] for start, end in zip(starts, ends, strict=True)]
    ids = [ChunkId.of(piece) for piece in pieces]
    todo = writer.claim(ids)
    if todo:
        middle = todo[len(todo) // 2]
        encoding = _encoding(pieces[middle], offset + starts[middle], chooser)
        for first, last in _neighbours(todo):
            start = starts[first]
            encoded = encode_run(
                data[start : ends[last]],
                [end - start for end in ends[first : last + 1]],
                ObjectKind.CHUNK,
                encoding.at(offset + start),
                level=writer.config.compression_level,
            )
            numbers = range(first, last + 1)
            writer.add_chunks(
                [
                    StoredObject(ObjectKind.CHUNK, ids[i], stored, len(pieces[i]))
                    for i, stored in zip(numbers, encoded, strict=True)
                ]
            )
    return [(id, len(piece)) for id, piece in zip(ids, pieces, strict=True)]


def _neighbours(positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(first, last) of each run of positions that follow one another."""
    first = last = positions[0]
    for position in positions[1:]:
        if position != last + 1:
            yield first, last
            first = position
        last = position
    yield first, last


def store_pieces(pieces: Sequence[Piece], writer: ObjectWriter) -> list[ChunkId]:
    """Store chunks of many files, each encoded as suits its kind of file; returns their ids, in order.

    Raises `StorageError`, `CorruptDataError`.
    """
    ids = [ChunkId.of(piece.data) for piece in pieces]
    level = writer.config.compression_level
    stored = []
    for i in writer.claim(ids):
        data, offset, chooser = pieces[i]
        stored.append(_stored(ids[i], data, _encoding(data, offset, chooser).at(offset), level))
    writer.add_chunks(stored)
    return ids


def _encoding(sample: memoryview, offset: int, chooser: Chooser) -> Encoding:
    return ZSTD if len(sample) < SMALL_BYTES else chooser.choose(sample, offset)


def _stored(id: ChunkId, piece: memoryview, encoding: Encoding, level: int) -> StoredObject:
    stored = encode_stored(piece, ObjectKind.CHUNK, encoding, level=level)
    return StoredObject(ObjectKind.CHUNK, id, stored, len(piece))
