"""Is nothing asked twice that cannot have changed?

Counts the requests that reach the server. The negative controls break the promise inside the server and see it in the
counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from moorage.mount import serve
from moorage.repository.handle import RepositoryHandle
from tests.mount import build
from tests.mount.build import Content
from tests.mount.conftest import kill_later
from tests.needs import needs_fuse, needs_tool

pytestmark = needs_fuse

PROGRAM = Path(__file__).with_name("counting.py")
BIG = bytes(range(256)) * 16384  # 4 MiB
FILES: dict[str, Content] = {
    "models": {"big": BIG, "config": {"deep": {"leaf": b"x"}}},
    "copies": {"same": BIG},
    "list": {f"{number:03}": b"y" for number in range(300)},
    "version": b"1",
}


class Counted:
    """A mount whose server counts."""

    def __init__(self, process: subprocess.Popen[str], path: Path, handle: RepositoryHandle) -> None:
        self._process = process
        self.path = path
        self.handle = handle

    def counts(self) -> dict[str, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: dict[str, int] = json.loads(self._process.stdout.readline())
        return found

    @contextmanager
    def asked(self) -> Iterator[dict[str, int]]:
        """What is asked inside the block, by kind; FORGETs left out, which are the kernel's own affair."""
        before, asked = self.counts(), dict[str, int]()
        yield asked
        after = self.counts()
        asked.update({kind: after[kind] - before.get(kind, 0) for kind in after if after[kind] != before.get(kind, 0)})
        asked.pop("FORGET", None)
        asked.pop("BATCH_FORGET", None)


class CountIt(Protocol):
    def __call__(self, *broken: str) -> AbstractContextManager[Counted]: ...


@pytest.fixture
def count_it(tmp_path: Path) -> CountIt:
    @contextmanager
    def counted(*broken: str) -> Iterator[Counted]:
        handle = build.create(tmp_path / "repository")
        build.branch(handle, "prod", FILES)
        directory = tmp_path / "mnt"
        directory.mkdir()
        command = [sys.executable, str(PROGRAM), str(tmp_path / "repository"), "prod", str(directory), *broken]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            watchdog = kill_later(process.pid)
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                yield Counted(process, directory, handle)
            finally:
                serve.umount(directory, lazy=True)
                watchdog.cancel()
                handle.close()

    return counted


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
            for _ in range(10):
                os.stat(place)
                assert not os.path.exists(mount.path / "models/config/nothing")
        assert asked["LOOKUP"] == 20 + 1  # and once for what is not there
        assert set(asked) == {"LOOKUP"}


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
