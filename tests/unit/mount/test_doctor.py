"""Does the doctor find what is missing, and say what to do about each?"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from moorage import native
from moorage.mount import doctor, registry
from moorage.mount.doctor import Check, CheckStatus, checks
from moorage.mount.kernel import connect, limit
from moorage.mount.registry import MountRecord, MountState

NAMES = [
    "fuse-device",
    "fusermount",
    "user-allow-other",
    "mount-program",
    "kernel-passthrough",
    "read-ahead",
    "request-timeout",
    "stale-mounts",
    "cache-directory",
    "file-cache",
    "state-directory",
    "native-kernel",
]
MOUNT = MountRecord("/srv/models", "/srv/store", "prod", 1, 1, "kernel", "", device="0:0")


def named(name: str, repository: Path | None = None) -> Check:
    return next(check for check in checks(repository) if check.name == name)


def test_every_check_has_a_stable_name_and_advice_where_it_is_needed(tmp_path: Path) -> None:
    assert [check.name for check in checks()] == NAMES
    assert {check.name for check in checks(tmp_path)} == {*NAMES, "overlap"}
    assert all(check.found for check in checks())
    assert all(check.advice for check in checks() if check.status is not CheckStatus.OK)


def test_the_program_that_mount_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "mount.moorage"
    monkeypatch.setattr(doctor, "MOUNT_PROGRAM", str(program))
    assert "is missing" in named("mount-program").found
    assert named("mount-program").advice.endswith(f"mount.moorage {program}")
    program.symlink_to("gone")
    assert "cannot be run" in named("mount-program").found
    program.unlink()
    program.touch(mode=0o755)
    assert named("mount-program").status is CheckStatus.OK


def test_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "DEVICE", str(tmp_path / "fuse"))
    assert named("fuse-device").status is CheckStatus.FAIL
    (tmp_path / "fuse").touch(mode=0o600)
    assert named("fuse-device").status is CheckStatus.WARN
    (tmp_path / "fuse").chmod(0o666)
    assert named("fuse-device").status is CheckStatus.OK


def test_no_fusermount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert named("fusermount").status is not CheckStatus.OK
    assert "fuse3" in named("fusermount").advice
    (tmp_path / "fusermount3").touch(mode=0o755)
    assert "chmod u+s" in named("fusermount").advice
    (tmp_path / "fusermount3").chmod(0o4755)
    assert named("fusermount").status is CheckStatus.OK


@pytest.mark.parametrize(
    ("text", "allowed"), [("user_allow_other\n", True), ("#user_allow_other\n", False), ("", False)]
)
def test_allow_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, *, allowed: bool) -> None:
    (tmp_path / "fuse.conf").write_text(text)
    monkeypatch.setattr(doctor, "FUSE_CONF", str(tmp_path / "fuse.conf"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert (named("user-allow-other").status is CheckStatus.OK) == allowed


@pytest.mark.parametrize(
    ("release", "privileged", "status"),
    [
        ("6.8.12-generic", True, CheckStatus.WARN),
        ("6.9", True, CheckStatus.OK),
        ("6.10.3+deb", True, CheckStatus.OK),
        ("7.0-rc1", False, CheckStatus.WARN),
        ("odd", True, CheckStatus.WARN),
    ],
)
def test_passthrough(monkeypatch: pytest.MonkeyPatch, release: str, privileged: bool, status: CheckStatus) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "x", release, "", "")))
    monkeypatch.setattr(doctor, "_has_sys_admin", lambda: privileged)
    assert named("kernel-passthrough").status is status


def test_mounts_that_are_stale_slow_or_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "read_ahead_kb").write_text("128\n")
    monkeypatch.setattr(connect, "read_ahead_file", lambda _: str(tmp_path / "read_ahead_kb"))
    stale = replace(MOUNT, mountpoint=str(tmp_path), state=MountState.STALE)
    monkeypatch.setattr(registry, "mounts", lambda: [stale])
    assert "moorage umount" in named("stale-mounts").advice
    assert named("read-ahead").status is CheckStatus.WARN
    assert "128 KiB" in named("read-ahead").found
    assert named("overlap", tmp_path / "repository").status is CheckStatus.FAIL
    assert named("overlap", Path("/elsewhere")).status is CheckStatus.OK


def test_a_limit_on_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "timeout").write_text("30\n")
    monkeypatch.setattr(limit, "KERNEL_LIMITS", (str(tmp_path / "timeout"), str(tmp_path / "absent")))
    assert named("request-timeout").status is CheckStatus.WARN
    assert "30 s" in named("request-timeout").found


def test_directories_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nothing")
    assert named("cache-directory").status is CheckStatus.WARN
    assert "XDG_CACHE_HOME" in named("cache-directory").advice


def test_a_slow_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "backend_name", lambda: "python")
    assert named("native-kernel").status is CheckStatus.WARN
    assert "compiler" in named("native-kernel").advice
