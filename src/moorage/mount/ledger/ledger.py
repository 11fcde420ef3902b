"""What does the kernel hold of a mount, that the next server must know when this one dies?

Nodeids with what each stands for and how often it was looked up, which of them are open in which mode and with which
backing file, where the root stood, and what INIT agreed on. Everything is written here before the kernel is told of it,
and taken back only after the kernel has let go, so what a server finds here counts too high, never too low.

The ledger is a file without a name (a memfd) that a supervisor holds and hands from one server to the next. It is a
list of records behind a short header (`ledger_file`), each the whole truth about one thing: what is written last holds,
and reading it again changes nothing.

    a record    4 bytes   length of the rest, without the checksum
                4 bytes   CRC-32 of the rest
                1 byte    kind
                ...       see `ledger_records`

A record is written by one write(2), perhaps with others. One that is cut short by death was never acted upon, so it and
what is behind it is cut off.

When most of it is dead it is made anew: the records that still hold are appended, then the 8 bytes at the start are
switched, then what is before is given back to the system. Death at any point leaves one list or the other.

Threads: any, one lock; processes: one server at a time writes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import zlib
from collections.abc import Sequence
from struct import Struct

from moorage.mount.kernel.passthrough import OpenMode
from moorage.mount.ledger import file as ledger_file
from moorage.mount.ledger import records
from moorage.mount.ledger.file import RECORDS_AT
from moorage.mount.ledger.records import NOWHERE, Begun, Known
from moorage.mount.shown.following import Standing
from moorage.mount.shown.inodes import Slot

COMPACT_BYTES = 1024 * 1024
"""A smaller ledger is left as it is."""
COMPACT_FACTOR = 3
"""... and one that is not this many times what it was when it was last made anew."""
MOST_STANDINGS = 1024
"""Moments that are kept for who has the root itself open, the last ones that somebody opened; those of nodeids are kept
as long as these."""

_FRAME = Struct("<II")
_PUNCH_HOLE_KEEP_SIZE = 3
_PIECE_BYTES = 1 << 20


class Ledger:
    """The shared record of one mount."""

    def __init__(self, fd: int) -> None:
        """Write to `fd`, an empty one, or as `load` has made it good."""
        self._fd = fd
        self._lock = threading.Lock()
        self._numbers: dict[Standing, int] = {}
        """Last is what was asked for last."""
        self._next_standing = NOWHERE + 1
        self._start = RECORDS_AT
        self._size = RECORDS_AT
        self._compact_at = RECORDS_AT + COMPACT_BYTES
        self._opens = ledger_file.opens_in(fd)
        self._is_open = True

    @classmethod
    def load(cls, fd: int) -> tuple[Ledger, Known]:
        """A ledger to go on with, and what it says. Raises `FormatError` for one of another version."""
        start = ledger_file.start_of(fd)
        ledger, known = cls(fd), Known()
        stop = _replay(fd, start, known)
        os.ftruncate(fd, stop)
        ledger._start, ledger._size = start, stop
        ledger._compact_at = stop + max(COMPACT_BYTES, (COMPACT_FACTOR - 1) * (stop - start))
        ledger._numbers = {standing: number for number, standing in known.moments().items()}
        ledger._next_standing = max(known.standings, default=NOWHERE) + 1
        return ledger, known

    def close(self) -> None:
        """Write nothing any more: there will be no next server."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                os.close(self._fd)

    def __len__(self) -> int:
        """How many bytes of records."""
        return self._size - self._start

    # -- what is written down ------------------------------------------------------------------------

    def begun(self, begun: Begun) -> None:
        """It is mounted."""
        with self._lock:
            self._append(records.begun(begun))

    def stands(self, standing: Standing) -> None:
        """The root stands there from now on; that is where the next server begins."""
        with self._lock:
            self._append(records.now(self._number(standing)))

    def moment(self, standing: Standing) -> int:
        """A number, greater than 0, for where the root stands; the same one for the same standing."""
        with self._lock:
            number = self._number(standing)
            self._numbers[standing] = self._numbers.pop(standing)
            return number

    def remembered(self, slots: Sequence[tuple[Slot, bool]]) -> None:
        """The kernel is about to be told of slots once more; True of one that is another than before."""
        with self._lock:
            written = []
            for slot, is_new in slots:
                if is_new:
                    standing = slot.node.standing
                    written.append(records.slot(slot, NOWHERE if standing is None else self._number(standing)))
                else:
                    written.append(records.looked_up(slot.nodeid, slot.lookups))
            self._append(*written)

    def forgotten(self, nodeid: int, lookups: int) -> None:
        """The kernel has given lookups back; so many are left."""
        with self._lock:
            self._append(records.looked_up(nodeid, lookups))

    def retired(self, nodeid: int) -> None:
        """No further lookup finds this slot."""
        with self._lock:
            self._append(records.retired(nodeid))

    def opened(self) -> None:
        """A file more is opened."""
        with self._lock:
            self._opens += 1
            if self._is_open:
                ledger_file.set_opens(self._fd, self._opens)

    def mode(self, nodeid: int, mode: OpenMode) -> None:
        """A nodeid is open in this mode, so often; 0 opens: it is not open."""
        with self._lock:
            self._append(records.mode(nodeid, mode))

    def _number(self, standing: Standing) -> int:
        """Under the lock."""
        number = self._numbers.get(standing)
        if number is None:
            number = self._numbers[standing] = self._next_standing
            self._next_standing += 1
            self._append(records.standing(number, standing))
        return number

    def _append(self, *written: bytes) -> None:
        """Under the lock; in one write."""
        if not self._is_open:
            return
        framed = b"".join([_FRAME.pack(len(record), zlib.crc32(record)) + record for record in written])
        done = os.pwrite(self._fd, framed, self._size)
        if done != len(framed):
            raise OSError(f"the ledger took {done} of {len(framed)} bytes")
        self._size += done
        if self._size >= self._compact_at:
            self._compact()

    # -- made anew -----------------------------------------------------------------------------------

    def _compact(self) -> None:
        """Under the lock. What is appended says nothing new, so death before the switch changes nothing."""
        known = Known()
        stop = _replay(self._fd, self._start, known)
        used = known.used()
        last = set(list(self._numbers.values())[-MOST_STANDINGS:])
        self._numbers = {
            standing: number for standing, number in self._numbers.items() if number in used or number in last
        }
        framed = b"".join(
            _FRAME.pack(len(record), zlib.crc32(record)) + record
            for record in known.records(list(self._numbers.values()))
        )
        _write_all(self._fd, framed, stop)
        ledger_file.set_start(self._fd, stop)
        _give_back(self._fd, RECORDS_AT, stop - RECORDS_AT)
        self._start, self._size = stop, stop + len(framed)
        self._compact_at = self._size + max(COMPACT_BYTES, (COMPACT_FACTOR - 1) * len(framed))


def _replay(fd: int, start: int, known: Known) -> int:
    """Read all records into `known`; returns where the last good one ends."""
    data = _read_all(fd, start)
    at = 0
    while at + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, at)
        record = data[at + _FRAME.size : at + _FRAME.size + length]
        if length == 0 or len(record) != length or zlib.crc32(record) != checksum:
            break
        known.take(record)
        at += _FRAME.size + length
    return start + at


def _read_all(fd: int, start: int) -> bytes:
    pieces = []
    while piece := os.pread(fd, _PIECE_BYTES, start):
        pieces.append(piece)
        start += len(piece)
    return b"".join(pieces)


def _write_all(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, at)
        at, view = at + done, view[done:]


def _give_back(fd: int, start: int, length: int) -> None:
    """Make a hole; where that cannot be, memory is all that is lost."""
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.fallocate(fd, _PUNCH_HOLE_KEEP_SIZE, ctypes.c_long(start), ctypes.c_long(length))
