"""Is a set of files read whole by a program that opens one after the other by their paths, in a mount with --sticky?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moorage.model.digest import SnapshotId
from moorage.model.refs import RefKind, RefName
from moorage.mount.serve import EVERYTHING
from tests.crash.ground import IS_SOAK
from tests.mount import build
from tests.mount.build import Content
from tests.mount.conftest import Child, Mount, MountIt, eventually, kill
from tests.mount.counted import counted
from tests.needs import needs_fuse

pytestmark = needs_fuse

MOVES = 10_000 if IS_SOAK else 200
PROD = RefName(RefKind.BRANCH, "prod")
NAMES = ("config", "a/weights", "a/b/tokens", "version")


def version(number: int) -> dict[str, Content]:
    """A set of files that all say which version they are of."""
    data = b"%d " % number * 1000
    return {"config": data, "a": {"weights": data, "b": {"tokens": data}}, "version": data}


def versions(mount: Mount, count: int) -> list[SnapshotId]:
    return [build.snapshot(mount.handle, version(number)) for number in range(count)]


SETS = """
import os, sys
root, *names = sys.argv[1:]
half = len(names) // 2
def read(names):
    found = []
    for name in names:
        with open(os.path.join(root, name), "rb") as file:
            found.append(file.read())
    return found
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()          # a process that has read nothing yet
    if not child:
        found = read(names[:half])
        print("half", flush=True)
        sys.stdin.readline()
        found += read(names[half:])
        print(len(set(found)), found[0].split()[0].decode(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def torn_sets(mount: Mount, root: Path, moves: int) -> int:
    """How many of so many sets, each read while the branch moves, are of two snapshots. Each begins with the newest."""
    ids, torn = versions(mount, 3), 0
    stands = build.move(mount.handle, "prod", ids[0])
    with mount.talk(SETS, root, *NAMES) as reader:
        assert reader.read() == "ready"
        for number in range(moves):
            reader.write("begin")
            assert reader.read() == "half"
            stands = mount.handle.refs.move(
                PROD, ids[(number + 1) % 3], expected=stands.snapshot, actor="tester", reason="test"
            )
            reader.write("go on")
            different, first = reader.read().split()
            assert first == str(number % 3) or not mount.record.sticky
            torn += different != "1"
    return torn


@pytest.mark.parametrize(("revision", "root"), [("prod", "."), (EVERYTHING, "branches/prod")])
def test_no_set_is_torn_over_many_moves(mount_it: MountIt, revision: str, root: str) -> None:
    mount = mount_it({"x": b"y"}).again(revision, sticky=True)
    assert mount.record.sticky
    assert torn_sets(mount, mount.path / root, MOVES) == 0


@pytest.mark.parametrize(("revision", "root"), [("prod", "."), (EVERYTHING, "branches/prod")])
def test_control_without_it_sets_are_torn(mount_it: MountIt, revision: str, root: str) -> None:
    mount = mount_it({"x": b"y"}).again(revision)
    assert torn_sets(mount, mount.path / root, 20) > 10  # in a burst of walks the kernel keeps a name for a moment


READER = """
import os, sys
def say(word):
    print(word, flush=True)
files = []
for line in sys.stdin:
    how, *rest = line.split()
    if how == "read":
        say(open(rest[0], "rb").read().split()[0].decode())
    elif how == "open":
        files.append(open(rest[0], "rb"))
        say(files[-1].read().split()[0].decode())
    elif how == "close":
        while files:
            files.pop().close()
        say("closed")
    elif how == "list":
        say(" ".join(sorted(os.listdir(rest[0]))))
    elif how == "snapshot":
        say(os.getxattr(rest[0], "user.moorage.snapshot").decode())
    elif how == "cd":
        os.chdir(rest[0])
        say("there")
    elif how == "cwd":
        try:
            say(os.getcwd())
        except FileNotFoundError:
            say("gone")
"""


def ask(child: Child, *words: str | Path) -> str:
    child.write(" ".join(map(str, words)))
    return child.read()


def test_each_process_goes_on_with_its_own(mount_it: MountIt) -> None:
    """Names are shared by all processes in the kernel: here three take turns, each on another snapshot."""
    mount = mount_it(version(0)).again("prod", sticky=True)
    deep = mount.path / "a/b/tokens"
    with mount.talk(READER) as one, mount.talk(READER) as two, mount.talk(READER) as three:
        assert ask(one, "read", deep) == "0"
        mount.move({**version(1), "new": b"1"})
        assert ask(two, "read", deep) == "1"
        mount.move(version(2))
        for _ in range(20):
            shown = [ask(child, "read", mount.path / name) for name in NAMES for child in (one, two, three)]
            assert shown == ["0", "1", "2"] * len(NAMES)
        roots = [ask(child, "list", mount.path) for child in (one, two, three)]
        assert roots == ["a config version", "a config new version", "a config version"]
        ids = [ask(child, "snapshot", path) for path in (mount.path, deep) for child in (one, two, three)]
        assert ids[:3] == ids[3:]
        assert len(set(ids)) == 3


def test_a_working_directory_stays_and_is_found_again(mount_it: MountIt) -> None:
    mount = mount_it(version(0)).again("prod", sticky=True)
    with mount.talk(READER) as one, mount.talk(READER) as two:
        assert ask(one, "cd", mount.path / "a") == "there"
        mount.move(version(1))
        assert ask(two, "read", mount.path / "a/weights") == "1"
        assert ask(one, "cwd") == "gone"  # what is called `a` is the other directory, as long as nobody asks
        assert ask(one, "read", "b/tokens") == "0"
        assert ask(one, "read", mount.path / "a/weights") == "0"
        assert ask(one, "cwd") == str(mount.path / "a")
        assert ask(two, "read", mount.path / "a/weights") == "1"


def test_a_process_is_let_go_when_it_has_nothing_open(tmp_path: Path) -> None:
    with counted(tmp_path, version(0), "sticky", "no-grace") as mount:
        file = mount.path / "config"
        first = file.open("rb")
        assert first.read() == b"0 " * 1000
        with file.open("rb"):
            pass  # of two opens one stays
        build.branch(mount.handle, "prod", version(1))
        for name in NAMES:
            assert (mount.path / name).read_bytes() == b"0 " * 1000
        first.close()
        eventually(lambda: file.read_bytes() == b"1 " * 1000)
        build.branch(mount.handle, "prod", version(2))
        eventually(lambda: file.read_bytes() == b"2 " * 1000)


def test_who_looks_again_and_again_asks_each_time(tmp_path: Path) -> None:
    """The kernel keeps no first-level name, not even in a burst: it would be another process's answer."""
    with counted(tmp_path, version(0), "sticky") as mount:
        os.stat(mount.path / "a/b/tokens")
        with mount.asked() as asked:
            for _ in range(200):
                os.stat(mount.path / "a/b/tokens")
        assert asked == {"LOOKUP": 200}


def test_the_next_server_shows_each_process_the_newest(mount_it: MountIt) -> None:
    mount = mount_it(version(0)).again("prod", sticky=True)
    with mount.talk(READER) as reader:
        assert ask(reader, "open", mount.path / "config") == "0"
        mount.move(version(1))
        assert ask(reader, "read", mount.path / "a/weights") == "0"
        kill(mount.record.server_pid)
        assert ask(reader, "read", mount.path / "a/weights") == "1"
        mount.move(version(2))
        assert ask(reader, "close") == "closed"  # what the server before had counted
        assert ask(reader, "open", mount.path / "config") == "1"
