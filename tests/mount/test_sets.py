"""Is a set of files read whole while its branch moves between any two of them, by whoever resolves once or runs pinned?

`--sticky` is in test_sticky.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.model.digest import SnapshotId
from moorage.model.refs import RefKind, RefName
from moorage.mount.serve import EVERYTHING
from tests.cli.command_line import python
from tests.crash.ground import IS_SOAK
from tests.mount import build
from tests.mount.build import Content
from tests.mount.conftest import Child, Mount, MountIt, kill, kill_later
from tests.needs import needs_fuse, needs_libfuse, needs_root

pytestmark = needs_fuse

MOVES = 10_000 if IS_SOAK else 200
CONTROL_MOVES = 40
VERSIONS = 3
PROD = RefName(RefKind.BRANCH, "prod")
NAMES = ("config", "deep/er/tokens", "deep/weights", "model", "other/labels")

READER = """
import os, sys
how, root, *names = sys.argv[1:]
if how == "resolve":
    import moorage
def place():
    if how == "resolve":
        return moorage.resolve(root).path
    return os.path.realpath(root) if how == "realpath" else root
def say(*words):
    print(*words, flush=True)
say("ready")
for line in sys.stdin:             # after how many files the branch moves
    at, found = place(), []
    for position, name in enumerate(names):
        if position == int(line):
            say("moves")
            sys.stdin.readline()
        with open(os.path.join(at, name), "rb") as file:
            found.append(file.read().split()[0].decode())
    say(*found)
"""


def version(number: int) -> dict[str, Content]:
    """A set of files that all say which version they are of."""
    data = b"%d " % number * 500
    return {
        "config": data,
        "deep": {"er": {"tokens": data}, "weights": data},
        "model": data,
        "other": {"labels": data},
        "same": b"same",
    }


def sets_read(mount: Mount, reader: Child, moves: int) -> list[list[str]]:
    """What a reader found in each of so many sets, in the midst of each of which the branch moved."""
    ids = [build.snapshot(mount.handle, version(number)) for number in range(VERSIONS)]
    positions = itertools.cycle(range(1, len(NAMES)))
    found, stands = [], build.head(mount.handle, "prod")
    for number in range(moves):
        reader.write(str(next(positions)))
        assert reader.read() == "moves"
        stands = moved(mount, ids[(number + 1) % VERSIONS], stands)
        reader.write("on")
        found.append(reader.read().split())
        assert len(found[-1]) == len(NAMES)
    return found


def moved(mount: Mount, id: SnapshotId, stands: SnapshotId) -> SnapshotId:
    return mount.handle.refs.move(PROD, id, expected=stands, actor="tester", reason="test").snapshot


def torn(found: list[list[str]]) -> int:
    return sum(len(set(versions)) > 1 for versions in found)


def read_in(mount: Mount, how: str, root: Path, moves: int) -> list[list[str]]:
    with mount.talk(READER, how, root, *NAMES) as reader:
        assert reader.read() == "ready"
        return sets_read(mount, reader, moves)


@contextlib.contextmanager
def run_pinned(mount: Mount, root: Path) -> Iterator[Child]:
    """The reader, by `moorage run`."""
    words = ["-r", str(mount.handle.root), "run", "--pin", "prod", "--", sys.executable, "-c", READER, "plain"]
    with subprocess.Popen(
        python(*words, str(root), *NAMES), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        watchdog = kill_later(process.pid)
        try:
            yield Child(process)
        finally:
            watchdog.cancel()
            kill(process.pid)


@pytest.mark.parametrize("driver", ["kernel", pytest.param("libfuse", marks=needs_libfuse)])
@pytest.mark.parametrize(
    ("revision", "how", "root"),
    [("prod", "resolve", "."), (EVERYTHING, "resolve", "branches/prod"), (EVERYTHING, "realpath", "branches/prod")],
)
def test_who_resolves_once_reads_whole_sets(mount_it: MountIt, driver: str, revision: str, how: str, root: str) -> None:
    moves = MOVES if driver == "kernel" else CONTROL_MOVES
    mount = mount_it(version(0)).again(revision, driver=driver)
    found = read_in(mount, how, mount.path / root, moves)
    assert torn(found) == 0
    assert {versions[0] for versions in found} == {str(number) for number in range(VERSIONS)}  # it goes along


@needs_root
def test_who_runs_pinned_reads_one_set_for_good(mount_it: MountIt) -> None:
    mount = mount_it(version(0))
    with run_pinned(mount, mount.path) as reader:
        assert reader.read() == "ready"
        assert sets_read(mount, reader, MOVES) == [["0"] * len(NAMES)] * MOVES
    assert (mount.path / "config").read_bytes().split()[0] == str(MOVES % VERSIONS).encode()


@pytest.mark.parametrize(("revision", "root"), [("prod", "."), (EVERYTHING, "branches/prod")])
def test_control_who_does_neither_reads_torn_sets(mount_it: MountIt, revision: str, root: str) -> None:
    """The same reader on the same moves. Not every single set is torn: in a burst of walks the kernel may keep a name
    for a moment."""
    mount = mount_it(version(0)).again(revision)
    assert torn(read_in(mount, "plain", mount.path / root, CONTROL_MOVES)) > CONTROL_MOVES // 2


def test_control_realpath_does_not_pin_a_mount_of_one_branch(mount_it: MountIt) -> None:
    mount = mount_it(version(0))
    assert torn(read_in(mount, "realpath", mount.path, CONTROL_MOVES)) > CONTROL_MOVES // 2


def test_sets_in_a_mount_that_sticks_can_be_resolved_too(mount_it: MountIt) -> None:
    mount = mount_it(version(0)).again("prod", sticky=True)
    assert torn(read_in(mount, "resolve", mount.path, CONTROL_MOVES)) == 0
    assert os.listdir(mount.path / "other") == ["labels"]
