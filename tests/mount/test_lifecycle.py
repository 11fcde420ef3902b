"""Does a mount come, go, and fail to come in the ways that it should?"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.errors import (
    AlreadyExistsError,
    InvalidInputError,
    LockedError,
    MountError,
    MountNotFoundError,
    RefNotFoundError,
    RepositoryNotFoundError,
)
from moorage.mount import daemon, doctor, registry, serve, server
from moorage.mount.doctor import CheckStatus
from moorage.mount.host import mountinfo, places
from moorage.mount.kernel import connect
from moorage.mount.registry import MountRecord, MountState
from moorage.mount.request import MountRequest
from tests.mount import build
from tests.mount.build import Content
from tests.mount.conftest import MountIt, clean_up, kill, kill_later, wait_for_end
from tests.needs import needs_fuse, needs_libfuse, needs_root

pytestmark = needs_fuse

FILES: dict[str, Content] = {"d": {"f": b"data"}}
DRIVERS = ["kernel", pytest.param("libfuse", marks=needs_libfuse)]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    with build.create(tmp_path / "repository") as handle:
        build.branch(handle, "prod", FILES)
    return tmp_path / "repository"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """An empty directory to mount on; nothing is mounted there afterwards."""
    place = tmp_path / "mnt"
    place.mkdir()
    yield place
    while mountinfo.top_at(str(place)) is not None:
        subprocess.run(["umount", "-l", place], check=True, timeout=30)


def records_at(directory: Path) -> list[MountRecord]:
    """What is listed there; the machine may have other mounts."""
    return [record for record in registry.mounts() if record.mountpoint == str(directory)]


def state_at(directory: Path) -> MountState | None:
    return next((record.state for record in records_at(directory)), None)


# -- coming and going ------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", DRIVERS)
def test_mount_returns_when_it_answers_and_umount_when_it_is_gone(
    repository: Path, directory: Path, driver: str
) -> None:
    record = serve.mount(repository, "prod", directory, driver=driver)
    assert (directory / "d/f").read_bytes() == b"data"
    assert registry.is_alive(record)
    assert records_at(directory) == [record]
    assert (record.repository, record.revision, record.driver) == (str(repository), "prod", driver)
    assert record.pid != os.getpid()
    assert "serving prod" in Path(record.log).read_text()
    assert serve.umount(directory) == record
    assert not registry.is_alive(record)
    assert state_at(directory) is None
    assert os.listdir(directory) == []
    assert "is unmounted" in Path(record.log).read_text()


def test_the_server_ends_when_somebody_else_unmounts(repository: Path, directory: Path) -> None:
    record = serve.mount(repository, "prod", directory)
    subprocess.run(["umount", directory], check=True)
    wait_for_end(record.pid)
    assert state_at(directory) is None
    assert not list(places.records_directory().glob(f"*{record.pid}*"))


def test_the_mount_is_read_only_and_without_devices(repository: Path, directory: Path) -> None:
    serve.mount(repository, "prod", directory)
    entry = mountinfo.top_at(str(directory))
    assert entry is not None
    assert {"ro", "nosuid", "nodev"} <= set(entry.options.split(","))
    assert entry.source == f"{repository}#prod"
    assert entry.is_ours


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts(repository: Path, directory: Path, driver: str, number: signal.Signals) -> None:
    record = serve.mount(repository, "prod", directory, driver=driver)
    os.kill(record.pid, number)
    wait_for_end(record.pid)
    assert mountinfo.top_at(str(directory)) is None
    assert state_at(directory) is None


def test_a_signal_while_it_is_in_use_takes_it_out_of_sight_and_serves_on(repository: Path, directory: Path) -> None:
    record = serve.mount(repository, "prod", directory)
    file = (directory / "d/f").open("rb", buffering=0)
    os.kill(record.pid, signal.SIGTERM)
    while mountinfo.top_at(str(directory)) is not None:
        os.sched_yield()
    assert file.read() == b"data"
    file.close()
    wait_for_end(record.pid)
    assert "in use: taken out of sight" in Path(record.log).read_text()


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_foreground_serves_here_and_logs_to_the_terminal(repository: Path, directory: Path, driver: str) -> None:
    program = f"""
import sys
from pathlib import Path
from moorage.mount import serve
record = serve.mount(Path({str(repository)!r}), "prod", Path({str(directory)!r}), foreground=True, driver={driver!r})
print("done", record.log == "")
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        watchdog = kill_later(process.pid)
        assert process.stderr is not None
        assert any("serving prod" in line for line in process.stderr)
        assert (directory / "d/f").read_bytes() == b"data"
        assert [found.pid for found in records_at(directory)] == [process.pid]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        watchdog.cancel()
    assert (process.returncode, out) == (0, "done True\n"), err
    assert "Traceback" not in err


def test_a_log_for_programs(repository: Path, directory: Path, tmp_path: Path) -> None:
    log = tmp_path / "mount.jsonl"
    record = serve.mount(repository, "prod", directory, log=log, log_format="json")
    serve.umount(directory)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["level"] for line in lines] == ["info"] * len(lines)
    [serving] = [line for line in lines if line["message"].startswith("serving prod")]
    assert (serving["mountpoint"], serving["snapshot"]) == (str(directory), record.snapshot)
    assert lines[-1]["message"] == f"{directory} is unmounted"


def test_a_log_of_ones_own_choice(repository: Path, directory: Path, tmp_path: Path) -> None:
    record = serve.mount(repository, "prod", directory, log=tmp_path / "own" / "mount.log")
    assert record.log == str(tmp_path / "own" / "mount.log")
    assert "serving prod" in (tmp_path / "own" / "mount.log").read_text()


# -- in use ----------------------------------------------------------------------------------------


def test_unmounting_what_is_in_use_says_who_uses_it(repository: Path, directory: Path) -> None:
    serve.mount(repository, "prod", directory)
    with (directory / "d/f").open("rb") as file:
        with pytest.raises(LockedError) as caught:
            serve.umount(directory)
        assert f"({os.getpid()})" in caught.value.message
        assert caught.value.fields["users"]
        assert "umount --lazy" in str(caught.value.hint)
        assert file.read() == b"data"
    serve.umount(directory)


def test_unmounting_lazily_serves_those_who_have_it_open(repository: Path, directory: Path) -> None:
    record = serve.mount(repository, "prod", directory)
    with (directory / "d/f").open("rb", buffering=0) as file:
        serve.umount(directory, lazy=True)
        assert os.listdir(directory) == []
        assert state_at(directory) is MountState.DETACHED
        assert file.read() == b"data"
        # The place is free again, and each of the two has its record for as long as its server.
        again = serve.mount(repository, "prod", directory)
        listed = [(found.pid, found.state) for found in records_at(directory)]
        assert listed == [(again.pid, MountState.SERVING), (record.pid, MountState.DETACHED)]
    wait_for_end(record.pid)
    assert [found.pid for found in records_at(directory)] == [again.pid]
    serve.umount(directory)


@pytest.mark.parametrize("is_supervised", [True, False])
def test_who_was_taken_out_of_sight_takes_nothing_else_away(
    repository: Path, directory: Path, *, is_supervised: bool
) -> None:
    record = serve.mount(repository, "prod", directory)
    main = record.pid
    with (directory / "d/f").open("rb", buffering=0):
        serve.umount(directory, lazy=True)
        if not is_supervised:
            kill(record.pid)
            main = record.server_pid
            while "unsupervised" not in Path(record.log).read_text():
                os.sched_yield()
        again = serve.mount(repository, "prod", directory)
        os.kill(main, signal.SIGTERM)
        while "something else" not in Path(record.log).read_text():
            os.sched_yield()
        os.kill(main, signal.SIGTERM)  # the second one does not wait
        wait_for_end(main)
    assert [found.pid for found in records_at(directory)] == [again.pid]
    assert (directory / "d/f").read_bytes() == b"data"
    serve.umount(directory)


def test_unmounting_what_is_not_ours(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(MountNotFoundError, match="nothing is mounted"):
        serve.umount(directory)
    with pytest.raises(MountNotFoundError, match="of type proc"):
        serve.umount(Path("/proc"))
    with pytest.raises(MountNotFoundError):
        serve.umount(tmp_path / "not there")


def test_all_are_unmounted_and_each_is_reported(
    repository: Path, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))  # nothing of other tests
    (tmp_path / "second").mkdir()
    (tmp_path / "third").mkdir()
    first = serve.mount(repository, "prod", directory)
    second = serve.mount(repository, "prod", tmp_path / "second")
    third = serve.mount(repository, "prod", tmp_path / "third")
    kill(third.pid, third.server_pid)
    wait_for_end(third.pid, third.server_pid)
    try:
        with (tmp_path / "second/d/f").open("rb") as file:
            found = {record.mountpoint: error for record, error in serve.umount_all()}
            kept = found.pop(second.mountpoint)
            assert isinstance(kept, LockedError)
            assert f"({os.getpid()})" in kept.message
            assert found == {first.mountpoint: None, third.mountpoint: None}
            assert file.read() == b"data"
        assert not registry.is_alive(first)
        assert [record.mountpoint for record, _ in serve.umount_all()] == [second.mountpoint]
        assert serve.umount_all() == []
        assert not registry.own()
    finally:
        for record in (second, third):
            clean_up(record)


def test_what_nobody_has_recorded_is_listed_as_it_is(
    repository: Path, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of another user: also while the kernel still knows the attributes of the root of a mount that is dead."""
    record = serve.mount(repository, "prod", directory)

    def state() -> MountState:
        return next(found.state for found in registry.mounts() if found.device == record.device)

    with monkeypatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
        assert state() is MountState.SERVING
        os.stat(directory)
        kill(record.pid, record.server_pid)
        wait_for_end(record.pid, record.server_pid)
        assert os.stat(directory).st_ino == 1  # who asks for no more takes it for living
        assert state() is MountState.STALE
    assert state() is MountState.STALE
    clean_up(record)


def test_an_unmount_that_hangs_is_left_behind(
    repository: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something on the way to the mountpoint does not answer, here a child that waits for a signal."""
    record = serve.mount(repository, "prod", directory)
    with monkeypatch.context() as patch:
        patch.setattr(connect, "_DETACH", "import signal; signal.pause()")
        patch.setattr(connect, "DETACH_TIMEOUT_S", 0.1)
        with pytest.raises(MountError, match="was not unmounted within") as caught:
            serve.umount(directory)
    assert "--lazy" in str(caught.value.hint)
    assert serve.umount(directory) == record


def test_an_unmount_does_not_wait_for_a_server_that_does_not_end(
    repository: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = serve.mount(repository, "prod", directory)
    os.kill(record.pid, signal.SIGSTOP)
    monkeypatch.setattr(serve, "END_TIMEOUT_S", 0.1)
    assert serve.umount(directory) == record
    assert registry.is_alive(record)
    assert mountinfo.top_at(str(directory)) is None
    os.kill(record.pid, signal.SIGCONT)
    wait_for_end(record.pid)


# -- death -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_killed_server_leaves_a_stale_mount_that_the_next_mount_clears(
    repository: Path, directory: Path, driver: str
) -> None:
    record = serve.mount(repository, "prod", directory, driver=driver)
    kill(record.pid, record.server_pid)
    wait_for_end(record.pid, record.server_pid)
    with pytest.raises(OSError) as caught:
        os.listdir(directory)
    assert caught.value.errno == errno.ENOTCONN
    assert state_at(directory) is MountState.STALE
    [check] = [check for check in doctor.checks() if check.name == "stale-mounts"]
    assert check.status is CheckStatus.FAIL
    assert str(directory) in check.found
    again = serve.mount(repository, "prod", directory, driver=driver)
    assert (directory / "d/f").read_bytes() == b"data"
    assert state_at(directory) is MountState.SERVING
    serve.umount(directory)
    assert mountinfo.top_at(str(directory)) is None
    assert not registry.is_alive(again)


def test_a_dead_mount_whose_root_the_kernel_remembers_is_cleared_too(repository: Path, directory: Path) -> None:
    record = serve.mount(repository, "prod", directory)
    os.stat(directory)
    kill(record.pid, record.server_pid)
    wait_for_end(record.pid, record.server_pid)
    os.stat(directory)  # answered by the kernel alone, which is what hides the death
    serve.mount(repository, "prod", directory)
    assert os.listdir(directory)
    serve.umount(directory)


def test_a_stale_mount_can_be_unmounted(repository: Path, directory: Path) -> None:
    record = serve.mount(repository, "prod", directory)
    kill(record.pid, record.server_pid)
    wait_for_end(record.pid, record.server_pid)
    assert serve.umount(directory).pid == record.pid
    assert os.listdir(directory) == []
    assert state_at(directory) is None


def test_a_record_without_mount_and_process_is_dropped(repository: Path, directory: Path) -> None:
    record = serve.mount(repository, "prod", directory)
    kill(record.pid, record.server_pid)
    wait_for_end(record.pid, record.server_pid)
    clean_up(record)
    assert state_at(directory) is None
    assert not list(places.records_directory().glob(f"{places.slug(str(directory))}*"))


# -- refusals: true errors, from the process that serves ---------------------------------------------


def test_what_cannot_be_mounted_is_said_by_its_own_error(repository: Path, directory: Path) -> None:
    with pytest.raises(RefNotFoundError, match="nonsense") as absent:
        serve.mount(repository, "nonsense", directory)
    assert absent.value.hint
    with pytest.raises(RepositoryNotFoundError):
        serve.mount(directory, "prod", directory)
    with pytest.raises(InvalidInputError, match="no driver"):
        serve.mount(repository, "prod", directory, driver="nonsense")
    assert state_at(directory) is None
    assert mountinfo.top_at(str(directory)) is None


def test_a_mountpoint_that_is_none(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="there is no directory") as absent:
        serve.mount(repository, "prod", tmp_path / "nothing")
    assert "mkdir" in str(absent.value.hint)
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match="is not a directory"):
        serve.mount(repository, "prod", tmp_path / "file")


def test_a_mountpoint_that_is_not_empty(repository: Path, directory: Path) -> None:
    (directory / "theirs").touch()
    with pytest.raises(InvalidInputError, match="is not empty"):
        serve.mount(repository, "prod", directory)
    assert os.listdir(directory) == ["theirs"]
    assert mountinfo.top_at(str(directory)) is None


@needs_root
def test_a_full_file_system_may_be_covered(repository: Path, directory: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", directory], check=True)
    (directory / "theirs").touch()
    serve.mount(repository, "prod", directory)
    assert os.listdir(directory) == ["d"]
    serve.umount(directory)


@pytest.mark.parametrize("through_symlink", [False, True])
@pytest.mark.parametrize("relation", ["is", "is inside", "contains"])
def test_a_mountpoint_that_overlaps_the_repository(
    repository: Path, tmp_path: Path, relation: str, *, through_symlink: bool
) -> None:
    place = {"is": repository, "is inside": repository / "tmp", "contains": tmp_path}[relation]
    if through_symlink:
        (tmp_path / "link").symlink_to(place)
        place = tmp_path / "link"
    with pytest.raises(InvalidInputError, match=f" {relation} the repository"):
        serve.mount(repository, "prod", place)


@needs_root
def test_an_overlap_through_a_bind_mount(repository: Path, directory: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "--bind", repository, directory], check=True)
    with pytest.raises(InvalidInputError, match="is the repository"):
        serve.mount(repository, "prod", directory)


def test_a_mount_that_would_hide_moorage_itself_or_its_records(repository: Path) -> None:
    request = MountRequest(str(repository), "prod", "/")
    with pytest.raises(InvalidInputError, match="/ contains"):
        server.prepare(request)  # only asked: a test must not really mount there
    places.state_directory().mkdir(parents=True, exist_ok=True)
    with pytest.raises(InvalidInputError, match="the records and logs of mounts"):
        serve.mount(repository, "prod", places.state_directory())


def test_a_living_mount_of_ours_is_not_covered(repository: Path, directory: Path) -> None:
    serve.mount(repository, "prod", directory)
    with pytest.raises(AlreadyExistsError, match="already is a mount of") as caught:
        serve.mount(repository, "prod", directory)
    assert "moorage umount" in str(caught.value.hint)
    assert (directory / "d/f").read_bytes() == b"data"


@needs_root
def test_another_file_system_may_be_covered(repository: Path, directory: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", directory], check=True)
    serve.mount(repository, "prod", directory)
    assert (directory / "d/f").read_bytes() == b"data"
    serve.umount(directory)
    entry = mountinfo.top_at(str(directory))
    assert entry is not None
    assert entry.fstype == "tmpfs"


def test_what_is_refused_leaves_no_log(repository: Path, directory: Path, tmp_path: Path) -> None:
    logs = places.state_directory() / "logs"
    before = set(logs.iterdir()) if logs.is_dir() else set()
    with pytest.raises(RefNotFoundError):
        serve.mount(repository, "nonsense", directory)
    assert set(logs.iterdir()) == before
    with pytest.raises(InvalidInputError, match="contains the log"):
        serve.mount(repository, "prod", directory, log=directory / "x.log")
    assert os.listdir(directory) == []
    log = tmp_path / "mount.log"
    log.write_text("of another mount\n")
    with pytest.raises(RefNotFoundError):
        serve.mount(repository, "nonsense", directory, log=log)
    assert log.read_text() == "of another mount\n"


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_mistake_is_told_in_one_line_and_without_a_traceback(repository: Path, directory: Path, driver: str) -> None:
    words = ["-r", str(repository), "mount", "nonsense", str(directory), "--foreground", "--driver", driver]
    done = subprocess.run(
        [sys.executable, "-m", "moorage", *words], check=False, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "moorage: error: no branch, tag or snapshot is called 'nonsense'"
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["moorage", "hint"]


def test_a_log_that_cannot_be_written(repository: Path, directory: Path) -> None:
    with pytest.raises(MountError, match="cannot log to"):
        serve.mount(repository, "prod", directory, log=Path("/proc/nothing/mount.log"))


def test_a_mountpoint_through_a_symlink_and_with_odd_names(repository: Path, tmp_path: Path) -> None:
    place = tmp_path / "with blank, comma\\ and ünicode"
    place.mkdir()
    (tmp_path / "link").symlink_to(place)
    record = serve.mount(repository, "prod", tmp_path / "link")
    try:
        assert record.mountpoint == str(place)
        assert (place / "d/f").read_bytes() == b"data"
        assert records_at(place) == [record]
    finally:
        serve.umount(tmp_path / "link")
    assert mountinfo.top_at(str(place)) is None


def test_who_gives_up_waiting_leaves_no_mount_behind(
    repository: Path, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "START_TIMEOUT_S", 0)
    log = tmp_path / "mount.log"
    with pytest.raises(MountError, match="did not answer within 0 s"):
        serve.mount(repository, "prod", directory, log=log)
    while "did not wait for it" not in log.read_text():
        os.sched_yield()
    while state_at(directory) is not None or mountinfo.top_at(str(directory)) is not None:
        os.sched_yield()


def test_an_interpreter_that_cannot_be_started(
    repository: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(MountError, match="cannot start /nowhere/python"):
        serve.mount(repository, "prod", directory)


def test_two_mounts_of_one_repository(mount_it: MountIt) -> None:
    first = mount_it(FILES)
    second = first.again("prod")
    assert (first.path / "d/f").read_bytes() == (second.path / "d/f").read_bytes()
    assert os.stat(first.path / "d/f").st_ino == os.stat(second.path / "d/f").st_ino
    assert len({record.device for at in (first, second) for record in records_at(at.path)}) == 2
