"""When the disk under a repository stops answering: is every reader answered, is what is cached still served, and is
all well again when the disk is?

The repository lies on a file system of the test's own (`hanging`), which leaves requests open: the server's threads are
then in the kernel, where nothing can bring them back. What a reader does happens in a program of its own, so that one
that hangs is seen by a bounded wait and does not hang the test.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from moorage.mount import registry, serve
from moorage.mount.host import mountinfo
from moorage.mount.registry import MountRecord
from moorage.read.cache import FileCache
from moorage.read.hydrate import hydrate
from moorage.read.resolve import locate, parse_location
from moorage.repository.handle import RepositoryHandle
from tests.mount import build
from tests.mount.build import CHUNK_BYTES, Content
from tests.mount.conftest import kill, kill_later
from tests.mount.counted import counted
from tests.mount.test_resilience import drop_pages
from tests.needs import needs_fuse, needs_root
from tests.unit.read.caches import MIB, noise

pytestmark = [needs_fuse, needs_root]

PROGRAM = Path(__file__).with_name("hanging.py")
TIMEOUT_S = 2.0
BOUND_S = 60
COLD, WARM, LARGE = noise(40 * CHUNK_BYTES, 1), noise(2 * MIB, 2), noise(24 * MIB, 3)
FILES: dict[str, Content] = {"models": {"cold": COLD, "warm": WARM, "large": LARGE, "seen": b"seen"}}

READ = """
import os, sys
for path in sys.argv[1:]:
    try:
        with open(path, "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            found = 0
            while piece := file.read(1 << 16):
                found += len(piece)
        print(found, flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""
EIO = "Input/output error"


class Disk:
    """The file system of the test's own."""

    def __init__(self, process: subprocess.Popen[str], path: Path) -> None:
        self.pid = process.pid
        self.path = path
        self._process = process

    def hang(self, prefix: str = "") -> None:
        self._say(f"hang {prefix}".strip())

    @contextlib.contextmanager
    def hanging(self, prefix: str) -> Iterator[None]:
        """Hang in the block."""
        self.hang(prefix)
        try:
            yield
        finally:
            self.free()

    def free(self) -> None:
        self._say("free")

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"


@contextlib.contextmanager
def disk_of(source: Path, point: Path) -> Iterator[Disk]:
    """Show `source` at `point`."""
    point.mkdir()
    command = [sys.executable, str(PROGRAM), str(source), str(point)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        watchdog = kill_later(process.pid)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield Disk(process, point)
        finally:
            watchdog.cancel()
            kill(process.pid)
            subprocess.run(["umount", "-l", str(point)], check=True, timeout=BOUND_S)


class Bench:
    """A mount of a repository on such a disk."""

    def __init__(self, disk: Disk, record: MountRecord, handle: RepositoryHandle) -> None:
        self.disk = disk
        self.record = record
        self.handle = handle
        self.readers: list[subprocess.Popen[str]] = []

    @property
    def models(self) -> Path:
        return Path(self.record.mountpoint) / "models"

    def read(self, *names: str) -> subprocess.Popen[str]:
        """Begin to read these files."""
        paths = [str(self.models / name) for name in names]
        command = [sys.executable, "-c", READ, *paths]
        self.readers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return self.readers[-1]

    def found(self, *names: str) -> list[str]:
        """What reading them found: a length, or an error."""
        return self.read(*names).communicate(timeout=BOUND_S)[0].split("\n")[:-1]

    def lines(self, about: str) -> list[str]:
        """Of the log."""
        return [line for line in Path(self.record.log).read_text(encoding="utf-8").splitlines() if about in line]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """`warm` is hydrated, `seen` was read, of `cold` the beginning; the rest was never asked for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    handle = build.create(tmp_path / "repository")
    build.branch(handle, "prod", FILES)
    entry = locate(handle, parse_location("prod:models/warm")).file
    hydrate(handle, FileCache(limit_bytes=256 * MIB), entry).close()
    point = tmp_path / "mnt"
    point.mkdir()
    with disk_of(tmp_path, tmp_path / "disk") as disk:
        record = serve.mount(
            disk.path / "repository", "prod", point, timeout_s=TIMEOUT_S, cache_bytes=256 * MIB, log=tmp_path / "log"
        )
        watchdog = kill_later(record.pid)
        made = Bench(disk, record, handle)
        assert made.found("seen") == ["4"]
        with open(made.models / "cold", "rb", buffering=0) as file:
            assert os.preadv(file.fileno(), [bytearray(1)], 0) == 1  # its recipe is known from now on
        yield made
        for reader in made.readers:
            reader.kill()
        while mountinfo.top_at(record.mountpoint) is not None:
            subprocess.run(["umount", "-l", record.mountpoint], check=True, timeout=BOUND_S)
        watchdog.cancel()
    for reader in made.readers:
        reader.communicate(timeout=BOUND_S)
    until(lambda: not registry.is_alive(record))  # the disk is gone, and with it what it left open
    handle.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what is going to be so."""
    deadline = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def state_of(pid: int) -> str:
    """As /proc says it; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return ""


def test_a_reader_is_answered_and_what_is_cached_is_served(bench: Bench) -> None:
    bench.disk.hang("repository/packs")
    cold = bench.read("cold")
    assert bench.found("warm", "seen") == [str(len(WARM)), "4"]
    assert cold.communicate(timeout=BOUND_S)[0] == EIO + "\n"
    assert bench.found("cold", "warm") == [EIO, str(len(WARM))]
    lines = [line.partition("ERROR ")[2] for line in bench.lines("no answer within")]
    assert lines
    assert len(lines) == len(set(lines))  # one for each request
    for line in lines:
        assert line.startswith("READ /models/cold from ")
        assert "still reading packs/" in line
        assert "(chunk " in line
    bench.disk.free()
    until(lambda: bench.found("cold") == [str(len(COLD))])


def test_the_whole_disk_hangs_and_comes_back(bench: Bench) -> None:
    """Where the branch stands cannot be told either: the mount stays where it was."""
    bench.disk.hang()
    assert bench.found("warm", "seen", "cold") == [str(len(WARM)), "4", EIO]  # no error for what is at hand
    assert bench.found("warm", "seen", "cold") == [str(len(WARM)), "4", EIO]
    assert not bench.lines("LOOKUP")
    assert len(bench.lines("cannot tell where")) == 1
    build.branch(bench.handle, "prod", {"models": {"new": b"new", "warm": WARM}})
    assert bench.found("warm") == [str(len(WARM))]
    bench.disk.free()
    until(lambda: bench.found("new", "warm") == ["3", str(len(WARM))])


def test_a_cache_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was hydrated comes from chunks, and from the cache again when that is back."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files: Mapping[str, Content] = {"models": {"warm": WARM, "cold": COLD}}
    handle = build.create(tmp_path / "elsewhere")
    build.branch(handle, "prod", files)
    entry = locate(handle, parse_location("prod:models/warm")).file
    hydrate(handle, FileCache(limit_bytes=256 * MIB), entry).close()
    handle.close()
    with disk_of(tmp_path, tmp_path / "disk") as disk:
        monkeypatch.setenv("XDG_CACHE_HOME", str(disk.path / "cache"))
        with counted(tmp_path, files, f"timeout={TIMEOUT_S}", cache_bytes=256 * MIB) as mount:
            command = [sys.executable, "-c", READ, str(mount.path / "models/warm"), str(mount.path / "models/cold")]

            def found() -> str:
                with contextlib.suppress(OSError):
                    drop_pages(mount.path / "models/warm")
                return subprocess.run(command, check=True, capture_output=True, text=True, timeout=BOUND_S).stdout

            right = f"{len(WARM)}\n{len(COLD)}\n"
            assert found() == right
            with disk.hanging("cache"):
                until(lambda: found() == right)  # the first may wait for its time
                assert found() == right
                assert "the cache cannot be read: the cache does not answer" in mount.log
            assert found() == right


def test_more_readers_than_workers(bench: Bench) -> None:
    bench.disk.hang("repository/packs")
    readers = [bench.read("cold" if number % 2 else "large") for number in range(40)]
    assert bench.found("warm", "seen") == [str(len(WARM)), "4"]
    assert {reader.communicate(timeout=BOUND_S)[0] for reader in readers} == {EIO + "\n"}
    assert bench.found("warm", "seen") == [str(len(WARM)), "4"]
    bench.disk.free()
    until(lambda: bench.found("cold", "large") == [str(len(COLD)), str(len(LARGE))])


def test_a_file_that_is_being_assembled(bench: Bench) -> None:
    """The reader waits for a piece that somebody else has begun, and that one hangs."""
    reader = bench.read("large")
    until(lambda: bool(list(Path(os.environ["XDG_CACHE_HOME"]).rglob("*.part"))) or reader.poll() is not None)
    bench.disk.hang("repository/packs")
    assert reader.communicate(timeout=BOUND_S)[0] in (EIO + "\n", f"{len(LARGE)}\n")
    bench.disk.free()
    until(lambda: bench.found("large") == [str(len(LARGE))])


def test_unmounting_waits_for_nothing(bench: Bench) -> None:
    bench.disk.hang("repository/packs")
    reader = bench.read("cold")
    until(lambda: bool(bench.lines("no answer within")) or reader.poll() is not None)
    reader.kill()
    reader.communicate(timeout=BOUND_S)  # not in state D: it was answered
    command = [str(Path(sys.executable).with_name("moorage")), "umount", bench.record.mountpoint]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=BOUND_S)
    assert done.returncode == 0, done.stderr
    assert mountinfo.top_at(bench.record.mountpoint) is None
    bench.disk.free()
    until(lambda: not registry.is_alive(bench.record))


def test_a_disk_that_is_stopped(bench: Bench) -> None:
    """Its requests are not even read: then who waits can at least be killed, and the server goes by itself."""
    os.kill(bench.disk.pid, signal.SIGSTOP)
    try:
        assert bench.found("cold", "warm") == [EIO, str(len(WARM))]
        serve.umount(bench.models.parent)
        until(lambda: not registry.is_alive(bench.record))
    finally:
        os.kill(bench.disk.pid, signal.SIGCONT)


def test_control_without_a_watchdog_the_reader_hangs(tmp_path: Path) -> None:
    files: Mapping[str, Content] = {"models": {"cold": COLD}}
    with (
        disk_of(tmp_path, tmp_path / "disk") as disk,
        counted(tmp_path, files, f"timeout={TIMEOUT_S}", "no-deadlines", through=disk.path) as mount,
    ):
        command = [sys.executable, "-c", READ, str(mount.path / "models/cold")]
        with disk.hanging("repository/packs"):
            reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            with pytest.raises(subprocess.TimeoutExpired):
                reader.communicate(timeout=2 * TIMEOUT_S)
            assert state_of(reader.pid) in "DS"
        assert reader.communicate(timeout=BOUND_S)[0] == f"{len(COLD)}\n"
