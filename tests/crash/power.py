"""A writer that is cut off from its disk, and the look at what the disk kept.

The writer commits, moves branches and makes tags, and says each time that a call has returned. Whoever holds the switch
listens, and then stops the file system at once: what had not been made durable by then never will be.
"""

from __future__ import annotations

import enum
import fcntl
import functools
import itertools
import os
import random
import select
import stat
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb

from moorage.api import Repository
from moorage.errors import MoorageError
from moorage.model.digest import SnapshotId
from moorage.model.refs import RefKind, RefName
from tests.crash.forkserver import Say
from tests.crash.operations import tiny_config

_FS_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = struct.pack("I", 2)
_ACK = struct.Struct("<I32s")


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What the writer was told had happened."""

    number: int
    """Which step it was; says what was written."""
    snapshot: SnapshotId


def make_repository(say: Say, folder: Path) -> None:
    """An empty repository but for one small commit, so that every branch has something to stand at."""
    with Repository.create(folder, tiny_config(), actor="tester") as repo:
        first = repo.commit(b"first", branch="prod", at="first", create=True)
        repo.create_branch("moving", first.snapshot.hex())


class LeftOut(enum.Enum):
    """What a negative control forgets to sync."""

    NOTHING = "nothing"
    FILES = "files"
    FOLDERS = "folders"
    ALL = "all"


def write_until_cut(say: Say, folder: Path, first: int, seed: int, left_out: LeftOut, *, sync_index: bool) -> None:
    """Fork a writer that starts with step `first`; cut the power after some of its steps; say what it acknowledged."""
    chance = random.Random(seed)
    steps, moment = chance.randint(0, 12), chance.uniform(0, 0.004)
    heard, told = os.pipe()
    switch = os.open(folder.parent, os.O_RDONLY)
    writer = os.fork()
    if writer == 0:
        _leave_out(left_out)
        if not sync_index:
            _never_sync_lmdb()
        _write(folder, first, lambda ack: os.write(told, ack))
        os._exit(0)
    os.close(told)
    acks = b""
    while len(acks) < steps * _ACK.size:
        piece = os.read(heard, _ACK.size)
        assert piece, "the writer stopped before its power was cut"
        acks += piece
    time.sleep(moment)  # not to wait for anything: to be anywhere within a step
    while select.select([heard], [], [], 0)[0]:
        acks += os.read(heard, _ACK.size)
    fcntl.ioctl(switch, _FS_IOC_SHUTDOWN, _NO_LOG_FLUSH)
    os.kill(writer, 9)
    os.waitpid(writer, 0)
    say([Acknowledged(number, SnapshotId(raw)) for number, raw in _ACK.iter_unpack(acks)])


def _leave_out(left_out: LeftOut) -> None:
    really = os.fsync

    def fsync(fd: Any) -> None:
        kind = LeftOut.FOLDERS if stat.S_ISDIR(os.fstat(fd).st_mode) else LeftOut.FILES
        if left_out not in (LeftOut.ALL, kind):
            really(fd)

    os.fsync = fsync


def _never_sync_lmdb() -> None:
    """Else LMDB's fdatasync, which makes ext4 write its journal, would make our own files durable by the way."""
    lmdb.open = functools.partial(lmdb.open, sync=False, metasync=False)  # type: ignore[assignment]  # a class


def _write(folder: Path, first: int, tell: Callable[[bytes], object]) -> None:
    try:
        with Repository.open(folder, actor="tester") as repo:
            for number in itertools.count(first):
                tell(_ACK.pack(number, _step(repo, number)))
    except MoorageError:
        return  # the power is cut


def content(number: int) -> bytes:
    """What step `number` commits: of one chunk, or of several packs and a segment."""
    return random.Random(number).randbytes(5_000 if number % 4 == 0 else 300)


def _step(repo: Repository, number: int) -> SnapshotId:
    if number % 4 in (0, 1):
        return repo.commit(content(number), branch="prod", at=f"data/{number % 40}").snapshot
    head = repo.resolve("prod").id
    if number % 4 == 2:
        return repo.move_branch("moving", head.hex()).snapshot
    return repo.create_tag(f"step/{number}", head.hex()).snapshot


def look_after_cut(say: Say, folder: Path, acknowledged: list[Acknowledged]) -> None:
    """Say everything that is wrong: acknowledged and lost, or not what it was, or a problem that `check` finds."""
    wrong: list[str] = []
    try:
        with Repository.open(folder) as repo:
            logs = {
                name: {record.snapshot for record in repo.handle.refs.verify_chain(RefName(RefKind.BRANCH, name))}
                for name in ("prod", "moving")
            }
            for ack in acknowledged:
                wrong += _lost(repo, logs, ack)
            report = repo.check(data=True)
            wrong += [str(problem) for problem in report.problems]
    except MoorageError as error:
        wrong.append(f"{type(error).__name__}: {error}")
    say(wrong)


def _lost(repo: Repository, logs: dict[str, set[SnapshotId]], ack: Acknowledged) -> list[str]:
    number = ack.number
    if number % 4 == 3:
        log = {record.snapshot for record in repo.handle.refs.log(RefName(RefKind.TAG, f"step/{number}"))}
    else:
        log = logs["moving" if number % 4 == 2 else "prod"]
    if ack.snapshot not in log:
        return [f"step {number} was acknowledged and is in no log"]
    if number % 4 in (0, 1) and repo.read(f"{ack.snapshot.hex()}:data/{number % 40}") != content(number):
        return [f"step {number} reads back wrong"]
    return []
