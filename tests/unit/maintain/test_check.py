"""Does a check find every kind of damage, name it, and say what it touches; and is it silent where all is well?"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from moorage.errors import MoorageError, StorageDeniedError, StorageError
from moorage.index.lmdb_index import LmdbIndex
from moorage.maintain.check import CheckReport, Problem, ProblemKind, Severity, check
from moorage.model.digest import ChunkId, ObjectId, PackId
from moorage.model.objects import Codec, ObjectKind, PackEntry
from moorage.model.refs import RefKind, RefName
from moorage.repository.handle import RepositoryHandle
from moorage.storage.local import LocalStorage
from tests.unit.versioning.build import Exe, Files, Link, make_snapshot, read_back, set_branch

OLD: Files = {"a/b": random.Random(1).randbytes(5000), "a/run": Exe(b"#!"), "l": Link("a/b"), "e": b"", "z": None}
NEW: Files = {**OLD, "a/b": random.Random(2).randbytes(6000), "new": b"n"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two versions on `main`, the first also on `old`; data, metadata and a segment in files of their own."""
    monkeypatch.setattr("moorage.repository.writer.SMALL_COMMIT_BYTES", 1)
    path = tmp_path / "repo"
    with RepositoryHandle.create(path) as handle:
        first = make_snapshot(handle, OLD)
        set_branch(handle, "main", first)
        set_branch(handle, "main", make_snapshot(handle, NEW, first))
        set_branch(handle, "old", first)
    return path


def checked(root: Path, *, data: bool = True) -> CheckReport:
    with RepositoryHandle.open(root) as handle:
        return check(handle, data=data)


def only(report: CheckReport) -> Problem:
    (problem,) = report.problems
    return problem


def stored_files(root: Path) -> list[Path]:
    """Everything that a repository keeps, but for what is derived."""
    return sorted(path for path in root.rglob("*") if path.is_file() and path.relative_to(root).parts[0] != "derived")


def overwrite(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def pack_of(root: Path, id: ObjectId) -> Path:
    with RepositoryHandle.open(root) as handle:
        place = handle.locator.find([id])[0]
    return root / "packs" / place.pack.hex()[:2] / place.pack.hex()


def damage_object(root: Path, id: ObjectId) -> None:
    """Flip a bit in the stored bytes of one object."""
    with RepositoryHandle.open(root) as handle:
        place = handle.locator.find([id])[0]
    path = root / "packs" / place.pack.hex()[:2] / place.pack.hex()
    data = bytearray(path.read_bytes())
    data[place.stop_bytes - 1] ^= 0x10
    overwrite(path, bytes(data))


# -- nothing wrong -----------------------------------------------------------------------------------


def test_a_sound_repository(root: Path) -> None:
    report = checked(root)
    assert report.ok
    assert report.problems == ()
    assert not report.index_rebuilt
    seen = report.verified
    assert (seen.refs, seen.ref_records, seen.snapshots, seen.segments, seen.packs) == (2, 3, 2, 2, 4)
    # Roots, `a` and `z`; of both versions, `z` being the same.
    assert (seen.trees, seen.recipes, seen.chunks) == (5, 2, 5 + 6 + 2)
    assert seen.objects == seen.trees + seen.recipes + seen.chunks + seen.snapshots
    assert seen.data_bytes > 11_000
    assert report.garbage.packs == report.garbage.leftovers == 0
    assert checked(root, data=False).verified.data_bytes == 0


def test_an_empty_repository(tmp_path: Path) -> None:
    RepositoryHandle.create(tmp_path / "repo").close()
    assert checked(tmp_path / "repo").problems == ()


def test_small_commits_without_segments(tmp_path: Path) -> None:
    with RepositoryHandle.create(tmp_path / "repo") as handle:
        set_branch(handle, "main", make_snapshot(handle, OLD))
        report = check(handle, data=True)
    assert (report.problems, report.verified.segments, report.verified.packs) == ((), 0, 1)


def test_garbage_is_told_and_is_no_problem(root: Path) -> None:
    with RepositoryHandle.open(root) as handle:
        make_snapshot(handle, {"lost": b"lost"})
        (root / "tmp" / "left").write_bytes(b"123")
        report = check(handle)
    assert report.problems == ()
    assert (report.garbage.packs, report.garbage.leftovers, report.garbage.leftover_bytes) == (2, 1, 3)
    assert report.garbage.pack_bytes > 0


def test_a_chunk_that_two_writers_stored(root: Path) -> None:
    with RepositoryHandle.open(root) as handle:
        with handle.writer() as one, handle.writer() as two:
            for number, writer in enumerate((one, two)):
                writer.put_chunk(b"both")
                writer.put_chunk(b"%d" % number)
            one.finish()
            two.finish()
        assert check(handle, data=True).problems == ()


# -- every file, every way ---------------------------------------------------------------------------

Damage = Callable[[Path, bytes], None]
WAYS: dict[str, Damage] = {
    "emptied": lambda path, data: overwrite(path, b""),
    "cut": lambda path, data: overwrite(path, data[:-1]),
    "halved": lambda path, data: overwrite(path, data[: len(data) // 2]),
    "extended": lambda path, data: overwrite(path, data + b"\0"),
    "zeroed": lambda path, data: overwrite(path, bytes(len(data))),
    "flipped": lambda path, data: overwrite(path, bytes([*data[:-1], data[-1] ^ 1])),
    "gone": lambda path, data: path.unlink(),
}


def _is_silent(way: str, key: str) -> bool:
    """What cannot be known, or does not matter: a ref log without its newest records, an index without a segment."""
    return way == "gone" and (key.startswith("index/") or key in _NEWEST_RECORDS)


_NEWEST_RECORDS = {"refs/branches/main/0000000000000002", "refs/branches/old/0000000000000001"}


@pytest.mark.parametrize("way", WAYS)
def test_every_damaged_file_is_reported(root: Path, way: str) -> None:
    for path in stored_files(root):
        key = path.relative_to(root).as_posix()
        data = path.read_bytes()
        WAYS[way](path, data)
        if key.startswith("config/"):
            # Without its configuration a repository does not open; every other damage is reported.
            with pytest.raises(MoorageError):
                RepositoryHandle.open(root)
        else:
            report = checked(root)
            assert report.ok is _is_silent(way, key), (way, key, report.problems)
            name = Path(key).name if key.startswith(("packs/", "index/")) else ""
            assert report.ok or any(name in problem.what for problem in report.problems)
        overwrite(path, data)
    assert checked(root).problems == ()


def test_swapped_files_are_reported(root: Path) -> None:
    files = [path for path in stored_files(root) if "config" not in path.parts]
    for one, other in pairwise(files):
        data = one.read_bytes(), other.read_bytes()
        overwrite(one, data[1])
        overwrite(other, data[0])
        assert not checked(root).ok, (one, other)
        overwrite(one, data[0])
        overwrite(other, data[1])
    assert checked(root).problems == ()


def test_every_flipped_byte_of_a_pack_is_found_with_data(tmp_path: Path) -> None:
    with RepositoryHandle.create(tmp_path / "repo") as handle:
        set_branch(handle, "main", make_snapshot(handle, {"d/f": b"123"}))
    (path,) = (tmp_path / "repo" / "packs").rglob("*/*")
    data = path.read_bytes()
    for position in range(0, len(data), 5):
        overwrite(path, data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        assert not checked(tmp_path / "repo").ok, position
    overwrite(path, data)
    assert checked(tmp_path / "repo").ok


# -- what it touches ---------------------------------------------------------------------------------


def _id(root: Path, revision: str, path: str) -> ObjectId:
    """The object that leads to a file or a directory; of a small file its chunk."""
    with RepositoryHandle.open(root) as handle:
        snapshot = handle.objects.snapshot(handle.refs.head(RefName(RefKind.BRANCH, revision)).snapshot)
        entry = handle.trees.at(snapshot.tree, path)
        found = entry.object or ChunkId(entry.digest)
        return handle.objects.recipe(found).chunk(1) if path == "a/b" else found  # type: ignore[arg-type]  # a recipe


def test_a_damaged_chunk_names_the_files_it_is_in(root: Path) -> None:
    damage_object(root, _id(root, "main", "a/b"))
    problem = only(checked(root))
    assert (problem.severity, problem.kind) == (Severity.ERROR, ProblemKind.CORRUPT_OBJECT)
    assert problem.what.startswith("chunk ")
    assert (problem.affected, problem.affected_count) == (("main:a/b",), 1)
    assert checked(root, data=False).ok  # a chunk's bytes are only read when asked for


def test_a_damaged_tree_names_the_directory(root: Path) -> None:
    damage_object(root, _id(root, "old", "z"))
    for data in (True, False):
        problem = only(checked(root, data=data))
        assert problem.what.startswith("tree ")
        assert problem.affected == ("main:z", "old:z")


def test_a_damaged_snapshot_names_the_branch(root: Path) -> None:
    with RepositoryHandle.open(root) as handle:
        head = handle.refs.head(RefName(RefKind.BRANCH, "main")).snapshot
        parent = handle.objects.snapshot(head).parents[0]
    damage_object(root, head)
    assert only(checked(root)).affected == ("main",)
    with RepositoryHandle.open(root) as handle:
        handle.refs.delete(RefName(RefKind.BRANCH, "old"), actor="t", reason="t")
    assert checked(root).verified.snapshots == 0
    assert parent.hex() not in str(checked(root).problems)


def test_what_only_history_has_is_named_by_its_snapshot(root: Path) -> None:
    target = _id(root, "old", "a/b")
    with RepositoryHandle.open(root) as handle:
        old = handle.refs.delete(RefName(RefKind.BRANCH, "old"), actor="t", reason="t").snapshot
    damage_object(root, target)
    assert only(checked(root)).affected == (f"{old.short}:a/b",)


def test_a_parent_that_is_damaged_is_named_by_its_child(root: Path) -> None:
    with RepositoryHandle.open(root) as handle:
        old = handle.refs.delete(RefName(RefKind.BRANCH, "old"), actor="t", reason="t").snapshot
        head = handle.refs.head(RefName(RefKind.BRANCH, "main")).snapshot
    damage_object(root, old)
    assert only(checked(root)).affected == (head.short,)


def test_a_lost_pack_is_one_problem_with_all_its_paths(root: Path) -> None:
    path = pack_of(root, _id(root, "main", "a/b"))
    path.unlink()
    problem = only(checked(root))
    assert (problem.kind, problem.what) == (ProblemKind.PACK, f"pack {path.name}")
    assert "it is gone; index segment" in problem.message
    assert problem.affected == ("main:a/b", "main:new")


def test_a_lost_pack_that_nothing_lists(tmp_path: Path) -> None:
    root = tmp_path / "repo"
    with RepositoryHandle.create(root) as handle:
        snapshot = make_snapshot(handle, OLD)
        set_branch(handle, "main", snapshot)
    pack_of(root, snapshot).unlink()
    problem = only(checked(root))
    assert (problem.kind, problem.what) == (ProblemKind.MISSING_OBJECT, f"snapshot {snapshot.hex()}")
    assert problem.affected == ("main",)


def test_a_damaged_pack_blames_its_metadata_on_itself(root: Path) -> None:
    path = pack_of(root, _id(root, "old", "a"))
    overwrite(path, path.read_bytes()[:100])
    problem = only(checked(root))
    assert problem.what == f"pack {path.name}"
    # The snapshot of `old` lay in it too, so what that leads to is not known any more.
    assert problem.affected == ("main:z", "old")


def test_a_pack_with_a_wrong_start_holds_what_it_holds(root: Path) -> None:
    path = pack_of(root, _id(root, "main", "a/b"))
    data = path.read_bytes()
    overwrite(path, b"X" + data[1:])
    problem = only(checked(root, data=False))
    assert "can still be read" in problem.message
    assert problem.affected == ()


def test_damage_in_a_copy_that_nobody_reads(root: Path) -> None:
    with RepositoryHandle.open(root) as handle:
        with handle.writer() as one, handle.writer() as two:
            shared = one.put_chunk(b"both")
            two.put_chunk(b"other")
            two.put_chunk(b"both")
            one.finish()
            two.finish()
        set_branch(handle, "main", make_snapshot(handle, {"f": b"both"}))
        used = handle.locator.find([shared])[0].pack
    paths = {path for path in (root / "packs").rglob("*/*") if b"both" in path.read_bytes()}
    (unused,) = [path for path in paths if path.name != used.hex()]
    overwrite(unused, unused.read_bytes().replace(b"both", b"Both"))
    problem = only(checked(root))
    assert problem.what.endswith(f"in pack {unused.name}")
    assert problem.affected == ()


def test_many_paths_are_counted_and_some_are_listed(tmp_path: Path) -> None:
    root = tmp_path / "repo"
    with RepositoryHandle.create(root) as handle:
        snapshot = make_snapshot(handle, {f"d/f{number:03d}": b"same" for number in range(100)})
        set_branch(handle, "main", snapshot)
    damage_object(root, _id(root, "main", "d/f000"))
    problem = only(checked(root))
    assert problem.affected_count == 100
    assert problem.affected == tuple(f"main:d/f{number:03d}" for number in range(20))
    assert str(problem).endswith("main:d/f019 and 80 more")


# -- refs --------------------------------------------------------------------------------------------


def test_a_damaged_old_record_does_not_hide_where_the_branch_stands(root: Path) -> None:
    path = root / "refs" / "branches" / "main" / ("0" * 15 + "1")
    overwrite(path, path.read_bytes().replace(b"tester", b"nobody"))
    report = checked(root)
    problem = only(report)
    assert (problem.kind, problem.what, problem.affected) == (ProblemKind.REF, "branch 'main'", ("main",))
    assert report.verified.snapshots == 2


def test_a_record_of_another_repository(root: Path, tmp_path: Path) -> None:
    with RepositoryHandle.create(tmp_path / "other") as handle:
        set_branch(handle, "main", make_snapshot(handle, OLD))
    record = Path("refs", "branches", "main", "0" * 15 + "1")
    overwrite(root / record, (tmp_path / "other" / record).read_bytes())
    assert only(checked(root)).kind is ProblemKind.REF


def test_a_rename_that_was_cut_short_is_a_warning(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = RefName(RefKind.BRANCH, "old"), RefName(RefKind.BRANCH, "new")

    def renamed(handle: RepositoryHandle, *, cut: bool) -> CheckReport:
        create = LocalStorage.create

        def stop(storage: LocalStorage, key: str, data: bytes) -> None:
            if key.startswith("refs/branches/old/") and cut:
                raise StorageError("the machine went away")
            create(storage, key, data)

        with monkeypatch.context() as patch:
            patch.setattr(LocalStorage, "create", stop)
            try:
                handle.refs.rename(old, new, actor="t", reason="t")
            except StorageError:
                assert cut
        return check(handle)

    with RepositoryHandle.open(root) as handle:
        report = renamed(handle, cut=True)
        problem = only(report)
        assert report.ok
        assert (problem.severity, problem.kind, problem.what) == (
            Severity.WARNING,
            ProblemKind.HALF_RENAMED,
            "branch 'old'",
        )
        handle.refs.delete(new, actor="t", reason="t")
        assert renamed(handle, cut=False).problems == ()
        set_branch(handle, "old", handle.refs.head(new).snapshot)  # the name is used again, for something else
        assert check(handle).problems == ()


def test_a_folder_without_records_is_nothing(root: Path) -> None:
    (root / "refs" / "branches" / "begun").mkdir()
    assert checked(root).problems == ()


# -- what does not belong ----------------------------------------------------------------------------


def test_foreign_files_are_warnings(root: Path) -> None:
    (root / "packs" / "README").write_bytes(b"hello")
    (root / "index" / "notes").write_bytes(b"hello")
    (root / "refs" / "tags" / "..%zz").mkdir(parents=True)
    report = checked(root)
    assert report.ok
    assert [problem.kind for problem in report.problems] == [ProblemKind.FOREIGN] * 3
    assert [problem.what for problem in report.problems] == ["index/notes", "packs/README", "refs/tags/..%zz/"]


# -- the index ---------------------------------------------------------------------------------------


def test_an_index_that_lies_is_built_anew(root: Path) -> None:
    index = LmdbIndex(root / "derived" / "index")
    id = _id(root, "main", "new")
    index.clear()
    wrong = PackEntry(ObjectKind.CHUNK, id, 8, 20, 8, Codec.RAW, 0)
    with RepositoryHandle.open(root) as handle:
        packs = [PackId.parse(path.name) for path in (root / "packs").rglob("*/*")]
        index.add([(packs[0], [wrong])])
        report = check(handle)
        assert report.index_rebuilt
        assert report.ok
        assert only(report).kind is ProblemKind.INDEX
        assert not check(handle).index_rebuilt
        assert read_back(handle, handle.refs.head(RefName(RefKind.BRANCH, "main")).snapshot) == NEW
    index.close()


def test_a_missing_index_is_no_news(root: Path) -> None:
    for path in (root / "derived" / "index").iterdir():
        path.unlink()
    assert checked(root).problems == ()


# -- the medium --------------------------------------------------------------------------------------


def _failing(monkeypatch: pytest.MonkeyPatch, key: str, error: MoorageError) -> None:
    get_ranges = LocalStorage.get_ranges

    def fail(storage: LocalStorage, asked: str, ranges: object) -> list[bytes]:
        if asked.endswith(key):
            raise error
        return get_ranges(storage, asked, ranges)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(LocalStorage, "get_ranges", fail)


def test_a_pack_that_the_disk_cannot_read_is_damage(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack_of(root, _id(root, "main", "a/b"))
    _failing(monkeypatch, path.name, StorageError("cannot read it: Input/output error"))
    problem = only(checked(root))
    assert (problem.what, problem.affected) == (f"pack {path.name}", ("main:a/b", "main:new"))


def test_a_pack_that_may_not_be_read_is_no_damage(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack_of(root, _id(root, "main", "a/b"))
    _failing(monkeypatch, path.name, StorageDeniedError("cannot read it: Permission denied"))
    with pytest.raises(StorageDeniedError):
        checked(root)


# -- how it goes -------------------------------------------------------------------------------------


class _Told:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int | None]] = []
        self.size_bytes = self.open = 0

    def begin(self, what: str, *, total_bytes: int | None, total_files: int | None) -> None:
        self.phases.append((what, total_bytes))
        self.open += 1

    def advance(self, *, size_bytes: int = 0, files: int = 0) -> None:
        self.size_bytes += size_bytes

    def finish(self) -> None:
        self.open -= 1


def test_progress(root: Path) -> None:
    told = _Told()
    with RepositoryHandle.open(root) as handle:
        check(handle, data=True, progress=told)
    total = sum(path.stat().st_size for path in (root / "packs").rglob("*/*"))
    assert told.phases == [("checking packs", total), ("checking history", None), ("hashing files", 11_000)]
    assert 11_000 < told.size_bytes < total + 11_000
    assert told.open == 0


def test_nothing_is_written_and_no_descriptor_stays(root: Path) -> None:
    def state() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in stored_files(root)}

    before, descriptors = state(), len(os.listdir("/proc/self/fd"))
    checked(root)
    assert state() == before
    assert len(os.listdir("/proc/self/fd")) == descriptors
