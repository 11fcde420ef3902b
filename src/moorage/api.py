"""What can a program do with a repository? All of it, in one class; each method hands on to the package that does it.

    import moorage

    with moorage.Repository.open("/srv/store") as repo:
        repo.commit("models/", branch="prod", message="v2")
        with repo.open("prod:models/model.pkl") as file:
            model = pickle.load(file)

A revision is a branch, a tag, a snapshot id or a prefix of one, `prod@{1}`, `prod@{2026-09-01T12:00}` or `prod~2`; a
location is `revision:path` (see `moorage.read.resolve`). Every error is a `moorage.errors.MoorageError`; each method
may raise `DataError`, `FormatError` and `StorageError` besides what it names.

Thread-safe. A child made by `fork` may go on using it, if no other thread did at the moment of the fork.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, Literal, Protocol, Self, TextIO, cast, overload

from moorage.errors import InvalidInputError
from moorage.ingest.commit import CommitResult, commit
from moorage.maintain.check import CheckReport, check
from moorage.maintain.stats import StoreStats, collect_stats
from moorage.model.config import RepositoryConfig
from moorage.model.digest import SnapshotId
from moorage.model.names import join_path
from moorage.model.progress import SILENT, Progress
from moorage.model.refs import RefKind, RefName, RefRecord
from moorage.model.snapshot import Json, Snapshot
from moorage.model.tree import Entry, EntryKind
from moorage.read.cache import FileCache
from moorage.read.checkout import CheckoutResult, checkout
from moorage.read.file import FileReader, open_file
from moorage.read.hydrate import hydrate
from moorage.read.resolve import Located, Location, Resolved, locate, parse_location, resolve
from moorage.read.stream import pieces
from moorage.read.warm import WarmResult, warm
from moorage.repository.find import find_repository
from moorage.repository.handle import RepositoryHandle, given_path
from moorage.versioning.diff import Change, diff
from moorage.versioning.merge import MergeResult, merge

AnyPath = str | PathLike[str]


class _OpenRepository(Protocol):
    def __call__(self, path: AnyPath, *, actor: str | None = None, cache_bytes: int | None = None) -> Repository: ...


class _OpenFile(Protocol):
    @overload
    def __call__(self, location: str, mode: Literal["rb"] = "rb") -> BinaryIO: ...
    @overload
    def __call__(
        self,
        location: str,
        mode: Literal["r", "rt"],
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> TextIO: ...
    @overload
    def __call__(
        self,
        location: str,
        mode: str = "rb",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> BinaryIO | TextIO: ...


class _Open:
    """`Repository.open(path)` opens a repository; `repo.open("prod:model.pkl")` opens a file of it."""

    @overload
    def __get__(self, instance: None, owner: type[Repository]) -> _OpenRepository: ...
    @overload
    def __get__(self, instance: Repository, owner: type[Repository]) -> _OpenFile: ...
    def __get__(self, instance: Repository | None, owner: type[Repository]) -> _OpenRepository | _OpenFile:
        if instance is None:
            return owner._open_repository  # noqa: SLF001  # of the class that this belongs to
        return cast(_OpenFile, instance._open_file)  # noqa: SLF001  # its result depends on `mode`, as the protocol says


class Repository:
    """A repository, open. Make one with `create` or `open`; use it as a context manager, or `close` it."""

    open = _Open()
    """On the class, `Repository.open(path, actor=None, cache_bytes=None)` opens the repository in `path`;
    `RepositoryNotFoundError`.

    On a repository, `repo.open(location, mode="rb", encoding=None, errors=None, newline=None)` opens a file of it,
    seekable and buffered, binary or text ("r"); `NotFoundError`, `WrongKindError`.
    """

    def __init__(self, handle: RepositoryHandle, actor: str | None = None, cache_bytes: int | None = None) -> None:
        """`actor` is who new snapshots and the ref log name; by default user@host.

        `cache_bytes` is how large the cache behind `path` and `warm` may be, by default the smaller of 20 GiB and a
        tenth of the disk.
        """
        self.handle = handle
        self.actor = actor or default_actor()
        self._cache_bytes = cache_bytes

    @classmethod
    def create(cls, path: AnyPath, config: RepositoryConfig | None = None, *, actor: str | None = None) -> Self:
        """Make a repository in a directory that is empty or absent. Raises `AlreadyExistsError`, `StorageError`."""
        return cls(RepositoryHandle.create(given_path(path), config), actor)

    @classmethod
    def _open_repository(cls, path: AnyPath, *, actor: str | None = None, cache_bytes: int | None = None) -> Self:
        return cls(RepositoryHandle.open(given_path(path)), actor, cache_bytes)

    @property
    def id(self) -> str:
        """32 hexadecimal digits that no other repository has."""
        return self.handle.config.repository_id

    @property
    def root(self) -> Path | None:
        """The directory it lies in; None for one that lies elsewhere."""
        return self.handle.root

    def close(self) -> None:
        """Give back what the repository holds; calling it twice is fine."""
        self.handle.close()

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    # -- putting in ------------------------------------------------------------------------------------

    def commit(
        self,
        source: AnyPath | bytes | BinaryIO,
        *,
        branch: str,
        at: str = "",
        message: str = "",
        metadata: Mapping[str, Json] | None = None,
        create: bool = False,
        if_changed: bool = False,
        progress: Progress = SILENT,
    ) -> CommitResult:
        """Make `source` the tree of `branch`, or its subtree (or file) at the path `at`, as a new snapshot.

        A path may be a directory or a file; bytes and binary streams, like single files, need `at`. `create` makes the
        branch when it does not exist; with `if_changed` a tree that is the same as before makes no snapshot. Raises
        `RefNotFoundError`, `RefMovedError` when somebody else moved the branch meanwhile, `SourceChangedError`,
        `UnsupportedFileError`, `InvalidInputError`.
        """
        return commit(
            self.handle,
            given_path(source) if isinstance(source, str | PathLike) else source,
            branch=branch,
            at=at,
            message=message,
            metadata=metadata or {},
            author=self.actor,
            create=create,
            if_changed=if_changed,
            progress=progress,
        )

    # -- branches and tags -----------------------------------------------------------------------------

    def branches(self) -> list[RefRecord]:
        """Where each branch stands, sorted by name."""
        return self.handle.refs.heads(RefKind.BRANCH)

    def tags(self) -> list[RefRecord]:
        """Where each tag stands, sorted by name."""
        return self.handle.refs.heads(RefKind.TAG)

    def create_branch(self, name: str, start: str, *, reason: str = "") -> RefRecord:
        """A new branch at revision `start`. Raises `AlreadyExistsError`, `NotFoundError`."""
        return self._create(RefKind.BRANCH, name, start, reason)

    def create_tag(self, name: str, revision: str, *, reason: str = "") -> RefRecord:
        """A new tag, which never moves. Raises `AlreadyExistsError`, `NotFoundError`."""
        return self._create(RefKind.TAG, name, revision, reason)

    def _create(self, kind: RefKind, name: str, revision: str, reason: str) -> RefRecord:
        ref = RefName(kind, name)
        reason = reason or f"{kind.value} create from {revision}"
        return self.handle.refs.create(ref, self.resolve(revision).id, actor=self.actor, reason=reason)

    def move_branch(
        self, name: str, revision: str, *, expected: str | SnapshotId | None = None, reason: str = ""
    ) -> RefRecord:
        """Let a branch stand at another revision, wherever that is in history.

        With `expected`, only if it stands there now. Raises `RefMovedError`, `NotFoundError`.
        """
        ref = RefName(RefKind.BRANCH, name)
        if expected is None:
            stands = self.handle.refs.head(ref).snapshot
        else:
            stands = expected if isinstance(expected, SnapshotId) else self.resolve(expected).id
        return self.handle.refs.move(
            ref,
            self.resolve(revision).id,
            expected=stands,
            actor=self.actor,
            reason=reason or f"branch move to {revision}",
        )

    def rename_branch(self, old: str, new: str, *, reason: str = "") -> RefRecord:
        """Give a branch another name; both logs say so. Raises `RefNotFoundError`, `AlreadyExistsError`."""
        return self.handle.refs.rename(
            RefName(RefKind.BRANCH, old),
            RefName(RefKind.BRANCH, new),
            actor=self.actor,
            reason=reason or f"branch rename {old} {new}",
        )

    def delete_branch(self, name: str, *, reason: str = "") -> RefRecord:
        """End a branch; its log and its snapshots stay. Raises `RefNotFoundError`."""
        ref = RefName(RefKind.BRANCH, name)
        return self.handle.refs.delete(ref, actor=self.actor, reason=reason or "branch delete")

    def delete_tag(self, name: str, *, reason: str = "") -> RefRecord:
        """End a tag; its log stays. Raises `RefNotFoundError`."""
        return self.handle.refs.delete(RefName(RefKind.TAG, name), actor=self.actor, reason=reason or "tag delete")

    def reflog(self, branch: str) -> list[RefRecord]:
        """Everything that happened to a branch, newest first; of a deleted one too. Raises `RefNotFoundError`."""
        return self.handle.refs.log(RefName(RefKind.BRANCH, branch))[::-1]

    # -- looking ---------------------------------------------------------------------------------------

    def resolve(self, revision: str) -> Resolved:
        """The snapshot a revision names now. Raises `NotFoundError`, `AmbiguousRevisionError`, `InvalidInputError`."""
        return resolve(self.handle, revision)

    def log(self, revision: str) -> Iterator[tuple[SnapshotId, Snapshot]]:
        """A snapshot and all before it, newest first. Raises as `resolve`."""
        return self.handle.history.log(self.resolve(revision).id)

    def locate(self, location: str) -> Located:
        """The place that `revision:path` names now. Raises `NotFoundError`, `InvalidInputError`."""
        return locate(self.handle, parse_location(location))

    def ls(self, location: str, *, recursive: bool = False) -> Iterator[tuple[str, Entry]]:
        """(path from the root, entry) of a directory's entries, or of everything below it; of a file, itself.

        Raises `NotFoundError`, `InvalidInputError`.
        """
        place = self.locate(location)
        if place.entry is not None and place.entry.kind is not EntryKind.DIRECTORY:
            return iter([(place.path, place.entry)])
        if recursive:
            return self.handle.trees.walk(place.tree, place.path)
        return ((join_path(place.path, entry.name), entry) for entry in self.handle.trees.entries(place.tree))

    # -- reading ---------------------------------------------------------------------------------------

    def _open_file(
        self,
        location: str,
        mode: str = "rb",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> BinaryIO | TextIO:
        entry = self.locate(location).file
        return open_file(self.handle, entry, mode, name=location, encoding=encoding, errors=errors, newline=newline)

    def read(self, location: str) -> bytes:
        """All bytes of a file. Raises `NotFoundError`, `WrongKindError`."""
        return b"".join(self.read_pieces(location))

    def read_pieces(self, location: str) -> Iterator[bytes]:
        """All bytes of a file of any size, in order, decoded ahead on all cores. Raises as `read`."""
        return pieces(FileReader(self.handle, self.locate(location).file))

    def path(self, location: str) -> Path:
        """A real path of a local copy of a file, for libraries that insist on one: read-only, verified, in the cache.

        It stays for as long as the cache has room; open it soon. Raises `NotFoundError`, `WrongKindError`, and
        `StorageError` for a file that is larger than the cache.
        """
        file = hydrate(self.handle, FileCache(limit_bytes=self._cache_bytes), self.locate(location).file)
        file.close()
        return file.path

    def warm(self, locations: Iterable[str], *, progress: Progress = SILENT) -> WarmResult:
        """Bring files and directories into the cache that `path` and all mounts of this user share, before somebody
        asks for them.

        What does not fit is left out and named. Raises `NotFoundError`.
        """
        places = [self.locate(location) for location in locations]
        return warm(self.handle, FileCache(limit_bytes=self._cache_bytes), places, progress)

    def checkout(
        self, location: str, target: AnyPath, *, force: bool = False, progress: Progress = SILENT
    ) -> CheckoutResult:
        """Write a directory or a file of a snapshot to disk.

        Existing files are replaced only with `force`, and never by halves. Raises `NotFoundError`,
        `AlreadyExistsError`.
        """
        return checkout(self.handle, self.locate(location), given_path(target), force=force, progress=progress)

    # -- versions --------------------------------------------------------------------------------------

    def diff(self, old: str, new: str, path: str = "") -> Iterator[Change]:
        """What is different in `new`, by path, below `path`. Raises `NotFoundError`."""
        return diff(self.handle, self.resolve(old).snapshot, self.resolve(new).snapshot, path)

    def merge(
        self,
        source: str,
        *,
        into: str,
        message: str = "",
        metadata: Mapping[str, Json] | None = None,
        dry_run: bool = False,
    ) -> MergeResult:
        """Bring what `source` changed into branch `into`: a fast-forward where possible, else a merge by path.

        Raises `MergeConflictError` listing the conflicts, with nothing written; `RefMovedError`; `NotFoundError`.
        """
        return merge(
            self.handle,
            self.resolve(source),
            RefName(RefKind.BRANCH, into),
            author=self.actor,
            message=message,
            metadata=metadata or {},
            dry_run=dry_run,
        )

    # -- keeping ---------------------------------------------------------------------------------------

    def check(self, *, data: bool = False, progress: Progress = SILENT) -> CheckReport:
        """Verify refs, snapshots, trees, recipes, index and packs; with `data` every byte too."""
        return check(self.handle, data=data, progress=progress)

    def stats(self, revision: str | None = None, *, by_branch: bool = False) -> StoreStats:
        """How much there is, and what deduplication and compression save; of the whole store, or of one revision."""
        return collect_stats(self.handle, self.resolve(revision) if revision else None, by_branch=by_branch)


def open_path(
    path: str,
    repo: AnyPath | Repository | None = None,
    rev: str | None = None,
    mode: str = "r",
    encoding: str | None = None,
) -> IO[bytes] | IO[str]:
    """Open one file of a repository, in the shape of `dvc.api.open`; exported as `moorage.open`.

        with moorage.open("models/model.pkl", repo="/srv/store", rev="prod", mode="rb") as file: ...
        with moorage.open("prod:data/train.csv") as file: ...        # the nearest .moorage upwards

    Costs the same however large the repository is. What was opened for it is closed with the file. Raises
    `RepositoryNotFoundError`, `NotFoundError`, `WrongKindError`, `InvalidInputError`.
    """
    place = parse_location(path) if rev is None else Location(rev, path)
    if not place.path:
        raise InvalidInputError("say which revision: rev=..., or a path like 'prod:models/model.pkl'", path=path)
    if isinstance(repo, Repository):
        return open_file(repo.handle, locate(repo.handle, place).file, mode, name=str(place), encoding=encoding)
    handle = RepositoryHandle.open(given_path(repo) if repo is not None else find_repository())
    try:
        entry = locate(handle, place).file
        return open_file(handle, entry, mode, name=str(place), encoding=encoding, on_close=handle.close)
    except BaseException:
        handle.close()
        raise


def default_actor() -> str:
    """user@host of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
