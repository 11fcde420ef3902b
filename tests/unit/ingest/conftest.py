"""A repository of tiny chunks on disk for every test of ingest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.repository.handle import RepositoryHandle
from tests.unit.repository.stores import TINY


@pytest.fixture
def handle(tmp_path: Path) -> Iterator[RepositoryHandle]:
    with RepositoryHandle.create(tmp_path / "store", TINY) as made:
        yield made


@pytest.fixture
def _well_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds after whatever is laid out now: the stat cache trusts nothing younger than two."""
    now_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + 10_000_000_000)
