"""Is every open of a mount with --log-opens written down: which process, by which path, in which snapshot?"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from moorage.mount import registry, serve
from moorage.mount.host import places
from moorage.mount.journal import open_log
from moorage.mount.serve import EVERYTHING
from tests.mount import build
from tests.mount.build import Content
from tests.mount.conftest import Mount, MountIt
from tests.needs import needs_fuse, needs_libfuse

pytestmark = needs_fuse

DRIVERS = pytest.mark.parametrize("driver", ["kernel", pytest.param("libfuse", marks=needs_libfuse)])
FILES: dict[str, Content] = {"d": {"f": b"same", "copy": b"same"}, "top": b"top"}

OPEN = """
import os, sys, threading
def work():
    for path in sys.argv[1:]:
        open(path, "rb").read()
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(os.getpid())
"""


@pytest.fixture(autouse=True, scope="module")
def _state(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A state directory for this module: what is written down outlives a mount."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


def lines(mount: Mount) -> list[dict[str, Any]]:
    """All that was written down; unmounts first, so that nothing is still on its way."""
    serve.umount(mount.path)
    return list(open_log.lines_of(places.opens_file(mount.record.mountpoint)))


def opener(mount: Mount, *paths: Path) -> int:
    """A process that opens these, in a thread of its own; its number."""
    return int(mount.run(OPEN, *paths).stdout)


@DRIVERS
def test_several_processes(mount_it: MountIt, driver: str) -> None:
    mount = mount_it(FILES).again("prod", driver=driver, log_opens=True)
    assert registry.find(mount.record.device) == mount.record
    assert mount.record.log_opens
    pids = [opener(mount, mount.path / "d/f", mount.path / "top") for _ in range(3)]
    snapshot = build.head(mount.handle, "prod").hex()
    found = lines(mount)
    assert [(line["pid"], line["path"]) for line in found] == [
        (pid, f"{mount.path}/{name}") for pid in pids for name in ("d/f", "top")
    ]
    for line in found:
        assert line["uid"] == os.getuid()
        assert line["executable"] == os.path.realpath(sys.executable)
        assert line["snapshot"] == snapshot
    entry = mount.handle.trees.at(mount.handle.objects.snapshot(build.head(mount.handle, "prod")).tree, "d/f")
    assert found[0]["blake3"] == entry.digest.hex()


def test_each_path_and_each_snapshot_of_one_content(mount_it: MountIt) -> None:
    """One nodeid, one page cache, and still everybody is written down by the path that he took."""
    mount = mount_it(FILES)
    build.branch(mount.handle, "next", {**FILES, "top": b"other"})
    mount = mount.again(EVERYTHING, log_opens=True)
    one, two = build.head(mount.handle, "prod").hex(), build.head(mount.handle, "next").hex()
    places_ = ["branches/prod/d/f", "branches/next/d/f", "branches/prod/d/copy", f"snapshots/{two}/d/f"] * 3
    opener(mount, *(mount.path / place for place in places_))
    expected = [(one, "d/f"), (two, "d/f"), (one, "d/copy"), (two, "d/f")] * 3
    assert [(line["snapshot"], line["path"]) for line in lines(mount)] == [
        (id, f"{mount.path}/snapshots/{id}/{path}") for id, path in expected
    ]


def test_a_move_shows_in_the_snapshot(mount_it: MountIt) -> None:
    mount = mount_it(FILES).again("prod", log_opens=True)
    before = build.head(mount.handle, "prod").hex()
    (mount.path / "d/f").read_bytes()
    mount.move({**FILES, "top": b"other"})
    after = build.head(mount.handle, "prod").hex()
    (mount.path / "d/f").read_bytes()
    (mount.path / "top").read_bytes()
    assert [(line["snapshot"], line["pid"]) for line in lines(mount)] == [
        (before, os.getpid()),
        (after, os.getpid()),
        (after, os.getpid()),
    ]


def test_files_that_the_kernel_reads_itself_are_written_down_too(mount_it: MountIt) -> None:
    mount = mount_it({"big": os.urandom(2 << 20)}).again("prod", log_opens=True)
    for _ in range(4):
        (mount.path / "big").read_bytes()
    assert len(lines(mount)) == 4


def test_a_file_opened_again_through_its_descriptor(mount_it: MountIt) -> None:
    mount = mount_it(FILES).again("prod", log_opens=True)
    with (mount.path / "top").open("rb") as file, open(f"/proc/self/fd/{file.fileno()}", "rb") as again:
        assert again.read() == b"top"
    assert [line["path"] for line in lines(mount)] == [f"{mount.path}/top"] * 2


@DRIVERS
def test_control_nothing_is_written_down_unasked(mount_it: MountIt, driver: str) -> None:
    mount = mount_it(FILES).again("prod", driver=driver)
    opener(mount, mount.path / "top")
    assert lines(mount) == []
    assert not mount.record.log_opens


def test_mounts_say_which_snapshot_is_shown(mount_it: MountIt) -> None:
    mount = mount_it(FILES)
    assert mount.record.snapshot == build.head(mount.handle, "prod").hex()
    mount.move({"top": b"new"})
    assert (mount.path / "top").read_bytes() == b"new"
    record = registry.find(mount.record.device)
    assert record is not None
    assert record.snapshot == build.head(mount.handle, "prod").hex()
