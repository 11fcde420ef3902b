"""Does a mount outlive its supervisor, and a new version take over, without anybody noticing?"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from moorage.errors import MountDeniedError, MountError, MountNotFoundError, RefNotFoundError
from moorage.mount import registry, serve
from moorage.mount.host import mountinfo
from moorage.mount.registry import MountState
from tests.mount import build
from tests.mount.conftest import kill, wait_for_end
from tests.mount.supervised import FILES, LIMITS, SOAK, Supervised, stop, summary, supervised, wait_until
from tests.needs import needs_libfuse

pytestmark = LIMITS

UPGRADES = 20 if SOAK else 2


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervised]:
    with supervised(tmp_path, monkeypatch) as made:
        yield made


# -- the supervisor dies -------------------------------------------------------------------------------


def test_without_its_supervisor_a_server_serves_on_and_says_so(mounted: Supervised) -> None:
    before = mounted.record
    kill(before.pid)
    wait_for_end(before.pid)
    assert mounted.record.state is MountState.UNSUPERVISED
    assert (mounted.path / "deep/er/file").read_bytes() == mounted.plain.joinpath("deep/er/file").read_bytes()
    wait_until(lambda: "unsupervised" in mounted.log)
    with pytest.raises(MountError, match=r"supervisor of .* is gone") as caught:
        serve.upgrade(mounted.path)
    assert "moorage umount" in str(caught.value.hint)
    build.branch(mounted.handle, "prod", {"top3": b"moved"})
    assert (mounted.path / "top3").read_bytes() == b"moved"
    wait_until(lambda: mounted.record.snapshot == build.head(mounted.handle, "prod").hex())
    assert mounted.record.state is MountState.UNSUPERVISED
    serve.umount(mounted.path)
    wait_for_end(before.server_pid)
    assert registry.find(before.device) is None


def test_a_signal_unmounts_what_is_unsupervised(mounted: Supervised) -> None:
    before = mounted.record
    kill(before.pid)
    wait_until(lambda: "unsupervised" in mounted.log)
    os.kill(before.server_pid, signal.SIGTERM)
    wait_for_end(before.server_pid)
    assert mountinfo.top_at(str(mounted.path)) is None
    assert registry.find(before.device) is None


def test_both_killed_is_enotconn_for_all_and_the_next_mount_clears_it(mounted: Supervised) -> None:
    before = mounted.record
    with mounted.readers(4) as found:
        kill(before.pid, before.server_pid)
        wait_for_end(before.pid, before.server_pid)
    errors, wrong = summary(found)  # every reader came to its end: none is stuck
    assert wrong == 0
    gone = (
        os.strerror(errno.ENOTCONN),
        os.strerror(errno.ECONNABORTED),
        signal.SIGBUS.name,
    )  # after, during, and in a map
    assert errors
    assert all(any(word in error for word in gone) for error in errors)
    assert mounted.record.state is MountState.STALE
    assert mounted.handle.root is not None
    again = serve.mount(mounted.handle.root, "prod", mounted.path)
    assert (mounted.path / "top3").read_bytes() == FILES["top3"]
    serve.umount(mounted.path)
    assert not registry.is_alive(again)


# -- on purpose ----------------------------------------------------------------------------------------


def test_an_upgrade_under_readers_costs_no_read(mounted: Supervised) -> None:
    seen = {mounted.record.server_pid}
    with mounted.readers(4) as found:
        for _ in range(UPGRADES):
            seen.add(serve.upgrade(mounted.path).server_pid)
    assert summary(found) == ([], 0)
    assert len(seen) == UPGRADES + 1
    assert (mounted.record.upgrades, mounted.record.restarts) == (UPGRADES, 0)


def test_an_upgrade_that_cannot_start_leaves_the_old_server(mounted: Supervised) -> None:
    before = mounted.record
    assert mounted.handle.root is not None
    moved = mounted.handle.root.with_name("elsewhere")
    mounted.handle.root.rename(moved)
    with pytest.raises(MountError, match="not upgraded"):
        serve.upgrade(mounted.path)
    moved.rename(mounted.handle.root)
    after = mounted.record
    assert replace(after, upgrades=0, trouble="") == before
    assert (mounted.path / "top3").read_bytes() == FILES["top3"]
    serve.upgrade(mounted.path)


def test_only_mounts_are_upgraded(tmp_path: Path) -> None:
    for nothing in (tmp_path, tmp_path / "not there", Path("/proc")):
        with pytest.raises(MountNotFoundError):
            serve.upgrade(nothing)


@needs_libfuse
def test_a_mount_through_libfuse_has_no_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with supervised(tmp_path, monkeypatch, driver="libfuse") as mounted:
        assert mounted.record.server_pid == 0
        with pytest.raises(MountError, match="libfuse has no supervisor"):
            serve.upgrade(mounted.path)
        assert (mounted.path / "top3").read_bytes() == FILES["top3"]


def test_a_mount_of_another_user_is_his_to_upgrade(
    mounted: Supervised, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
        with pytest.raises(MountDeniedError, match="another user"):
            serve.upgrade(mounted.path)


def test_unmounting_a_hung_server_takes_no_longer_than_it_may(mounted: Supervised) -> None:
    before = mounted.record
    stop(before.server_pid)
    serve.umount(mounted.path)
    wait_for_end(before.pid, before.server_pid)
    assert mountinfo.top_at(str(mounted.path)) is None


def test_what_cannot_be_mounted_leaves_nothing(mounted: Supervised, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    assert mounted.handle.root is not None
    with pytest.raises(RefNotFoundError):
        serve.mount(mounted.handle.root, "nonsense", tmp_path / "second")
    assert mountinfo.top_at(str(tmp_path / "second")) is None
