"""Is a place refused exactly when it overlaps what must stay reachable?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moorage.errors import InvalidInputError, LockedError
from moorage.mount import mountpoint
from moorage.mount.host import mountinfo
from moorage.mount.host.mountinfo import MountEntry
from moorage.mount.mountpoint import CONTAINS, INSIDE, SAME, busy, overlap, prepare, real_path, users_of
from tests.needs import needs_linux


@pytest.mark.parametrize(
    ("place", "other", "relation"),
    [
        ("a", "a", SAME),
        ("a", "a/b", CONTAINS),
        ("a/b", "a", INSIDE),
        ("a", "b", None),
        ("a", "ab", None),
        ("a/b", "a/bc", None),
    ],
)
def test_relations_by_name(tmp_path: Path, place: str, other: str, relation: str | None) -> None:
    for name in (place, other):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    assert overlap(str(tmp_path / place), str(tmp_path / other)) == relation


def test_relations_do_not_need_the_other_to_exist(tmp_path: Path) -> None:
    assert overlap(str(tmp_path), str(tmp_path / "not" / "made" / "yet")) == CONTAINS
    assert overlap(str(tmp_path), "/nowhere/at/all") is None
    assert overlap("/", str(tmp_path)) == CONTAINS


def test_prepare_gives_the_real_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    wanted = str(tmp_path / "real")
    assert prepare(tmp_path / "link", []) == wanted
    assert prepare(os.path.relpath(tmp_path / "link"), []) == wanted
    assert real_path(tmp_path / "link") == wanted


def test_prepare_refuses_what_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    with pytest.raises(InvalidInputError, match="is not empty: the mount would hide there") as caught:
        prepare(tmp_path, [])
    assert caught.value.hint
    assert prepare(tmp_path, [], covers=True) == str(tmp_path)


def test_prepare_never_looks_into_what_is_a_mountpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").touch()
    entry = MountEntry("0:99", str(tmp_path), "autofs", "auto", "rw")
    monkeypatch.setattr(mountinfo, "mounted", lambda: [entry])
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", lambda _: pytest.fail("an automount is triggered"))
        patch.setattr(os, "listdir", lambda _: pytest.fail("an automount is triggered"))
        assert prepare(tmp_path, []) == str(tmp_path)


def test_prepare_tells_apart_what_it_must_not_touch_and_what_it_must_not_hide(tmp_path: Path) -> None:
    inside = tmp_path / "thing" / "inside"
    inside.mkdir(parents=True)
    with pytest.raises(InvalidInputError, match="is inside the thing") as caught:
        prepare(inside, apart=[("the thing", tmp_path / "thing")])
    assert caught.value.hint
    assert prepare(inside, apart=[], not_below=[("the thing", tmp_path / "thing")]) == str(inside)
    with pytest.raises(InvalidInputError, match="contains the thing"):
        prepare(tmp_path, apart=[], not_below=[("the thing", tmp_path / "thing")])


def test_prepare_sees_through_the_symlinks_of_both(tmp_path: Path) -> None:
    (tmp_path / "real" / "mnt").mkdir(parents=True)
    (tmp_path / "repository").symlink_to("real")
    with pytest.raises(InvalidInputError, match="is inside the repository"):
        prepare(tmp_path / "real" / "mnt", apart=[("the repository", tmp_path / "repository")])


def test_control_names_alone_would_not_see_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison of names is broken, as a bind mount breaks it, and then that of (device, inode) too."""
    (tmp_path / "mnt").mkdir()
    monkeypatch.setattr(os.path, "commonpath", lambda _: "")
    assert overlap(str(tmp_path), str(tmp_path / "mnt")) == CONTAINS
    monkeypatch.setattr(mountpoint, "_is_same", lambda *_: False)
    assert overlap(str(tmp_path), str(tmp_path / "mnt")) is None


@needs_linux
def test_users_are_found_by_open_files_and_working_directories(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert users_of(str(tmp_path)) == []
    with (tmp_path / "file").open():
        assert [user for user in users_of(str(tmp_path)) if f"({os.getpid()})" in user]
    assert users_of(str(tmp_path)) == []


def test_a_busy_mount_names_a_few_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint, "users_of", lambda _: [f"reader ({number})" for number in range(8)])
    cause = LockedError("/srv/models is in use")
    error = busy("/srv/models", cause)
    assert error.message == (
        "/srv/models is in use by reader (0), reader (1), reader (2), reader (3), reader (4) and 3 more"
    )
    assert error.__cause__ is cause
    assert len(error.fields["users"]) == 8  # type: ignore[arg-type]  # fields are objects
