"""Does `moorage.resolve` give a path that stays on one snapshot, from whatever mount and however it is reached?"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import moorage
from moorage.errors import InvalidInputError, MountError, MountNotFoundError, PathNotFoundError
from moorage.model.refs import RefKind, RefName
from moorage.mount.serve import EVERYTHING
from tests.mount import build
from tests.mount.build import Content, Link
from tests.mount.conftest import MountIt, end_of
from tests.needs import needs_fuse, needs_libfuse, needs_root

pytestmark = needs_fuse

DRIVERS = pytest.mark.parametrize("driver", ["kernel", pytest.param("libfuse", marks=needs_libfuse)])
V1: dict[str, Content] = {"top": b"1", "bert": {"config": b"1", "deep": {"weights": b"w1" * 50_000}}, "same": b"same"}
V2: dict[str, Content] = {"top": b"2", "bert": {"config": b"2"}, "same": b"same"}
ABSENT = "f" * 64


@DRIVERS
@pytest.mark.parametrize("of", ["one branch", "everything"])
def test_what_it_gives_stays(mount_it: MountIt, driver: str, of: str) -> None:
    mount = mount_it(V1, driver=driver)
    if of == "everything":
        mount = mount.again(EVERYTHING, driver=driver)
    root = mount.path / "branches/prod" if of == "everything" else mount.path
    whole, part = moorage.resolve(root), moorage.resolve(f"{root}/bert")
    first = build.head(mount.handle, "prod").hex()
    assert whole.snapshot == part.snapshot == first
    assert whole.branch == part.branch == "prod"
    build.branch(mount.handle, "prod", V2)
    assert (root / "bert/config").read_bytes() == b"2"
    assert Path(whole.path, "top").read_bytes() == b"1"
    assert Path(part.path, "config").read_bytes() == b"1"
    assert Path(part.path, "deep/weights").read_bytes() == b"w1" * 50_000
    assert sorted(os.listdir(whole.path)) == ["bert", "same", "top"]
    assert moorage.resolve(part.path) == moorage.Pinned(part.path, first, None)
    assert moorage.resolve(root).snapshot == build.head(mount.handle, "prod").hex() != first


def test_the_branch_that_led_there_in_a_mount_of_everything(mount_it: MountIt) -> None:
    mount = mount_it(V1)
    for name in ("prod/hot", "team/a/b"):
        build.branch(mount.handle, name, V1)
    root = mount.again(EVERYTHING).path
    for path, branch in (
        ("branches/prod", "prod"),
        ("branches/prod/bert/deep", "prod"),
        ("branches/prod~/hot/bert", "prod/hot"),
        ("branches/team/a/b/top", "team/a/b"),
        (f"snapshots/{build.head(mount.handle, 'prod').hex()}/bert", None),
        ("at/prod/0/bert", None),
    ):
        assert moorage.resolve(root / path).branch == branch, path


@DRIVERS
def test_a_pinned_mount_stays_anyway(mount_it: MountIt, driver: str) -> None:
    mount = mount_it(V1, driver=driver, pin=True)
    found = moorage.resolve(mount.path / "bert")
    assert (found.snapshot, found.branch) == (build.head(mount.handle, "prod").hex(), "prod")
    assert Path(found.path, "config").read_bytes() == b"1"


def test_only_where_the_branch_has_stood(mount_it: MountIt) -> None:
    """Who is shown one branch is shown one branch, though all snapshots lie in the same repository."""
    mount = mount_it(V1)
    first = build.head(mount.handle, "prod")
    other = build.branch(mount.handle, "secret", {"key": b"secret"}).snapshot
    mount.move(V2)
    names = mount.path / ".snapshots"
    assert ".snapshots" not in os.listdir(mount.path)
    assert os.listdir(names) == [build.head(mount.handle, "prod").hex()]
    assert (names / first.hex() / "top").read_bytes() == b"1"
    for absent in (other.hex(), ABSENT, first.hex()[:12], first.hex().upper(), "x", "top"):
        assert not os.path.lexists(names / absent)
    build.move(mount.handle, "prod", other)
    assert (names / other.hex() / "key").read_bytes() == b"secret"


def test_the_branch_may_be_renamed_and_deleted(mount_it: MountIt) -> None:
    mount = mount_it(V1)
    held = moorage.resolve(mount.path)
    refs, prod, new = mount.handle.refs, RefName(RefKind.BRANCH, "prod"), RefName(RefKind.BRANCH, "new")
    refs.rename(prod, new, actor="t", reason="t")
    second = build.branch(mount.handle, "new", V2).snapshot
    assert moorage.resolve(mount.path).branch == "new"
    refs.delete(new, actor="t", reason="t")
    assert moorage.resolve(mount.path).snapshot == second.hex()
    assert Path(held.path, "top").read_bytes() == b"1"


def test_a_files_attributes_say_the_snapshot_of_its_path(mount_it: MountIt) -> None:
    """The same file by two ways: each says where it was found, in whatever order they are asked."""
    mount = mount_it(V1)
    held = moorage.resolve(mount.path)
    mount.move(V2)
    for path, snapshot in ((mount.path, build.head(mount.handle, "prod").hex()), (held.path, held.snapshot)) * 2:
        assert os.getxattr(Path(path, "same"), "user.moorage.snapshot").decode() == snapshot
        assert os.stat(Path(path, "same")).st_ino == os.stat(mount.path / "same").st_ino


def test_links_on_the_way_and_inside(mount_it: MountIt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files: dict[str, Content] = {
        "v1": {"f": b"1"},
        "current": Link("v1"),
        "up": Link("v1/../current"),
        "out": Link("/"),
    }
    mount = mount_it(files)
    (tmp_path / "way").symlink_to(mount.path)
    (tmp_path / "model").symlink_to("way/current")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    id = build.head(mount.handle, "prod").hex()
    expected = f"{mount.path}/.snapshots/{id}/v1"
    for way in ("./model", "./way/up", "./../" + tmp_path.name + "/model/.", Path("model"), Path("way/v1")):
        assert moorage.resolve(way).path == expected
    with pytest.raises(InvalidInputError, match="leads out of its snapshot"):
        moorage.resolve(mount.path / "out")
    with pytest.raises(MountError):
        moorage.resolve("./loop/x")


def test_the_trees_own_name_wins(mount_it: MountIt) -> None:
    mount = mount_it({".snapshots": {"mine": b"mine"}, "f": b"f"})
    assert os.listdir(mount.path / ".snapshots") == ["mine"]
    with pytest.raises(MountError, match="does not show snapshots"):
        moorage.resolve(mount.path)


@needs_root
def test_a_bind_mount_of_the_root_and_of_a_directory_inside(mount_it: MountIt, tmp_path: Path) -> None:
    mount = mount_it(V1)
    for name, source in (("whole", mount.path), ("part", mount.path / "bert")):
        (tmp_path / name).mkdir()
        subprocess.run(["mount", "--bind", source, tmp_path / name], check=True)
    try:
        whole, part = moorage.resolve(tmp_path / "whole/bert"), moorage.resolve(tmp_path / "part/deep")
        assert whole.path == f"{tmp_path}/whole/.snapshots/{whole.snapshot}/bert"
        assert (part.path, part.snapshot) == (f"{tmp_path}/part/deep", whole.snapshot)
        mount.move(V2)
        assert Path(whole.path, "config").read_bytes() == b"1"
        assert Path(part.path, "weights").read_bytes() == b"w1" * 50_000
    finally:
        subprocess.run(["umount", tmp_path / "whole", tmp_path / "part"], check=True)


def test_what_cannot_be_resolved(mount_it: MountIt, tmp_path: Path) -> None:
    mount = mount_it(V1)
    whole = mount.again(EVERYTHING)
    with pytest.raises(MountNotFoundError):
        moorage.resolve(tmp_path)
    for absent in (mount.path / "no", mount.path / "top/f", f"{mount.path}/.snapshots/{ABSENT}", whole.path / "tags/x"):
        with pytest.raises(PathNotFoundError):
            moorage.resolve(absent)
    for nowhere in (whole.path, whole.path / "branches", whole.path / "snapshots"):
        with pytest.raises(InvalidInputError, match="is in no snapshot"):
            moorage.resolve(nowhere)
    assert moorage.resolve(mount.path / "top").path.endswith("/top")


def test_a_mount_that_nobody_serves(mount_it: MountIt) -> None:
    mount = mount_it(V1)
    end_of(mount.record)
    with pytest.raises(MountError, match="not connected"):
        moorage.resolve(mount.path / "bert")


def test_revisions_and_locations(mount_it: MountIt) -> None:
    mount = mount_it(V1)
    root, id = mount.handle.root, build.head(mount.handle, "prod").hex()
    assert root is not None
    assert moorage.resolve("prod", repo=root) == moorage.Pinned(f"{id}:", id, "prod")
    found = moorage.resolve("prod:bert/config", repo=root)
    assert found == moorage.Pinned(f"{id}:bert/config", id, "prod")
    assert moorage.resolve(found.path, repo=root) == moorage.Pinned(found.path, id, None)
    mount.move(V2)
    with moorage.Repository.open(root) as repo:
        assert repo.read(found.path) == b"1"
        assert moorage.resolve("prod:bert", repo).snapshot != id
        with pytest.raises(PathNotFoundError):
            moorage.resolve("prod:none", repo)
