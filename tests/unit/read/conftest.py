"""A repository with a large and a small file, and a cache, for the tests of what makes files of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moorage.read.file import FileReader
from tests.unit.read.caches import DATA, Store, noise


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path, {"big": DATA, "small": noise(1000, 1)})
    yield made
    made.handle.close()


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nothing were stored raw."""
    read = FileReader.parts_and_form_at
    monkeypatch.setattr(FileReader, "parts_and_form_at", lambda *words: (read(*words)[0], False))
    monkeypatch.setattr(FileReader, "copy_to", lambda *_: False)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The offsets of the pieces that are made from chunks, one by one."""
    found: list[int] = []
    for name in ("parts_at", "parts_and_form_at"):
        monkeypatch.setattr(FileReader, name, _noting(found, getattr(FileReader, name)))
    return found


def _noting(found: list[int], read: Callable[[FileReader, int, int], object]) -> object:
    def noted(reader: FileReader, offset: int, size: int) -> object:
        found.append(offset)
        return read(reader, offset, size)

    return noted
