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

When most of it is dead it is made anew, without anybody waiting for that: with each request a part of what the table
holds is appended, between the records of the requests themselves. When all of it has been, the records since the first
part say everything, the 8 bytes at the start are switched to there, and what is before is given back to the system.
Nothing appended says what the records before do not say, so death at any point leaves one list or the other, whole.

Threads: any, one lock; processes: one server at a time writes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from struct import Struct

from moorage.mount.kernel.passthrough import OpenMode
from moorage.mount.ledger import file as ledger_file
from moorage.mount.ledger import records
from moorage.mount.ledger.file import RECORDS_AT
from moorage.mount.ledger.records import Begun, Known
from moorage.mount.shown.following import Standing
from moorage.mount.shown.moments import Journal, Moments
from moorage.mount.shown.slots import NOWHERE, standing_of

COMPACT_BYTES = 1024 * 1024
"""A smaller ledger is left as it is."""
COMPACT_FACTOR = 3
"""... and one that is not this many times what is remembered."""

_FRAME = Struct("<II")
_PUNCH_HOLE_KEEP_SIZE = 3
_PIECE_BYTES = 1 << 20
_GIVEN_BACK_AT_ONCE = 1 << 20
"""Bytes; takes the system a fraction of a millisecond."""


class Ledger(Journal):
    """The shared record of one mount."""

    def __init__(self, fd: int, known: Known | None = None, start: int = RECORDS_AT, stop: int = RECORDS_AT) -> None:
        """Write to `fd`, an empty one; or go on behind what `known` has read."""
        known = Known() if known is None else known
        super().__init__(Moments(known.standings))
        self._fd = fd
        self._start = start
        self._size = stop
        self._begun = known.begun
        self._now = known.now
        self._modes = known.modes
        """Records of all that is open."""
        self._anew_at = 0
        """Where the records start that are being made anew."""
        self._given_back = RECORDS_AT
        """Before that nothing is left of older ones."""
        self._opens = ledger_file.opens_in(fd)
        self._is_open = True

    @classmethod
    def load(cls, fd: int) -> tuple[Ledger, Known]:
        """A ledger to go on with, and what it says. Raises `FormatError` for one of another version."""
        start = stop = ledger_file.start_of(fd)
        known = Known()
        for record in _records(fd, start):
            known.take(record)
            stop += _FRAME.size + len(record)
        os.ftruncate(fd, stop)
        _give_back(fd, RECORDS_AT, start - RECORDS_AT)  # what the last server did not come to
        return cls(fd, known, start, stop), known

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
            self._begun = begun
            self._append(records.begun(begun))

    def stands(self, standing: Standing) -> None:
        """The root stands there from now on; that is where the next server begins."""
        with self._lock:
            self._now = self._number(standing)
            self._append(records.now(self._now))

    def remembered(self, nodeids: Sequence[int], lookups: Sequence[int], places: Sequence[bytes]) -> None:
        """The kernel is about to be told of slots that are new, or other than before."""
        with self._lock:
            self._append(records.slots(nodeids, lookups, places))

    def looked_up(self, nodeids: Sequence[int], lookups: Sequence[int]) -> None:
        """The kernel is about to be told of slots once more, or has given lookups back; 0: they are gone."""
        with self._lock:
            self._append(records.looked_up(nodeids, lookups))

    def retired(self, nodeids: Sequence[int]) -> None:
        """No further lookup finds these slots."""
        with self._lock:
            self._append(records.retired(nodeids))

    def opened(self) -> None:
        """A file more is opened."""
        with self._lock:
            self._opens += 1
            if self._is_open:
                ledger_file.set_opens(self._fd, self._opens)

    def mode(self, nodeid: int, mode: OpenMode) -> None:
        """A nodeid is open in this mode, so often; 0 opens: it is not open."""
        with self._lock:
            self._modes[nodeid] = record = records.mode(nodeid, mode)
            if mode.opens == 0:
                del self._modes[nodeid]
            self._append(record)

    def _number(self, standing: Standing) -> int:
        """Under the lock."""
        is_written = self._is_written(self._moments.known(standing))
        number = super()._number(standing)
        if not is_written:
            self._append(records.standing(number, standing))
        return number

    def _is_written(self, number: int | None) -> bool:
        """Whether the standing of that number is among the records that will hold."""
        return number is not None and (self._used is None or number in self._used)

    def _append(self, *written: bytes) -> None:
        """Under the lock; in one write."""
        if not self._is_open:
            return
        framed = b"".join([_FRAME.pack(len(record), zlib.crc32(record)) + record for record in written])
        done = os.pwrite(self._fd, framed, self._size)
        if done != len(framed):
            raise OSError(f"the ledger took {done} of {len(framed)} bytes")
        self._size += done

    # -- made anew -----------------------------------------------------------------------------------

    def is_long(self, live_bytes: int) -> bool:
        """See `Journal.is_long`."""
        size = self._size - self._start
        return (size > COMPACT_BYTES and size > COMPACT_FACTOR * live_bytes) or super().is_long(live_bytes)

    def begin_anew(self, next_nodeid: int) -> None:
        """Begin with what is no slot. All that is written from now on is part of the list that is being made, and says
        nothing that the one before it does not say."""
        with self._lock:
            self._anew_at = self._size
            self._used, self._latest = {self._now}, (None, NOWHERE)
            self._append(
                *([] if self._begun is None else [records.begun(self._begun)]),
                *self._standings(self._used),
                records.now(self._now),
                records.next_nodeid(next_nodeid),
                *self._modes.values(),
            )

    def renewed(
        self, nodeids: Sequence[int], lookups: Sequence[int], places: Sequence[bytes], retired: Sequence[int]
    ) -> None:
        """Slots as they are, whenever they were last told."""
        if not nodeids:
            return
        with self._lock:
            assert self._used is not None
            numbers = {*map(standing_of, places)} - self._used - {NOWHERE}
            self._used |= numbers
            written = [*self._standings(numbers), records.slots(nodeids, lookups, places)]
            if retired:
                written.append(records.retired(retired))
            self._append(*written)

    def end_anew(self) -> bool:
        """Switch to the list that was made, and give the one before back, a part at a time. The moments that are kept
        for who has the root open come in their order."""
        with self._lock:
            if self._start != self._anew_at:
                self._append(*self._standings(self._moments.last()))
                if self._is_open:
                    ledger_file.set_start(self._fd, self._anew_at)
                self._start, self._given_back = self._anew_at, RECORDS_AT
            stop = min(self._given_back + _GIVEN_BACK_AT_ONCE, self._start)
            if self._is_open:
                _give_back(self._fd, self._given_back, stop - self._given_back)
            self._given_back = stop
            is_all = stop == self._start
        return is_all and super().end_anew()

    def _standings(self, numbers: Iterable[int]) -> list[bytes]:
        known = [(number, self._moments.standing(number)) for number in numbers]
        return [records.standing(number, standing) for number, standing in known if standing is not None]


def _records(fd: int, at: int) -> Iterator[bytes]:
    """All that are good, up to the first that is not; never many of them in memory at once."""
    data = b""
    while piece := os.pread(fd, max(_PIECE_BYTES, len(data)), at):
        at += len(piece)
        data += piece
        begin = 0
        while begin + _FRAME.size <= len(data):
            length, checksum = _FRAME.unpack_from(data, begin)
            end = begin + _FRAME.size + length
            if length == 0:
                return
            if end > len(data):
                break
            record = data[begin + _FRAME.size : end]
            if zlib.crc32(record) != checksum:
                return
            yield record
            begin = end
        data = data[begin:]


def _give_back(fd: int, start: int, length: int) -> None:
    """Make a hole; where that cannot be, memory is all that is lost."""
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.fallocate(fd, _PUNCH_HOLE_KEEP_SIZE, ctypes.c_long(start), ctypes.c_long(length))
