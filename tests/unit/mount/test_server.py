"""Which revisions does a mount follow, and does a start-up error reach the one who asked as what it was?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moorage.errors import InvalidInputError, MoorageError, MountError, NewerFormatError, RefNotFoundError
from moorage.mount import daemon
from moorage.mount.journal import reports
from moorage.mount.registry import MountRecord, to_fields
from moorage.mount.request import MountRequest
from moorage.mount.shown.hydration import Hydration
from moorage.mount.shown.revision import of_revision
from moorage.read.resolve import resolve
from tests.mount import build

REQUEST = MountRequest("/srv/store", "prod", "/srv/models", log="/var/log/x.log")


@pytest.mark.parametrize(
    ("revision", "pin", "is_fixed", "branch"),
    [
        ("prod", False, False, "prod"),
        ("refs/branches/prod", False, False, "prod"),
        ("prod", True, True, "prod"),
        ("prod@{0}", False, True, "prod"),
        ("prod~0", False, True, "prod"),
        ("v1", False, True, ""),
        ("refs/tags/v1", False, True, ""),
    ],
)
def test_only_an_unpinned_branch_by_its_name_is_followed(
    tmp_path: Path, revision: str, pin: bool, is_fixed: bool, branch: str
) -> None:
    with build.create(tmp_path / "repository") as handle:
        record = build.branch(handle, "prod", {"f": b"x"})
        build.tag(handle, "v1", record.snapshot)
        view = of_revision(resolve(handle, revision), pin=pin).view(handle, Hydration(handle, None))
        assert view.is_fixed == is_fixed
        standing = view.root().standing
        assert standing is not None
        assert (standing.snapshot, standing.branch) == (record.snapshot, branch)


def test_a_driver_that_does_not_exist() -> None:
    with pytest.raises(InvalidInputError, match="no driver") as caught:
        MountRequest("/srv/store", "prod", "/srv/models", driver="nonsense")
    assert "kernel, libfuse" in str(caught.value.hint)


@pytest.mark.parametrize(
    "error",
    [
        RefNotFoundError("no branch 'x'", hint="list them", revision="x"),
        NewerFormatError("written by something newer", hint=None),
        MountError("busy", mountpoint="/srv"),
    ],
)
def test_an_error_is_raised_again_as_it_was(error: MoorageError) -> None:
    line = json.dumps({"error": reports.told(error)}, default=str).encode() + b"\n"
    with pytest.raises(type(error)) as caught:
        daemon._reported(line, REQUEST)
    assert type(caught.value) is type(error)
    assert (caught.value.message, caught.value.hint, caught.value.fields) == (error.message, error.hint, error.fields)


def test_a_bug_is_a_mount_error_that_points_to_the_log() -> None:
    told = reports.told(KeyError("oops"))
    with pytest.raises(MountError, match="oops") as caught:
        daemon._reported(json.dumps({"error": told}).encode(), REQUEST)
    assert "/var/log/x.log" in str(caught.value.hint)
    with pytest.raises(MountError, match="died while it started") as caught:
        daemon._reported(b"", REQUEST)
    assert "/var/log/x.log" in str(caught.value.hint)


def test_a_mount_that_answers_is_a_record() -> None:
    record = MountRecord("/srv/models", "/srv/store", "prod", 5, 6, "kernel", "")
    assert daemon._reported(json.dumps({"mounted": to_fields(record)}).encode(), REQUEST) == record


def test_kinds_are_unique_so_that_an_error_is_found_by_its_kind() -> None:
    classes = list(reports._all_classes(MoorageError))
    assert len({cls.kind for cls in classes}) == len(set(classes))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sticky": True, "pin": True}, "--sticky and --pin exclude each other"),
        ({"sticky": True, "driver": "libfuse"}, "--sticky needs the kernel driver"),
        ({"revision": "--all", "pin": True}, "a mount of everything cannot be pinned"),
        ({"driver": "other"}, "there is no driver 'other'"),
    ],
)
def test_what_contradicts_itself_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        replace(REQUEST, **options)
