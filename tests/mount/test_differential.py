"""Does a mount answer as a checkout of the same snapshot does, whatever is asked, while all that may happen happens?

Reads of every kind, listings, attributes, links and errors, at random, of a mount of a branch that moves, of snapshots
below `.snapshots` and of a mount of everything, beside checkouts by `moorage checkout`. Meanwhile hydrated files are
evicted and deleted, and the server is killed where a supervisor starts it again.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import random
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self

import pytest

import moorage
from moorage.model.digest import SnapshotId
from moorage.mount.registry import mounts
from moorage.mount.serve import EVERYTHING
from moorage.repository.user_folders import cache_home
from tests.crash.ground import IS_SOAK
from tests.mount import build
from tests.mount.build import MOMENT_NS, Content, Link, Program
from tests.mount.conftest import Mount, MountIt, kill
from tests.mount.counted import counted
from tests.mount.differential import Asker, Difference, Way, times_below
from tests.mount.supervised import resend_missing
from tests.needs import loop_mounts_missing, needs_fuse, needs_loop_mounts, require

pytestmark = needs_fuse

QUESTIONS = 100_000 if IS_SOAK else 4_000
SEED = 20261121
MOVE_EACH = 40
"""Questions between two moves."""
MAKE_TROUBLE_EACH_S = 0.05
KILL_EACH_S = 1.5
"""Seldom enough that no supervisor takes it for a server that cannot live."""
CACHE_BYTES = 6 * 1024 * 1024
"""Less than all files, so that some are always being evicted."""


def _data(number: int, size: int) -> bytes:
    """Without a run of zeros, which a checkout might store as a hole."""
    return random.Random(number).randbytes(size)


def one() -> dict[str, Content]:
    return {
        "model": {
            "weights.bin": _data(1, 3 * 1024 * 1024 + 17),
            "more.bin": _data(2, 1536 * 1024),
            "config.json": b'{"layers": 12}\n',
            "tool": Program(b"#!/bin/sh\necho one\n"),
            "latest": Link("weights.bin"),
            "up": Link("../top"),
        },
        "sizes": {str(size): _data(size, size) for size in (0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 300_001)},
        "links": {
            "loop": Link("loop"),
            "dangling": Link("none/such"),
            "folder": Link("../model"),
            "far": Link("folder"),
        },
        "names": {"n" * 255: b"long", "größe 🚢": b"wide", " blank ": b"blank", "UPPER": b"1", "upper": b"2"},
        "many": {f"{number:04}": b"%d" % number for number in range(300)},
        "deep": {"er": {"and": {"deeper": {"leaf": b"leaf"}}}},
        "same": {"large": _data(3, 2 * 1024 * 1024), "small": b"same"},
        "swap": b"a file here, a directory there",
        "top": b"top one",
        "gone": b"only in one",
    }


def two() -> dict[str, Content]:
    return {
        "model": {
            "weights.bin": _data(4, 3 * 1024 * 1024 + 16),
            "more.bin": _data(2, 1536 * 1024),
            "config.json": b'{"layers": 24, "longer": true}\n',
            "tool": b"no program any more",
            "latest": Link("more.bin"),
        },
        "sizes": {str(size): _data(size + 1, size) for size in (0, 1, 4096, 65536, 300_001)},
        "links": {
            "loop": b"a file now",
            "dangling": Link("../top"),
            "folder": Link("../deep/er"),
            "far": Link("folder"),
        },
        "names": {"n" * 255: b"LONG", "UPPER": b"2"},
        "many": {f"{number:04}": b"%d" % (number % 7) for number in range(0, 300, 3)},
        "deep": {"er": {"and": b"a file in place of a directory"}},
        "same": {"large": _data(3, 2 * 1024 * 1024), "small": b"same"},
        "swap": {"inside": b"a directory here"},
        "top": b"top two, longer",
        "come": b"only in two",
    }


def all_names(*trees: Mapping[str, Content]) -> list[str]:
    """Every path of them, directories too, sorted."""
    found: set[str] = set()
    for path in (path for tree in trees for path in build.flat(tree)):
        parts = path.split("/")
        found.update("/".join(parts[:count]) for count in range(1, len(parts) + 1))
    return sorted(found)


NAMES = all_names(one(), two())


class Trouble:
    """What happens meanwhile, in a thread."""

    def __init__(self, *mounts: Mount) -> None:
        """Trouble these mounts."""
        self._paths = [str(mount.path) for mount in mounts]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._make, daemon=True)
        self.kills = 0
        self.deletions = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _make(self) -> None:
        chance, since_kill_s = random.Random(SEED), KILL_EACH_S
        while not self._over.wait(MAKE_TROUBLE_EACH_S):
            since_kill_s += MAKE_TROUBLE_EACH_S
            if since_kill_s > KILL_EACH_S and resend_missing() is None:
                self._kill_a_server(chance)
                since_kill_s = 0
            elif chance.random() < 0.3:
                self._delete_a_hydrated_file(chance)

    def _delete_a_hydrated_file(self, chance: random.Random) -> None:
        files = sorted(path for path in (cache_home() / "files").rglob("*") if path.is_file())
        if files:
            chance.choice(files).unlink(missing_ok=True)
            self.deletions += 1

    def _kill_a_server(self, chance: random.Random) -> None:
        """Which its supervisor starts again."""
        servers = [record.server_pid for record in mounts() if record.mountpoint in self._paths and record.server_pid]
        if servers:
            kill(chance.choice(servers))
            self.kills += 1


@pytest.fixture
def checkouts(tmp_path: Path) -> Callable[[Mount, SnapshotId], Path]:
    """Check a snapshot out, into a directory of its name."""

    def checkout(mount: Mount, id: SnapshotId) -> Path:
        assert mount.handle.root is not None
        with moorage.Repository.open(mount.handle.root) as repo:
            repo.checkout(f"{id.hex()}:", tmp_path / id.hex())
        return tmp_path / id.hex()

    return checkout


def test_a_mount_answers_as_a_checkout(mount_it: MountIt, checkouts: Callable[[Mount, SnapshotId], Path]) -> None:
    branch = mount_it({"x": b"x"}).again("prod", cache_bytes=CACHE_BYTES)
    ids = [build.snapshot(branch.handle, files) for files in (one(), two())]
    plain = [checkouts(branch, id) for id in ids]
    for id in ids:
        build.move(branch.handle, "prod", id)
    everything = branch.again(EVERYTHING, cache_bytes=CACHE_BYTES)
    moving = [Way(branch.path, plain[1]), Way(everything.path / "branches/prod", plain[1])]
    still = [
        Way(root / folder / id.hex(), picture)
        for root, folder in ((branch.path, ".snapshots"), (everything.path, "snapshots"))
        for id, picture in zip(ids, plain, strict=True)
    ]
    asker = Asker([*moving, *moving, *still], NAMES, SEED)
    with Trouble(branch, everything) as trouble, contextlib.closing(asker):
        for number in range(QUESTIONS):
            if number % MOVE_EACH == 0:
                which = number // MOVE_EACH % 2
                build.move(branch.handle, "prod", ids[which])
                for way in moving:
                    way.moves_to(plain[which])
            asker.ask()
    for way in still:
        assert set(times_below(way.root).values()) == {MOMENT_NS}
    assert trouble.kills or resend_missing() is not None
    print(f"{QUESTIONS} questions, {trouble.kills} kills, {trouble.deletions} deletions")


@pytest.mark.parametrize("lie", ["lie-once-in-data", "lie-in-a-size", "lie-in-a-listing", "lie-in-a-mode"])
def test_control_a_lie_is_found(tmp_path: Path, lie: str) -> None:
    build.write_out(one(), tmp_path / "plain")
    with counted(tmp_path, one(), lie) as mount:
        asker = Asker([Way(mount.path, tmp_path / "plain")], all_names(one()), SEED)
        with contextlib.closing(asker), pytest.raises(Difference):
            for _ in range(QUESTIONS):
                asker.ask()


def test_control_the_truth_is_not_blamed(tmp_path: Path) -> None:
    build.write_out(one(), tmp_path / "plain")
    with counted(tmp_path, one()) as mount:
        asker = Asker([Way(mount.path, tmp_path / "plain")], all_names(one()), SEED)
        with contextlib.closing(asker):
            for _ in range(QUESTIONS):
                asker.ask()


# -- what would change something --------------------------------------------------------------------

SMALL: dict[str, Content] = {
    "d": {"f": b"data", "empty": {"x": b""}, "link": Link("f"), "program": Program(b"#!")},
    "top": b"top",
    "dangling": Link("none"),
}
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2


def _renameat2(old: Path, new: Path, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _open(flags: int, *path: str) -> Callable[[Path], object]:
    return lambda at: os.close(os.open(at.joinpath(*path), flags, 0o644))


CREATE = os.O_CREAT | os.O_WRONLY
CHANGES: dict[str, Callable[[Path], object]] = {
    "open to write": _open(os.O_WRONLY, "d", "f"),
    "open to read and write": _open(os.O_RDWR, "d", "f"),
    "open to append": _open(os.O_WRONLY | os.O_APPEND, "d", "f"),
    "open and truncate": _open(os.O_RDONLY | os.O_TRUNC, "d", "f"),
    "open a directory to write": _open(os.O_RDWR, "d"),
    "open through a link": _open(os.O_WRONLY, "d", "link"),
    "open what is not there": _open(os.O_WRONLY, "none"),
    "open below a file": _open(os.O_WRONLY, "top", "x"),
    "create": _open(CREATE, "d", "new"),
    "create what is there": _open(CREATE, "d", "f"),
    "create exclusively what is there": _open(CREATE | os.O_EXCL, "d", "f"),
    "create where a link dangles": _open(CREATE, "dangling"),
    "create in what is not there": _open(CREATE, "none", "new"),
    "create a directory's name": _open(CREATE, "d"),
    "open or create, to read": _open(os.O_CREAT | os.O_RDONLY, "d", "f"),
    "nameless file": _open(os.O_TMPFILE | os.O_RDWR, "d"),
    "truncate": lambda at: os.truncate(at / "d/f", 0),
    "truncate a directory": lambda at: os.truncate(at / "d", 0),
    "unlink": lambda at: os.unlink(at / "d/f"),
    "unlink what is not there": lambda at: os.unlink(at / "none"),
    "unlink a directory": lambda at: os.unlink(at / "d"),
    "rmdir": lambda at: os.rmdir(at / "d/empty"),
    "rmdir of a file": lambda at: os.rmdir(at / "top"),
    "rmdir of what is not there": lambda at: os.rmdir(at / "none"),
    "mkdir": lambda at: os.mkdir(at / "d/new"),
    "mkdir of what is there": lambda at: os.mkdir(at / "d"),
    "mkdir below a file": lambda at: os.mkdir(at / "top/new"),
    "rename": lambda at: os.rename(at / "d/f", at / "d/g"),
    "rename to itself": lambda at: os.rename(at / "d/f", at / "d/f"),
    "rename over": lambda at: os.rename(at / "d/f", at / "top"),
    "rename what is not there": lambda at: os.rename(at / "none", at / "new"),
    "rename without replacing": lambda at: _renameat2(at / "d/f", at / "top", RENAME_NOREPLACE),
    "exchange": lambda at: _renameat2(at / "d/f", at / "top", RENAME_EXCHANGE),
    "symlink": lambda at: os.symlink("f", at / "d/new"),
    "symlink over what is there": lambda at: os.symlink("f", at / "top"),
    "link": lambda at: os.link(at / "d/f", at / "d/new"),
    "link over what is there": lambda at: os.link(at / "d/f", at / "top"),
    "mknod": lambda at: os.mknod(at / "d/new", stat.S_IFREG | 0o644),
    "mkfifo": lambda at: os.mkfifo(at / "d/new"),
    "chmod": lambda at: os.chmod(at / "d/f", 0o777),
    "chmod of a directory": lambda at: os.chmod(at / "d", 0o777),
    "chmod of what is not there": lambda at: os.chmod(at / "none", 0o777),
    "chown": lambda at: os.chown(at / "d/f", os.getuid(), os.getgid()),
    "lchown": lambda at: os.lchown(at / "d/link", os.getuid(), os.getgid()),
    "utimes": lambda at: os.utime(at / "d/f"),
    "utimes of the root": lambda at: os.utime(at, (1, 1)),
    "utimes of a link": lambda at: os.utime(at / "d/link", (1, 1), follow_symlinks=False),
    "setxattr": lambda at: os.setxattr(at / "d/f", "user.x", b"1"),
    "setxattr of what is not there": lambda at: os.setxattr(at / "none", "user.x", b"1"),
    "removexattr": lambda at: os.removexattr(at / "d/f", "user.x"),
    "may it be written": lambda at: _refused(at / "d/f", os.W_OK),
    "may the directory be written": lambda at: _refused(at / "d", os.W_OK | os.X_OK),
}


def _refused(path: Path, mode: int) -> None:
    """What access(2) gives as an error."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.access(os.fsencode(path), mode) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def outcomes(at: Path) -> dict[str, str]:
    """What becomes of each change."""
    found = {}
    for what, change in CHANGES.items():
        try:
            change(at)
        except OSError as error:
            found[what] = errno.errorcode[error.errno or 0]
        else:
            found[what] = "done"
    return found


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    """The same tree on an ext4 that is mounted read-only."""
    require(loop_mounts_missing)
    image, at = tmp_path / "image", tmp_path / "disk"
    build.write_out(SMALL, tmp_path / "files")
    at.mkdir()
    made = subprocess.run(["mkfs.ext4", "-q", "-d", tmp_path / "files", image, "8M"], check=False, capture_output=True)
    assert made.returncode == 0, made.stderr
    subprocess.run(["mount", "-o", "loop,ro", image, at], check=True)
    yield at
    subprocess.run(["umount", at], check=True)


@needs_loop_mounts
def test_what_would_change_something_fails_as_on_a_read_only_disk(mount_it: MountIt, read_only_disk: Path) -> None:
    mount = mount_it(SMALL)
    expected = outcomes(read_only_disk)
    assert list(expected.values()).count("EROFS") > 25
    assert outcomes(mount.path) == expected
    held = Path(moorage.resolve(mount.path).path)
    assert outcomes(held) == expected


@needs_loop_mounts
def test_control_a_writable_directory_is_told_from_it(read_only_disk: Path, tmp_path: Path) -> None:
    different = {
        what for what, became in outcomes(tmp_path / "files").items() if became != outcomes(read_only_disk)[what]
    }
    assert len(different) > 20
