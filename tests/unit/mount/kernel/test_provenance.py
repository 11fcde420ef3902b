"""Is an open written down by the path that its own thread has walked, whoever else walks to the same content?"""

from __future__ import annotations

from pathlib import Path

import pytest

from moorage.mount.host.owner import Owner
from moorage.mount.journal.open_log import OpenLog, lines_of
from moorage.mount.kernel import wire
from moorage.mount.kernel.operations import Operations
from moorage.mount.kernel.provenance import Provenance
from moorage.mount.kernel.wire import FOREVER_S, Opcode
from moorage.mount.shown.inodes import ROOT, InodeTable
from tests.mount.build import Content
from tests.mount.fakes import FakeRepository

SAME: dict[str, Content] = {"d": {"f": b"same", "copy": b"same"}}
ONE, OTHER, THIRD, UNKNOWN = 2**22 + 1, 2**22 + 2, 2**22 + 3, 0
"""Threads of no process that is there, and what the kernel says where it cannot tell."""


class Traced:
    """A mount of everything, asked as by several threads."""

    def __init__(self, path: Path) -> None:
        self.repository = FakeRepository()
        self.path = path
        self._log = OpenLog(path)
        view = self.repository.whole_view()
        table = InodeTable(view.folder)
        provenance = Provenance(self._log, "/srv/m", table)
        self._operations = Operations(view, table, Owner(0, 0), provenance=provenance)

    def _ask(self, opcode: Opcode, nodeid: int, thread: int, body: bytes) -> bytes:
        request = wire.HEADER_IN.pack(wire.BODY + len(body), opcode, 1, nodeid, 7, 0, thread, 0, 0) + body
        reply = self._operations.handlers[opcode](nodeid, request, len(request))
        assert isinstance(reply, bytes)
        return reply

    def walk(self, path: str, thread: int) -> tuple[int, list[int]]:
        """The nodeid at a path, and how long each name on the way may be kept."""
        nodeid, lifetimes = ROOT, []
        for name in path.split("/"):
            nodeid, _, valid_s, *_ = wire.ENTRY_HEAD.unpack_from(
                self._ask(Opcode.LOOKUP, nodeid, thread, name.encode() + b"\0")
            )
            lifetimes.append(valid_s)
        return nodeid, lifetimes

    def open(self, nodeid: int, thread: int) -> None:
        """As the kernel does after a walk."""
        self._ask(Opcode.OPEN, nodeid, thread, wire.OPEN_IN.pack(0, 0))

    def written(self) -> list[tuple[object, object, object]]:
        """(thread, path, snapshot) of all lines."""
        self._log.close()
        return [(line["pid"], line["path"], line["snapshot"]) for line in lines_of(self.path)]


@pytest.fixture
def traced(tmp_path: Path) -> Traced:
    return Traced(tmp_path / "opens.jsonl")


def test_names_of_files_are_asked_for_each_time_and_others_are_not(traced: Traced) -> None:
    id = traced.repository.set("prod", SAME).hex()
    assert traced.walk(f"snapshots/{id}/d/f", ONE)[1] == [FOREVER_S, FOREVER_S, FOREVER_S, 0]


def test_each_thread_has_its_own_path(traced: Traced) -> None:
    first = traced.repository.set("prod", SAME).hex()
    second = traced.repository.set("prod", {**SAME, "new": b"x"}).hex()
    nodeid, _ = traced.walk(f"snapshots/{first}/d/f", ONE)
    assert traced.walk(f"snapshots/{second}/d/copy", OTHER)[0] == nodeid
    traced.open(nodeid, ONE)
    traced.open(nodeid, OTHER)
    traced.open(nodeid, THIRD)  # the control: without a walk of its own it is the last one's path, in no snapshot
    assert traced.written() == [
        (ONE, f"/srv/m/snapshots/{first}/d/f", first),
        (OTHER, f"/srv/m/snapshots/{second}/d/copy", second),
        (THIRD, f"/srv/m/snapshots/{second}/d/copy", None),
    ]


def test_callers_that_cannot_be_told_apart_share_no_walk(traced: Traced) -> None:
    first = traced.repository.set("prod", SAME).hex()
    nodeid, _ = traced.walk(f"snapshots/{first}/d/f", UNKNOWN)
    traced.walk(f"snapshots/{first}/d/copy", ONE)
    traced.open(nodeid, UNKNOWN)
    assert traced.written() == [(UNKNOWN, f"/srv/m/snapshots/{first}/d/copy", first)]
