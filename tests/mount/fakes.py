"""A repository in plain dictionaries, for tests of the view and of what is over it, without a disk or a kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count

from moorage.errors import StorageError
from moorage.model.digest import ContentDigest, SnapshotId, TreeId
from moorage.model.refs import RefAction, RefKind, RefName, RefRecord
from moorage.model.snapshot import Snapshot
from moorage.model.tree import Entry, EntryKind, Tree
from moorage.mount.shown.all_branches import Everything
from moorage.mount.shown.following import Fixed, Following, Standing
from moorage.mount.shown.view import View
from tests.mount.build import MOMENT_NS, Content, Link, Program


class Bytes:
    """A reader of bytes in memory."""

    def __init__(self, data: bytes) -> None:
        """Read `data`."""
        self._data = data

    def read_at(self, offset: int, size: int) -> bytes:
        """As `FileReader`."""
        return b"".join(self.parts_at(offset, size))

    def parts_at(self, offset: int, size: int) -> list[bytes | memoryview]:
        """As `FileReader`: in two pieces where there is more than a byte."""
        data = self._data[offset : offset + size]
        half = len(data) // 2
        return [part for part in (data[:half], memoryview(data)[half:]) if part]

    def hydrated(self) -> None:
        """Memory is no file."""

    def close(self) -> None:
        """Nothing is held."""


class FakeRepository:
    """Trees, refs and snapshots; everything that a view and a following root ask for."""

    def __init__(self) -> None:
        """Nothing is stored yet."""
        self.trees: dict[TreeId, Tree] = {}
        self.data: dict[ContentDigest, bytes] = {}
        self.snapshots: dict[SnapshotId, Snapshot] = {}
        self.records: dict[RefName, list[RefRecord]] = {}
        self.probes = 0
        self.is_unreachable = False
        self._numbers = count(1)

    # -- what the view asks -----------------------------------------------------------------------

    def lookup(self, tree: TreeId, name: str) -> Entry | None:
        """As `TreeReader.lookup`."""
        return self.trees[tree].get(name)

    def entries(self, tree: TreeId) -> Iterator[Entry]:
        """As `TreeReader.entries`."""
        return iter(self.trees[tree])

    def open(self, entry: Entry) -> Bytes:
        """As `FileReader`."""
        return Bytes(self.data[entry.digest])

    def last(self, ref: RefName, after: RefRecord | None = None) -> RefRecord | None:
        """As `RefStore.last`."""
        self.probes += 1
        if self.is_unreachable:
            raise StorageError("the disk is gone")
        records = self.records.get(ref)
        return records[-1] if records else None

    def snapshot(self, id: SnapshotId) -> Snapshot:
        """As `ObjectStore.snapshot`."""
        return self.snapshots[id]

    def log(self, ref: RefName) -> list[RefRecord]:
        """As `RefStore.log`."""
        return self.records[ref]

    def candidates(self, kind: RefKind) -> list[RefName]:
        """As `RefStore.candidates`."""
        return sorted((ref for ref in self.records if ref.kind is kind), key=lambda ref: ref.name)

    def find(self, prefix: str) -> list[SnapshotId]:
        """As `History.find`."""
        return [id for id in self.snapshots if id.hex().startswith(prefix)]

    # -- what a test does -------------------------------------------------------------------------

    def store(self, files: Mapping[str, Content]) -> SnapshotId:
        """Store a tree of nested names; returns its snapshot."""
        tree, digest, size = self._store_tree(files)
        id = SnapshotId.of(b"snapshot %d" % next(self._numbers))
        self.snapshots[id] = Snapshot(tree, digest, size, (), "tester", MOMENT_NS, "")
        return id

    def record(
        self,
        name: str,
        action: RefAction,
        snapshot: SnapshotId,
        other: str = "",
        kind: RefKind = RefKind.BRANCH,
        time_ns: int = 0,
    ) -> RefRecord:
        """Append a record to a branch, or to a tag; its time is its number unless given."""
        ref = RefName(kind, name)
        before = self.records.setdefault(ref, [])
        number = len(before) + 1
        previous = before[-1].transaction if before else ""
        made = RefRecord(
            ref, number, action, snapshot, f"{next(self._numbers):032x}", previous, time_ns or number, "t", "t", other
        )
        before.append(made)
        return made

    def set(self, name: str, files: Mapping[str, Content]) -> SnapshotId:
        """Let a branch stand at a new snapshot."""
        id = self.store(files)
        self.record(name, RefAction.SET, id)
        return id

    def rename(self, old: str, new: str) -> None:
        """Rename a branch, in the order in which the repository writes it."""
        snapshot = self.records[branch(old)][-1].snapshot
        self.record(new, RefAction.RENAMED_FROM, snapshot, old)
        self.record(old, RefAction.RENAMED_TO, snapshot, new)

    def following(self, name: str) -> Following:
        """A root that follows a branch from where it stands now."""
        record = self.records[branch(name)][-1]
        return Following(self, self, record, Standing.at(record.snapshot, self.snapshots[record.snapshot], name))

    def view(self, name: str) -> View:
        """A view that follows a branch."""
        return View(self, self.open, self.following(name))

    def whole_view(self) -> View:
        """A view of everything."""
        return View(self, self.open, Everything(self, self, self))

    def fixed_view(self, files: Mapping[str, Content]) -> View:
        """A view of one snapshot."""
        id = self.store(files)
        return View(self, self.open, Fixed(Standing.at(id, self.snapshots[id])))

    def _store_tree(self, files: Mapping[str, Content]) -> tuple[TreeId, ContentDigest, int]:
        tree = Tree.of([self._entry(name, content) for name, content in files.items()])
        canonical = repr([(entry.name, entry.kind, entry.digest, entry.executable) for entry in tree]).encode()
        id = TreeId.of(canonical)
        self.trees[id] = tree
        return id, ContentDigest.of(canonical), tree.size_bytes

    def _entry(self, name: str, content: Content) -> Entry:
        if isinstance(content, Mapping):
            tree, digest, size = self._store_tree(content)
            return Entry(name, EntryKind.DIRECTORY, digest, tree, size, MOMENT_NS)
        if isinstance(content, Link):
            raw = content.target.encode()
            digest = ContentDigest.of(raw)
            return Entry(name, EntryKind.SYMLINK, digest, None, len(raw), MOMENT_NS, target=content.target)
        assert isinstance(content, bytes | Program)  # nothing huge lies in a dictionary
        data = content.data if isinstance(content, Program) else content
        digest = ContentDigest.of(data)
        self.data[digest] = data
        return Entry(name, EntryKind.FILE, digest, None, len(data), MOMENT_NS, isinstance(content, Program))


def branch(name: str) -> RefName:
    """A branch by name."""
    return RefName(RefKind.BRANCH, name)


def failing(error: Exception) -> Callable[..., Bytes]:
    """An `open_file` whose every read fails."""

    class _Failing(Bytes):
        def parts_at(self, offset: int, size: int) -> list[bytes | memoryview]:
            raise error

    return lambda *_: _Failing(b"")
