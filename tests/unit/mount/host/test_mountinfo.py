"""Is the kernel's table of mounts read as it is written?"""

from __future__ import annotations

from pathlib import Path

import pytest

from moorage.mount.host import mountinfo
from moorage.mount.host.mountinfo import MountEntry, mounted, parse, top_at
from tests.needs import needs_linux

TABLE = b"""\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
42 22 0:39 / /srv/with\\040blank ro,nosuid,nodev,relatime - fuse.moorage /srv/store\\043prod ro,user_id=0
43 22 0:40 / /srv/a\\134b\\011c ro shared:7 master:1 - fuse.moorage x ro
44 42 0:41 / /srv/with\\040blank rw - tmpfs none rw
45 22 0:42 / /srv/\xff\xfe rw - tmpfs none rw
half a line
"""


def test_every_field() -> None:
    assert parse(TABLE)[1] == MountEntry(
        "0:39", "/srv/with blank", "fuse.moorage", "/srv/store#prod", "ro,nosuid,nodev,relatime"
    )


def test_optional_fields_escapes_and_odd_bytes() -> None:
    assert [entry.mountpoint for entry in parse(TABLE)] == [
        "/",
        "/srv/with blank",
        "/srv/a\\b\tc",
        "/srv/with blank",
        "/srv/\udcff\udcfe",
    ]
    assert [entry.is_ours for entry in parse(TABLE)] == [False, True, True, False, False]


def test_the_top_of_what_is_mounted_at_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_bytes(TABLE)
    monkeypatch.setattr(mountinfo, "MOUNTINFO", str(tmp_path / "mountinfo"))
    top = top_at("/srv/with blank")
    assert top is not None
    assert top.device == "0:41"
    assert top_at("/srv") is None


def test_no_proc_is_no_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountinfo, "MOUNTINFO", str(tmp_path / "nothing"))
    assert mounted() == []


@needs_linux
def test_this_machine() -> None:
    assert top_at("/proc") is not None
