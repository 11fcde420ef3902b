"""How does a source become the newest snapshot of a branch?

    see that one may write -> look at the source -> store files -> write trees, bottom up -> write the snapshot
    -> make it all durable -> move the ref

The move is the commit point: until its record is durable nothing is acknowledged and nothing has changed, and it only
succeeds if the branch still stands where it stood at the start.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from moorage.errors import InvalidInputError, RefNotFoundError
from moorage.format.snapshot import canonical_json
from moorage.index.open import open_stat_cache
from moorage.index.stat_cache import FileIdentity, KnownContent, StatCache
from moorage.ingest.files import FileStorer
from moorage.ingest.known import KnownFiles
from moorage.ingest.scan import FoundDirectory, FoundFile, scan
from moorage.ingest.small import StoredFile
from moorage.ingest.trees import TreeBuilder, replace_at
from moorage.model.digest import ContentDigest, SnapshotId
from moorage.model.names import check_text, split_path
from moorage.model.progress import Progress
from moorage.model.refs import RefKind, RefName, RefRecord
from moorage.model.snapshot import Json, Snapshot
from moorage.model.tree import Entry
from moorage.repository.handle import RepositoryHandle, derived_folders
from moorage.repository.refs import reason_of
from moorage.repository.tree_writer import write_snapshot
from moorage.repository.writer import ObjectWriter

Source = str | os.PathLike[str] | bytes | BinaryIO


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What a commit made."""

    snapshot: SnapshotId
    branch: str
    digest: ContentDigest
    """Of the whole new tree."""
    files: int
    """In the source, symlinks included."""
    logical_bytes: int
    """Of the source."""
    read_files: int
    """That had to be read, because nothing was known of them."""
    new_bytes: int
    """Raw bytes that the repository did not have before."""
    stored_bytes: int
    """By which the repository grew for them, metadata included, the ref record not."""
    unchanged: bool
    """Whether the tree is the same as before."""
    committed: bool = True
    """Whether `snapshot` is new; False where nothing was to be committed unless it changed something."""


def commit(
    handle: RepositoryHandle,
    source: Source,
    *,
    branch: str,
    at: str,
    message: str,
    metadata: Mapping[str, Json],
    author: str,
    create: bool,
    progress: Progress,
    if_changed: bool = False,
) -> CommitResult:
    """See `moorage.api.Repository.commit`."""
    canonical_json(metadata)
    check_text(message, "message")
    ref = RefName(RefKind.BRANCH, branch)
    path = "/".join(split_path(at))
    last = _starting_point(handle, ref, create=create)
    before = handle.objects.snapshot(last.snapshot) if last is not None and last.is_alive else None
    with handle.writer() as writer:
        found = _look_at(handle, source, path)
        transaction = _Commit(handle, writer, before, path, progress)
        entry = transaction.store(found)
        root = replace_at(handle, writer, before, path, entry)
        unchanged = before is not None and before.digest == root.digest
        if last is not None and unchanged and if_changed:
            id = last.snapshot
        else:
            snapshot = Snapshot(
                tree=root.id,
                digest=root.digest,
                size_bytes=root.size_bytes,
                parents=(last.snapshot,) if last is not None and before is not None else (),
                author=author,
                time_ns=max(time.time_ns(), before.time_ns + 1 if before else 0),
                message=message,
                metadata=metadata,
            )
            id = write_snapshot(writer, snapshot)
        stats = writer.finish()
    if last is None or before is None:
        handle.refs.start(ref, last, id, actor=author, reason=reason_of("commit", message))
    elif id == last.snapshot:
        handle.refs.refuse_moved(last)
    else:
        handle.refs.move(ref, id, expected=last.snapshot, actor=author, reason=reason_of("commit", message))
    transaction.remember()
    return CommitResult(
        snapshot=id,
        branch=branch,
        digest=root.digest,
        files=transaction.files,
        logical_bytes=entry.size_bytes,
        read_files=transaction.read_files,
        new_bytes=stats.new_bytes,
        stored_bytes=stats.stored_bytes,
        unchanged=unchanged,
        committed=last is None or id != last.snapshot,
    )


def _starting_point(handle: RepositoryHandle, ref: RefName, *, create: bool) -> RefRecord | None:
    last = handle.refs.last(ref)
    if last is None or not last.is_alive:
        if not create:
            raise RefNotFoundError(
                f"there is no {ref}", hint="add --create (create=True) to make it, starting empty", ref=ref.name
            )
        handle.refs.refuse_namesake(ref)
    return last


def _look_at(handle: RepositoryHandle, source: Source, path: str) -> FoundFile | FoundDirectory | BinaryIO:
    if isinstance(source, bytes):
        found: FoundFile | FoundDirectory | BinaryIO = io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        found = scan(Path(source), path, handle.root)
    else:
        found = source
    if not path and not isinstance(found, FoundDirectory):
        raise InvalidInputError(
            "a single file needs a path in the tree", hint="say where it goes: --at models/model.pkl (at=...)"
        )
    return found


class _Commit:
    """Stores one source, and knows afterwards what to remember of it."""

    def __init__(
        self,
        handle: RepositoryHandle,
        writer: ObjectWriter,
        before: Snapshot | None,
        path: str,
        progress: Progress,
    ) -> None:
        self.files = 0
        self.read_files = 0
        self._handle = handle
        self._writer = writer
        self._path = path
        self._progress = progress
        self._builder = TreeBuilder(handle, writer, before, path)
        self._fresh: list[tuple[FileIdentity, KnownContent]] = []
        self._seen_ns = time.time_ns()

    def store(self, found: FoundFile | FoundDirectory | BinaryIO) -> Entry:
        """Store the source; its entry is called as the last part of the path, or nothing in particular at the root."""
        name = self._path.rsplit("/", 1)[-1] or "root"
        with FileStorer(self._writer, self._progress) as storer:
            if isinstance(found, FoundDirectory):
                self._store_files(storer, list(found.all_files()))
                self.files += found.count_links()
                return self._builder.directory(found, name)
            if isinstance(found, FoundFile):
                self._store_files(storer, [found])
                return self._builder.file(found)
            self._progress.begin("storing", total_bytes=None, total_files=1)
            stored = storer.store_stream(found, name)
            self._progress.finish()
            self.files = self.read_files = 1
            return self._builder.content(name, stored.digest, stored.object, stored.size_bytes, executable=False)

    def _store_files(self, storer: FileStorer, files: Sequence[FoundFile]) -> None:
        self.files = len(files)
        with _stat_cache(self._handle) as cache:
            known = KnownFiles(self._handle, self._writer, cache).of([file.identity for file in files])
        unknown = []
        for file, content in zip(files, known, strict=True):
            if content is None:
                unknown.append(file)
            else:
                self._builder.learn(file, content)
        self.read_files = len(unknown)
        total = sum(file.identity.size_bytes for file in unknown)
        self._progress.begin("storing", total_bytes=total, total_files=len(unknown))
        storer.store(unknown, self._stored)
        self._progress.finish()

    def _stored(self, file: FoundFile, stored: StoredFile) -> None:
        content = KnownContent(stored.digest, stored.object)
        self._builder.learn(file, content, size_bytes=stored.size_bytes)
        if stored.identity is not None:
            self._fresh.append((stored.identity, content))

    def remember(self) -> None:
        """Record in the stat cache what the files held; only after the commit, and never at its expense."""
        if self._fresh:
            with _stat_cache(self._handle) as cache:
                if cache is not None:
                    cache.record(self._fresh, now_ns=self._seen_ns)


class _stat_cache:  # noqa: N801 - reads as a function: it is a context manager
    def __init__(self, handle: RepositoryHandle) -> None:
        self._cache = open_stat_cache(derived_folders(handle, "stat"))

    def __enter__(self) -> StatCache | None:
        return self._cache

    def __exit__(self, *_: object) -> None:
        if self._cache is not None:
            self._cache.close()
