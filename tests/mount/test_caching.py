"""Is nothing asked twice that cannot have changed?

Counts the requests that reach the server. The negative controls break the promise inside the server and see it in the
counts.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pytest

from tests.mount import build
from tests.mount.build import Content
from tests.mount.conftest import eventually
from tests.mount.counted import Counted, counted
from tests.needs import needs_fuse, needs_tool

pytestmark = needs_fuse

BIG = bytes(range(256)) * 16384  # 4 MiB
FILES: dict[str, Content] = {
    "models": {"big": BIG, "config": {"deep": {"leaf": b"x"}}},
    "copies": {"same": BIG},
    "list": {f"{number:03}": b"y" for number in range(300)},
    "version": b"1",
}


class CountIt(Protocol):
    def __call__(self, *broken: str) -> AbstractContextManager[Counted]: ...


@pytest.fixture
def count_it(tmp_path: Path) -> CountIt:
    return lambda *broken: counted(tmp_path, FILES, *broken)


def test_pages_are_kept_across_opens_names_and_branches(count_it: CountIt) -> None:
    with count_it() as mount:
        assert (mount.path / "models/big").read_bytes() == BIG
        with mount.asked() as asked:
            assert (mount.path / "models/big").read_bytes() == BIG
            assert (mount.path / "copies/same").read_bytes() == BIG
        assert "READ" not in asked
        build.branch(mount.handle, "prod", {**FILES, "version": b"2"})
        with mount.asked() as asked:
            assert (mount.path / "version").read_bytes() == b"2"
            assert (mount.path / "models/big").read_bytes() == BIG
        assert asked["READ"] == 1  # of the file that changed


def test_control_without_keep_cache_pages_are_read_again(count_it: CountIt) -> None:
    with count_it("drop-pages") as mount:
        for expected in (True, True):
            with mount.asked() as asked:
                assert (mount.path / "models/big").read_bytes() == BIG
            assert ("READ" in asked) == expected


def test_reads_are_of_a_megabyte_where_read_ahead_can_be_raised(count_it: CountIt) -> None:
    with count_it() as mount:
        device = os.stat(mount.path).st_dev
        kib = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb").read_text()
        with mount.asked() as asked:
            assert (mount.path / "models/big").read_bytes() == BIG
        if int(kib) >= 1024:
            assert asked["READ"] <= len(BIG) // (1 << 20) + 4  # and the first few, small ones of read-ahead
        else:
            assert os.geteuid() != 0


def test_a_walk_asks_for_the_first_name_only(count_it: CountIt) -> None:
    with count_it() as mount:
        place = mount.path / "models/config/deep/leaf"
        os.stat(place)
        with mount.asked() as asked:
            for _ in range(5):
                os.stat(place)
                assert not os.path.exists(mount.path / "models/config/nothing")
        assert asked["LOOKUP"] == 10 + 1  # and once for what is not there
        assert set(asked) == {"LOOKUP"}


def test_a_burst_of_walks_asks_once_a_tick(count_it: CountIt) -> None:
    with count_it("always-burst") as mount:
        place = mount.path / "models/config/deep/leaf"
        with mount.asked() as asked:
            for _ in range(20_000):
                os.stat(place)
        assert asked["LOOKUP"] < 10_000
        build.branch(mount.handle, "prod", {"models": {"config": {"deep": {"leaf": b"longer"}}}})
        eventually(lambda: os.stat(place).st_size == len(b"longer"))
        build.branch(mount.handle, "prod", {"models": b"now a file"})
        eventually(lambda: not os.path.exists(place))


def test_control_without_bursts_each_walk_asks(count_it: CountIt) -> None:
    with count_it("never-burst") as mount:
        place = mount.path / "models/config/deep/leaf"
        with mount.asked() as asked:
            for _ in range(500):
                os.stat(place)
        assert asked["LOOKUP"] >= 500


@needs_tool("ls")
@pytest.mark.parametrize(("flag", "asks_each"), [("always-burst", False), ("never-burst", True)])
def test_in_a_burst_a_listing_of_the_root_spares_its_walks(
    count_it: CountIt,
    flag: str,
    asks_each: bool,
) -> None:
    with count_it(flag) as mount:
        build.branch(mount.handle, "prod", {f"file-{number:04}": b"%d" % number for number in range(2000)})
        os.stat(mount.path / "file-0000")
        with mount.asked() as asked:
            subprocess.run(["ls", "-l", mount.path], check=True, stdout=subprocess.DEVNULL)
        assert (asked["LOOKUP"] >= 2000) == asks_each
        assert asks_each or asked["LOOKUP"] < 1000
        build.branch(mount.handle, "prod", {"file-0000": b"moved"})
        eventually(lambda: (mount.path / "file-0000").read_bytes() == b"moved")
        assert os.listdir(mount.path) == ["file-0000"]


def test_control_without_lifetimes_every_name_is_asked_for(count_it: CountIt) -> None:
    with count_it("forget-names") as mount:
        place = mount.path / "models/config/deep/leaf"
        os.stat(place)
        with mount.asked() as asked:
            for _ in range(10):
                os.stat(place)
        assert asked["LOOKUP"] >= 40


def test_a_listing_is_read_once(count_it: CountIt) -> None:
    with count_it() as mount:
        names = os.listdir(mount.path / "list")
        with mount.asked() as asked:
            assert os.listdir(mount.path / "list") == names
        assert "READDIR" not in asked
        assert "READDIRPLUS" not in asked


def test_closing_and_syncing_ask_nothing(count_it: CountIt) -> None:
    with count_it() as mount:
        fd = os.open(mount.path / "version", os.O_RDONLY)
        os.fsync(fd)
        with mount.asked() as asked:
            os.fsync(fd)
            os.close(os.dup(fd))
            os.fstat(fd)
        os.close(fd)
        assert asked == {}


@needs_tool("ls")
def test_ls_asks_for_labels_and_access_lists_once(count_it: CountIt) -> None:
    with count_it() as mount:
        with mount.asked() as asked:
            subprocess.run(["ls", "-l", mount.path / "list"], check=True, stdout=subprocess.DEVNULL)
        assert asked.get("GETXATTR", 0) <= 4
