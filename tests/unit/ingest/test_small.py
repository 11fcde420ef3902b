"""Are small files stored right whatever came before, when what suited a kind of file is tried on the next batch?"""

from __future__ import annotations

from pathlib import Path

import pytest

import moorage
from moorage.ingest import small
from tests.unit.native.backends import random_bytes

SIZE = 20_000


def contents() -> dict[str, bytes]:
    """Files of one suffix that want different encodings, and more suffixes than are remembered."""
    made = {}
    for number in range(24):
        noise = random_bytes(f"small-{number}", SIZE)
        tame = bytes(byte if at % 2 else 63 for at, byte in enumerate(noise))
        made[f"a{number:02}.bin"] = (noise, tame, b"%d " % number * 5_000, b"")[number % 4]
        made[f"b.{number:02}"] = (tame, noise)[number % 2]
    return made


def test_kinds_that_change_and_kinds_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small, "_MAX_KINDS", 3)
    source = tmp_path / "source"
    source.mkdir()
    for name, data in contents().items():
        (source / name).write_bytes(data)
    with moorage.Repository.create(tmp_path / "store") as repo:
        result = repo.commit(source, branch="b", create=True)
        for name, data in contents().items():
            assert repo.read(f"b:{name}") == data
    # A third of the files is tame, and half of each of these; noise is not compressed, but is not larger either.
    assert result.stored_bytes < result.new_bytes * 0.9
