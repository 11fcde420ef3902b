"""What may be interrupted? Each operation of the tests of crashes, as a function for a process of its own.

An operation says `ACK` when the call has returned: from then on it is acknowledged, and nothing of it may be lost. What
moorage raises is said too, as its class and its one line; anything else is a traceback, which no user may ever see.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moorage.api import Repository
from moorage.cli.main import run
from moorage.errors import MoorageError
from moorage.index import environment
from moorage.model.config import ChunkingParams, RepositoryConfig
from moorage.model.refs import RefRecord
from moorage.repository.refs import RefStore
from tests.crash.forkserver import Say
from tests.crash.state import describe

ACK = "acknowledged"
Operation = Callable[[Repository, Path], object]


def tiny_config() -> RepositoryConfig:
    """Chunks of some 256 bytes in packs of some 4: 2,500 bytes make several packs, and so a segment."""
    return RepositoryConfig(
        repository_id=secrets.token_hex(16),
        created_ns=time.time_ns(),
        chunking=ChunkingParams(64, 256, 1024),
        pack_target_bytes=1024,
    )


def _commit(repo: Repository, source: Path) -> object:
    return repo.commit(source, branch="prod", message="the second version")


def _commit_bytes(repo: Repository, source: Path) -> object:
    return repo.commit(b"three words only", branch="prod", at="models/note.txt", message="small")


def _commit_create(repo: Repository, source: Path) -> object:
    return repo.commit(source, branch="experiment/new", message="the first of a new branch", create=True)


def _merge(repo: Repository, source: Path) -> object:
    return repo.merge("side", into="prod", message="both")


OPERATIONS: dict[str, Operation] = {
    "commit": _commit,
    "commit of one small file": _commit_bytes,
    "commit --create": _commit_create,
    "merge": _merge,
    "branch create": lambda repo, source: repo.create_branch("new", "prod"),
    "branch move": lambda repo, source: repo.move_branch("prod", "side"),
    "branch rename": lambda repo, source: repo.rename_branch("side", "aside"),
    "branch delete": lambda repo, source: repo.delete_branch("side"),
    "branch move of the other": lambda repo, source: repo.move_branch("side", "prod"),
    "tag create": lambda repo, source: repo.create_tag("v2", "side"),
    "tag delete": lambda repo, source: repo.delete_tag("v1"),
}


def write_source(folder: Path, *, version: int) -> None:
    """A directory of a few files; version 2 shares most of its bytes with version 1."""
    same = random.Random("the same").randbytes(6_000)
    changed = random.Random(f"version {version}").randbytes(2_500)
    (folder / "models").mkdir(parents=True, exist_ok=True)
    (folder / "models" / "weights.bin").write_bytes(same)
    (folder / "models" / "biases.bin").write_bytes(changed)
    (folder / "config.json").write_bytes(b'{"version": %d}\n' % version)
    (folder / "empty").write_bytes(b"")
    if not (folder / "latest").is_symlink():
        (folder / "latest").symlink_to("models/weights.bin")


def make_repository(folder: Path, source: Path) -> None:
    """The repository that operations start from: two branches that both have moved, and a tag."""
    write_source(source, version=1)
    with Repository.create(folder, tiny_config(), actor="tester") as repo:
        repo.commit(source, branch="prod", message="the first version", create=True)
        repo.create_branch("side", "prod")
        repo.create_tag("v1", "prod")
        repo.commit(b"aside", branch="side", at="side/file.txt", message="on the side")
        repo.commit(b"in front", branch="prod", at="front.txt", message="in front")
    write_source(source, version=2)


def create(say: Say, folder: Path) -> None:
    """Make a repository."""
    try:
        Repository.create(folder, tiny_config(), actor="tester").close()
        say(ACK)
    except MoorageError as error:
        say(f"{type(error).__name__}: {error}")


def operate_hastily(say: Say, name: str, folder: Path, source: Path) -> None:
    """A negative control: acknowledges when the ref record is about to be made, not when it has been."""
    in_time = RefStore._append

    def too_early(*args: Any, **kwargs: Any) -> RefRecord:
        say(ACK)
        return in_time(*args, **kwargs)

    RefStore._append = too_early  # type: ignore[method-assign]  # in a process that ends with this function
    with Repository.open(folder, actor="tester") as repo:
        OPERATIONS[name](repo, source)


def operate_deafly(say: Say, name: str, folder: Path, source: Path) -> None:
    """A negative control: does not hear what fsync answers."""
    really = os.fsync

    def deaf(fd: Any) -> None:
        with contextlib.suppress(OSError):
            really(fd)

    os.fsync = deaf
    operate(say, name, folder, source)


def operate(say: Say, name: str, folder: Path, source: Path) -> None:
    """One operation, as a user's process would do it."""
    try:
        with Repository.open(folder, actor="tester") as repo:
            OPERATIONS[name](repo, source)
            say(ACK)
    except MoorageError as error:
        say(f"{type(error).__name__}: {error}")


COMMANDS: dict[str, tuple[str, ...]] = {
    "commit": ("commit", "{source}", "--branch", "prod", "--message", "the second version"),
    "branch move": ("branch", "move", "prod", "side"),
    "branch rename": ("branch", "rename", "side", "aside"),
    "branch delete": ("branch", "delete", "side"),
    "tag create": ("tag", "create", "v2", "side"),
}


def operate_by_command(say: Say, name: str, folder: Path, source: Path) -> None:
    """The same by the command line, which acknowledges by what it prints and by its exit code."""
    words = [word.format(source=source) for word in COMMANDS[name]]
    code = run([*words, "-r", str(folder)])
    say(ACK if code == 0 else f"exit code {code}")


def operate_impatiently(say: Say, name: str, folder: Path, source: Path) -> None:
    """One operation, waiting for locks no longer than makes sense in a test."""
    environment.PATIENCE_S = 0.1  # in a process that ends with this function
    operate(say, name, folder, source)


def look(say: Say, folder: Path) -> None:
    """Say the state of the repository, or why it cannot be told."""
    say(describe(folder))


def look_impatiently(say: Say, folder: Path) -> None:
    """The same, waiting for locks no longer than makes sense in a test."""
    environment.PATIENCE_S = 0.1  # in a process that ends with this function
    say(describe(folder))


def look_and_repeat(say: Say, name: str, folder: Path, source: Path) -> None:
    """Say the state; do the operation once more and say how that went; say the state again."""
    say(describe(folder))
    operate(say, name, folder, source)
    say(describe(folder))
