"""Which repository is damaged, and what must a reader say of it when this or that file is?

Small, but with all there is: several packs, one of them without a segment, recipes, files of one chunk, every codec,
two branches with logs, and a tag.
"""

from __future__ import annotations

import itertools
import math
import random
import struct
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from moorage.api import Repository
from moorage.errors import PathNotFoundError
from moorage.format.keys import (
    CONFIG_PREFIX,
    DERIVED_FOLDER,
    INDEX_PREFIX,
    PACKS_PREFIX,
    config_key,
    pack_key,
    parse_pack_key,
    parse_ref_folder,
    ref_key,
    ref_prefix,
    refs_prefix,
)
from moorage.model.config import ChunkingParams, RepositoryConfig
from moorage.model.digest import ChunkId, ObjectId, TreeId
from moorage.model.names import split_path
from moorage.model.objects import Codec, PackEntry
from moorage.model.refs import RefKind, RefRecord
from moorage.model.tree import EntryKind
from moorage.packs.reader import read_entries
from moorage.read.file import FileReader
from tests.damage.damages import Damage, files_of


@dataclass(frozen=True, slots=True)
class Target:
    """One file that a reader asks for."""

    location: str
    data: bytes
    needs: frozenset[str]
    """The files of the repository that its bytes cannot be had without, the index being there."""
    ref: str
    """Below which the records of its branch or tag lie."""
    record: str
    """The newest of them."""
    before: bytes | None
    """What the file was where the ref stood before; None where there was no such file, or the ref was new."""


@dataclass(frozen=True, slots=True)
class Victim:
    """The repository, and what is known of it."""

    folder: Path
    targets: tuple[Target, ...]
    names: dict[str, frozenset[str]]
    """For each file of the repository, the words of which an error that is due to it must say one."""

    def is_affected(self, target: Target, damage: Damage) -> bool:
        """Whether a reader may fail to get the target."""
        if any(path in target.needs for path in damage.paths):
            return True
        # The number of records says which is the last: one that is gone leaves a gap.
        return damage.way == "deleted" and damage.path.startswith(target.ref)

    def is_undone(self, target: Target, damage: Damage) -> bool:
        """Whether the newest record of the target's ref was deleted: the ref then stands where it stood before, and
        nothing on this disk knows better."""
        return damage.way == "deleted" and damage.path == target.record

    def leaves_a_trace(self, damage: Damage) -> bool:
        """Whether `check` can know of it.

        It cannot of the newest record of a ref that is gone, and need not of a segment that is, nor of what is derived:
        nothing is lost with them.
        """
        newest = {target.record for target in self.targets}
        untold = damage.path in newest or damage.path.startswith(INDEX_PREFIX)
        return not (is_derived(damage.path) or (damage.way == "deleted" and untold))

    def names_of(self, damage: Damage) -> frozenset[str]:
        """The words that name what was damaged."""
        return frozenset().union(*(self.names.get(path, {path}) for path in damage.paths))


def is_derived(path: str) -> bool:
    """Whether the file holds nothing that cannot be had from others."""
    return path.startswith(DERIVED_FOLDER + "/")


def make_victim(folder: Path) -> Victim:
    """Make the repository in `folder`, and find out what lies where; the same bytes each time, but for random ids."""
    moments = itertools.count(1_700_000_000_000_000_000, 1_000_000)
    with mock.patch("time.time_ns", side_effect=moments):
        return _make(folder)


def _make(folder: Path) -> Victim:
    config = RepositoryConfig(
        repository_id="5" * 32,
        created_ns=1_700_000_000_000_000_000,
        chunking=ChunkingParams(1024, 8192, 16384),
        pack_target_bytes=24 * 1024,
    )
    source = source_of(folder)
    _write_source(source)
    with Repository.create(folder, config, actor="tester") as repo:
        repo.commit(source, branch="prod", message="all kinds", create=True)
        repo.create_branch("side/line", "prod")
        repo.create_tag("v1", "prod")
        repo.commit(b"on the side", branch="side/line", at="models/one.txt", message="small: a pack without a segment")
        repo.commit(b"once more", branch="prod", at="notes.txt", message="small: a pack without a segment")
        targets = tuple(target for revision in ("prod", "side/line", "v1") for target in _targets(repo, revision))
        codecs = {entry.codec for path in files_of(folder) for entry in _entries(repo, path)}
        assert {Codec.RAW, Codec.ZSTD, Codec.PLANES_2} <= codecs, "every codec is there to be damaged"
        names = {path: _names(repo, path) for path in files_of(folder)}
    return Victim(folder, targets, names)


def source_of(folder: Path) -> Path:
    """The directory that the first snapshot of a victim in `folder` was made from."""
    return folder.parent / "victim-source"


def _write_source(folder: Path) -> None:
    chance = random.Random("victim")
    weights = bytearray()
    for _ in range(20_000):
        # The upper half of a normally distributed float: what bf16 weights are.
        weights += struct.pack("<f", chance.gauss(0, 0.05))[2:]
    files = {
        "models/weights.bf16": bytes(weights),
        "models/noise.bin": chance.randbytes(20_000),
        "models/one.txt": b"one chunk only\n" * 20,
        "table.csv": b"".join(b"%d,%.6f\n" % (n, math.sqrt(n)) for n in range(2_000)),
        "empty": b"",
    }
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    (folder / "latest").symlink_to("models/weights.bf16")


def _targets(repo: Repository, revision: str) -> list[Target]:
    resolved = repo.resolve(revision)
    assert resolved.record is not None
    record = resolved.record
    found = []
    for path, entry in repo.ls(revision, recursive=True):
        if entry.kind is not EntryKind.FILE:
            continue
        ids: list[ObjectId] = [resolved.id, resolved.snapshot.tree]
        for depth in range(1, len(split_path(path))):
            parent = repo.handle.trees.at(resolved.snapshot.tree, "/".join(split_path(path)[:depth]))
            assert isinstance(parent.object, TreeId)
            ids.append(parent.object)
        if entry.object is not None:
            ids.append(entry.object)
        ids += [ChunkId(chunk) for chunk, _ in FileReader(repo.handle, entry).chunks()]
        packs = {pack_key(place.pack) for place in repo.handle.locator.find(ids)}
        needs = frozenset({config_key(1), ref_key(record.ref, record.number), *packs})
        location = f"refs/{record.ref.kind.folder}/{record.ref.name}:{path}"
        found.append(
            Target(
                location,
                repo.read(location),
                needs,
                ref_prefix(record.ref),
                ref_key(record.ref, record.number),
                _before(repo, record, path),
            )
        )
    return found


def _before(repo: Repository, record: RefRecord, path: str) -> bytes | None:
    if record.number == 1:
        return None
    try:
        return repo.read(f"{repo.handle.refs.record(record.ref, record.number - 1).snapshot.hex()}:{path}")
    except PathNotFoundError:
        return None


def _entries(repo: Repository, path: str) -> list[PackEntry]:
    return read_entries(repo.handle.storage, parse_pack_key(path)) if path.startswith(PACKS_PREFIX) else []


def _names(repo: Repository, path: str) -> frozenset[str]:
    """A pack is named by its id or by that of an object in it; a ref record by its key or its ref; else the key."""
    names = {path}
    if path.startswith(PACKS_PREFIX):
        names.add(parse_pack_key(path).hex())
        names.update(entry.id.hex() for entry in _entries(repo, path))
    for kind in RefKind:
        if path.startswith(refs_prefix(kind)):
            names.add(str(parse_ref_folder(kind, path)))
    if path.startswith(CONFIG_PREFIX):
        names.add("there is no repository in")  # without any such record there is none
    return frozenset(names)
