"""Does whoever reads get the right bytes and no error, whichever process behind the mount dies, and when?"""

from __future__ import annotations

import errno
import mmap
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.model.refs import RefKind, RefName
from moorage.mount import registry, serve
from moorage.mount.host import mountinfo, places
from moorage.mount.journal import open_log
from moorage.mount.registry import MountState
from moorage.mount.request import EVERYTHING
from moorage.read.cache import FileCache
from moorage.read.hydrate import hydrate
from moorage.read.resolve import locate, parse_location
from tests.mount import build
from tests.mount.conftest import kill, kill_later, wait_for_end
from tests.mount.counted import counted
from tests.mount.supervised import (
    FILES,
    LIMITS,
    SOAK,
    Supervised,
    resend_missing,
    stop,
    stuck,
    summary,
    supervised,
    wait_until,
)
from tests.mount.test_passthrough import passthrough_missing
from tests.needs import needs_root, require
from tests.unit.read.caches import MIB, noise

pytestmark = LIMITS

BIG = noise(6 * MIB + 77, 9)


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervised]:
    with supervised(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervised]:
    """A mount of everything."""
    with supervised(tmp_path, monkeypatch, EVERYTHING) as made:
        yield made


# -- the server dies -----------------------------------------------------------------------------------


def test_servers_killed_at_random_moments_cost_no_read(mounted: Supervised) -> None:
    moments = random.Random(5)
    kills, readers = (200, 16) if SOAK else (4, 6)
    with mounted.readers(readers) as found:
        for _ in range(kills):
            time.sleep(moments.uniform(0, 1.0))  # the moment is what varies; nothing waits for it
            mounted.kill_server()
    errors, wrong = summary(found)
    print(mounted.log)
    assert (errors, wrong) == ([], 0)
    assert mounted.record.restarts == kills
    assert mounted.record.state is MountState.SERVING
    assert stuck(mounted.path) == []
    serve.umount(mounted.path)
    assert mountinfo.top_at(str(mounted.path)) is None


def test_control_without_a_supervisor_they_do(tmp_path: Path) -> None:
    build.write_out(FILES, tmp_path / "plain")
    with counted(tmp_path, FILES) as served:
        record = next(found for found in registry.mounts() if found.mountpoint == str(served.path))
        assert record.server_pid == 0
        with Supervised(record, served.handle, tmp_path / "plain").readers(2) as found:
            kill(record.pid)
            wait_for_end(record.pid)
        errors, wrong = summary(found)
        assert any(os.strerror(errno.ENOTCONN) in error or "SIGBUS" in error for error in errors)
        assert wrong == 0


def test_what_is_open_stays_open(mounted: Supervised) -> None:
    data = mounted.plain.joinpath("models/07").read_bytes()
    with (
        open(mounted.path / "models/07", "rb", buffering=0) as file,
        open(mounted.path / "models/07", "rb", buffering=0) as kept,
        mmap.mmap(kept.fileno(), 0, prot=mmap.PROT_READ) as view,
        os.scandir(mounted.path / "models") as listing,
    ):
        first = next(listing).name
        mounted.kill_server()
        assert file.read() == data == view[:]
        assert sorted([first, *(entry.name for entry in listing)]) == sorted(os.listdir(mounted.plain / "models"))
        assert os.getxattr(file.fileno(), "user.moorage.blake3")


def test_a_server_that_hangs_is_replaced(tmp_path: Path) -> None:
    require(resend_missing)
    with build.create(tmp_path / "repository") as handle:
        build.branch(handle, "prod", FILES)
    (tmp_path / "mnt").mkdir()
    program = f"""
from moorage.mount.journal import logs
from moorage.mount.request import MountRequest
from moorage.mount.supervise import supervisor
from moorage.mount.supervise.keeper import Keeper, Limits
logs.log_in_foreground("", "text")
limits = Limits(ask_every_s=0.2, answer_s=1.0, tick_s=0.1)
request = MountRequest({str(tmp_path / "repository")!r}, "prod", {str(tmp_path / "mnt")!r}, cache_bytes=0)
supervisor.supervise(Keeper(request, limits=limits), lambda record: print(record.server_pid, flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        watchdog = kill_later(process.pid)
        assert process.stdout is not None
        server = int(process.stdout.readline())
        stop(server)
        try:
            assert (tmp_path / "mnt/top3").read_bytes() == FILES["top3"]  # waits for the next server
            assert not Path(f"/proc/{server}").exists()
        finally:
            process.terminate()
        assert process.wait(30) == 0
        watchdog.cancel()
    assert mountinfo.top_at(str(tmp_path / "mnt")) is None


def test_while_no_server_can_start_who_reads_waits(mounted: Supervised) -> None:
    root = mounted.handle.root
    assert root is not None
    root.rename(root.with_name("elsewhere"))
    try:
        kill(mounted.record.server_pid)
        wait_until(lambda: bool(mounted.record.trouble))
        command = [sys.executable, "-c", "import sys; print(len(open(sys.argv[1], 'rb').read()))"]
        reader = subprocess.Popen([*command, str(mounted.path / "top3")], stdout=subprocess.PIPE, text=True)
        wait_until(lambda: mounted.record.restarts >= 2)
        assert reader.poll() is None
    finally:
        root.with_name("elsewhere").rename(root)
    assert reader.communicate(timeout=60)[0] == "9001\n"
    wait_until(lambda: not mounted.record.trouble)


@needs_root
def test_passthrough_goes_on_and_its_mode_is_kept(mounted: Supervised) -> None:
    require(passthrough_missing)
    build.branch(mounted.handle, "prod", {**FILES, "big": {"file": BIG}})
    entry = locate(mounted.handle, parse_location("prod:big/file")).file
    with open(mounted.path / "big/file", "rb", buffering=0) as cold:
        assert cold.read(10) == BIG[:10]
        hydrate(mounted.handle, FileCache(limit_bytes=64 * MIB), entry).close()
        with open(mounted.path / "big/file", "rb", buffering=0) as passed:
            kill(mounted.record.server_pid)
            assert passed.read() == BIG  # by the kernel; there may be no server at all
            for _ in range(2):
                assert (mounted.path / "big/file").read_bytes() == BIG
                mounted.kill_server()
            assert os.pread(cold.fileno(), 1000, 5 * MIB) == BIG[5 * MIB : 5 * MIB + 1000]
        mounted.kill_server()
        assert (mounted.path / "big/file").read_bytes() == BIG


# -- the branch meanwhile ------------------------------------------------------------------------------


def test_a_branch_that_moves_while_there_is_no_server_is_followed(mounted: Supervised) -> None:
    with open(mounted.path / "top3", "rb", buffering=0) as old:
        kill(mounted.record.server_pid)
        build.branch(mounted.handle, "prod", {"top3": b"new", "models": {"only": b"one"}})
        assert (mounted.path / "top3").read_bytes() == b"new"
        assert os.listdir(mounted.path / "models") == ["only"]
        assert old.read() == FILES["top3"]


def test_a_deleted_branch_is_shown_as_it_stood_by_the_next_server_too(mounted: Supervised) -> None:
    build.branch(mounted.handle, "prod", {"f": b"second"})
    assert (mounted.path / "f").read_bytes() == b"second"
    ref = RefName(RefKind.BRANCH, "prod")
    mounted.handle.refs.delete(ref, expected=build.head(mounted.handle, "prod"), actor="t", reason="t")
    mounted.kill_server()
    assert (mounted.path / "f").read_bytes() == b"second"
    wait_until(lambda: "was deleted" in mounted.record.note)
    build.branch(mounted.handle, "prod", {"f": b"third"})
    assert (mounted.path / "f").read_bytes() == b"third"


def test_the_opened_root_stays_on_its_snapshot(mounted: Supervised) -> None:
    folder = os.open(mounted.path, os.O_RDONLY | os.O_DIRECTORY)
    build.branch(mounted.handle, "prod", {"new": b""})
    assert os.listdir(mounted.path) == ["new"]
    mounted.kill_server()
    assert sorted(os.listdir(folder)) == sorted(FILES)
    os.close(folder)


# -- a mount of everything -----------------------------------------------------------------------------


def test_a_mount_of_everything_goes_on(whole: Supervised) -> None:
    head = build.head(whole.handle, "prod").hex()
    build.branch(whole.handle, "team/x", {"f": b"x"})
    path = whole.path / f"snapshots/{head}/models/07"
    folder = os.open(whole.path / "branches", os.O_RDONLY | os.O_DIRECTORY)
    inside = os.open(whole.path / "branches/team", os.O_RDONLY | os.O_DIRECTORY)
    before = {name: os.lstat(whole.path / name).st_ino for name in ("branches", "branches/team", "at/prod", "tags")}
    with path.open("rb", buffering=0) as file, os.scandir(path.parent) as listing:
        first = next(listing).name
        whole.kill_server()
        assert file.read() == whole.plain.joinpath("models/07").read_bytes()
        assert sorted([first, *(entry.name for entry in listing)]) == sorted(os.listdir(whole.plain / "models"))
    assert (whole.path / "branches/prod/deep/er/file").read_bytes() == (whole.plain / "deep/er/file").read_bytes()
    assert os.readlink(whole.path / "branches/team/x") == f"../../snapshots/{build.head(whole.handle, 'team/x').hex()}"
    assert sorted(os.listdir(folder)) == ["prod", "team"]
    assert os.listdir(inside) == ["x"]
    assert {name: os.lstat(whole.path / name).st_ino for name in before} == before
    [time_of] = os.listdir(whole.path / "at/prod")
    assert os.readlink(whole.path / "at/prod" / time_of).endswith(head)
    assert os.getxattr(path, "user.moorage.snapshot").decode() == head
    os.close(folder)
    os.close(inside)


def test_branches_that_move_come_and_go_while_there_is_no_server(whole: Supervised) -> None:
    build.branch(whole.handle, "team/x", {"f": b"x"})
    inside = os.open(whole.path / "branches/team", os.O_RDONLY | os.O_DIRECTORY)
    assert (whole.path / "branches/prod/top3").read_bytes() == FILES["top3"]
    kill(whole.record.server_pid)
    build.branch(whole.handle, "prod", {"top3": b"moved"})
    build.branch(whole.handle, "new", {"f": b"new"})
    ref = RefName(RefKind.BRANCH, "team/x")
    whole.handle.refs.delete(ref, expected=build.head(whole.handle, "team/x"), actor="t", reason="t")
    assert (whole.path / "branches/prod/top3").read_bytes() == b"moved"
    assert sorted(os.listdir(whole.path / "branches")) == ["new", "prod"]
    assert os.listdir(inside) == []
    os.close(inside)


def test_paths_that_stay_on_their_snapshot_go_on(mounted: Supervised) -> None:
    head = build.head(mounted.handle, "prod").hex()
    path = mounted.path / f".snapshots/{head}/deep/er"
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    build.branch(mounted.handle, "prod", {"new": b""})
    mounted.kill_server()
    assert (path / "file").read_bytes() == mounted.plain.joinpath("deep/er/file").read_bytes()
    assert sorted(os.listdir(folder)) == ["file", "other"]
    assert os.listdir(mounted.path) == ["new"]
    os.close(folder)


def test_servers_killed_at_random_moments_cost_no_read_of_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With opens written down, so that each walk to a file asks the server; and the branch moves, and back."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    moments = random.Random(6)
    kills, readers = (100, 12) if SOAK else (3, 4)
    with supervised(tmp_path, monkeypatch, EVERYTHING, log_opens=True) as whole:
        snapshot = build.head(whole.handle, "prod")
        with whole.readers(readers, "branches/prod") as found:
            for number in range(kills):
                build.branch(whole.handle, f"team/{number}", FILES)
                time.sleep(moments.uniform(0, 0.7))
                build.move(whole.handle, "prod", build.snapshot(whole.handle, FILES))
                whole.kill_server()
                build.move(whole.handle, "prod", snapshot)
        assert summary(found) == ([], 0)
        assert sorted(os.listdir(whole.path / "branches/team")) == sorted(str(number) for number in range(kills))
        assert stuck(whole.path) == []


# -- what is known about it ----------------------------------------------------------------------------


def test_opens_are_written_down_by_whichever_server_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with supervised(tmp_path, monkeypatch, log_opens=True) as mounted:
        log = places.opens_file(str(mounted.path))
        (mounted.path / "top1").read_bytes()
        wait_until(lambda: len(list(open_log.lines_of(log))) == 1)  # what waits to be written dies with a server
        mounted.kill_server()
        (mounted.path / "models/07").read_bytes()
        wait_until(lambda: len(list(open_log.lines_of(log))) == 2)
        serve.upgrade(mounted.path)
        (mounted.path / "top2").read_bytes()
        serve.upgrade(mounted.path)  # a server that stops in good order writes down what waits
        found = [(line["path"], line["snapshot"], line["pid"]) for line in open_log.lines_of(log)]
        head = build.head(mounted.handle, "prod").hex()
        names = ("top1", "models/07", "top2")
        assert found == [(str(mounted.path / name), head, os.getpid()) for name in names]
        assert mounted.record.log_opens


def test_mounts_say_what_is_shown_after_a_restart_and_how_much_was_opened(mounted: Supervised) -> None:
    (mounted.path / "top1").read_bytes()
    mounted.kill_server()
    (mounted.path / "top1").read_bytes()
    assert registry.opens(mounted.record) == 2
    for number in range(3):
        build.branch(mounted.handle, "prod", {"top1": b"%d" % number})
        assert (mounted.path / "top1").read_bytes() == b"%d" % number
        head = build.head(mounted.handle, "prod").hex()
        wait_until(lambda head=head: mounted.record.snapshot == head)
        mounted.kill_server()
        assert mounted.record.snapshot == head
    assert mounted.record.restarts == 4


# -- when the last one's word is not enough ----------------------------------------------------------


@needs_root
@pytest.mark.parametrize("is_seen", [True, False])
def test_a_kernel_that_cannot_send_again_gets_another_mount(tmp_path: Path, *, is_seen: bool) -> None:
    """But not where it was unmounted meanwhile, and only served those who had it open."""
    with build.create(tmp_path / "repository") as handle:
        build.branch(handle, "prod", FILES)
    (tmp_path / "mnt").mkdir()
    program = f"""
from moorage.mount.journal import logs
from moorage.mount.request import MountRequest
from moorage.mount.supervise import supervisor
from moorage.mount.supervise.keeper import Keeper
logs.log_in_foreground("", "text")
request = MountRequest({str(tmp_path / "repository")!r}, "prod", {str(tmp_path / "mnt")!r}, cache_bytes=0)
keeper = Keeper(request)
def ready(record):
    keeper._resends = False
    print(record.server_pid, flush=True)
supervisor.supervise(keeper, ready)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        watchdog = kill_later(process.pid)
        assert process.stdout is not None
        assert process.stderr is not None
        server = int(process.stdout.readline())
        lines = iter(process.stderr)
        if not is_seen:
            with (tmp_path / "mnt/top3").open("rb"):
                subprocess.run(["umount", "-l", tmp_path / "mnt"], check=True)
                kill(server)
                assert process.wait(60) == 0
            watchdog.cancel()
            assert mountinfo.top_at(str(tmp_path / "mnt")) is None
            return
        kill(server)
        assert any("is mounted anew" in line for line in lines)
        assert any("serves" in line for line in lines)
        assert (tmp_path / "mnt/top3").read_bytes() == FILES["top3"]
        process.terminate()
        process.communicate()
        watchdog.cancel()
    assert mountinfo.top_at(str(tmp_path / "mnt")) is None


def test_a_ledger_that_the_next_server_cannot_read_costs_what_is_open_and_not_the_mount(mounted: Supervised) -> None:
    record = mounted.record
    ledger = os.open(f"/proc/{record.pid}/fd/{record.ledger}", os.O_RDWR)
    os.pwrite(ledger, b"\x63", 8)  # its version
    os.close(ledger)
    with (mounted.path / "models/07").open("rb", buffering=0) as file:
        kill(record.server_pid)
        wait_until(lambda: "is mounted anew" in mounted.log_of(record))
        wait_until(lambda: registry.find(record.device) is None)
        with pytest.raises(OSError) as caught:
            file.read()
        assert caught.value.errno == errno.ENOTCONN
    wait_until(lambda: mountinfo.top_at(str(mounted.path)) is not None)
    assert (mounted.path / "top3").read_bytes() == FILES["top3"]
