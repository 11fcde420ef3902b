"""Are requests counted and timed, those that fail too, and is nothing changed about their answers?"""

from __future__ import annotations

import errno
import os

import pytest

from moorage.mount.host.owner import Owner
from moorage.mount.journal.metrics import Metrics
from moorage.mount.kernel import tally, wire
from moorage.mount.kernel.operations import Operations
from moorage.mount.kernel.tally import Tally
from moorage.mount.kernel.unthinking import Reply
from moorage.mount.kernel.wire import Opcode
from moorage.mount.shown.inodes import ROOT, InodeTable
from tests.mount.fakes import FakeRepository

CONTENT = b"data" * 1000


class Watched:
    """Operations that are counted."""

    def __init__(self) -> None:
        view = FakeRepository().fixed_view({"f": CONTENT})
        self.operations = Operations(view, InodeTable(view.folder), Owner(0, 0))
        self.metrics = Metrics()
        Tally().watch(self.operations, self.metrics)

    def ask(self, opcode: Opcode, nodeid: int = ROOT, body: bytes = b"") -> Reply:
        """As `session` does."""
        head = wire.HEADER_IN.pack(wire.BODY + len(body), opcode, 1, nodeid, 0, 0, 0, 0, 0)
        buffer = bytearray(head + body)
        try:
            return self.operations.handlers[opcode](nodeid, buffer, len(buffer))
        except Exception as error:  # noqa: BLE001 - as `session` does
            return self.operations.failed(error, opcode, nodeid, buffer, len(buffer))

    def lookup(self, name: str) -> Reply:
        return self.ask(Opcode.LOOKUP, ROOT, name.encode() + b"\0")

    def found(self) -> dict[str, float]:
        lines = [line for line in self.metrics.text().splitlines() if not line.startswith("#")]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_requests_and_bytes() -> None:
    watched = Watched()
    entry = watched.lookup("f")
    assert isinstance(entry, bytes)
    nodeid = wire.ENTRY_HEAD.unpack_from(entry)[0]
    assert isinstance(watched.ask(Opcode.OPEN, nodeid, wire.OPEN_IN.pack(os.O_RDONLY, 0)), bytes)
    for _ in range(3):
        read = watched.ask(Opcode.READ, nodeid, wire.READ_IN.pack(nodeid, 0, 1000) + bytes(16))
        assert isinstance(read, list)
        assert b"".join(read) == CONTENT[:1000]
    found = watched.found()
    assert found['moorage_requests_total{request="lookup"}'] == 1
    assert found['moorage_requests_total{request="read"}'] == 3
    assert found["moorage_read_bytes_total"] == 3000
    assert found["moorage_passthrough_opens_total"] == 0
    assert (found["moorage_open_files"], found["moorage_inodes"]) == (1, 1)
    assert not [name for name in found if "errors" in name]


def test_a_failure_is_counted_with_its_kind_and_answered_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    assert watched.lookup("absent") == wire.NEGATIVE_ENTRY
    assert watched.ask(Opcode.MKDIR) == errno.EROFS
    monkeypatch.setattr(watched.operations._view, "root", lambda: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    assert watched.lookup("f") == errno.EIO
    assert watched.lookup("f") == errno.EIO
    found = watched.found()
    assert found['moorage_requests_total{request="lookup"}'] == 3
    assert {name: value for name, value in found.items() if "errors" in name} == {
        'moorage_errors_total{errno="EIO",kind="OSError"}': 2
    }


def test_times_are_a_histogram(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0, 3_000, 0, 5_000_000, 0, 100_000_000_000])
    monkeypatch.setattr(tally, "perf_counter_ns", lambda: next(ticks))
    watched = Watched()
    for _ in range(3):
        watched.ask(Opcode.GETATTR)
    found = watched.found()
    name = 'moorage_request_seconds_bucket{request="getattr",le="%s"}'
    bounds = [f"{(1 << power) / 1e9:.9g}" for power in tally.BUCKETS]
    counts = [found[name % bound] for bound in bounds]
    assert counts == sorted(counts)
    assert counts[0] == 1  # 3 us
    assert found[name % "0.004194304"] == 1
    assert found[name % "0.016777216"] == 2  # 5 ms
    assert counts[-1] == 2  # not 100 s
    assert found[name % "+Inf"] == found['moorage_request_seconds_count{request="getattr"}'] == 3
    assert found['moorage_request_seconds_sum{request="getattr"}'] == pytest.approx(100.005003)
