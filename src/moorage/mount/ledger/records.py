"""How is each thing that a ledger holds written down, and read back?

See `ledger` for what it is for. A record begins with its kind and packed numbers; where there is more to say,
MessagePack follows: arrays, to which a field is only ever added at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct
from typing import NamedTuple

import msgspec

from moorage.model.digest import ContentDigest, RecipeId, SnapshotId, TreeId
from moorage.model.refs import RefAction, RefKind, RefName, RefRecord
from moorage.model.tree import Entry, EntryKind
from moorage.mount.kernel.passthrough import OpenMode
from moorage.mount.shown.following import Standing
from moorage.mount.shown.inodes import ROOT, Slot, key_of
from moorage.mount.shown.view import Folder, Node, View, folder_node
from moorage.read.cached_file import Seen

_KINDS = {int(kind): kind for kind in EntryKind}
BEGUN, STANDING, NOW, SLOT, LOOKED_UP, RETIRED, MODE, NEXT = range(1, 9)
_NUMBER = Struct("<BQ")
_LOOKUPS = Struct("<BQQ")
_SLOT = Struct("<BQQ?Q")
NOWHERE = 0
"""In the place of a standing's number: in no snapshot."""


class Followed(msgspec.Struct, array_like=True):
    """A record of the branch that a mount follows; see `RefRecord`."""

    kind: str
    name: str
    number: int
    action: str
    snapshot: bytes
    transaction: str
    previous: str
    time_ns: int
    actor: str
    reason: str
    other: str

    @classmethod
    def of(cls, record: RefRecord) -> Followed:
        """Write it down."""
        return cls(
            record.ref.kind.value,
            record.ref.name,
            record.number,
            record.action.value,
            bytes(record.snapshot),
            record.transaction,
            record.previous,
            record.time_ns,
            record.actor,
            record.reason,
            record.other,
        )

    def record(self) -> RefRecord:
        """Read it back."""
        return RefRecord(
            RefName(RefKind(self.kind), self.name),
            self.number,
            RefAction(self.action),
            SnapshotId(self.snapshot),
            self.transaction,
            self.previous,
            self.time_ns,
            self.actor,
            self.reason,
            self.other,
        )


class Begun(msgspec.Struct, array_like=True):
    """What does not change as long as it is mounted."""

    device: str
    kernel_minor: int
    minor: int
    max_readahead_bytes: int
    offered: int
    flags: int
    takes_direct: bool | None
    """Whether backing files can be opened with O_DIRECT; None without passthrough."""
    followed: Followed | None
    """The record at which following began; None where the root is fixed, or is a folder."""


class _Stood(msgspec.Struct, array_like=True):
    """Where the root stands, or a snapshot of a mount of everything."""

    snapshot: bytes
    tree: bytes
    digest: bytes
    size_bytes: int
    time_ns: int
    branch: str


class _Place(msgspec.Struct, array_like=True):
    """What a nodeid stands for."""

    parent: int
    name: str
    """Empty where it is the entry's."""
    inode: int
    is_shared: bool
    entry: _Entry | None
    folder: str
    """Its word, where there is no entry."""


class _Entry(msgspec.Struct, array_like=True):
    name: str
    kind: int
    digest: bytes
    object: bytes | None
    size_bytes: int
    first_stored_ns: int
    executable: bool
    target: str


class _Opened(msgspec.Struct, array_like=True):
    """How a nodeid is open."""

    backing: int
    seen: Seen | None


_encode = msgspec.msgpack.Encoder().encode
_read_begun = msgspec.msgpack.Decoder(Begun).decode
_read_stood = msgspec.msgpack.Decoder(_Stood).decode
_read_place = msgspec.msgpack.Decoder(_Place).decode
_read_opened = msgspec.msgpack.Decoder(_Opened).decode


# -- written down ------------------------------------------------------------------------------------


def begun(what: Begun) -> bytes:
    """It is mounted."""
    return bytes((BEGUN,)) + _encode(what)


def standing(number: int, what: Standing) -> bytes:
    """What a number of a standing means."""
    stood = _Stood(
        bytes(what.snapshot), bytes(what.tree), bytes(what.digest), what.size_bytes, what.time_ns, what.branch
    )
    return _NUMBER.pack(STANDING, number) + _encode(stood)


def now(number: int) -> bytes:
    """The root stands there."""
    return _NUMBER.pack(NOW, number)


def slot(what: Slot, standing: int) -> bytes:
    """A slot, last looked up at the standing of that number."""
    node = what.node
    entry = node.entry
    written = None
    if entry is not None:
        written = _Entry(
            entry.name,
            int(entry.kind),
            bytes(entry.digest),
            None if entry.object is None else bytes(entry.object),
            entry.size_bytes,
            entry.first_stored_ns,
            entry.executable,
            entry.target,
        )
    word = "" if node.folder is None else node.folder.word
    name = "" if entry is not None and entry.name == what.name else what.name
    place = _Place(what.parent, name, node.inode, what.is_shared, written, word)
    return _SLOT.pack(SLOT, what.nodeid, what.lookups, what.is_retired, standing) + _encode(place)


def looked_up(nodeid: int, lookups: int) -> bytes:
    """A slot is looked up so often; 0 times: it is gone."""
    return _LOOKUPS.pack(LOOKED_UP, nodeid, lookups)


def retired(nodeid: int) -> bytes:
    """No further lookup finds this slot."""
    return _NUMBER.pack(RETIRED, nodeid)


def mode(nodeid: int, what: OpenMode) -> bytes:
    """How a nodeid is open; 0 times: it is not."""
    return _LOOKUPS.pack(MODE, nodeid, what.opens) + _encode(_Opened(what.backing, what.seen))


# -- read back ---------------------------------------------------------------------------------------


class _KnownSlot(NamedTuple):
    lookups: int
    is_retired: bool
    standing: int
    place: bytes


class Known:
    """What a ledger says."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.begun: Begun | None = None
        self.standings: dict[int, bytes] = {}
        self.now = NOWHERE
        self.next_nodeid = ROOT + 1
        self._slots: dict[int, _KnownSlot] = {}
        self._modes: dict[int, bytes] = {}

    def take(self, record: bytes) -> None:
        """Take in one more record."""
        kind = record[0]
        if kind == LOOKED_UP:
            _, nodeid, lookups = _LOOKUPS.unpack(record)
            if lookups == 0:
                self._slots.pop(nodeid, None)
            elif nodeid in self._slots:
                self._slots[nodeid] = self._slots[nodeid]._replace(lookups=lookups)
        elif kind == SLOT:
            _, nodeid, lookups, is_retired, standing = _SLOT.unpack_from(record)
            self._slots[nodeid] = _KnownSlot(lookups, is_retired, standing, record[_SLOT.size :])
            self.next_nodeid = max(self.next_nodeid, nodeid + 1)
        elif kind == MODE:
            _, nodeid, opens = _LOOKUPS.unpack_from(record)
            self._modes[nodeid] = record
            if opens == 0:
                del self._modes[nodeid]
        elif kind == BEGUN:
            self.begun = _read_begun(record[1:])
        else:
            self._take_number(kind, _NUMBER.unpack_from(record)[1], record[_NUMBER.size :])

    def _take_number(self, kind: int, number: int, rest: bytes) -> None:
        if kind == STANDING:
            self.standings[number] = rest
        elif kind == NOW:
            self.now = number
        elif kind == RETIRED and number in self._slots:
            self._slots[number] = self._slots[number]._replace(is_retired=True)
        elif kind == NEXT:
            self.next_nodeid = max(self.next_nodeid, number)

    def used(self) -> set[int]:
        """Numbers of standings that must be kept."""
        return {self.now} | {known.standing for known in self._slots.values()} - {NOWHERE}

    def records(self, standings: list[int]) -> Iterator[bytes]:
        """The shortest list that says the same, with these standings, in this order."""
        if self.begun is not None:
            yield begun(self.begun)
        for number in standings:
            yield _NUMBER.pack(STANDING, number) + self.standings[number]
        yield now(self.now)
        for nodeid, known in self._slots.items():
            yield _SLOT.pack(SLOT, nodeid, *known[:3]) + known.place
        yield from self._modes.values()
        yield _NUMBER.pack(NEXT, self.next_nodeid)

    def moments(self) -> dict[int, Standing]:
        """All standings."""
        return {number: _standing_of(_read_stood(stood)) for number, stood in self.standings.items()}

    def slots(self, folder: Callable[[str], Folder]) -> Iterator[Slot]:
        """All slots; `folder` finds one by its word."""
        moments = self.moments()
        for nodeid, known in self._slots.items():
            place = _read_place(known.place)
            node = _node_of(place, moments.get(known.standing), folder)
            name = place.name or (node.entry.name if node.entry is not None else "")
            slot = Slot(nodeid, key_of(place.parent, name, node), place.parent, name, node)
            slot.lookups, slot.is_retired, slot.is_shared = known.lookups, known.is_retired, place.is_shared
            yield slot

    def modes(self) -> dict[int, OpenMode]:
        """How which nodeids are open."""
        found = {}
        for nodeid, record in self._modes.items():
            opened = _read_opened(record[_LOOKUPS.size :])
            found[nodeid] = OpenMode(opened.backing, opened.seen, _LOOKUPS.unpack_from(record)[2])
        return found


def _standing_of(stood: _Stood) -> Standing:
    return Standing(
        SnapshotId(stood.snapshot),
        TreeId(stood.tree),
        ContentDigest(stood.digest),
        stood.size_bytes,
        stood.time_ns,
        stood.branch,
    )


def _node_of(place: _Place, standing: Standing | None, folder: Callable[[str], Folder]) -> Node:
    # A directory's inode is that of its place, which may be forgotten: the one that was told is kept.
    written = place.entry
    if written is None:
        return folder_node(folder(place.folder), place.inode)
    kind, raw = _KINDS[written.kind], written.object
    entry = Entry(
        written.name,
        kind,
        ContentDigest(written.digest),
        None if raw is None else TreeId(raw) if kind is EntryKind.DIRECTORY else RecipeId(raw),
        written.size_bytes,
        written.first_stored_ns,
        written.executable,
        written.target,
    )
    return View.again(entry, place.inode, standing)
