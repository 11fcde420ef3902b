"""Is a claim believed only while the kernel and the process bear it out?"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from moorage.mount import registry
from moorage.mount.host import mountinfo, places
from moorage.mount.host.mountinfo import MountEntry
from moorage.mount.registry import MountRecord, MountState, from_fields, mounts, of_this_process, to_fields
from tests.needs import needs_linux

pytestmark = needs_linux

RECORD = MountRecord(
    "/srv/models", "/srv/store", "prod", 0, 123, "kernel", "/var/log/x.log", pinned=True, device="0:99"
)
ENTRY = MountEntry("0:99", "/srv/models", "fuse.moorage", "/srv/store#prod", "ro")


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    show(monkeypatch)


def show(monkeypatch: pytest.MonkeyPatch, *entries: MountEntry) -> None:
    monkeypatch.setattr(mountinfo, "mounted", lambda: list(entries))


def test_a_record_survives_json() -> None:
    record = of_this_process(RECORD)
    assert from_fields(to_fields(record)) == record
    assert (record.pid, record.boot != "", record.process_start > 0) == (os.getpid(), True, True)


def test_a_mount_that_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    record = of_this_process(RECORD)
    registry.write(record)
    show(monkeypatch, ENTRY)
    assert mounts() == [record]
    assert registry.find("0:99") == record
    registry.remove(record.mountpoint, record.pid)
    assert [(found.pid, found.repository, found.revision) for found in mounts()] == [(0, "/srv/store", "prod")]


@pytest.mark.parametrize(
    ("changes", "is_mounted", "state"),
    [
        ({}, True, MountState.SERVING),
        ({}, False, MountState.DETACHED),
        ({"process_start": 1}, True, MountState.STALE),
        ({"process_start": 1}, False, None),
        ({"boot": "another"}, False, None),
        ({"pid": 2**22 + 1}, True, MountState.STALE),
    ],
)
def test_what_became_of_a_claim(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, int | str], is_mounted: bool, state: MountState | None
) -> None:
    registry.write(replace(of_this_process(RECORD), **changes))  # type: ignore[arg-type]  # as parametrised
    show(monkeypatch, *([ENTRY] if is_mounted else []))
    assert [record.state for record in mounts()] == ([state] if state else [])
    left = list(places.records_directory().glob("*.json"))
    assert len(left) == (1 if state else 0)


def test_a_claim_on_another_file_system_at_the_same_place_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.write(replace(of_this_process(RECORD), process_start=1))
    show(monkeypatch, replace(ENTRY, device="0:100", source="/srv/other#dev"))
    [found] = mounts()
    assert (found.device, found.repository, found.revision) == ("0:100", "/srv/other", "dev")


def of_another_process(record: MountRecord) -> MountRecord:
    parent = os.getppid()
    return replace(of_this_process(record), pid=parent, process_start=registry._start_of(parent))


def test_a_mount_out_of_sight_stays_beside_the_new_one_at_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.write(of_this_process(RECORD))
    registry.write(of_another_process(replace(RECORD, device="0:100", started_ns=124)))
    show(monkeypatch, replace(ENTRY, device="0:100"))
    found = [(record.device, record.state) for record in mounts()]
    assert found == [("0:100", MountState.SERVING), ("0:99", MountState.DETACHED)]
    assert len({registry.find(device) for device in ("0:99", "0:100")}) == 2


def test_the_number_of_a_device_that_is_used_again_is_of_the_newest_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.write(replace(of_this_process(RECORD), process_start=1))
    registry.write(of_another_process(replace(RECORD, started_ns=124)))
    show(monkeypatch, ENTRY)
    assert [(record.pid, record.state) for record in mounts()] == [(os.getppid(), MountState.SERVING)]
    assert len(list(places.records_directory().glob("*.json"))) == 1


def test_only_the_one_who_claimed_takes_his_claim_back() -> None:
    registry.write(of_this_process(RECORD))
    registry.remove(RECORD.mountpoint, os.getpid() + 1)
    assert len(list(places.records_directory().glob("*.json"))) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mountpoint": "/x"}', '{"unknown": 1}', "null"])
def test_a_file_that_is_no_claim_is_passed_over(text: str) -> None:
    places.records_directory().mkdir(parents=True)
    (places.records_directory() / "x.json").write_text(text)
    assert mounts() == []


def test_each_mountpoint_has_its_own_readable_file() -> None:
    assert places.slug("/srv/models").startswith("srv-models-")
    assert places.slug("/srv/models") != places.slug("/srv-models")
    assert places.slug("/") != ""
    assert len(places.slug("/x" * 500)) < 100


@pytest.mark.parametrize(("value", "wanted"), [("/abs", "/abs/moorage"), ("relative", None), ("", None)])
def test_places_follow_the_xdg_rules(monkeypatch: pytest.MonkeyPatch, value: str, wanted: str | None) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", value)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(places.state_directory()) == (wanted or "/home/somebody/.local/state/moorage")


def test_a_user_without_a_home_has_places_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert places.state_directory().is_absolute()
