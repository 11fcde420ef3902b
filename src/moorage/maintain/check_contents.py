"""Is each file, as its recipe makes it, what its entry says that it is?

That every chunk is right does not say that a recipe names the right ones in the right order. So each distinct file is
made once more and hashed whole, a few pieces ahead on all cores. A file of one chunk needs none of that: its digest is
the name of the chunk.

What cannot be read here was found before, chunk by chunk, and is not told again.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from blake3 import blake3

from moorage.errors import DataError, FormatError, StorageDeniedError, StorageError
from moorage.format.stored import Bytes
from moorage.maintain.findings import Findings
from moorage.maintain.report import ProblemKind
from moorage.model.digest import ChunkId, ContentDigest, RecipeId
from moorage.model.progress import Progress
from moorage.repository.objects import ObjectStore

_PIECE_BYTES = 4 * 1024 * 1024
_MOST_THREADS = 16


class ContentChecker:
    """Makes files and hashes them."""

    def __init__(self, objects: ObjectStore, findings: Findings, progress: Progress) -> None:
        """Nothing is read before `check`."""
        self._objects = objects
        self._findings = findings
        self._progress = progress
        self._workers = min(os.cpu_count() or 1, _MOST_THREADS)
        self.hashed_bytes = 0
        """Raw bytes of all files that were made."""

    def check(self, files: Mapping[RecipeId, tuple[ContentDigest, int]]) -> None:
        """Each recipe, with the digest and the size of what it is to make. Raises `StorageDeniedError`."""
        total_bytes = sum(size_bytes for _, size_bytes in files.values())
        self._progress.begin("hashing files", total_bytes=total_bytes, total_files=len(files))
        with ThreadPoolExecutor(self._workers, thread_name_prefix="moorage-check") as pool:
            for recipe, (said, _) in files.items():
                found = self._digest(pool, recipe)
                if found not in (None, said):
                    message = f"it makes a file whose BLAKE3 is {found}, not {said} as an entry says"
                    self._findings.bad_object(ProblemKind.MISMATCH, recipe, message)
                self._progress.advance(files=1)
        self._progress.finish()

    def _digest(self, pool: ThreadPoolExecutor, recipe: RecipeId) -> ContentDigest | None:
        """What the file is; None where it cannot be made."""
        hasher = blake3()
        ahead: deque[Future[list[Bytes]]] = deque()
        try:
            for chunks in self._pieces(recipe):
                ahead.append(pool.submit(self._objects.get_many, chunks))
                if len(ahead) > 2 * self._workers:
                    self._hash(hasher, ahead.popleft().result())
            while ahead:
                self._hash(hasher, ahead.popleft().result())
        except StorageDeniedError:
            raise
        except (DataError, FormatError, StorageError) as error:
            if not self._findings.spoils_something:
                self._findings.bad_object(ProblemKind.CORRUPT_OBJECT, recipe, error.message)
            return None
        finally:
            for future in ahead:
                future.cancel()
        return ContentDigest(hasher.digest())

    def _hash(self, hasher: blake3, parts: list[Bytes]) -> None:
        for part in parts:
            hasher.update(part)
            self.hashed_bytes += len(part)
            self._progress.advance(size_bytes=len(part))

    def _pieces(self, recipe: RecipeId) -> Iterator[list[ChunkId]]:
        """The chunks of a file, in order, some megabytes of them at a time."""
        piece: list[ChunkId] = []
        size_bytes = 0
        for chunk, chunk_bytes in self._chunks(recipe):
            piece.append(chunk)
            size_bytes += chunk_bytes
            if size_bytes >= _PIECE_BYTES:
                yield piece
                piece, size_bytes = [], 0
        if piece:
            yield piece

    def _chunks(self, id: RecipeId) -> Iterator[tuple[ChunkId, int]]:
        recipe = self._objects.recipe(id)
        if recipe.level == 0:
            yield from recipe.chunks()
        else:
            for position in range(len(recipe)):
                yield from self._chunks(recipe.child(position))
