"""Does each number of the statistics count what it says?"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from moorage.format.keys import INDEX_PREFIX, PACKS_PREFIX, REFS_PREFIX
from moorage.maintain.stats import collect_stats
from moorage.model.digest import SnapshotId
from moorage.model.refs import RefKind, RefName
from moorage.model.snapshot import Snapshot
from moorage.repository.handle import RepositoryHandle
from moorage.storage.memory import MemoryStorage
from tests.unit.versioning.build import CHUNK_BYTES, Files, Link, make_snapshot, set_branch


@pytest.fixture
def handle() -> Iterator[RepositoryHandle]:
    with RepositoryHandle.on(MemoryStorage()) as opened:
        yield opened


@dataclass(frozen=True)
class Asked:
    """A revision that has been resolved."""

    revision: str
    snapshot: Snapshot


def noise(seed: int, chunks: int) -> bytes:
    """Bytes of so many different chunks, none of which compresses."""
    return random.Random(seed).randbytes(chunks * CHUNK_BYTES)


def total(handle: RepositoryHandle, prefix: str) -> int:
    return sum(info.size_bytes for info in handle.storage.list_keys(prefix))


def test_an_empty_repository(handle: RepositoryHandle) -> None:
    stats = collect_stats(handle)
    assert (stats.logical_bytes, stats.unique_bytes, stats.stored_bytes, stats.chunks, stats.packs) == (0, 0, 0, 0, 0)
    assert (stats.dedup_ratio, stats.compression_ratio, stats.total_ratio) == (1.0, 1.0, 1.0)


def test_each_version_counts_and_each_chunk_counts_once(handle: RepositoryHandle) -> None:
    first: Files = {"a": noise(1, 3), "copy": noise(1, 3), "l": Link("a"), "e": b"", "d/x": b"x"}
    second: Files = {**first, "b": noise(2, 2)}
    old = make_snapshot(handle, first)
    set_branch(handle, "main", make_snapshot(handle, second, old))
    set_branch(handle, "same", make_snapshot(handle, second, old))
    handle.refs.create(RefName(RefKind.TAG, "v1"), old, actor="t", reason="t")
    stats = collect_stats(handle)
    first_bytes = 6 * CHUNK_BYTES + 2
    assert stats.revision is None
    assert (stats.branches, stats.tags, stats.snapshots) == (2, 1, 2)
    assert stats.logical_bytes == first_bytes + (first_bytes + 2 * CHUNK_BYTES)
    assert stats.files == 4 + 5
    assert (stats.chunks, stats.unique_bytes) == (6, 5 * CHUNK_BYTES + 1)
    assert stats.stored_chunk_bytes > stats.unique_bytes  # noise does not compress, and each chunk has a header
    assert stats.stored_bytes == total(handle, PACKS_PREFIX)
    assert stats.index_bytes == total(handle, INDEX_PREFIX)
    assert stats.refs_bytes == total(handle, REFS_PREFIX)
    assert stats.dedup_ratio == stats.logical_bytes / stats.unique_bytes
    assert stats.by_branch == ()


def test_compression_shows(handle: RepositoryHandle) -> None:
    set_branch(handle, "main", make_snapshot(handle, {"a": b"".join(bytes([n]) * CHUNK_BYTES for n in range(50))}))
    stats = collect_stats(handle)
    assert stats.chunks == 50
    assert stats.compression_ratio > 10
    assert stats.dedup_ratio == 1.0


def test_what_no_ref_leads_to_is_stored_but_not_logical(handle: RepositoryHandle) -> None:
    set_branch(handle, "main", make_snapshot(handle, {"a": b"1"}))
    make_snapshot(handle, {"lost": noise(3, 2)})
    stats = collect_stats(handle)
    assert (stats.logical_bytes, stats.files, stats.chunks) == (1, 1, 3)


def test_a_chunk_in_two_packs_counts_once(handle: RepositoryHandle) -> None:
    with handle.writer() as one, handle.writer() as two:
        for writer in (one, two):
            writer.put_chunk(b"x" * 100)
            writer.put_chunk(b"y" * (100 if writer is one else 101))
        one.finish()
        two.finish()
    stats = collect_stats(handle)
    assert (stats.packs, stats.chunks, stats.unique_bytes) == (2, 3, 301)


def test_a_revision_counts_its_own_tree_only(handle: RepositoryHandle) -> None:
    old = make_snapshot(handle, {"a": noise(1, 3)})
    new = make_snapshot(handle, {"a": noise(1, 3), "b": noise(2, 2), "c": noise(2, 2)}, old)
    set_branch(handle, "main", new)
    stats = collect_stats(handle, Asked("main", handle.objects.snapshot(new)))
    assert (stats.revision, stats.snapshots, stats.files) == ("main", 1, 3)
    assert (stats.logical_bytes, stats.unique_bytes, stats.chunks) == (7 * CHUNK_BYTES, 5 * CHUNK_BYTES, 5)
    assert (stats.packs, stats.stored_bytes) == (2, stats.stored_chunk_bytes)
    assert (stats.branches, stats.tags, stats.index_bytes, stats.refs_bytes) == (None, None, None, None)


def test_by_branch(handle: RepositoryHandle) -> None:
    old = make_snapshot(handle, {"a": noise(1, 3)})
    new: SnapshotId = make_snapshot(handle, {"a": noise(1, 3), "b": noise(2, 1)}, old)
    set_branch(handle, "prod", old)
    set_branch(handle, "exp/one", new)
    stats = collect_stats(handle, by_branch=True)
    assert [(branch.name, branch.snapshot, branch.snapshots) for branch in stats.by_branch] == [
        ("exp/one", new, 2),
        ("prod", old, 1),
    ]
    assert [branch.tree.unique_bytes for branch in stats.by_branch] == [4 * CHUNK_BYTES, 3 * CHUNK_BYTES]
    assert [branch.tree.logical_bytes for branch in stats.by_branch] == [4 * CHUNK_BYTES, 3 * CHUNK_BYTES]


def test_deep_trees_need_no_stack(handle: RepositoryHandle) -> None:
    set_branch(handle, "main", make_snapshot(handle, {"/".join(["d"] * 300) + "/f": b"1"}))
    assert collect_stats(handle).files == 1
