"""Does a mounted branch move when the branch moves, and does what is open stay?"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from moorage.model.refs import RefKind, RefName
from moorage.mount import registry
from tests.mount import build
from tests.mount.build import Content
from tests.mount.conftest import Mount, MountIt, eventually
from tests.needs import needs_fuse, needs_libfuse

pytestmark = needs_fuse

BIG = b"old " * 1024 * 512
V1: dict[str, Content] = {"models": {"model": BIG, "version": b"1"}, "still": {"f": b"same"}, "gone": b"x"}
V2: dict[str, Content] = {"models": {"model": BIG.upper(), "version": b"2"}, "still": {"f": b"same"}, "come": b"y"}


def snapshot_at(path: Path) -> str:
    return os.getxattr(path, "user.moorage.snapshot").decode()


def test_the_next_open_sees_the_move(mount_it: MountIt) -> None:
    mount = mount_it(V1)
    assert (mount.path / "models/version").read_bytes() == b"1"
    mount.move(V2)
    assert (mount.path / "models/version").read_bytes() == b"2"
    assert sorted(os.listdir(mount.path)) == ["come", "models", "still"]
    assert (mount.path / "come").read_bytes() == b"y"
    with pytest.raises(FileNotFoundError):
        os.stat(mount.path / "gone")
    mount.move(V1)
    assert (mount.path / "gone").read_bytes() == b"x"
    assert (mount.path / "models/model").read_bytes() == BIG
    assert "stands at" in mount.log


def test_open_files_maps_and_directories_keep_what_they_had(mount_it: MountIt) -> None:
    mount = mount_it(V1)
    program = """
import mmap, os, sys
path = sys.argv[1]
file = open(path + "/models/model", "rb", buffering=0)
map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
directory = os.open(path + "/models", os.O_RDONLY)
assert map[:4] == b"old "
print("open", flush=True)
sys.stdin.readline()
assert open(path + "/models/model", "rb").read(4) == b"OLD "
print(file.read() == b"old " * 1024 * 512)
print(map[:] == b"old " * 1024 * 512)
print(os.read(os.open("version", os.O_RDONLY, dir_fd=directory), 10))
"""
    with mount.talk(program, mount.path) as child:
        assert child.read() == "open"
        mount.move(V2)
        child.write("moved")
        assert [child.read() for _ in range(3)] == ["True", "True", "b'1'"]


def test_what_did_not_change_keeps_its_inode_and_its_newest_snapshot(mount_it: MountIt) -> None:
    mount = mount_it(V1)
    place = mount.path / "still/f"
    inode = os.stat(place).st_ino
    mount.move(V2)
    assert os.stat(place).st_ino == inode
    head = build.head(mount.handle, "prod").hex()
    assert snapshot_at(place) == snapshot_at(mount.path) == snapshot_at(mount.path / "models") == head


@pytest.mark.parametrize("driver", ["kernel", pytest.param("libfuse", marks=needs_libfuse)])
def test_a_pinned_mount_stays(mount_it: MountIt, driver: str) -> None:
    mount = mount_it(V1, pin=True, driver=driver)
    before = snapshot_at(mount.path)
    mount.move(V2)
    assert (mount.path / "models/version").read_bytes() == b"1"
    assert snapshot_at(mount.path) == before
    assert os.getxattr(mount.path, "user.moorage.branch") == b"prod"


@pytest.mark.parametrize("revision", ["refs/branches/prod", "prod@{0}", "prod~0"])
def test_only_a_branch_by_its_name_is_followed(mount_it: MountIt, revision: str) -> None:
    mount = mount_it(V1, revision=revision)
    build.branch(mount.handle, "prod", V2)
    follows = revision == "refs/branches/prod"
    assert (mount.path / "models/version").read_bytes() == (b"2" if follows else b"1")


def test_a_tag_and_a_snapshot(mount_it: MountIt) -> None:
    first = mount_it(V1)
    head = build.head(first.handle, "prod")
    build.tag(first.handle, "v1", head)
    build.branch(first.handle, "prod", V2)
    for revision in ("v1", head.hex(), head.hex()[:12]):
        mount = first.again(revision)
        assert (mount.path / "models/version").read_bytes() == b"1"
        assert "user.moorage.branch" not in os.listxattr(mount.path / "models")
        assert snapshot_at(mount.path) == head.hex()


def test_a_deleted_branch_stays_and_says_so(mount_it: MountIt) -> None:
    mount = mount_it(V1)
    mount.handle.refs.delete(RefName(RefKind.BRANCH, "prod"), actor="tester", reason="test")
    for _ in range(3):
        assert (mount.path / "models/version").read_bytes() == b"1"
    assert mount.log.count("was deleted; staying") == 1
    eventually(lambda: note_of(mount).startswith("branch 'prod' was deleted; staying on snapshot"))
    mount.move(V2)
    assert (mount.path / "models/version").read_bytes() == b"2"
    eventually(lambda: note_of(mount) == "")


def note_of(mount: Mount) -> str:
    """What `moorage mounts` says of it."""
    record = registry.find(mount.record.device)
    assert record is not None
    return record.note


def test_a_renamed_branch_is_followed(mount_it: MountIt) -> None:
    mount = mount_it(V1)
    old, new = RefName(RefKind.BRANCH, "prod"), RefName(RefKind.BRANCH, "team/stable")
    mount.handle.refs.rename(old, new, actor="tester", reason="test")
    assert (mount.path / "models/version").read_bytes() == b"1"
    assert os.getxattr(mount.path, "user.moorage.branch") == b"team/stable"
    eventually(lambda: note_of(mount) == "branch 'prod' was renamed; following branch 'team/stable'")
    build.branch(mount.handle, "team/stable", V2)
    assert (mount.path / "models/version").read_bytes() == b"2"
    mount.move(V1)  # the name that was asked for wins
    assert (mount.path / "models/version").read_bytes() == b"1"
    eventually(lambda: note_of(mount) == "")


def test_a_name_that_changes_its_kind(mount_it: MountIt) -> None:
    mount = mount_it({"x": {"below": b"1"}, "y": b"2"})
    assert (mount.path / "x/below").read_bytes() == b"1"
    mount.move({"x": b"now a file", "y": {"below": b"now a directory"}})
    assert (mount.path / "x").read_bytes() == b"now a file"
    assert (mount.path / "y/below").read_bytes() == b"now a directory"
    with pytest.raises(OSError) as caught:
        os.stat(mount.path / "x/below")
    assert caught.value.errno == errno.ENOTDIR


def test_readers_never_see_anything_but_one_version_or_the_other(mount_it: MountIt) -> None:
    """A file is whole: the bytes of one open are of one version, however often the branch moves meanwhile."""
    contents = [bytes([65 + number]) * 300_000 for number in range(6)]
    mount = mount_it({"d": {"f": contents[0]}})
    program = """
import sys, threading
path, done, wrong, reads = sys.argv[1], threading.Event(), [], []
def read():
    while not done.is_set():
        with open(path, "rb") as file:
            data = file.read()
        reads.append(1)
        if len(data) != 300_000 or len(set(data)) != 1:
            wrong.append(data[:10])
threads = [threading.Thread(target=read) for _ in range(3)]
for thread in threads: thread.start()
print("reading", flush=True)
sys.stdin.readline()
done.set()
for thread in threads: thread.join()
print(wrong, len(reads) > 0)
"""
    ids = [build.snapshot(mount.handle, {"d": {"f": content}}) for content in contents]
    with mount.talk(program, mount.path / "d/f") as child:
        assert child.read() == "reading"
        for number in range(60):
            build.move(mount.handle, "prod", ids[number % len(ids)])
        child.write("done")
        assert child.read() == "[] True"


@needs_libfuse
def test_libfuse_moves_when_nothing_is_open(mount_it: MountIt) -> None:
    mount = mount_it(V1, driver="libfuse")
    file = (mount.path / "models/model").open("rb")
    mount.move(V2)
    # One nodeid is one path there: moving now would mix the pages of two versions.
    assert (mount.path / "models/version").read_bytes() == b"1"
    assert file.read() == BIG
    file.close()
    released(mount)
    assert (mount.path / "models/version").read_bytes() == b"2"
    assert (mount.path / "models/model").read_bytes() == BIG.upper()


def released(mount: Mount) -> None:
    """Wait until the server has heard of the last close, which the kernel does not wait for: it answers in order, so
    what comes after it is answered after it (one thread at a time is enough to see one move)."""
    before = snapshot_at(mount.path)
    for _ in range(1000):
        if snapshot_at(mount.path) != before:
            return
