"""How many requests of which kind came in, how long did they take, and what was answered?

A handler is timed by another one around it, so a mount that nobody asks about pays nothing, and the loop of `session`
knows nothing of it. What one costs more is under half a microsecond: two looks at a clock and three additions.

Times are counted by the length of their number in nanoseconds: one more bit is twice as long. There is no lock: under
the interpreter's own an addition to an item of a list is not interrupted.

A request is counted when its handler returns. What the deadline has answered in the meantime is in its time too; what
never comes back is not.

Threads: any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import perf_counter_ns

from moorage.mount.journal.metrics import HISTOGRAM, Family, Metrics, Sample, counter, gauge
from moorage.mount.kernel import wire
from moorage.mount.kernel.operations import Operations
from moorage.mount.kernel.unthinking import Handler, Reply
from moorage.mount.kernel.wire import Opcode, OpenFlag

_LENGTHS = 64
BUCKETS = range(12, 37, 2)
"""Powers of 2 ns that are shown: from 4 us to 69 s, each four times the one before."""
_NANOSECONDS = 1_000_000_000


class Tally:
    """What the handlers of one server have done."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._lengths = [[0] * _LENGTHS for _ in range(wire.OPCODE_LIMIT)]
        self._sum_ns = [0] * wire.OPCODE_LIMIT
        self._read_bytes = [0]
        self._passed_through = [0]

    def watch(self, operations: Operations, metrics: Metrics) -> None:
        """Count what `operations` answers from now on; before it begins to serve."""
        handlers = operations.handlers
        for opcode, handler in enumerate(handlers):
            handlers[opcode] = self._timed(opcode, handler)
        handlers[Opcode.READ] = self._counting_bytes(handlers[Opcode.READ])
        handlers[Opcode.OPEN] = self._counting_passthrough(handlers[Opcode.OPEN])
        metrics.add(self.families)
        metrics.add(lambda: _sizes(operations))

    def _timed(self, opcode: int, handler: Handler) -> Handler:
        lengths, sum_ns, now = self._lengths[opcode], self._sum_ns, perf_counter_ns

        def timed(nodeid: int, buffer: wire.Buffer, length: int) -> Reply:
            begun = now()
            try:
                return handler(nodeid, buffer, length)
            finally:
                took = now() - begun
                lengths[took.bit_length()] += 1
                sum_ns[opcode] += took

        return timed

    def _counting_bytes(self, handler: Handler) -> Handler:
        total = self._read_bytes

        def read(nodeid: int, buffer: wire.Buffer, length: int) -> Reply:
            reply = handler(nodeid, buffer, length)
            if isinstance(reply, list):
                total[0] += sum(map(len, reply))
            return reply

        return read

    def _counting_passthrough(self, handler: Handler) -> Handler:
        total = self._passed_through

        def opened(nodeid: int, buffer: wire.Buffer, length: int) -> Reply:
            reply = handler(nodeid, buffer, length)
            if isinstance(reply, bytes) and wire.OPEN_OUT.unpack(reply)[1] & OpenFlag.PASSTHROUGH:
                total[0] += 1
            return reply

        return opened

    def families(self) -> Iterator[Family]:
        """What was counted so far."""
        names = {opcode: opcode.name.lower() for opcode in Opcode if any(self._lengths[opcode])}
        yield counter(
            "moorage_requests_total",
            "Requests of the kernel, by kind.",
            *(Sample(sum(self._lengths[opcode]), {"request": name}) for opcode, name in names.items()),
        )
        yield Family(
            "moorage_request_seconds",
            HISTOGRAM,
            "How long requests took, by kind.",
            tuple(sample for opcode, name in names.items() for sample in self._histogram(opcode, name)),
        )
        yield counter(
            "moorage_read_bytes_total", "Bytes that this server gave to the kernel to read.", self._read_bytes[0]
        )
        yield counter(
            "moorage_passthrough_opens_total",
            "Opens of files that the kernel then reads itself.",
            self._passed_through[0],
        )

    def _histogram(self, opcode: int, name: str) -> Iterable[Sample]:
        lengths = list(self._lengths[opcode])
        for power in BUCKETS:
            seconds = f"{(1 << power) / _NANOSECONDS:.9g}"
            yield Sample(sum(lengths[: power + 1]), {"request": name, "le": seconds}, "_bucket")
        yield Sample(sum(lengths), {"request": name, "le": "+Inf"}, "_bucket")
        yield Sample(self._sum_ns[opcode] / _NANOSECONDS, {"request": name}, "_sum")
        yield Sample(sum(lengths), {"request": name}, "_count")


def _sizes(operations: Operations) -> Iterator[Family]:
    followed = operations.followed
    if followed is not None:
        branch, moved_ns = followed
        text = "When the branch moved to what is shown, in Unix time."
        yield gauge("moorage_branch_moved_time_seconds", text, Sample(moved_ns / _NANOSECONDS, {"branch": branch}))
    files, directories, inodes = operations.sizes()
    yield gauge("moorage_open_files", "Files that somebody has open, each counted once.", files)
    yield gauge("moorage_open_directories", "Directories that somebody has open, each counted once.", directories)
    yield counter(
        "moorage_errors_total",
        "Requests that failed for another reason than what was asked, by errno and kind of error.",
        *(
            Sample(count, {"errno": name, "kind": kind})
            for (name, kind), count in list(operations.failures.counts.items())
        ),
    )
    yield gauge("moorage_inodes", "Files and directories that the kernel may ask about.", inodes)
