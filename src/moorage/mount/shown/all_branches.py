"""What does a mount of everything show: all branches, all tags, every snapshot, and where each branch has stood?

    branches/NAME      symlink to snapshots/ID; a name with slashes lies in directories
    tags/NAME          the same
    snapshots/ID       a snapshot. Any id is found, and a prefix of at least 4 digits that only one has, as a symlink;
                       listed are those at which a branch or a tag stands
    at/BRANCH/TIME     symlink to where the branch stood then (`TIME` as in `BRANCH@{TIME}`); listed are its moves

Where `a` and `a/b` are both branches, `branches/a` is the branch, and `branches/a~/b` the other one: a path that a
service reads never changes from a snapshot into a directory because somebody makes another branch. No name of a ref has
a `~`, so nothing is hidden. `a~/b` is found wherever there is an `a/b`, and listed only where it is needed.

Names that mean a ref, or that may come to mean one, are looked up anew each time: there a moved branch is noticed. A
symlink's inode is its target and when it was moved there, so a target that the kernel keeps is never stale. What is
below `snapshots/ID` never changes.

Refs that cannot be read stay where they stood, as in `following`, and the log says so.

Threads: any.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Protocol

from moorage.errors import InvalidInputError, MoorageError, NotFoundError
from moorage.model.digest import DIGEST_BYTES, ContentDigest, SnapshotId
from moorage.model.refs import RefKind, RefName, RefRecord
from moorage.model.tree import Entry, EntryKind
from moorage.mount.journal.open_log import iso
from moorage.mount.shown.following import Snapshots, Standing
from moorage.mount.shown.sticky import Hold
from moorage.mount.shown.view import Folder, Line, Node, View, folder_in
from moorage.read.resolve import stood_at
from moorage.repository.history import MIN_PREFIX
from moorage.repository.lru import LruCache

_log = logging.getLogger(__name__)

BRANCHES = "branches"
BELOW = "~"
"""Ends the name of a directory where the name without it is a ref."""
_ID_PREFIX = re.compile(rf"[0-9a-f]{{{MIN_PREFIX},{2 * DIGEST_BYTES}}}")
_TIME = re.compile(r"[0-9T :.,+Z-]+")
_MOST_KNOWN = 4096
_SNAPSHOTS = "snapshots"
_AT = "at"
_TIMES = "times"
_WORD = ":"
"""In the word of a folder, before the part of a ref's name; in no such part."""


class Refs(Protocol):
    """What this needs of `RefStore`."""

    def last(self, ref: RefName, after: RefRecord | None = None) -> RefRecord | None:
        """The newest record of `ref`, dead or alive; None if there never was one."""
        ...

    def log(self, ref: RefName, /) -> list[RefRecord]:
        """All records, oldest first."""
        ...

    def candidates(self, kind: RefKind, /) -> list[RefName]:
        """Every name that may ever have been used, sorted."""
        ...


class History(Protocol):
    """What this needs of `repository.history.History`."""

    def find(self, prefix: str, /) -> list[SnapshotId]:
        """Snapshots whose ids start so."""
        ...


class Heads:
    """Where refs stand now. What is known of a ref makes asking for it one failed open of a file."""

    def __init__(self, refs: Refs) -> None:
        """Ask `refs`."""
        self._refs = refs
        self._known: LruCache[RefName, RefRecord] = LruCache(_MOST_KNOWN)
        self._trouble = ""

    def head(self, ref: RefName) -> RefRecord | None:
        """The newest record of a ref that is alive, else None; the last one known where refs cannot be read."""
        known = self._known.get(ref)
        try:
            newest = self._refs.last(ref, after=known)
        except (MoorageError, OSError) as error:
            if known is None:
                raise
            self._complain(f"cannot tell where {ref} stands, it is shown where it stood: {error}")
            newest = known
        else:
            self._trouble = ""
            if newest is not None and newest is not known:
                self._known.put(ref, newest)
        return newest if newest is not None and newest.is_alive else None

    def below(self, kind: RefKind, prefix: str) -> Iterator[RefRecord]:
        """The heads of all refs whose names start with `prefix`, sorted by name."""
        for ref in self._refs.candidates(kind):
            if ref.name.startswith(prefix):
                record = self.head(ref)
                if record is not None:
                    yield record

    def log(self, ref: RefName) -> list[RefRecord]:
        """All records of a ref."""
        return self._refs.log(ref)

    def held(self, hold: Hold | None) -> Heads:
        """The heads as a process sees them that is shown one moment."""
        return self if hold is None else _HeldHeads(self, self._refs, hold)

    def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            _log.error("%s", trouble)


class _HeldHeads(Heads):
    """Where refs stood when one process first asked for each."""

    def __init__(self, heads: Heads, refs: Refs, hold: Hold) -> None:
        super().__init__(refs)
        self._heads = heads
        self._hold = hold

    def head(self, ref: RefName) -> RefRecord | None:
        return self._hold.record(ref, lambda: self._heads.head(ref))

    def log(self, ref: RefName) -> list[RefRecord]:
        head = self.head(ref)
        return [record for record in self._heads.log(ref) if head is None or record.number <= head.number]

    def held(self, hold: Hold | None) -> Heads:
        return self._heads.held(hold)


class _Names(Folder):
    """Names of refs, one part at a time."""

    def __init__(self, heads: Heads, kind: RefKind, prefix: str = "") -> None:
        """What follows `prefix`, which is empty or ends with a slash, in the names of refs."""
        self._heads = heads
        self._kind = kind
        self._prefix = prefix

    @property
    def word(self) -> str:
        """See `Folder.word`."""
        return f"{self._kind.folder}{_WORD}{self._prefix}"

    def lookup(self, here: Node, name: str) -> Node | None:
        """See `Folder.lookup`."""
        if name.endswith(BELOW):
            return self._directory(here, name, name.removesuffix(BELOW))
        try:
            ref = RefName(self._kind, self._prefix + name)
        except InvalidInputError:
            pass  # a part of a name need not be one: `@`, or 64 digits
        else:
            record = self._heads.head(ref)
            if record is not None:
                return View.child(here, self.line(here, name, record))
        return self._directory(here, name, name)

    def _directory(self, here: Node, name: str, part: str) -> Node | None:
        prefix = f"{self._prefix}{part}/"
        if next(self._heads.below(self._kind, prefix), None) is None:
            return None
        return folder_in(here, name, self.within(prefix))

    def lines(self, here: Node) -> list[Entry | Line]:
        """See `Folder.lines`."""
        refs: dict[str, RefRecord] = {}
        directories: set[str] = set()
        for record in self._heads.below(self._kind, self._prefix):
            name, slash, _ = record.ref.name.removeprefix(self._prefix).partition("/")
            if slash:
                directories.add(name)
            else:
                refs[name] = record
        found: list[Entry | Line] = [self.line(here, name, record) for name, record in refs.items()]
        for part in directories:
            name = part + BELOW if part in refs else part
            found.append(Line(name, folder_in(here, name, self.within(f"{self._prefix}{part}/"))))
        return sorted(found, key=lambda line: line.name.encode("utf-8"))

    def is_lasting(self, found: Node | None) -> bool:
        """See `Folder.is_lasting`: a ref may move, die or be made at any time."""
        return False

    def held(self, hold: Hold | None) -> Folder:
        """See `Folder.held`."""
        return _Names(self._heads.held(hold), self._kind, self._prefix)

    def within(self, prefix: str) -> Folder:
        """The folder of the names with a longer prefix."""
        return _Names(self._heads, self._kind, prefix)

    def line(self, here: Node, name: str, record: RefRecord) -> Entry | Line:
        """What a ref is shown as."""
        return _link(name, 1 + self._prefix.count("/"), record.snapshot, record.time_ns)


class _LoggedNames(_Names):
    """Names of branches, whose logs can be looked into."""

    def __init__(self, heads: Heads, prefix: str = "") -> None:
        super().__init__(heads, RefKind.BRANCH, prefix)

    @property
    def word(self) -> str:
        return f"{_AT}{_WORD}{self._prefix}"

    def held(self, hold: Hold | None) -> Folder:
        return _LoggedNames(self._heads.held(hold), self._prefix)

    def within(self, prefix: str) -> Folder:
        return _LoggedNames(self._heads, prefix)

    def line(self, here: Node, name: str, record: RefRecord) -> Entry | Line:
        return Line(name, folder_in(here, name, _Times(self._heads, record.ref)))


class _Times(Folder):
    """Where one branch stood, by time."""

    def __init__(self, heads: Heads, ref: RefName) -> None:
        self._heads = heads
        self._ref = ref
        self._depth = 2 + ref.name.count("/")

    @property
    def word(self) -> str:
        return f"{_TIMES}{_WORD}{self._ref.name}"

    def lookup(self, here: Node, name: str) -> Node | None:
        if not _TIME.fullmatch(name) or self._heads.head(self._ref) is None:
            return None
        try:
            record = stood_at(self._heads.log(self._ref), name, f"{self._ref.name}@{{{name}}}")
        except (NotFoundError, InvalidInputError):
            return None
        return View.child(here, _link(name, self._depth, record.snapshot, record.time_ns))

    def lines(self, here: Node) -> list[Entry | Line]:
        if self._heads.head(self._ref) is None:
            return []
        # Of two moves within a microsecond the later one: that is what its time means when it is looked up.
        moves = {iso(record.time_ns): record for record in self._heads.log(self._ref) if record.is_alive}
        return [_link(name, self._depth, record.snapshot, record.time_ns) for name, record in sorted(moves.items())]

    def is_lasting(self, found: Node | None) -> bool:
        return False

    def held(self, hold: Hold | None) -> Folder:
        return _Times(self._heads.held(hold), self._ref)


class _Snapshots(Folder):
    """Every snapshot, by id."""

    word = f"{_SNAPSHOTS}{_WORD}"

    def __init__(self, heads: Heads, snapshots: Snapshots, history: History) -> None:
        self._heads = heads
        self._snapshots = snapshots
        self._history = history

    def lookup(self, here: Node, name: str) -> Node | None:
        if not _ID_PREFIX.fullmatch(name):
            return None
        found = self._history.find(name)
        if len(found) != 1:
            return None
        if found[0].hex() == name:
            return self._line(here, found[0]).node
        return View.child(here, _link(name, 0, found[0], 0, ""))

    def lines(self, here: Node) -> list[Entry | Line]:
        heads = {record.snapshot for kind in RefKind for record in self._heads.below(kind, "")}
        return [self._line(here, id) for id in sorted(heads)]

    def is_lasting(self, found: Node | None) -> bool:
        return found is not None and found.is_directory

    def _line(self, here: Node, id: SnapshotId) -> Line:
        return snapshot_line(here, Standing.at(id, self._snapshots.snapshot(id)))


class Everything(Folder):
    """The root: names that never change."""

    word = _WORD

    def __init__(self, refs: Refs, snapshots: Snapshots, history: History) -> None:
        """Show all there is."""
        heads = self._heads = Heads(refs)
        self._folders: dict[str, Folder] = {
            BRANCHES: _Names(heads, RefKind.BRANCH),
            "tags": _Names(heads, RefKind.TAG),
            _SNAPSHOTS: _Snapshots(heads, snapshots, history),
            _AT: _LoggedNames(heads),
        }

    def lookup(self, here: Node, name: str) -> Node | None:
        """See `Folder.lookup`."""
        folder = self._folders.get(name)
        return None if folder is None else folder_in(here, name, folder)

    def lines(self, here: Node) -> list[Entry | Line]:
        """See `Folder.lines`."""
        return [Line(name, folder_in(here, name, folder)) for name, folder in sorted(self._folders.items())]

    def is_lasting(self, found: Node | None) -> bool:
        """See `Folder.is_lasting`."""
        return True

    def find(self, word: str) -> Folder:
        """See `Folder.find`; also one in which there is nothing any more."""
        kind, _, rest = word.partition(_WORD)
        if kind == _TIMES:
            return _Times(self._heads, RefName(RefKind.BRANCH, rest))
        folder = self._folders[kind] if kind else self
        return folder.within(rest) if rest and isinstance(folder, _Names) else folder


def snapshot_line(here: Node, standing: Standing) -> Line:
    """A snapshot as a directory of the folder `here`, named by its id."""
    name = standing.snapshot.hex()
    root = Entry(name, EntryKind.DIRECTORY, standing.digest, standing.tree, standing.size_bytes, standing.time_ns)
    return Line(name, View.child(here, root)._replace(standing=standing))


def _link(name: str, depth: int, id: SnapshotId, time_ns: int, folder: str = "snapshots/") -> Entry:
    """A symlink to a snapshot, from `depth` directories below the root."""
    target = "../" * depth + folder + id.hex()
    raw = target.encode()
    return Entry(name, EntryKind.SYMLINK, ContentDigest.of(raw), None, len(raw), time_ns, target=target)
