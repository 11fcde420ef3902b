"""How is each thing that a ledger holds written down, and read back?

See `ledger` for what it is for. A record begins with its kind and packed numbers; where there is more to say,
MessagePack follows: arrays, to which a field is only ever added at the end. What is said of nodeids comes by the page
of a listing, so such a record is about many: how many, all nodeids, all counts, and of slots all lengths and then what
the table holds of each, as it is (`shown.slots`). So reading it back makes nothing of it, until somebody asks.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from struct import Struct

import msgspec

from moorage.model.digest import ContentDigest, SnapshotId, TreeId
from moorage.model.refs import RefAction, RefKind, RefName, RefRecord
from moorage.mount.kernel.passthrough import OpenMode
from moorage.mount.shown.following import Standing
from moorage.mount.shown.inodes import ROOT, Remembered
from moorage.mount.shown.slots import NOWHERE
from moorage.read.cached_file import Seen

BEGUN, STANDING, NOW, SLOTS, LOOKED_UP, RETIRED, MODE, NEXT = range(1, 9)
_NUMBER = Struct("<BQ")
_MODE = Struct("<BQQ")
_COUNT = Struct("<BI")
_ONE = Struct("<BIQQ")
_EACH, _LENGTH = "Q", "H"
"""Of arrays: nodeids and counts; bytes of a place, of which the longest has a target of 4,095."""


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


class _Opened(msgspec.Struct, array_like=True):
    """How a nodeid is open."""

    backing: int
    seen: Seen | None


_encode = msgspec.msgpack.Encoder().encode
_read_begun = msgspec.msgpack.Decoder(Begun).decode
_read_stood = msgspec.msgpack.Decoder(_Stood).decode
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


def slots(nodeids: Sequence[int], lookups: Sequence[int], places: Sequence[bytes]) -> bytes:
    """Slots as `shown.slots` packs them, each looked up so often."""
    return b"".join(
        (
            _COUNT.pack(SLOTS, len(nodeids)),
            array(_EACH, nodeids).tobytes(),
            array(_EACH, lookups).tobytes(),
            array(_LENGTH, map(len, places)).tobytes(),
            *places,
        )
    )


def looked_up(nodeids: Sequence[int], lookups: Sequence[int]) -> bytes:
    """Slots are looked up so often; 0 times: gone."""
    if len(nodeids) == 1:  # as by a walk, which is the most frequent
        return _ONE.pack(LOOKED_UP, 1, nodeids[0], lookups[0])
    return _COUNT.pack(LOOKED_UP, len(nodeids)) + array(_EACH, nodeids).tobytes() + array(_EACH, lookups).tobytes()


def retired(nodeids: Sequence[int]) -> bytes:
    """No further lookup finds these slots."""
    return _COUNT.pack(RETIRED, len(nodeids)) + array(_EACH, nodeids).tobytes()


def next_nodeid(nodeid: int) -> bytes:
    """No smaller one is free."""
    return _NUMBER.pack(NEXT, nodeid)


def mode(nodeid: int, what: OpenMode) -> bytes:
    """How a nodeid is open; 0 times: it is not."""
    return _MODE.pack(MODE, nodeid, what.opens) + _encode(_Opened(what.backing, what.seen))


# -- read back ---------------------------------------------------------------------------------------


class Known:
    """What a ledger says."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.begun: Begun | None = None
        self.standings: dict[int, Standing] = {}
        self.now = NOWHERE
        self.remembered = Remembered({}, {}, set(), ROOT + 1)
        self.modes: dict[int, bytes] = {}
        """Records, by nodeid."""

    def take(self, record: bytes) -> None:
        """Take in one more record."""
        kind = record[0]
        if kind == LOOKED_UP:
            self._count(*_numbers(record, 2))
        elif kind == SLOTS:
            self._remember(record, *_numbers(record, 2))
        elif kind == RETIRED:
            self.remembered.retired.update(nodeid for nodeid in _numbers(record, 1)[0] if nodeid in self._places)
        elif kind == MODE:
            _, nodeid, opens = _MODE.unpack_from(record)
            self.modes[nodeid] = record
            if opens == 0:
                del self.modes[nodeid]
        elif kind == BEGUN:
            self.begun = _read_begun(record[1:])
        else:
            self._take_number(kind, _NUMBER.unpack_from(record)[1], record[_NUMBER.size :])

    @property
    def _places(self) -> dict[int, bytes]:
        return self.remembered.places

    def _count(self, nodeids: array[int], counts: array[int]) -> None:
        places, lookups, retired, _ = self.remembered
        for nodeid, count in zip(nodeids, counts, strict=True):
            if nodeid not in places:
                continue
            lookups.pop(nodeid, None)
            if count == 0:
                del places[nodeid]
                retired.discard(nodeid)
            elif count > 1:
                lookups[nodeid] = count

    def _remember(self, record: bytes, nodeids: array[int], counts: array[int]) -> None:
        count, lengths = len(nodeids), array(_LENGTH)
        at = _COUNT.size + 2 * count * nodeids.itemsize
        lengths.frombytes(record[at : at + count * lengths.itemsize])
        at += count * lengths.itemsize
        places = self._places
        for nodeid, length in zip(nodeids, lengths, strict=True):
            places[nodeid] = record[at : at + length]
            at += length
        self._count(nodeids, counts)
        self._take_number(NEXT, max(nodeids) + 1, b"")

    def _take_number(self, kind: int, number: int, rest: bytes) -> None:
        if kind == STANDING:
            self.standings.pop(number, None)  # last is what was opened last
            self.standings[number] = _standing_of(_read_stood(rest))
        elif kind == NOW:
            self.now = number
        elif kind == NEXT and number > self.remembered.next_nodeid:
            self.remembered = self.remembered._replace(next_nodeid=number)


def open_mode(record: bytes) -> OpenMode:
    """How a nodeid is open, by its record."""
    opened = _read_opened(record[_MODE.size :])
    return OpenMode(opened.backing, opened.seen, _MODE.unpack_from(record)[2])


def _numbers(record: bytes, lists: int) -> list[array[int]]:
    """The lists of numbers with which a record about many nodeids begins."""
    count, at, found = _COUNT.unpack_from(record)[1], _COUNT.size, []
    for _ in range(lists):
        numbers = array(_EACH)
        numbers.frombytes(record[at : at + count * numbers.itemsize])
        at += count * numbers.itemsize
        found.append(numbers)
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
