"""How does a run of neighbouring chunks get into the store? Hashed, claimed, and what is new encoded and added.

This is what runs on all cores; everything costly in it (BLAKE3, zstd, byte planes) releases the GIL.
"""

from __future__ import annotations

from collections.abc import Sequence

from moorage.format.choose import Chooser
from moorage.format.stored import ZSTD, Encoding, encode_stored
from moorage.model.digest import ChunkId
from moorage.model.objects import ObjectKind
from moorage.packs.writer import StoredObject
from moorage.repository.writer import ObjectWriter

SMALL_BYTES = 8 * 1024
"""Below this choosing costs more than trying: zstd, or raw if that does not help."""


def store_span(
    data: memoryview, ends: Sequence[int], offset: int, writer: ObjectWriter, chooser: Chooser
) -> list[tuple[ChunkId, int]]:
    """Store the chunks of `data` that end at `ends`; returns (id, raw bytes) of each, in order.

    `data` starts at `offset` of its file, and all that has been read of the file was shown to `chooser`. Raises `StorageError`, `CorruptDataError`.
    """
    starts = [0, *ends[:-1]]
    pieces = [data[start:end] for start, end in zip(starts, ends, strict=True)]
    ids = [ChunkId.of(piece) for piece in pieces]
    todo = writer.claim(ids)
    if todo:
        middle = todo[len(todo) // 2]
        encoding = _encoding(pieces[middle], offset + starts[middle], chooser)
        level = writer.config.compression_level
        writer.add_chunks(
            [
                _stored(ids[position], pieces[position], encoding.at(offset + starts[position]), level)
                for position in todo
            ]
        )
    return [(id, len(piece)) for id, piece in zip(ids, pieces, strict=True)]


def _encoding(sample: memoryview, offset: int, chooser: Chooser) -> Encoding:
    return ZSTD if len(sample) < SMALL_BYTES else chooser.choose(sample, offset)


def _stored(id: ChunkId, piece: memoryview, encoding: Encoding, level: int) -> StoredObject:
    stored = encode_stored(piece, ObjectKind.CHUNK, encoding, level=level)
    return StoredObject(ObjectKind.CHUNK, id, stored, len(piece))
