"""Does the repository do what the model of plain dictionaries does, whatever is done to it, in whatever order?

Chunks of a few dozen bytes and packs of a few chunks: recipes, several packs, segments and loose packs all occur. The
index and the stat cache are deleted now and then, the repository is opened again, and a second handle that stays open
throughout must see the same. What the model says cannot be done must fail with the same error and change nothing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from moorage.api import Repository
from moorage.errors import MergeConflictError, MoorageError, RefMovedError, RefNotFoundError
from moorage.ingest.commit import CommitResult
from moorage.model.config import RepositoryConfig
from moorage.model.digest import SnapshotId
from moorage.model.refs import RefKind
from moorage.model.tree import Entry, EntryKind
from moorage.repository.refs import RefStore
from moorage.testing import strategies
from moorage.testing.model import (
    Directory,
    ModelFile,
    ModelLink,
    ModelRepository,
    Node,
    leaves,
    read_directory,
    write_directory,
)
from moorage.versioning.changes import ChangeKind
from moorage.versioning.merge import MergeKind

_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Nothing here is about disks, and most of the time would go into syncing one."""
BRANCHES = st.sampled_from(["prod", "side", "experiment/a", "über alles"])
TAGS = st.sampled_from(["v1", "release/1.0", "side"])
NAMES = st.sampled_from(["a", "b", "models", "file.bin", "ü", "c d"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TREES = strategies.directories(NAMES)
MESSAGES = st.text(max_size=8)


class RepositoryMachine(RuleBasedStateMachine):
    """The real repository and the model, side by side."""

    snapshots: Bundle[SnapshotId] = Bundle("snapshots")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="moorage-machine-", dir=_MEMORY))
        self.model = ModelRepository()
        self.digests: dict[bytes, Directory] = {}
        self.sources = 0

    @initialize(config=strategies.configs())
    def create(self, config: RepositoryConfig) -> None:
        self.root = self.folder / "store"
        self.repo = Repository.create(self.root, config, actor="tester")
        self.other = Repository.open(self.root, actor="onlooker")

    def teardown(self) -> None:
        if hasattr(self, "repo"):
            self.everything_is_there()
            self.repo.close()
            self.other.close()
        shutil.rmtree(self.folder)

    def both(self, in_model: Callable[[], None], in_repository: Callable[[], object]) -> None:
        """Do it in both, or in neither."""
        if not self.refused(in_model, in_repository):
            in_repository()

    def refused(self, in_model: Callable[[], None], in_repository: Callable[[], object]) -> bool:
        """Do it in the model; where that cannot, see that the repository cannot either, for the same reason."""
        expected: type[MoorageError] | None = None
        try:
            in_model()
        except MoorageError as error:
            expected = type(error)
        if expected is not None:
            with pytest.raises(MoorageError) as raised:
                in_repository()
            assert raised.type is expected, raised.value
        return expected is not None

    # -- putting in --------------------------------------------------------------------------------

    def _commit(self, source: Path | bytes, node: Node, branch: str, at: str, message: str, *, create: bool) -> Any:
        """The new snapshot, for the bundle, if there is one."""
        tree: Directory = {}

        def commit() -> CommitResult:
            return self.repo.commit(source, branch=branch, at=at, message=message, create=create)

        def in_model() -> None:
            nonlocal tree
            tree = self.model.tree_with(branch, at, node, create=create)

        if self.refused(in_model, commit):
            return multiple()
        before = self.model.heads(RefKind.BRANCH).get(branch)
        result = commit()
        self.model.commit(branch, result.snapshot, tree, message)
        assert result.unchanged == (before is not None and self.model.snapshots[before].tree == tree)
        # The same tree has the same digest, however it came to be; another tree has another.
        assert self.digests.setdefault(result.digest, tree) == tree
        assert sum(known == tree for known in self.digests.values()) == 1
        return result.snapshot

    @rule(target=snapshots, tree=TREES, branch=BRANCHES, message=MESSAGES, create=st.booleans())
    def commit_directory(self, tree: Directory, branch: str, message: str, create: bool) -> Any:
        return self._commit(self._on_disk(tree), tree, branch, "", message, create=create)

    @rule(target=snapshots, tree=TREES, branch=BRANCHES, at=PATHS, message=MESSAGES)
    def commit_directory_at(self, tree: Directory, branch: str, at: str, message: str) -> Any:
        return self._commit(self._on_disk(tree), tree, branch, at, message, create=True)

    @rule(target=snapshots, data=strategies.contents(), branch=BRANCHES, at=PATHS, create=st.booleans())
    def commit_bytes(self, data: bytes, branch: str, at: str, create: bool) -> Any:
        return self._commit(data, ModelFile(data), branch, at, "", create=create)

    @rule(data=strategies.contents(), branch=BRANCHES)
    def commit_bytes_without_a_path(self, data: bytes, branch: str) -> None:
        self._commit(data, ModelFile(data), branch, "", "", create=True)

    def _on_disk(self, tree: Directory) -> Path:
        self.sources += 1
        folder = self.folder / f"source{self.sources}"
        write_directory(tree, folder)
        return folder

    # -- branches and tags -------------------------------------------------------------------------

    @rule(name=BRANCHES, snapshot=snapshots)
    def create_branch(self, name: str, snapshot: SnapshotId) -> None:
        self.both(
            lambda: self.model.create((RefKind.BRANCH, name), snapshot),
            lambda: self.repo.create_branch(name, snapshot.hex()),
        )

    @rule(name=BRANCHES, snapshot=snapshots)
    def move_branch(self, name: str, snapshot: SnapshotId) -> None:
        self.both(
            lambda: self.model.move((RefKind.BRANCH, name), snapshot),
            lambda: self.repo.move_branch(name, snapshot.hex()),
        )

    @rule(name=BRANCHES, snapshot=snapshots, wrong=snapshots)
    def move_branch_from_elsewhere(self, name: str, snapshot: SnapshotId, wrong: SnapshotId) -> None:
        stands = self.model.heads(RefKind.BRANCH).get(name)
        if stands is None or stands == wrong:
            return
        with pytest.raises(RefMovedError) as raised:
            self.repo.move_branch(name, snapshot.hex(), expected=wrong)
        assert isinstance(stands, SnapshotId)
        assert (raised.value.fields["expected"], raised.value.fields["actual"]) == (wrong.hex(), stands.hex())

    @rule(old=BRANCHES, new=BRANCHES)
    def rename_branch(self, old: str, new: str) -> None:
        self.both(lambda: self.model.rename(old, new), lambda: self.repo.rename_branch(old, new))

    @rule(name=BRANCHES)
    def delete_branch(self, name: str) -> None:
        self.both(lambda: self.model.delete((RefKind.BRANCH, name)), lambda: self.repo.delete_branch(name))

    @rule(name=TAGS, snapshot=snapshots)
    def create_tag(self, name: str, snapshot: SnapshotId) -> None:
        self.both(
            lambda: self.model.create((RefKind.TAG, name), snapshot),
            lambda: self.repo.create_tag(name, snapshot.hex()),
        )

    @rule(name=TAGS)
    def delete_tag(self, name: str) -> None:
        self.both(lambda: self.model.delete((RefKind.TAG, name)), lambda: self.repo.delete_tag(name))

    # -- merges ------------------------------------------------------------------------------------

    @rule(target=snapshots, into=BRANCHES, theirs=snapshots)
    def merge(self, into: str, theirs: SnapshotId) -> Any:
        ours = self.model.heads(RefKind.BRANCH).get(into)
        if ours is None:
            with pytest.raises(RefNotFoundError):
                self.repo.merge(theirs.hex(), into=into)
            return multiple()
        bases = self.model.merge_bases(ours, theirs)
        if len(bases) > 1:
            return multiple()  # which one is taken is not the model's business
        if bases in ([theirs], [ours]):
            kind = MergeKind.UP_TO_DATE if bases == [theirs] else MergeKind.FAST_FORWARD
            event(f"merge: {kind.value}")
            result = self.repo.merge(theirs.hex(), into=into)
            assert (result.kind, result.snapshot) == (kind, ours if bases == [theirs] else theirs)
            if kind is MergeKind.FAST_FORWARD:
                self.model.move((RefKind.BRANCH, into), theirs)
            return multiple()
        try:
            tree = self.model.merged(ours, theirs, bases[0] if bases else None)
        except MergeConflictError:
            event("merge: conflict")
            with pytest.raises(MergeConflictError):
                self.repo.merge(theirs.hex(), into=into)
            return multiple()
        event("merge: three-way")
        result = self.repo.merge(theirs.hex(), into=into, message="merged")
        assert result.kind is MergeKind.THREE_WAY
        assert result.snapshot is not None
        self.model.commit(into, result.snapshot, tree, "merged")
        merged = self.model.snapshots[result.snapshot]
        self.model.snapshots[result.snapshot] = type(merged)(tree, (ours, theirs), "merged")
        return result.snapshot

    # -- what must not matter ------------------------------------------------------------------------

    @rule()
    def reopen(self) -> None:
        self.repo.close()
        self.repo = Repository.open(self.root, actor="tester")

    @rule()
    def delete_what_is_derived(self) -> None:
        self.repo.close()
        self.other.close()
        shutil.rmtree(self.root / "derived")
        self.repo = Repository.open(self.root, actor="tester")
        self.other = Repository.open(self.root, actor="onlooker")

    # -- looking -------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.snapshots)
    @rule(snapshot=snapshots, onlooker=st.booleans())
    def read_a_snapshot(self, snapshot: SnapshotId, onlooker: bool) -> None:
        repo = self.other if onlooker else self.repo
        known = self.model.snapshots[snapshot]
        assert read_directory(repo, snapshot.hex()) == known.tree
        found = repo.resolve(snapshot.hex()).snapshot
        assert (found.parents, found.message) == (known.parents, known.message)
        assert found.size_bytes == sum(len(_bytes(node)) for _, node in leaves(known.tree))

    @rule(snapshot=snapshots)
    def read_the_history(self, snapshot: SnapshotId) -> None:
        log = [id for id, _ in self.repo.log(snapshot.hex())]
        assert len(log) == len(set(log))
        assert set(log) == self.model.history(snapshot)
        position = {id: number for number, id in enumerate(log)}
        assert all(
            position[parent] > position[id] for id in log for parent in self.repo.resolve(id.hex()).snapshot.parents
        )

    @rule(old=snapshots, new=snapshots)
    def compare(self, old: SnapshotId, new: SnapshotId) -> None:
        before, after = dict(leaves(self.model.snapshots[old].tree)), dict(leaves(self.model.snapshots[new].tree))
        gone: dict[str, Node] = {}
        came: dict[str, Node] = {}
        for change in self.repo.diff(old.hex(), new.hex()):
            if change.old is not None:
                assert change.old_path is not None
                gone[change.old_path] = before[change.old_path]
                _assert_same(change.old, before[change.old_path])
            if change.new is not None:
                came[change.path] = after[change.path]
                _assert_same(change.new, after[change.path])
            if change.kind is ChangeKind.RENAMED:
                assert change.old_path is not None
                assert _bytes(before[change.old_path]) == _bytes(after[change.path])
        assert gone == {path: node for path, node in before.items() if after.get(path) != node}
        assert came == {path: node for path, node in after.items() if before.get(path) != node}

    @rule()
    def check(self) -> None:
        report = self.repo.check(data=True)
        assert report.ok, report.problems

    @invariant()
    def every_name_stands_where_it_should(self) -> None:
        if not hasattr(self, "repo"):
            return
        for repo in (self.repo, self.other):
            assert {record.ref.name: record.snapshot for record in repo.branches()} == self.model.heads(RefKind.BRANCH)
            assert {record.ref.name: record.snapshot for record in repo.tags()} == self.model.heads(RefKind.TAG)

    def everything_is_there(self) -> None:
        """At the end: every head, every log, and a check."""
        for kind in RefKind:
            for name, snapshot in self.model.heads(kind).items():
                assert isinstance(snapshot, SnapshotId)
                revision = f"refs/{kind.folder}/{name}"
                assert read_directory(self.other, revision) == self.model.snapshots[snapshot].tree
        refs: RefStore = self.repo.handle.refs
        logs = {
            (ref.kind, ref.name): [(record.action, record.snapshot, record.other) for record in refs.verify_chain(ref)]
            for kind in RefKind
            for ref in refs.all_names(kind)
        }
        assert logs == {
            ref: [(record.action, record.snapshot, record.other) for record in log]
            for ref, log in self.model.logs.items()
        }
        self.check()


def _bytes(node: Node) -> bytes:
    """What a digest is of, and a size."""
    if isinstance(node, ModelFile):
        return node.data
    return node.target.encode() if isinstance(node, ModelLink) else b""


def _assert_same(entry: Entry, node: Node) -> None:
    if isinstance(node, ModelFile):
        assert (entry.kind, entry.size_bytes, entry.executable) == (EntryKind.FILE, len(node.data), node.executable)
    elif isinstance(node, ModelLink):
        assert (entry.kind, entry.target) == (EntryKind.SYMLINK, node.target)
    else:
        assert entry.kind is EntryKind.DIRECTORY


TestRepository = RepositoryMachine.TestCase


def test_a_repository_that_forgets_a_deletion_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: acknowledged, and not done."""
    monkeypatch.setattr(RefStore, "delete", lambda self, ref, **_: self.head(ref))
    quickly = settings(
        max_examples=200, phases=[Phase.generate], database=None, derandomize=True, report_multiple_bugs=False
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(RepositoryMachine, settings=quickly)
