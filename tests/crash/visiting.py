"""What does somebody see who may read a repository, and not write to it?"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable
from pathlib import Path

from moorage.api import Repository
from moorage.errors import MoorageError
from tests.crash.forkserver import Say
from tests.crash.state import describe

_NOBODY = 65534


def visit(say: Say, folder: Path, cache: Path, *, as_nobody: bool) -> None:
    """Say the state of the repository, then how trying to commit and to tag ends."""
    os.environ["XDG_CACHE_HOME"] = str(cache)
    if as_nobody:
        codecs.lookup("ascii")  # imported when first used, from where this user may not look
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    say(describe(folder))
    with Repository.open(folder, actor="visitor") as repo:
        writes: list[Callable[[], object]] = [
            lambda: repo.commit(b"graffiti", branch="prod", at="wall"),
            lambda: repo.create_tag("mine", "prod"),
        ]
        for write in writes:
            try:
                write()
                say("written")
            except MoorageError as error:
                say(type(error).__name__)
