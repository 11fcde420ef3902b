"""Do the numbers of a real mount say what happened, also when a server died, and are all of them documented?"""

from __future__ import annotations

import os
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.errors import InvalidInputError, MountError
from moorage.model.refs import RefKind, RefName
from moorage.mount import registry, serve
from moorage.mount.host import mountinfo
from moorage.mount.registry import MountRecord
from moorage.repository.handle import RepositoryHandle
from tests.mount import build
from tests.mount.conftest import clean_up, kill, wait_for_end
from tests.needs import needs_fuse

pytestmark = needs_fuse

MOVED = 'moorage_branch_moved_time_seconds{branch="prod"}'
DOCUMENTED = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")


@pytest.fixture
def handle(tmp_path: Path) -> Iterator[RepositoryHandle]:
    (tmp_path / "mnt").mkdir()
    with build.create(tmp_path / "repository") as handle:
        build.branch(handle, "prod", {"d": {"f": b"data"}})
        yield handle


@pytest.fixture
def mounts() -> Iterator[list[MountRecord]]:
    """What is to be gone afterwards."""
    made: list[MountRecord] = []
    yield made
    for record in made:
        clean_up(record)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def asked(port: int) -> dict[str, float]:
    """The samples; waits until somebody answers."""
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                return parsed(answer.read().decode())
        except (urllib.error.URLError, ConnectionError):
            os.sched_yield()


def parsed(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def label(found: dict[str, float], metric: str, name: str) -> str:
    [labels] = [sample for sample in found if sample.startswith(f"{metric}{{")]
    match = re.search(rf'{name}="([^"]*)"', labels)
    assert match is not None
    return match[1]


def test_what_happened(handle: RepositoryHandle, tmp_path: Path, mounts: list[MountRecord]) -> None:
    assert handle.root is not None
    port = free_port()
    mounts.append(serve.mount(handle.root, "prod", tmp_path / "mnt", metrics=f"127.0.0.1:{port}"))
    first = asked(port)
    assert first["moorage_server_restarts_total"] == 0
    assert label(first, "moorage_mount_info", "mountpoint") == str(tmp_path / "mnt")
    before = label(first, "moorage_mount_info", "snapshot")
    with (tmp_path / "mnt/d/f").open("rb") as file:
        assert file.read() == b"data"
        second = asked(port)
    assert second['moorage_requests_total{request="read"}'] >= 1
    assert second["moorage_read_bytes_total"] == 4
    assert second['moorage_opens_total{source="chunks"}'] == 1
    assert second["moorage_open_files"] == 1
    assert second[MOVED] == first[MOVED]
    build.branch(handle, "prod", {"d": {"f": b"other"}})
    assert (tmp_path / "mnt/d/f").read_bytes() == b"other"
    third = asked(port)
    while label(third, "moorage_mount_info", "snapshot") == before:
        third = asked(port)
    assert third[MOVED] > first[MOVED]
    assert third["moorage_open_files"] == 0
    old, new = (RefName(RefKind.BRANCH, name) for name in ("prod", "stable"))
    handle.refs.rename(old, new, actor="tester", reason="test")
    assert (tmp_path / "mnt/d/f").read_bytes() == b"other"
    fourth = asked(port)
    assert label(fourth, "moorage_branch_moved_time_seconds", "branch") == "stable"
    assert label(fourth, "moorage_mount_info", "revision") == "prod"


def test_another_server_goes_on(handle: RepositoryHandle, tmp_path: Path, mounts: list[MountRecord]) -> None:
    assert handle.root is not None
    port = free_port()
    mounts.append(serve.mount(handle.root, "prod", tmp_path / "mnt", metrics=f"127.0.0.1:{port}"))
    [record] = [record for record in registry.own() if record.mountpoint == str(tmp_path / "mnt")]
    kill(record.server_pid)
    assert (tmp_path / "mnt/d/f").read_bytes() == b"data"
    while asked(port)["moorage_server_restarts_total"] != 1:
        os.sched_yield()
    serve.umount(tmp_path / "mnt")
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30)


def test_a_file_is_there_as_long_as_the_mount(
    handle: RepositoryHandle, tmp_path: Path, mounts: list[MountRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert handle.root is not None
    monkeypatch.chdir(tmp_path)
    mounts.append(serve.mount(handle.root, serve.EVERYTHING, tmp_path / "mnt", metrics="m.prom"))
    found = parsed((tmp_path / "m.prom").read_text())
    assert label(found, "moorage_mount_info", "revision") == "--all"
    assert "moorage_branch_moved_time_seconds" not in str(found)
    os.kill(mounts[0].pid, signal.SIGTERM)
    while (tmp_path / "m.prom").exists():
        os.sched_yield()


@pytest.mark.parametrize("is_file", [False, True])
def test_a_mount_out_of_sight_gives_its_place_to_the_next(
    handle: RepositoryHandle, tmp_path: Path, mounts: list[MountRecord], *, is_file: bool
) -> None:
    assert handle.root is not None
    port, file = free_port(), tmp_path / "m.prom"
    where = str(file) if is_file else f"127.0.0.1:{port}"
    mounts.append(serve.mount(handle.root, "prod", tmp_path / "mnt", metrics=where))
    old = mounts[0]

    def shown() -> dict[str, float]:
        return parsed(file.read_text()) if is_file else asked(port)

    with (tmp_path / "mnt/d/f").open("rb", buffering=0) as reader:
        serve.umount(tmp_path / "mnt", lazy=True)
        mounts.append(serve.mount(handle.root, "prod", tmp_path / "mnt", metrics=where))
        began = shown()["process_start_time_seconds"]
        kill(old.server_pid)
        assert reader.read() == b"data"  # by another server, which leaves the place alone
        assert shown()["process_start_time_seconds"] == began
    wait_for_end(old.pid)
    assert shown()["process_start_time_seconds"] == began


def test_what_cannot_be_put_out_is_not_mounted(handle: RepositoryHandle, tmp_path: Path) -> None:
    assert handle.root is not None
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(MountError, match="Address already in use"):
            serve.mount(handle.root, "prod", tmp_path / "mnt", metrics=f"127.0.0.1:{taken.getsockname()[1]}")
    with pytest.raises(InvalidInputError, match="own addresses only"):
        serve.mount(handle.root, "prod", tmp_path / "mnt", metrics="0.0.0.0:9469")
    with pytest.raises(InvalidInputError, match="needs the kernel driver"):
        serve.mount(handle.root, "prod", tmp_path / "mnt", metrics="127.0.0.1:0", driver="libfuse")
    (tmp_path / "link").symlink_to("mnt")
    for place in ("mnt", "link"):
        with pytest.raises(InvalidInputError, match="mnt contains the metrics"):
            serve.mount(handle.root, "prod", tmp_path / "mnt", metrics=str(tmp_path / place / "m.prom"))
    assert os.listdir(tmp_path / "mnt") == []
    assert mountinfo.top_at(str(tmp_path / "mnt")) is None


def test_all_of_them_are_documented(handle: RepositoryHandle, tmp_path: Path, mounts: list[MountRecord]) -> None:
    assert handle.root is not None
    port = free_port()
    mounts.append(serve.mount(handle.root, "prod", tmp_path / "mnt", metrics=f"127.0.0.1:{port}"))
    asked(port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        put_out = re.findall(r"^# TYPE (\w+)", answer.read().decode(), re.MULTILINE)
    table = DOCUMENTED.partition("### Metrics")[2].partition("Worth an alert")[0]
    documented = re.findall(r"`((?:moorage|process)_[a-z_]+)(?:\{[a-z, ]+\})?`", table)
    assert sorted(put_out) == sorted(documented)
