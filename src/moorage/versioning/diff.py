"""What is different between two snapshots, path by path? Costs what differs, not what there is.

Compared are files, symlinks and empty directories; a directory with something in it shows as what is in it. So a
directory that loses its last file shows twice: the file is removed, and an empty directory is added.

Two directories of equal digest are never read. Of directories that moved as a whole only one side is read, and every
file below is listed as renamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from moorage.errors import FormatError, PathNotFoundError
from moorage.format.tree import directory_digest
from moorage.model.digest import TreeId
from moorage.model.names import join_path, split_path
from moorage.model.snapshot import Snapshot
from moorage.model.tree import Entry, EntryKind
from moorage.repository.handle import RepositoryHandle
from moorage.repository.trees import MAX_DEPTH
from moorage.versioning.changes import Change, ChangeKind, added, is_same, modified, removed, renamed
from moorage.versioning.pairs import ReadTree, differing
from moorage.versioning.renames import Placed, match_renames

__all__ = ["Change", "ChangeKind", "changes_between", "diff"]

EMPTY_DIRECTORY = directory_digest(())
"""What a directory without entries is."""

PlacedPair = tuple[str, Entry | None, Entry | None]
"""A path, and what it stands for on the old and on the new side."""


def diff(handle: RepositoryHandle, old: Snapshot, new: Snapshot, path: str = "") -> Iterator[Change]:
    """What is different in `new`, below `path` or at it, sorted by path (by its bytes).

    A path that only one side has is all removed or all added. Raises `PathNotFoundError` where neither side has it,
    `InvalidInputError`, `DataError`, `FormatError`, `StorageError`.
    """
    read = handle.objects.tree
    names = split_path(path)
    if not names:
        yield from changes_between(read, _children(read, "", old.tree, new.tree))
        return
    place = "/".join(names)
    before, after = _at(handle, old.tree, place), _at(handle, new.tree, place)
    if before is None and after is None:
        raise PathNotFoundError(f"neither side has {place}", hint="`moorage ls REV` lists what there is", path=place)
    yield from changes_between(read, [(place, before, after)])


def _at(handle: RepositoryHandle, tree: TreeId, path: str) -> Entry | None:
    try:
        return handle.trees.at(tree, path)
    except PathNotFoundError:
        return None


def changes_between(read: ReadTree, pairs: Iterable[PlacedPair]) -> list[Change]:
    """What is different at, and below, some paths, none of which is below another; sorted by path."""
    changes: list[Change] = []
    gone: list[Placed] = []
    new: list[Placed] = []
    for path, before, after in _leaves_of_pairs(read, pairs):
        if before is not None and after is not None:
            changes.append(modified(path, before, after))
        elif before is not None:
            gone.append(Placed(path, before))
        elif after is not None:
            new.append(Placed(path, after))
    changes += _gone_and_new(read, gone, new)
    return sorted(changes, key=lambda change: change.path.encode("utf-8"))


def _leaves_of_pairs(read: ReadTree, pairs: Iterable[PlacedPair]) -> Iterator[PlacedPair]:
    """Go down where both sides are directories; where one side is, the two go their own ways."""
    pending = [iter(pairs)]
    while pending:
        pair = next(pending[-1], None)
        if pair is None:
            pending.pop()
            continue
        path, before, after = pair
        if is_same(before, after):
            continue
        if not (_has_children(before) or _has_children(after)):
            yield pair
        elif _is_directory(before) and _is_directory(after):
            pending.append(_children(read, path, _tree(before), _tree(after)))
            if not _has_children(before):
                yield path, before, None
            if not _has_children(after):
                yield path, None, after
        else:
            if before is not None:
                yield path, before, None
            if after is not None:
                yield path, None, after


def _children(read: ReadTree, path: str, old: TreeId | None, new: TreeId | None) -> Iterator[PlacedPair]:
    if path.count("/") >= MAX_DEPTH:
        raise FormatError(f"the tree is nested more than {MAX_DEPTH} deep at {path[:80]}")
    for before, after in differing(read, old, new):
        entry = before or after
        assert entry is not None
        yield join_path(path, entry.name), before, after


def _gone_and_new(read: ReadTree, gone: list[Placed], new: list[Placed]) -> Iterator[Change]:
    """Match what moved, whole directories first, and open those that did not, one level at a time."""
    gone_files: list[Placed] = []
    new_files: list[Placed] = []
    while gone or new:
        matches, gone, new = match_renames(_directories(gone, gone_files), _directories(new, new_files))
        for was, place in matches:
            yield from _moved(read, was, place)
        gone, new = _opened(read, gone), _opened(read, new)
    candidates = [place for place in gone_files if place.entry.kind is EntryKind.FILE]
    arrivals = [place for place in new_files if place.entry.kind is EntryKind.FILE]
    files, _, _ = match_renames(_by_path(candidates), _by_path(arrivals))
    paired_gone = {was.path for was, _ in files}
    paired_new = {place.path for _, place in files}
    yield from (renamed(was.path, place.path, was.entry, place.entry) for was, place in files)
    yield from (removed(place.path, place.entry) for place in gone_files if place.path not in paired_gone)
    yield from (added(place.path, place.entry) for place in new_files if place.path not in paired_new)


def _directories(places: list[Placed], leaves: list[Placed]) -> list[Placed]:
    """The directories with something in them, by path; the rest goes to `leaves`."""
    leaves += [place for place in places if not _has_children(place.entry)]
    return _by_path([place for place in places if _has_children(place.entry)])


def _opened(read: ReadTree, directories: list[Placed]) -> list[Placed]:
    return [
        Placed(path, entry)
        for place in directories
        for path, entry, _ in _children(read, place.path, _tree(place.entry), None)
        if entry is not None
    ]


def _moved(read: ReadTree, was: Placed, place: Placed) -> Iterator[Change]:
    """Everything below a directory that is now elsewhere; the old side is not read, since it is the same."""
    pending = [(was, place)]
    while pending:
        was, place = pending.pop()
        if not _has_children(place.entry):
            yield renamed(was.path, place.path, was.entry, place.entry)
            continue
        for path, entry, _ in _children(read, place.path, _tree(place.entry), None):
            assert entry is not None
            pending.append((Placed(join_path(was.path, entry.name), entry), Placed(path, entry)))


def _by_path(places: list[Placed]) -> list[Placed]:
    return sorted(places, key=lambda place: place.path.encode("utf-8"))


def _is_directory(entry: Entry | None) -> bool:
    return entry is not None and entry.kind is EntryKind.DIRECTORY


def _has_children(entry: Entry | None) -> bool:
    return entry is not None and entry.kind is EntryKind.DIRECTORY and entry.digest != EMPTY_DIRECTORY


def _tree(entry: Entry | None) -> TreeId | None:
    return entry.object if entry is not None and isinstance(entry.object, TreeId) else None
