"""How do many small files get into the store? Read, cut, hashed, claimed and stored a batch at a time.

Of a small file the calls cost more than the bytes; a batch shares one look into the index and one turn at the writer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from moorage.chunking import chunker_for
from moorage.format.choose import Chooser
from moorage.index.stat_cache import FileIdentity
from moorage.ingest.reading import read_whole
from moorage.ingest.scan import FoundFile
from moorage.ingest.spans import Piece, store_pieces
from moorage.model.digest import ChunkId, ContentDigest, RecipeId
from moorage.repository.tree_writer import RecipeWriter
from moorage.repository.writer import ObjectWriter

EMPTY = ContentDigest.of(b"")
HEAD_BYTES = 4096
"""How much of a file's start a chunker is shown."""
_MAX_KINDS = 256


@dataclass(frozen=True, slots=True)
class StoredFile:
    """The content of one file, stored."""

    digest: ContentDigest
    object: RecipeId | None
    size_bytes: int
    identity: FileIdentity | None
    """What stat said while it was read; None for a stream."""


class SmallFiles:
    """Stores small files. One thread calls its methods."""

    def __init__(self, writer: ObjectWriter) -> None:
        """What suited one file of a kind (told by its suffix) is tried first on the next of that kind."""
        self._writer = writer
        self._choosers: dict[str, Chooser] = {}

    def store(self, batch: Sequence[FoundFile]) -> list[StoredFile]:
        """Store some files; what each holds, in order.

        Raises `SourceChangedError`, `UnreadableSourceError`, `StorageError`.
        """
        read = [read_whole(file) for file in batch]
        pieces: list[Piece] = []
        counts: list[int] = []
        for file, (data, _) in zip(batch, read, strict=True):
            cut = _cut(file.name, data, self._chooser(file.name), self._writer)
            pieces += cut
            counts.append(len(cut))
        ids = iter(store_pieces(pieces, self._writer))
        sizes = iter(len(piece.data) for piece in pieces)
        stored = []
        for (data, identity), count in zip(read, counts, strict=True):
            chunks = list(zip(islice(ids, count), islice(sizes, count), strict=True))
            stored.append(_stored_file(data, identity, chunks, self._writer))
        return stored

    def _chooser(self, name: str) -> Chooser:
        kind = name.rpartition(".")[2]
        chooser = self._choosers.get(kind)
        if chooser is None:
            if len(self._choosers) >= _MAX_KINDS:
                self._choosers.clear()  # suffixes that are numbers never end
            chooser = self._choosers[kind] = Chooser(self._writer.config.compression_level)
        return chooser


def _cut(name: str, data: bytes, chooser: Chooser, writer: ObjectWriter) -> list[Piece]:
    if not data:
        return []
    view = memoryview(data)
    chunking = writer.config.chunking
    if len(data) <= chunking.min_bytes:
        return [Piece(view, 0, chooser)]
    ends = chunker_for(chunking, name, data[:HEAD_BYTES]).cut(view, final=True)
    return [Piece(view[start:end], start, chooser) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _stored_file(
    data: bytes, identity: FileIdentity, chunks: Sequence[tuple[ChunkId, int]], writer: ObjectWriter
) -> StoredFile:
    if not chunks:
        return StoredFile(EMPTY, None, 0, identity)
    if len(chunks) == 1:
        return StoredFile(ContentDigest(chunks[0][0]), None, len(data), identity)
    recipe = RecipeWriter(writer)
    for id, size in chunks:
        recipe.add(id, size)
    return StoredFile(ContentDigest.of(data), recipe_of(recipe), len(data), identity)


def recipe_of(recipe: RecipeWriter) -> RecipeId | None:
    """The recipe of a file that has been added whole; None where one chunk, or nothing, is all of it."""
    made = recipe.finish()
    return made if isinstance(made, RecipeId) else None
