"""Which files need not be read, because what they hold is known and in the repository?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moorage.errors import DataError, FormatError
from moorage.index.stat_cache import FileIdentity, KnownContent, StatCache
from moorage.ingest.small import EMPTY
from moorage.model.digest import ChunkId, ObjectId, RecipeId
from moorage.model.objects import KIND_OF_ID, ObjectKind
from moorage.repository.handle import RepositoryHandle
from moorage.repository.writer import ObjectWriter

_BATCH = 4096


class KnownFiles:
    """Asks the stat cache, and makes sure that the repository has all of what it answers."""

    def __init__(self, handle: RepositoryHandle, writer: ObjectWriter, cache: StatCache | None) -> None:
        """Without a cache nothing is known."""
        self._handle = handle
        self._writer = writer
        self._cache = cache
        self._whole: dict[tuple[ObjectKind, ObjectId], bool] = {}

    def of(self, files: Sequence[FileIdentity]) -> list[KnownContent | None]:
        """What each file holds; None where it must be read."""
        if self._cache is None:
            return [None] * len(files)
        answers: list[KnownContent | None] = []
        for start in range(0, len(files), _BATCH):
            answers += self._confirmed(self._cache.find(files[start : start + _BATCH]))
        return answers

    def _confirmed(self, answers: list[KnownContent | None]) -> list[KnownContent | None]:
        """Forget the answers whose objects are not all there: a collection may have come in between."""
        needed: list[ObjectId] = []
        for answer in answers:
            if answer is not None and answer.digest != EMPTY:
                id = _object_of(answer)
                if _key(id) not in self._whole:
                    self._whole[_key(id)] = False
                    needed.append(id)
        for id, there in zip(needed, self._writer.has(needed), strict=True):
            self._whole[_key(id)] = there and (not isinstance(id, RecipeId) or self._recipe_is_whole(id))
        return [answer if answer is not None and self._is_there(answer) else None for answer in answers]

    def _is_there(self, answer: KnownContent) -> bool:
        return answer.digest == EMPTY or self._whole[_key(_object_of(answer))]

    def _recipe_is_whole(self, id: RecipeId) -> bool:
        try:
            return all(all(self._writer.has(run)) for run in self._references(id))
        except (DataError, FormatError):
            return False

    def _references(self, id: RecipeId) -> Iterator[list[ObjectId]]:
        recipe = self._handle.objects.recipe(id)
        if recipe.level == 0:
            yield [chunk for chunk, _ in recipe.chunks()]
            return
        children = [recipe.child(position) for position in range(len(recipe))]
        yield list(children)
        for child in children:
            yield from self._references(child)


def _object_of(content: KnownContent) -> ObjectId:
    return content.object or ChunkId(content.digest)


def _key(id: ObjectId) -> tuple[ObjectKind, ObjectId]:
    """With its kind: somebody may have stored, as a file, the bytes of a recipe."""
    return KIND_OF_ID[type(id)], id
