"""Are all branches, tags and snapshots there in one mount, each where it stands, and whole for who resolves once?"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from moorage.model.digest import SnapshotId
from moorage.model.refs import RefKind, RefName
from moorage.mount.serve import EVERYTHING
from tests import page_cache
from tests.mount import build
from tests.mount.build import Content
from tests.mount.conftest import Mount, MountIt, eventually
from tests.mount.counted import counted
from tests.needs import needs_fuse, needs_libfuse

pytestmark = needs_fuse

DRIVERS = pytest.mark.parametrize("driver", ["kernel", pytest.param("libfuse", marks=needs_libfuse)])
PROD: dict[str, Content] = {"model": {"weights": b"w1" * 50_000, "config": b"c1"}, "same": b"same"}
NEXT: dict[str, Content] = {"model": {"weights": b"w2" * 50_000, "config": b"c2"}, "same": b"same"}
MOVES = 1_000


def everything(mount_it: MountIt, driver: str = "kernel", **options: object) -> Mount:
    mount = mount_it(PROD)
    for name in ("experiment/v2", "prod/hot"):
        build.branch(mount.handle, name, NEXT)
    build.tag(mount.handle, "v1", build.head(mount.handle, "prod"))
    return mount.again(EVERYTHING, driver=driver, **options)


@DRIVERS
def test_the_tree(mount_it: MountIt, driver: str) -> None:
    mount = everything(mount_it, driver)
    one, two = build.head(mount.handle, "prod").hex(), build.head(mount.handle, "experiment/v2").hex()
    assert sorted(os.listdir(mount.path)) == ["at", "branches", "snapshots", "tags"]
    assert sorted(os.listdir(mount.path / "branches")) == ["experiment", "prod", "prod~"]
    assert os.readlink(mount.path / "branches/prod") == f"../snapshots/{one}"
    assert os.readlink(mount.path / "branches/experiment/v2") == f"../../snapshots/{two}"
    assert os.readlink(mount.path / "branches/prod~/hot") == f"../../snapshots/{two}"
    assert os.listdir(mount.path / "tags") == ["v1"]
    assert sorted(os.listdir(mount.path / "snapshots")) == sorted([one, two])
    assert os.readlink(mount.path / "snapshots" / one[:10]) == one
    assert not os.path.lexists(mount.path / "snapshots/ffff")
    assert not os.path.lexists(mount.path / "branches/none")
    [time] = os.listdir(mount.path / "at/prod")
    for place in ("branches/prod", "tags/v1", f"snapshots/{one[:10]}", f"at/prod/{time}"):
        assert os.path.realpath(mount.path / place) == str(mount.path / "snapshots" / one)
        assert (mount.path / place / "model/config").read_bytes() == b"c1"
    assert (mount.path / "branches/experiment/v2/model/weights").read_bytes() == b"w2" * 50_000
    with pytest.raises(NotADirectoryError):
        os.listdir(mount.path / "branches/prod/same")
    with pytest.raises(OSError, match="Read-only"):
        os.mkdir(mount.path / "branches/new")


@DRIVERS
def test_the_whole_tree_can_be_walked(mount_it: MountIt, driver: str) -> None:
    mount = everything(mount_it, driver)
    found = subprocess.run(
        ["find", mount.path, "-type", "f"], check=True, capture_output=True, text=True, timeout=60
    ).stdout.splitlines()
    ids = {build.head(mount.handle, name).hex() for name in ("prod", "experiment/v2")}
    names = ("model/weights", "model/config", "same")
    assert sorted(found) == sorted(f"{mount.path}/snapshots/{id}/{name}" for id in ids for name in names)


@DRIVERS
def test_branches_come_move_are_renamed_and_go(mount_it: MountIt, driver: str) -> None:
    mount = everything(mount_it, driver)
    branches = mount.path / "branches"
    held = Path(os.path.realpath(branches / "prod"))
    before = build.head(mount.handle, "prod")
    build.branch(mount.handle, "prod", {"model": {"config": b"c3"}})
    assert (branches / "prod/model/config").read_bytes() == b"c3"
    assert not (branches / "prod/same").exists()
    assert (held / "model/config").read_bytes() == (mount.path / "at/prod/1/model/config").read_bytes() == b"c1"
    assert (mount.path / "tags/v1/model/config").read_bytes() == b"c1"
    assert held.name not in os.listdir(branches)
    mount.handle.refs.rename(
        RefName(RefKind.BRANCH, "experiment/v2"), RefName(RefKind.BRANCH, "done"), actor="tester", reason="test"
    )
    assert sorted(os.listdir(branches)) == ["done", "prod", "prod~"]
    assert not os.path.lexists(branches / "experiment")
    assert (branches / "done/model/config").read_bytes() == b"c2"
    mount.handle.refs.delete(RefName(RefKind.BRANCH, "done"), actor="tester", reason="test")
    assert sorted(os.listdir(branches)) == ["prod", "prod~"]
    assert not os.path.lexists(branches / "done")
    build.move(mount.handle, "done", before)
    assert (branches / "done/model/config").read_bytes() == b"c1"


def test_attributes_of_what_can_be_seen(mount_it: MountIt) -> None:
    mount = everything(mount_it)
    one = build.head(mount.handle, "prod")
    digest = mount.handle.objects.snapshot(one).digest.hex().encode()
    root = mount.path / "branches/prod"
    assert os.getxattr(root, "user.moorage.snapshot") == one.hex().encode()
    assert os.getxattr(root, "user.moorage.tree") == digest
    assert os.getxattr(root / "model", "user.moorage.snapshot") == one.hex().encode()
    with pytest.raises(OSError, match="No data"):  # Linux shows none of a symlink
        os.getxattr(root, "user.moorage.blake3", follow_symlinks=False)
    assert os.listxattr(mount.path / "branches") == []


@DRIVERS
def test_equal_files_are_one(mount_it: MountIt, driver: str) -> None:
    mount = everything(mount_it, driver)
    inodes = {
        os.stat(mount.path / place / "same").st_ino for place in ("branches/prod", "tags/v1", "branches/prod~/hot")
    }
    assert len(inodes) == 1


def test_two_branches_that_share_a_file_share_its_pages(mount_it: MountIt) -> None:
    mount = mount_it({})
    big = os.urandom(1 << 20) * 32
    build.branch(mount.handle, "prod", {"model": big, "version": b"1"})
    build.branch(mount.handle, "next", {"deep": {"copy": big}, "version": b"2"})
    build.branch(mount.handle, "other", {"model": big[::-1]})
    mount = mount.again(EVERYTHING, cache_bytes=0)
    branches = mount.path / "branches"

    def resident(path: Path) -> float:
        """The part of the pages that is in memory: none, or nearly all; the kernel may take some back at any time."""
        pages, of = map(int, mount.run(Path(page_cache.__file__).read_text("utf-8"), path).stdout.split())
        return pages / of

    assert resident(branches / "next/deep/copy") == 0
    mount.run("import sys; open(sys.argv[1], 'rb').read()", branches / "prod/model")
    assert resident(branches / "next/deep/copy") > 0.5
    assert resident(branches / "other/model") == 0  # the control: what was not read is not there
    build.branch(mount.handle, "next", {"deep": {"copy": big}, "version": b"3"})
    assert (branches / "next/version").read_bytes() == b"3"
    assert resident(branches / "next/deep/copy") > 0.5


def test_what_is_below_a_snapshot_is_asked_for_once_and_a_branch_costs_one_lookup(tmp_path: Path) -> None:
    with counted(tmp_path, PROD, revision=EVERYTHING) as mount:
        id = build.head(mount.handle, "prod").hex()
        below, through = mount.path / "snapshots" / id / "model/config", mount.path / "branches/prod/model/config"
        for place in (below, through):
            assert os.stat(place).st_size == 2
        with mount.asked() as asked:
            for _ in range(10):
                os.stat(below)
                assert not os.path.exists(below.with_name("nothing"))
        assert asked == {"LOOKUP": 1}  # of what is not there
        with mount.asked() as asked:
            for _ in range(10):
                os.stat(through)
        assert asked == {"LOOKUP": 10}


# -- sets of files, read while the branch moves ------------------------------------------------------------

READER = """
import os, sys
branch, how = sys.argv[1:]
resolve = os.path.realpath if how == "once" else lambda path: path
print("ready", flush=True)
torn = reads = 0
os.set_blocking(0, False)
while True:
    folder = resolve(branch)
    first = open(folder + "/first", "rb").read()
    last = open(folder + "/deep/last", "rb").read()
    torn += first != last
    reads += 1
    try:
        if os.read(0, 1):
            break
    except BlockingIOError:
        pass
print(torn, reads)
"""


def versions(mount: Mount, number: int) -> list[SnapshotId]:
    """Snapshots that each hold one version, in two files."""
    return [
        build.snapshot(mount.handle, {"first": b"%d" % version, "deep": {"last": b"%d" % version}})
        for version in range(number)
    ]


def leads(link: Path, target: str) -> Callable[[], bool]:
    return lambda: os.readlink(link) == target


def test_who_resolves_once_reads_whole_sets_over_many_moves(mount_it: MountIt) -> None:
    mount = mount_it({"first": b"x", "deep": {"last": b"x"}}).again(EVERYTHING)
    ids = versions(mount, 20)
    stands, prod = build.head(mount.handle, "prod"), RefName(RefKind.BRANCH, "prod")
    branch = mount.path / "branches/prod"
    with mount.talk(READER, branch, "once") as one, mount.talk(READER, branch, "once") as other:
        assert (one.read(), other.read()) == ("ready", "ready")
        for number in range(MOVES):
            id = ids[number % len(ids)]
            mount.handle.refs.move(prod, id, expected=stands, actor="tester", reason="test")
            # No symlink stays stale, though the kernel keeps their targets. The readers walk so quickly that it keeps
            # the name, too, for a tick of its clock.
            eventually(leads(branch, f"../snapshots/{id.hex()}"))
            stands = id
        for reader in (one, other):
            reader.write("")
            torn, reads = map(int, reader.read().split())
            assert torn == 0
            assert reads > 0


STEPWISE = """
import os, sys
branch, how = sys.argv[1:]
folder = os.path.realpath(branch) if how == "once" else branch
first = open(folder + "/first", "rb").read()
print("first", flush=True)
sys.stdin.readline()
print(first == open(folder + "/deep/last", "rb").read(), flush=True)
"""


@pytest.mark.parametrize(("how", "is_whole"), [("once", "True"), ("each time", "False")])
def test_control_who_walks_through_the_branch_each_time_reads_a_torn_set(
    mount_it: MountIt, how: str, is_whole: str
) -> None:
    mount = mount_it({"first": b"x", "deep": {"last": b"x"}}).again(EVERYTHING)
    ids = versions(mount, 2)
    build.move(mount.handle, "prod", ids[0])
    with mount.talk(STEPWISE, mount.path / "branches/prod", how) as reader:
        assert reader.read() == "first"
        build.move(mount.handle, "prod", ids[1])
        reader.write("moved")
        assert reader.read() == is_whole


def test_it_is_listed_as_what_it_is(mount_it: MountIt) -> None:
    mount = everything(mount_it)
    assert (mount.record.revision, mount.record.snapshot) == (EVERYTHING, "")
    assert os.statvfs(mount.path).f_blocks == 0
