"""How do stored files become directories, and a directory part of a larger tree?

What is the same as in the tree before is taken over whole, with the time at which it was first stored: content keeps
its time (and so its inode in a mount) for as long as it stays, whoever commits it again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

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


@dataclass(slots=True)
class _Unfinished:
    """A directory some of whose directories have yet to be written."""

    name: str
    before: Entry | None
    siblings: dict[str, Entry]
    """What lay in it before, by name."""
    entries: list[Entry]
    left: Iterator[FoundDirectory]


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
        """The entry of a directory, all of whose files have been learned; writes its trees.

        Not by recursion: a path has room for 2,048 directories, and Python's stack does not.
        """
        unfinished = [self._begin(found, name, self._before)]
        while True:
            here = unfinished[-1]
            below = next(here.left, None)
            if below is not None:
                unfinished.append(self._begin(below, below.name, here.siblings.get(below.name)))
                continue
            unfinished.pop()
            written = write_tree(self._writer, here.entries)
            entry = self._entry(
                here.name, EntryKind.DIRECTORY, written.digest, written.id, written.size_bytes, here.before
            )
            if not unfinished:
                return entry
            unfinished[-1].entries.append(entry)

    def _begin(self, found: FoundDirectory, name: str, before: Entry | None) -> _Unfinished:
        siblings = self._siblings(before)
        entries = [self._file(file, siblings.get(file.name)) for file in found.files]
        entries += [self._link(link, siblings.get(link.name)) for link in found.links]
        return _Unfinished(name, before, siblings, entries, iter(found.directories))

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
                    content = entry.kind, entry.digest
                    earliest = min(entry.first_stored_ns, self._times.get(content, entry.first_stored_ns))
                    self._times[content] = earliest
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
    spine = _spine(handle, before.tree if before else None, names)
    while True:
        name, siblings = names[len(spine) - 1], spine.pop()
        siblings[name] = entry
        written = write_tree(writer, siblings.values())
        if not spine:
            return written
        old = spine[-1].get(names[len(spine) - 1])
        same = old is not None and old.digest == written.digest
        entry = Entry(
            names[len(spine) - 1],
            EntryKind.DIRECTORY,
            written.digest,
            written.id,
            written.size_bytes,
            old.first_stored_ns if same and old else entry.first_stored_ns,
        )


def _spine(handle: RepositoryHandle, tree: TreeId | None, names: tuple[str, ...]) -> list[dict[str, Entry]]:
    """What lies in each directory along a path, by name; nothing in those that do not exist yet."""
    spine: list[dict[str, Entry]] = []
    for number, name in enumerate(names):
        siblings = {sibling.name: sibling for sibling in handle.trees.entries(tree)} if tree else {}
        spine.append(siblings)
        old = siblings.get(name)
        if old is not None and not isinstance(old.object, TreeId) and number < len(names) - 1:
            here = "/".join(names[: number + 1])
            raise InvalidInputError(
                f"{here} is a {old.kind.word}, so nothing can lie below it", hint="choose another --at", path=here
            )
        tree = old.object if old is not None and isinstance(old.object, TreeId) else None
    return spine
