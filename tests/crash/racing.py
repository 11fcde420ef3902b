"""Who moves a branch when eight processes want to? Functions for processes of their own, some of which fork more."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from moorage.api import Repository
from moorage.errors import MoorageError, RefMovedError
from moorage.model.refs import RefKind, RefName, RefRecord
from moorage.storage import local
from tests.crash.forkserver import Say
from tests.crash.operations import tiny_config, write_source
from tests.crash.state import read_state

BRANCH = RefName(RefKind.BRANCH, "prod")


def at_once(processes: int, work: Callable[[int], None], *, may_die: int = 0) -> None:
    """Fork so many children, let them all start `work(number)` at one moment, and wait for them.

    The first `may_die` of them may be killed.
    """
    gate_read, gate_write = os.pipe()
    children = []
    for number in range(processes):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(gate_write)
                os.read(gate_read, 1)  # until the last one who could write is gone
                work(number)
                status = 0
            except BaseException:  # noqa: BLE001  # the parent's code must not go on in the child
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(pid)
    os.close(gate_read)
    os.close(gate_write)
    for number, pid in enumerate(children):
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert ended == 0 or (ended == -signal.SIGKILL and number < may_die), f"a racing process ended with {ended}"


def race_moves(say: Say, folder: Path, processes: int, moves: int) -> None:
    """Each process moves one branch so many times, trying again when it was late; says (process, record) of each."""

    def work(number: int) -> None:
        with Repository.open(folder, actor=f"process {number}") as repo:
            for move in range(moves):
                say((number, _move(repo, f"move {move}")))

    at_once(processes, work)


def _move(repo: Repository, reason: str) -> RefRecord:
    """Move the branch from its head to the snapshot before or after, whichever it is not at."""
    while True:
        head = repo.handle.refs.head(BRANCH).snapshot
        target = next(id for id, _ in repo.log("refs/tags/newest") if id != head)
        with contextlib.suppress(RefMovedError):
            return repo.move_branch(BRANCH.name, target.hex(), expected=head, reason=reason)


def race_moves_without_comparing(say: Say, folder: Path, processes: int, moves: int) -> None:
    """A negative control: a storage whose create overwrites, as a check followed by a rename does."""

    def overwrite(source: str, target: str) -> bool:
        if os.path.exists(target):
            raise FileExistsError(target)
        os.rename(source, target)
        return True

    local._link = overwrite  # in a process that ends with this function
    race_moves(say, folder, processes, moves)


def race_commits(say: Say, folder: Path, processes: int, commits: int, *, deaths: int = 0, seed: int = 0) -> None:
    """Each process commits files of its own to one branch, again when it was late; says (path, content) of each.

    So many of them are killed on their way, at moments that `seed` decides.
    """
    moments = random.Random(seed)
    lives_s = [moments.uniform(0, 0.5) for _ in range(deaths)]

    def work(number: int) -> None:
        if number < deaths:
            killer = threading.Timer(lives_s[number], os.kill, (os.getpid(), signal.SIGKILL))
            killer.daemon = True
            killer.start()
        with Repository.open(folder, actor=f"process {number}") as repo:
            for commit in range(commits):
                path, data = f"process{number}/{commit}", f"content {number} {commit} ".encode() * 40
                while True:
                    with contextlib.suppress(RefMovedError):
                        repo.commit(data, branch=BRANCH.name, at=path)
                        break
                say((path, data))

    at_once(processes, work, may_die=deaths)


def race_same_content(say: Say, folder: Path, source: Path, processes: int) -> None:
    """Each process commits the same new directory to a branch of its own; says (branch, digest)."""

    def work(number: int) -> None:
        with Repository.open(folder, actor=f"process {number}") as repo:
            result = repo.commit(source, branch=f"process/{number}", create=True)
            say((result.branch, result.digest.hex()))

    at_once(processes, work)


def race_creating(say: Say, folder: Path, processes: int) -> None:
    """Each process creates the repository and commits to it; says who did, and as what the others saw it."""

    def work(number: int) -> None:
        try:
            with Repository.create(folder, tiny_config(), actor=f"process {number}") as repo:
                repo.commit(b"mine", branch="prod", at="mine", create=True)
            say((number, "created"))
        except MoorageError as error:
            say((number, type(error).__name__))

    at_once(processes, work)


def race_readers(say: Say, folder: Path, source: Path, readers: int, commits: int) -> None:
    """One process commits and moves; the others open the repository and read all of it, over and over."""
    done_read, done_write = os.pipe()

    def work(number: int) -> None:
        if number == 0:
            with Repository.open(folder) as repo:
                for commit in range(commits):
                    write_source(source, version=10 + commit)
                    repo.commit(source, branch="prod")
                    repo.move_branch("side", "prod")
            os.write(done_write, b"." * readers)
            return
        rounds = 0
        while rounds == 0 or not _is_readable(done_read):
            read_state(folder)
            rounds += 1
        say((number, rounds))

    at_once(readers + 1, work)


def _is_readable(fd: int) -> bool:
    os.set_blocking(fd, False)
    try:
        return bool(os.read(fd, 1))
    except BlockingIOError:
        return False


def make_three(folder: Path) -> None:
    """A repository with a branch of three snapshots, and a tag on the newest."""
    with Repository.create(folder, tiny_config(), actor="tester") as repo:
        for number in range(3):
            repo.commit(f"state {number}".encode(), branch=BRANCH.name, at="state", create=True)
        repo.create_tag("newest", BRANCH.name)
