"""Does `moorage.mount` mount for as long as a block lasts, and leave nothing behind?"""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
import pydoc
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest

import moorage
from moorage.errors import InvalidInputError, MountError, RefNotFoundError, RepositoryNotFoundError
from moorage.mount import daemon, registry, serve
from moorage.mount.host import mountinfo, places
from moorage.mount.kernel import connect
from moorage.mount.private import temporary as temporary_mount
from moorage.mount.private.temporary import MountOptions
from tests.cli.command_line import python
from tests.mount import build
from tests.mount.conftest import eventually, kill, kill_later, wait_for_end
from tests.mount.supervised import resend_missing
from tests.needs import needs_fuse, needs_root, require

pytestmark = needs_fuse


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    with build.create(tmp_path / "repository") as handle:
        build.branch(handle, "prod", {"d": {"f": b"data"}})
    return tmp_path / "repository"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary directories are made; nothing is left there."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield tmp_path / "tmp"
    assert os.listdir(tmp_path / "tmp") == []
    assert registry.own() == []


def test_a_block(repository: Path, temporary: Path) -> None:
    with moorage.mount(repository, "prod") as path:
        assert temporary in path.parents
        assert (path / "d/f").read_bytes() == b"data"
        [record] = registry.own()
        assert record.revision == "prod"
    assert not path.exists()
    assert not registry.is_alive(record)


def test_everything_in_a_directory_of_ones_own(repository: Path, tmp_path: Path) -> None:
    place = tmp_path / "mnt"
    place.mkdir()
    with moorage.Repository.open(repository) as repo, moorage.mount(repo, directory=place, umask=0o27) as path:
        assert path == place
        assert (path / "branches/prod/d/f").read_bytes() == b"data"
        assert oct(path.stat().st_mode) == "0o40550"
    assert os.listdir(place) == []


def test_the_nearest_repository(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.rename(tmp_path / ".moorage")
    monkeypatch.chdir(tmp_path)
    with moorage.mount(revision="prod") as path:
        assert os.listdir(path) == ["d"]


def test_an_error_in_the_block(repository: Path) -> None:
    with pytest.raises(ZeroDivisionError), moorage.mount(repository, "prod"):
        _ = 1 / 0


def test_what_is_still_open_is_served_on(repository: Path) -> None:
    with moorage.mount(repository, "prod") as path:
        file = (path / "d/f").open("rb", buffering=0)
    assert not path.exists()
    assert file.read() == b"data"
    [record] = registry.own()
    watchdog = kill_later(record.pid)
    file.close()
    while registry.is_alive(record):
        os.sched_yield()
    watchdog.cancel()


def test_who_unmounts_himself(repository: Path) -> None:
    with moorage.mount(repository, "prod") as path:
        serve.umount(path)


def test_an_interrupt(repository: Path) -> None:
    program = f"import moorage, signal\nwith moorage.mount({str(repository)!r}, 'prod') as path:\n"
    program += "    print(path, flush=True)\n    signal.pause()\n"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        watchdog = kill_later(process.pid)
        assert process.stdout is not None
        path = process.stdout.readline().rstrip("\n")
        assert mountinfo.top_at(path) is not None
        process.send_signal(signal.SIGINT)
        process.wait()
        watchdog.cancel()
    assert not os.path.exists(path)


WAITS = "echo $MOORAGE_MOUNT; read line; cat $MOORAGE_MOUNT/d/f"
BLOCK = """
import moorage, signal, sys
with moorage.mount(sys.argv[1], "prod") as path:
    print(path, flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("first", ["nobody", "server", "supervisor"])
def test_a_program_that_is_killed_leaves_nothing(repository: Path, first: str) -> None:
    """Whoever is still there to see it, and whatever signals they get before."""
    require(resend_missing)
    with subprocess.Popen([sys.executable, "-c", BLOCK, repository], stdout=subprocess.PIPE, text=True) as process:
        watchdog = kill_later(process.pid)
        assert process.stdout is not None
        path = Path(process.stdout.readline().rstrip("\n"))
        [record] = registry.own()
        for pid in {"nobody": [], "server": [record.server_pid], "supervisor": [record.pid]}[first]:
            kill(pid)
            wait_for_end(pid)
        assert (path / "d/f").read_bytes() == b"data"
        [now] = registry.own()
        for pid in (now.pid, now.server_pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        assert (path / "d/f").read_bytes() == b"data"
        process.kill()
        process.wait()
        watchdog.cancel()
    wait_for_end(now.pid, now.server_pid)
    assert not path.exists()
    assert mountinfo.top_at(str(path)) is None


@needs_root
def test_a_program_that_outlives_the_block_is_not_given_its_directory(repository: Path) -> None:
    """To remove a directory is to take away what is mounted there, also in another namespace."""
    command = python("-r", str(repository), "run", "--pin", "prod", "--", "sh", "-c", WAITS)
    pipe = subprocess.PIPE
    with moorage.mount(repository, "prod") as path:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        watchdog = kill_later(process.pid)
        assert process.stdout is not None
        assert process.stdout.readline().rstrip("\n") != str(path)
    assert process.communicate("\n")[0] == "data"
    watchdog.cancel()


def test_a_server_that_dies_costs_no_read(repository: Path) -> None:
    require(resend_missing)
    with moorage.mount(repository, "prod") as path, (path / "d/f").open("rb", buffering=0) as file:
        [record] = registry.own()
        kill(record.server_pid)
        assert (file.read(), (path / "d/f").read_bytes()) == (b"data", b"data")


def test_control_without_a_supervisor_it_does(repository: Path) -> None:
    with moorage.mount(repository, "prod") as path:
        [record] = registry.own()
        for pid in (record.pid, record.server_pid):
            kill(pid)
            wait_for_end(pid)
        with pytest.raises(OSError) as caught:
            (path / "d/f").read_bytes()
        assert caught.value.errno == errno.ENOTCONN


def test_errors(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(RefNotFoundError), moorage.mount(repository, "nothing"):
        pass
    with pytest.raises(RepositoryNotFoundError), moorage.mount(tmp_path / "nothing", "prod"):
        pass
    with pytest.raises(InvalidInputError, match="cannot be pinned"), moorage.mount(repository, pin=True):
        pass
    with pytest.raises(TypeError, match="foreground"):
        moorage.mount(repository, "prod", foreground=True).__enter__()  # type: ignore[call-arg]


def test_a_machine_without_fuse(repository: Path) -> None:
    program = f"""
import sys, moorage
from moorage.mount.kernel import connect
from moorage.mount.server import MountRequest, run
connect.DEVICE = "/dev/nothing"
try:
    run(MountRequest({str(repository)!r}, "prod", sys.argv[1]), lambda record: None)
except moorage.MoorageError as error:
    print(type(error).__name__, error.message, error.hint)
"""
    place = repository.parent / "mnt"
    place.mkdir()
    done = subprocess.run([sys.executable, "-c", program, place], check=True, capture_output=True, text=True)
    assert done.stdout == (
        "MountError /dev/nothing is missing: this kernel has no FUSE, or this container was not given the device "
        "modprobe fuse, or run the container with --device /dev/fuse\n"
    )
    assert connect.DEVICE == "/dev/fuse"


def test_who_does_not_wait_finds_no_mount(repository: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "START_TIMEOUT_S", 0)
    with pytest.raises(MountError, match="did not answer") as caught, moorage.mount(repository, "prod"):
        pass
    log = Path(str(caught.value.hint).rpartition(": ")[2])
    assert log == places.programs_log()
    eventually(lambda: "did not wait for it" in log.read_text())
    eventually(lambda: os.listdir(temporary) == [])


def test_its_options_are_those_of_mount() -> None:
    taken = inspect.signature(serve.mount).parameters
    assert set(get_type_hints(MountOptions)) == {
        name for name, parameter in taken.items() if parameter.kind is parameter.KEYWORD_ONLY
    } - {"foreground", "program", "is_temporary"}


def test_help_shows_how_it_is_called_before_anything_else() -> None:
    shown = pydoc.plain(pydoc.render_doc(moorage.mount)).partition("PACKAGE CONTENTS")[0]
    called, wanted = inspect.signature(moorage.mount), inspect.signature(temporary_mount.mounted)
    assert [str(called.parameters[name]) for name in called.parameters] == [
        str(wanted.parameters[name]) for name in wanted.parameters
    ]
    for name in ("repo", "revision", "directory"):
        assert f"{name}={wanted.parameters[name].default!r}".replace("'", '"') in shown
    taken = inspect.signature(serve.mount).parameters
    for name in get_type_hints(MountOptions):
        assert f" {name}={taken[name].default!r}" in shown


def test_the_name_stays_callable_whatever_is_imported() -> None:
    for program in ("import moorage.mount.host.places", "from moorage.mount import serve", "import moorage"):
        check = f"{program}; import sys, moorage; assert callable(moorage.mount)"
        subprocess.run([sys.executable, "-c", check], check=True)
