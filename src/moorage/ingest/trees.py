"""How do stored files become directories, and a directory part of a larger tree?

What is the same as in the tree before is taken over whole, with the time at which it was first stored: content keeps
its time (and so its inode in a mount) for as long as it stays, whoever commits it again.
"""

from __future__ import annotations

import time

from moorage.errors import InvalidInputError
from moorage.index.stat_cache import KnownContent
from moorage.ingest.scan import FoundDirectory, FoundFile, FoundLink
from moorage.model.digest import ContentDigest, ObjectId, TreeId
from moorage.model.names import split_path
from moorage.model.snapshot import Snapshot
from moorage.model.tree import Entry, EntryKind
from moorage.repository.handle import RepositoryHandle
from moorage.repository.tree_writer import WrittenTree, write_tree
from moorage.repository.writer import ObjectWriter


class TreeBuilder:
    """Makes entries of what was found, bottom up."""

    def __init__(self, handle: RepositoryHandle, writer: ObjectWriter, before: Snapshot | None, path: str) -> None:
        """`path` is where in the tree of `before` the source goes."""
        self._handle = handle
        self._writer = writer
        self._now_ns = time.time_ns()
        self._contents: dict[int, tuple[KnownContent, int]] = {}
        self._before = _entry_before(handle, before, path)
        self._times: dict[tuple[EntryKind, ContentDigest], int] | None = None

    def learn(self, file: FoundFile, content: KnownContent, size_bytes: int | None = None) -> None:
        """What a found file holds; its size may have changed since it was found."""
        self._contents[id(file)] = (content, file.identity.size_bytes if size_bytes is None else size_bytes)

    def file(self, found: FoundFile) -> Entry:
        """The entry of a single file."""
        return self._file(found, self._before)

    def content(
        self, name: str, digest: ContentDigest, object_id: ObjectId | None, size_bytes: int, *, executable: bool
    ) -> Entry:
        """The entry of content that was no file."""
        return self._entry(name, EntryKind.FILE, digest, object_id, size_bytes, self._before, executable=executable)

    def directory(self, found: FoundDirectory, name: str) -> Entry:
        """The entry of a directory, all of whose files have been learned; writes its trees."""
        return self._directory(found, name, self._before)

    def _directory(self, found: FoundDirectory, name: str, before: Entry | None) -> Entry:
        siblings = self._siblings(before)
        entries = [self._file(file, siblings.get(file.name)) for file in found.files]
        entries += [self._link(link, siblings.get(link.name)) for link in found.links]
        entries += [
            self._directory(directory, directory.name, siblings.get(directory.name)) for directory in found.directories
        ]
        written = write_tree(self._writer, entries)
        return self._entry(name, EntryKind.DIRECTORY, written.digest, written.id, written.size_bytes, before)

    def _siblings(self, before: Entry | None) -> dict[str, Entry]:
        if before is None or not isinstance(before.object, TreeId):
            return {}
        return {entry.name: entry for entry in self._handle.trees.entries(before.object)}

    def _file(self, found: FoundFile, before: Entry | None) -> Entry:
        content, size_bytes = self._contents[id(found)]
        return self._entry(
            found.name,
            EntryKind.FILE,
            content.digest,
            content.object,
            size_bytes,
            before,
            executable=found.executable,
        )

    def _link(self, found: FoundLink, before: Entry | None) -> Entry:
        raw = found.target.encode("utf-8")
        return self._entry(
            found.name, EntryKind.SYMLINK, ContentDigest.of(raw), None, len(raw), before, target=found.target
        )

    def _entry(
        self,
        name: str,
        kind: EntryKind,
        digest: ContentDigest,
        object_id: ObjectId | None,
        size_bytes: int,
        before: Entry | None,
        *,
        executable: bool = False,
        target: str = "",
    ) -> Entry:
        if before is not None and (before.kind, before.digest) == (kind, digest):
            first_stored_ns = before.first_stored_ns
        else:
            first_stored_ns = self._known_time(kind, digest)
        return Entry(name, kind, digest, object_id, size_bytes, first_stored_ns, executable, target)

    def _known_time(self, kind: EntryKind, digest: ContentDigest) -> int:
        """When content that is new at its path was first stored, if it was anywhere below before (it was renamed)."""
        if self._times is None:
            self._times = {}
            if self._before is not None and isinstance(self._before.object, TreeId):
                for _, entry in self._handle.trees.walk(self._before.object):
                    self._times.setdefault((entry.kind, entry.digest), entry.first_stored_ns)
        return self._times.get((kind, digest), self._now_ns)


def _entry_before(handle: RepositoryHandle, before: Snapshot | None, path: str) -> Entry | None:
    """What lies at `path` of `before`; for the root an entry that says the same as one would."""
    if before is None:
        return None
    entry: Entry | None = Entry("root", EntryKind.DIRECTORY, before.digest, before.tree, before.size_bytes, 0)
    for name in split_path(path):
        if entry is None or not isinstance(entry.object, TreeId):
            return None
        entry = handle.trees.lookup(entry.object, name)
    return entry


def replace_at(
    handle: RepositoryHandle, writer: ObjectWriter, before: Snapshot | None, path: str, entry: Entry
) -> WrittenTree:
    """The root tree that has `entry` at `path` and is as `before` everywhere else.

    Raises `InvalidInputError` where a file stands in the way.
    """
    names = split_path(path)
    if not names:
        assert isinstance(entry.object, TreeId)
        return WrittenTree(entry.object, entry.digest, entry.size_bytes)
    return _replace(handle, writer, before.tree if before else None, names, "", entry)


def _replace(
    handle: RepositoryHandle,
    writer: ObjectWriter,
    tree: TreeId | None,
    names: tuple[str, ...],
    walked: str,
    entry: Entry,
) -> WrittenTree:
    siblings = {sibling.name: sibling for sibling in handle.trees.entries(tree)} if tree else {}
    name, rest = names[0], names[1:]
    if rest:
        here = f"{walked}{name}"
        old = siblings.get(name)
        if old is not None and not isinstance(old.object, TreeId):
            raise InvalidInputError(
                f"{here} is a {old.kind.word}, so nothing can lie below it", hint="choose another --at", path=here
            )
        inner = old.object if old is not None and isinstance(old.object, TreeId) else None
        below = _replace(handle, writer, inner, rest, f"{here}/", entry)
        first_stored_ns = old.first_stored_ns if old and old.digest == below.digest else entry.first_stored_ns
        entry = Entry(name, EntryKind.DIRECTORY, below.digest, below.id, below.size_bytes, first_stored_ns)
    siblings[name] = entry
    return write_tree(writer, siblings.values())
