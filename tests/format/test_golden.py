"""Is what earlier versions wrote still read, to the last byte?

Each folder under `golden/` is a repository as some version wrote it, with a manifest of all that is in it beside it. A
change that makes these tests fail has changed the format: mend the change, never a golden repository.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from moorage.errors import MoorageError
from moorage.format.config import decode_config, encode_config
from moorage.format.keys import CONFIG_PREFIX, INDEX_PREFIX, PACKS_PREFIX, REFS_PREFIX, parse_pack_key
from moorage.format.pack import decode_footer, encode_footer
from moorage.format.recipe import decode_recipe, encode_recipe
from moorage.format.refs import decode_ref_record, encode_ref_record
from moorage.format.segment import encode_segment
from moorage.format.snapshot import decode_snapshot, encode_snapshot
from moorage.format.tree import decode_tree, encode_fork, encode_tree
from moorage.model.digest import ObjectId
from moorage.model.objects import Codec, ObjectKind, PackEntry, PackLocation
from moorage.model.refs import RefAction
from moorage.model.tree import EntryKind, Tree
from moorage.packs.reader import read_footer, read_object
from moorage.repository.handle import RepositoryHandle
from moorage.storage.base import Storage
from moorage.storage.local import LocalStorage
from tests.format.make_golden import GOLDEN, RECIPES
from tests.format.manifest import Manifest, all_objects, all_segments, manifest_of, open_untouched

REPOSITORIES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())


def expected(name: str) -> Manifest:
    manifest: Manifest = json.loads((GOLDEN / f"{name}.json").read_text("ascii"))
    return manifest


def fingerprint(root: Path) -> dict[str, str]:
    return {
        file.relative_to(root).as_posix(): blake3(file.read_bytes()).hexdigest()
        for file in root.rglob("*")
        if file.is_file()
    }


def test_every_golden_repository_is_covered() -> None:
    manifests = sorted(path.stem for path in GOLDEN.glob("*.json"))
    assert REPOSITORIES == manifests == sorted(RECIPES)


@pytest.mark.parametrize("name", REPOSITORIES)
def test_everything_reads_back_and_nothing_is_written(name: str) -> None:
    before = fingerprint(GOLDEN / name)
    assert manifest_of(GOLDEN / name) == expected(name)
    assert fingerprint(GOLDEN / name) == before


@pytest.mark.parametrize("name", REPOSITORIES)
def test_it_opens_as_any_repository_does(name: str, tmp_path: Path) -> None:
    root = tmp_path / name
    shutil.copytree(GOLDEN / name, root)
    for _ in range(2):  # the second time with the index that the first has left
        with RepositoryHandle.open(root) as handle:
            for snapshot in expected(name)["snapshots"]:
                (found,) = handle.history.find(snapshot)
                tree = handle.objects.snapshot(found).tree
                assert all(handle.trees.at(tree, path) == entry for path, entry in handle.trees.walk(tree))
    assert (root / "derived" / "index" / "data.mdb").exists()


@pytest.mark.parametrize("name", REPOSITORIES)
def test_only_what_is_no_cache_is_kept(name: str) -> None:
    assert {path.name for path in (GOLDEN / name).iterdir()} <= {"config", "packs", "index", "refs"}


def test_they_are_small() -> None:
    assert sum(file.stat().st_size for file in GOLDEN.rglob("*") if file.is_file()) < 300_000


# -- one encoding ----------------------------------------------------------------------------------


def _objects(storage: Storage) -> Iterator[tuple[PackEntry, bytes]]:
    for info in storage.list_keys(PACKS_PREFIX):
        pack = parse_pack_key(info.key)
        for entry in decode_footer(read_footer(storage, pack), pack=pack):
            place = PackLocation(pack, entry.offset_bytes, entry.stored_bytes, entry.raw_bytes, entry.codec)
            yield entry, read_object(storage, entry.id, place)


def _encoded_again(kind: ObjectKind, raw: bytes) -> bytes:
    if kind is ObjectKind.RECIPE:
        return encode_recipe(decode_recipe(raw))
    if kind is ObjectKind.TREE:
        tree = decode_tree(raw)
        return encode_tree(tree) if isinstance(tree, Tree) else encode_fork(tree)
    if kind is ObjectKind.SNAPSHOT:
        return encode_snapshot(decode_snapshot(raw))
    return raw


@pytest.mark.parametrize("name", REPOSITORIES)
def test_objects_encode_to_the_same_bytes(name: str) -> None:
    for entry, raw in _objects(LocalStorage(GOLDEN / name)):
        again = _encoded_again(entry.kind, raw)
        assert again == raw
        assert ObjectId.of(again) == entry.id


@pytest.mark.parametrize("name", REPOSITORIES)
def test_files_encode_to_the_same_bytes(name: str) -> None:
    storage = LocalStorage(GOLDEN / name)
    for info in storage.list_keys(CONFIG_PREFIX):
        data = storage.get(info.key)
        assert encode_config(decode_config(data, key=info.key)) == data
    repository_id = expected(name)["config"]["repository"]
    for info in storage.list_keys(REFS_PREFIX):
        data = storage.get(info.key)
        record = decode_ref_record(data, key=info.key, repository_id=repository_id)
        assert encode_ref_record(record, repository_id=repository_id) == data
    for info in storage.list_keys(PACKS_PREFIX):
        pack = parse_pack_key(info.key)
        footer = read_footer(storage, pack)
        assert encode_footer(decode_footer(footer, pack=pack)) == footer
    encoded = {
        encode_segment([footer for _, footer in segment.packs], segment.supersedes, segment.retired)
        for segment in all_segments(storage)
    }
    assert encoded == {storage.get(info.key) for info in storage.list_keys(INDEX_PREFIX)}


# -- between them they show everything ----------------------------------------------------------------


def _handles() -> Iterable[RepositoryHandle]:
    for name in REPOSITORIES:
        with open_untouched(GOLDEN / name) as handle:
            yield handle


def test_every_kind_and_codec_occurs() -> None:
    entries = [entry for handle in _handles() for entry in all_objects(handle.storage)]
    assert {entry.kind for entry in entries} == set(ObjectKind)
    assert {entry.codec for entry in entries} == set(Codec)


def test_every_action_occurs() -> None:
    records = [record for name in REPOSITORIES for log in expected(name)["logs"].values() for record in log]
    assert {record["action"] for record in records} == {action.value for action in RefAction}


def test_every_kind_of_entry_and_every_shape_of_object_occurs() -> None:
    kinds, forks, recipes, parents = set(), set(), set(), set()
    for name in REPOSITORIES:
        for entry, raw in _objects(LocalStorage(GOLDEN / name)):
            if entry.kind is ObjectKind.TREE:
                tree = decode_tree(raw)
                forks.add(0 if isinstance(tree, Tree) else tree.level)
                kinds |= {found.kind for found in tree} if isinstance(tree, Tree) else set()
            elif entry.kind is ObjectKind.RECIPE:
                recipes.add(decode_recipe(raw).level)
            elif entry.kind is ObjectKind.SNAPSHOT:
                parents.add(len(decode_snapshot(raw).parents))
    assert kinds == set(EntryKind)
    assert forks == {0, 1, 2}
    assert recipes == {0, 1, 2}
    assert parents == {0, 1, 2}


def test_packs_with_and_without_segments_occur() -> None:
    listed = [{pack for segment in all_segments(handle.storage) for pack, _ in segment.packs} for handle in _handles()]
    packs = [sum(key.startswith(PACKS_PREFIX) for key in expected(name)["keys"]) for name in REPOSITORIES]
    assert any(not inside for inside in listed)
    assert any(len(inside) == count for inside, count in zip(listed, packs, strict=True))
    assert any(expected(name)["retired"] and expected(name)["superseded"] for name in REPOSITORIES)


# -- negative control -------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [CONFIG_PREFIX, PACKS_PREFIX, REFS_PREFIX])
def test_a_changed_byte_would_be_noticed(prefix: str, tmp_path: Path) -> None:
    root = tmp_path / "v1-small"
    shutil.copytree(GOLDEN / "v1-small", root)
    file = max((root / prefix).rglob("*"), key=lambda path: path.is_file() and path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    try:
        found = manifest_of(root)
    except MoorageError:
        return
    assert found != expected("v1-small")
