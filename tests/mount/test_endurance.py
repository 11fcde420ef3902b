"""Does a mount that is used for long, by many, in little room, stay right and stay small?"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import pytest

from tests.mount import build
from tests.mount.build import Content
from tests.mount.cgroup import MemoryGroup, memory_group, memory_group_missing
from tests.mount.conftest import WATCHDOG_S, eventually
from tests.mount.counted import Counted, counted
from tests.mount.test_passthrough import warm
from tests.needs import needs, needs_fuse, needs_root
from tests.unit.read.caches import MIB, noise

pytestmark = [needs_fuse, needs_root]

IS_SOAK = os.environ.get("MOORAGE_SOAK") == "1"
READERS, SECONDS, LIMIT, FILES, FILE_BYTES = (
    (64, 300, 512 * MIB, 16, 48 * MIB) if IS_SOAK else (8, 3, 160 * MIB, 8, 12 * MIB)
)
OPENS = 1_000_000 if IS_SOAK else 20_000
MOVES = 10_000 if IS_SOAK else 100
NAMES = 3_000
BLOCK = 64 * 1024
MOST_KIB = 150 * 1024
"""Of the server's memory, whatever it does."""
GROWTH_KIB = 12 * 1024
"""Between a quarter of the way and the end, when there was time for caches to fill."""
FILLING_KIB = GROWTH_KIB if IS_SOAK else 48 * 1024
"""The same where a few seconds of reading fill them."""

READ = """
import json, mmap, os, random, sys, time, zlib
folder, readers, seconds, block = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
sums = json.load(sys.stdin)

def pieces(file, first, last, mapped):
    if not mapped:
        for number in range(first, last):
            yield number, os.pread(file.fileno(), block, number * block)
        return
    with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        for number in range(first, last):
            yield number, view[number * block : (number + 1) * block]

def work(seed):
    choose, stop, done = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < stop:
        name = choose.choice(list(sums))
        first = choose.randrange(len(sums[name]))
        last = min(len(sums[name]), first + choose.choice((1, 1, 4, 200)))
        with open(os.path.join(folder, name), "rb", buffering=0) as file:
            for number, piece in pieces(file, first, last, choose.random() < 0.3):
                if zlib.crc32(piece) != sums[name][number]:
                    return f"{name}: block {number} is wrong"
        done += 1
    return done

children = []
for seed in range(readers):
    child = os.fork()
    if not child:
        try:
            said = work(seed)
        except BaseException as error:
            said = repr(error)
        os.write(1, (json.dumps(said) + "\\n").encode())
        os._exit(0)
    children.append(child)
print(json.dumps([os.waitpid(child, 0)[1] for child in children]), flush=True)
"""

FOLLOW = """
import sys
for line in sys.stdin:
    found = [open(f"{sys.argv[1]}/{path}").read() for path in ("models/weights", f"only{line.strip()}/f")]
    print(*found, sep="", flush=True)
"""

OPEN = """
import os, sys
folder, count = sys.argv[1], int(sys.argv[2])
paths = [os.path.join(folder, name) for name in os.listdir(folder)]
for number in range(count):
    os.close(os.open(paths[number % len(paths)], os.O_RDONLY))
"""


def sums_of(files: Mapping[str, bytes]) -> dict[str, list[int]]:
    """The checksum of each block."""
    return {
        name: [zlib.crc32(data[start : start + BLOCK]) for start in range(0, len(data), BLOCK)]
        for name, data in files.items()
    }


def most_memory(mount: Counted, reading: subprocess.Popen[str]) -> list[dict[str, int]]:
    """What the server holds, again and again, until the readers are done."""
    pause, found = threading.Event(), []
    while reading.poll() is None:
        found.append(mount.held())
        pause.wait(0.1)
    return found


def read(mount: Counted, sums: dict[str, list[int]], command: list[str]) -> tuple[list[object], list[dict[str, int]]]:
    """Let many read; what each of them said, and what the server held meanwhile."""
    words = [str(mount.path / "models"), str(READERS), str(SECONDS), str(BLOCK)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*command, sys.executable, "-c", READ, *words], stdin=pipe, stdout=pipe, text=True
    ) as reading:
        assert reading.stdin is not None
        json.dump(sums, reading.stdin)
        reading.stdin.close()
        held = most_memory(mount, reading)
        assert reading.stdout is not None
        *said, statuses = map(json.loads, reading.stdout)
        assert statuses == [0] * READERS
        return said, held


@needs(memory_group_missing)
def test_many_readers_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = {f"{number:02}": noise(FILE_BYTES, number) for number in range(FILES)}
    sums, contents = sums_of(files), dict[str, Content](files)
    del files
    with (
        memory_group(LIMIT) as group,
        counted(
            tmp_path, {"models": contents}, cache_bytes=FILES * FILE_BYTES // 2, before=group.command, bound_s=SECONDS
        ) as mount,
    ):
        contents.clear()
        said, held = read(mount, sums, group.command)
        assert [one for one in said if not isinstance(one, int)] == []
        assert len(said) == READERS
        assert group.pressed > 0  # or this is a test of nothing
        assert max(one["now_kib"] for one in held) < MOST_KIB
        settled = held[len(held) // 4 :]
        assert settled[-1]["anonymous_kib"] - settled[0]["anonymous_kib"] < FILLING_KIB
        # At most: what each reader has open, and what is being assembled.
        assert max(one["descriptors"] for one in held) < held[0]["descriptors"] + 2 * READERS + 32
        eventually(lambda: mount.held()["files"] == 0)
        wrong = {name: [*found[:-1], found[-1] ^ 1] for name, found in sums.items()}
        monkeypatch.setattr(sys.modules[__name__], "SECONDS", 3)
        assert any("is wrong" in str(one) for one in read(mount, wrong, group.command)[0])  # the control


def opened(mount: Counted, count: int) -> dict[str, int]:
    """What the server holds when somebody has opened files so many times, and closed them."""
    command = [sys.executable, "-c", OPEN, str(mount.path / "models"), str(count)]
    subprocess.run(command, check=True, timeout=max(WATCHDOG_S, count // 100))
    eventually(lambda: mount.held()["modes"] == 0)
    return mount.held()


def test_opens_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files: dict[str, Content] = {"models": {f"{number:02}": noise(MIB // 8, number) for number in range(20)}}
    with counted(tmp_path, files, cache_bytes=64 * MIB, bound_s=OPENS // 100) as mount:
        warm(mount, "models/07").close()
        before = opened(mount, OPENS // 4)
        after = opened(mount, OPENS - OPENS // 4)
        assert after["anonymous_kib"] - before["anonymous_kib"] < GROWTH_KIB
        assert after["now_kib"] < MOST_KIB
        same = ("descriptors", "files", "backings", "nodeids", "threads")
        assert {name: after[name] for name in same} == {name: before[name] for name in same}
        assert after["files"] == after["backings"] == 0


def test_control_a_server_that_loses_what_is_closed(tmp_path: Path) -> None:
    with counted(tmp_path, {"models": {"f": b"x"}}, "lose-releases") as mount:
        for _ in range(3):
            (mount.path / "models/f").read_bytes()
        assert mount.held()["files"] > 0
        mount.counts()


@needs(memory_group_missing)
def test_moves_leave_nothing(tmp_path: Path) -> None:
    """When the kernel forgets the names that moved away, all that the server knows of them goes with them."""

    def files(number: int) -> dict[str, Content]:
        return {"models": {"weights": b"%d" % number, "same": b"same"}, f"only{number}": {"f": b"x"}, "version": b"v"}

    with (
        memory_group(LIMIT) as group,
        counted(tmp_path, files(0), "small-caches", bound_s=MOVES // 5) as mount,
        talk(group, FOLLOW, mount.path) as (say, hear),
    ):
        held = []
        for number in range(1, MOVES + 1):
            build.branch(mount.handle, "prod", files(number))
            print(number, file=say, flush=True)
            assert hear.readline() == f"{number}x\n"
            if number % (MOVES // 20) == 0:
                group.reclaim()
                eventually(lambda: mount.held()["nodeids"] < 20)
                held.append(mount.held())
        assert max(one["now_kib"] for one in held) < MOST_KIB
        assert held[-1]["anonymous_kib"] - held[len(held) // 4]["anonymous_kib"] < GROWTH_KIB
        assert held[-1]["descriptors"] == held[0]["descriptors"]


@needs(memory_group_missing)
def test_the_kernel_forgets_and_so_do_we(tmp_path: Path) -> None:
    files: dict[str, Content] = {f"{number:05}": b"%d" % number for number in range(NAMES)}
    with memory_group(LIMIT) as group, counted(tmp_path, {"d": files}) as mount:
        subprocess.run([*group.command, "ls", "-l", mount.path / "d"], check=True, capture_output=True, timeout=60)
        assert mount.held()["nodeids"] > NAMES
        group.reclaim()
        eventually(lambda: mount.held()["nodeids"] < 20)
        assert (mount.path / "d/00007").read_bytes() == b"7"


@contextlib.contextmanager
def talk(group: MemoryGroup, program: str, folder: Path) -> Iterator[tuple[IO[str], IO[str]]]:
    """Talk in lines with a program that is a member of the group."""
    command, pipe = [*group.command, sys.executable, "-c", program, str(folder)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdin, process.stdout
        process.stdin.close()
