"""Are the temporary files of writers that were killed removed, and those of living ones never?"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moorage.storage import leftovers
from moorage.storage.leftovers import UNTOUCHED_S
from moorage.storage.local import LocalStorage

WRITER = """
import sys
from pathlib import Path
from moorage.storage import leftovers
from moorage.storage.local import LocalStorage
if "unheld" in sys.argv:
    leftovers.hold = lambda fd: None
upload = LocalStorage(Path(sys.argv[1])).upload()
upload.write([b"a part of a pack"])
print(upload._temporary, flush=True)
sys.stdin.readline()
upload.publish("packs/aa/published")
print("published", flush=True)
"""


@contextmanager
def writer(root: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process in the midst of an upload that nobody has touched for long, and its file."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        file = Path(process.stdout.readline().rstrip("\n"))
        make_old(file)
        try:
            yield process, file
        finally:
            process.kill()


def make_old(file: Path) -> None:
    long_ago = time.time() - UNTOUCHED_S - 60
    os.utime(file, (long_ago, long_ago))


def test_a_killed_writers_file_goes_and_a_living_ones_stays(tmp_path: Path) -> None:
    with writer(tmp_path) as (dead, left), writer(tmp_path) as (living, at_work):
        dead.kill()
        dead.wait()
        LocalStorage(tmp_path).create("refs/x", b"x")
        assert not left.exists()
        assert at_work.exists()
        assert living.communicate("\n")[0] == "published\n"
    assert (tmp_path / "packs/aa/published").read_bytes() == b"a part of a pack"
    assert os.listdir(tmp_path / "tmp") == []


def test_control_a_writer_that_does_not_hold_its_file_loses_it(tmp_path: Path) -> None:
    with writer(tmp_path, "unheld") as (_, at_work):
        LocalStorage(tmp_path).create("refs/x", b"x")
        assert not at_work.exists()


def test_what_was_touched_lately_stays(tmp_path: Path) -> None:
    """The one moment in which a living writer's file is not held is a short one after it was made."""
    storage = LocalStorage(tmp_path)
    storage.create("refs/x", b"x")
    (tmp_path / "tmp/new").write_bytes(b"left a moment ago")
    (tmp_path / "tmp/old").write_bytes(b"left long ago")
    make_old(tmp_path / "tmp/old")
    LocalStorage(tmp_path).create("refs/y", b"y")
    assert os.listdir(tmp_path / "tmp") == ["new"]


def test_the_second_name_of_what_was_published_goes(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.create("packs/aa/bb", b"a pack")
    os.link(tmp_path / "packs/aa/bb", tmp_path / "tmp/second")
    make_old(tmp_path / "tmp/second")
    assert leftovers.sweep(str(tmp_path / "tmp")) == 1
    assert storage.get("packs/aa/bb") == b"a pack"


def test_only_plain_files_go(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "victim").write_bytes(b"outside")
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp/link").symlink_to("../victim")
    (tmp_path / "tmp/folder").mkdir()
    os.mkfifo(tmp_path / "tmp/fifo")
    assert leftovers.sweep(str(tmp_path / "tmp"), untouched_s=-60) == 0
    assert sorted(os.listdir(tmp_path / "tmp")) == ["fifo", "folder", "link"]


def test_what_cannot_be_swept_does_not_stop_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(37, "No locks available")

    storage = LocalStorage(tmp_path)
    storage.create("refs/x", b"x")
    (tmp_path / "tmp/old").write_bytes(b"old")
    make_old(tmp_path / "tmp/old")
    monkeypatch.setattr(fcntl, "flock", refused)
    LocalStorage(tmp_path).create("refs/y", b"y")
    assert os.listdir(tmp_path / "tmp") == ["old"]
    assert leftovers.sweep(str(tmp_path / "none")) == 0
