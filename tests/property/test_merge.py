"""What must hold of every merge, whatever the three trees?"""

from __future__ import annotations

from hypothesis import given

from moorage.model.digest import SnapshotId
from moorage.repository.handle import RepositoryHandle
from moorage.storage.memory import MemoryStorage
from moorage.versioning.diff import diff
from moorage.versioning.merge import MergeKind, MergePlan, merge, plan_merge
from moorage.versioning.merge_plan import ConflictKind
from tests.unit.versioning.build import Files, make_snapshot, read_back, set_branch
from tests.unit.versioning.strategies import trees
from tests.unit.versioning.test_merge import PROD, Source

_MIRROR = {
    ConflictKind.MODIFIED_DELETED: ConflictKind.DELETED_MODIFIED,
    ConflictKind.DELETED_MODIFIED: ConflictKind.MODIFIED_DELETED,
}


def _three(base: Files, ours: Files, theirs: Files) -> tuple[RepositoryHandle, SnapshotId, SnapshotId]:
    handle = RepositoryHandle.on(MemoryStorage())
    ancestor = make_snapshot(handle, base, message="base")
    return (
        handle,
        make_snapshot(handle, ours, ancestor, message="ours"),
        make_snapshot(handle, theirs, ancestor, message="theirs"),
    )


def _merged(handle: RepositoryHandle, into: SnapshotId, source: SnapshotId) -> SnapshotId | None:
    """The merged snapshot, or None where there are conflicts."""
    if plan_merge(handle, into, source).conflicts:
        return None
    set_branch(handle, "prod", into)
    return merge(handle, Source("theirs", source), PROD, author="me").snapshot


def _leaf_conflicts(base: Files, ours: Files, theirs: Files) -> set[str]:
    """Paths that both sides changed differently, looked at as a flat list of paths."""
    return {path for path in {*base, *ours, *theirs} if len({_at(base, path), _at(ours, path), _at(theirs, path)}) == 3}


def _at(files: Files, path: str) -> str:
    return repr(files[path]) if path in files else "absent"


@given(base=trees, theirs=trees)
def test_merging_what_did_not_change_changes_nothing(base: Files, theirs: Files) -> None:
    handle, ours, other = _three(base, base, theirs)
    id = _merged(handle, other, ours)
    assert id is not None
    assert read_back(handle, id) == theirs
    id = _merged(handle, ours, other)
    assert id is not None
    assert read_back(handle, id) == theirs


@given(base=trees, both=trees)
def test_two_equal_changes_merge_to_themselves(base: Files, both: Files) -> None:
    handle, ours, theirs = _three(base, both, both)
    id = _merged(handle, ours, theirs)
    assert id is not None
    assert read_back(handle, id) == both
    assert plan_merge(handle, ours, theirs).changes == ()


@given(base=trees, ours=trees)
def test_a_snapshot_and_itself_or_its_child(base: Files, ours: Files) -> None:
    handle, new, _ = _three(base, ours, base)
    old = handle.objects.snapshot(new).parents[0]
    assert plan_merge(handle, new, new).kind is MergeKind.UP_TO_DATE
    assert plan_merge(handle, new, old).kind is MergeKind.UP_TO_DATE
    forward = plan_merge(handle, old, new)
    assert forward.kind is MergeKind.FAST_FORWARD
    assert list(forward.changes) == list(diff(handle, handle.objects.snapshot(old), handle.objects.snapshot(new)))


@given(base=trees, ours=trees, theirs=trees)
def test_a_merge_the_other_way_is_the_same_or_conflicts_in_the_same_places(
    base: Files, ours: Files, theirs: Files
) -> None:
    handle, one, two = _three(base, ours, theirs)
    there, back = plan_merge(handle, one, two), plan_merge(handle, two, one)
    assert _conflicts(there) == [(path, _MIRROR.get(kind, kind), b, a) for path, kind, a, b in _conflicts(back)]
    if not there.conflicts:
        first, second = _merged(handle, one, two), _merged(handle, two, one)
        assert first is not None
        assert second is not None
        assert handle.objects.snapshot(first).digest == handle.objects.snapshot(second).digest


def _conflicts(plan: MergePlan) -> list[tuple[str, ConflictKind, str | None, str | None]]:
    return [
        (
            conflict.path,
            conflict.kind,
            conflict.ours.digest.hex() if conflict.ours else None,
            conflict.theirs.digest.hex() if conflict.theirs else None,
        )
        for conflict in plan.conflicts
    ]


@given(base=trees, ours=trees, theirs=trees)
def test_a_merge_without_conflicts_takes_each_path_from_who_changed_it(base: Files, ours: Files, theirs: Files) -> None:
    handle, one, two = _three(base, ours, theirs)
    id = _merged(handle, one, two)
    if id is None:
        return
    merged = read_back(handle, id)
    for path in {*base, *ours, *theirs}:
        sides = [_at(files, path) for files in (base, ours, theirs)]
        expected = sides[2] if sides[1] == sides[0] else sides[1]
        # An empty directory comes and goes with what is put beside it, so it is no path of its own.
        if "None" not in sides:
            assert _at(merged, path) == expected


@given(base=trees, ours=trees, theirs=trees)
def test_what_a_plan_promises_is_what_changes(base: Files, ours: Files, theirs: Files) -> None:
    handle, one, two = _three(base, ours, theirs)
    plan = plan_merge(handle, one, two)
    id = _merged(handle, one, two)
    if id is not None:
        found = diff(handle, handle.objects.snapshot(one), handle.objects.snapshot(id))
        assert [str(change) for change in found] == [str(change) for change in plan.changes]


@given(base=trees, ours=trees, theirs=trees)
def test_each_path_changed_twice_is_in_a_conflict(base: Files, ours: Files, theirs: Files) -> None:
    handle, one, two = _three(base, ours, theirs)
    conflicts = [conflict.path for conflict in plan_merge(handle, one, two).conflicts]
    for path in _leaf_conflicts(base, ours, theirs):
        if "None" not in {_at(files, path) for files in (base, ours, theirs)}:
            assert any(path == place or path.startswith(f"{place}/") for place in conflicts), (path, conflicts)
