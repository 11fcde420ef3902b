"""Does the registry hear of a mount when it answers, of each change, and not before?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moorage.mount import registry
from moorage.mount.claim import Claim, Unlisted
from moorage.mount.host import mountinfo
from moorage.mount.host.mountinfo import MountEntry
from moorage.mount.registry import MountRecord, MountState
from moorage.mount.request import MountRequest
from tests.needs import needs_linux

pytestmark = needs_linux

REQUEST = MountRequest("/srv/store", "prod", "/srv/models", log="/var/log/x.log")


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    entry = MountEntry("0:99", "/srv/models", "fuse.moorage", "/srv/store#prod", "ro")
    monkeypatch.setattr(mountinfo, "mounted", lambda: [entry])


def recorded() -> MountRecord:
    found = registry.find("0:99")
    assert found is not None
    return found


def answering(server_pid: int = 0) -> Claim:
    claim = Claim.of(REQUEST)
    claim.shows("a" * 64)
    assert registry.find("0:99") is None
    claim.answers("/srv/models", "0:99", "", passthrough=True, server_pid=server_pid)
    return claim


def test_each_change_is_written_down() -> None:
    claim = answering(server_pid=os.getpid())
    assert recorded() == claim.record
    assert (recorded().pid, recorded().server_pid, recorded().snapshot) == (os.getpid(), os.getpid(), "a" * 64)
    claim.shows("b" * 64)
    claim.notes("gone")
    claim.died()
    claim.failed("no repository")
    assert recorded().note == "gone"
    assert (recorded().snapshot, recorded().restarts, recorded().trouble) == ("b" * 64, 1, "no repository")
    claim.upgraded("not upgraded: no repository")
    assert (recorded().upgrades, recorded().trouble) == (1, "not upgraded: no repository")
    claim.served_by(os.getppid())
    assert (recorded().server_pid, recorded().trouble, recorded().state) == (os.getppid(), "", MountState.SERVING)
    claim.notes("")
    assert recorded().note == ""
    claim.upgraded()
    assert (recorded().upgrades, recorded().snapshot) == (2, "b" * 64)
    claim.drop()
    claim.shows("c" * 64)
    assert registry.find("0:99") is None


def test_where_it_was_mounted_before_it_is_the_same_mount() -> None:
    claim = answering()
    claim.died()
    begun = claim.record.started_ns
    claim.answers("/srv/models", "0:100", "", passthrough=False, server_pid=os.getppid())
    record = claim.record
    assert (record.started_ns, record.restarts, record.device, record.passthrough) == (begun, 1, "0:100", False)


def test_a_server_that_is_left_alone_goes_on_with_the_record() -> None:
    answering(server_pid=os.getpid())
    Claim(recorded(), is_made=True).shows("b" * 64)
    assert recorded().snapshot == "b" * 64


def test_a_record_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "moorage").write_text("in the way")
    claim = answering()
    claim.shows("b" * 64)
    assert claim.record.snapshot == "b" * 64
    assert "will know little of it" in caplog.text


def test_what_is_unlisted_is_known_to_nobody_else() -> None:
    claim = Unlisted.of(REQUEST)
    claim.answers("/srv/models", "0:99", "", passthrough=True, server_pid=os.getpid())
    claim.shows("a" * 64)
    claim.died()
    assert (claim.record.mountpoint, claim.record.snapshot, claim.record.restarts) == ("/srv/models", "a" * 64, 1)
    assert registry.own() == []
    answering()
    claim.drop()
    assert recorded().snapshot == "a" * 64  # somebody else's, at the same place
