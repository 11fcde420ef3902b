"""A forked child can read on, and write, through a repository that its parent opened."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import moorage
from tests.needs import needs_linux


def _in_child(repo: moorage.Repository, pipe: Connection) -> None:
    first = repo.read("prod:a.txt")
    repo.commit(b"from the child", branch="prod", at="b.txt")
    assert repo.root is not None
    with moorage.Repository.open(repo.root) as another:
        pipe.send((first, another.read("prod:b.txt")))
    pipe.close()


@needs_linux
def test_children_read_and_write_after_fork(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with moorage.Repository.create(tmp_path / "store") as repo:
        repo.commit(b"from the parent", branch="prod", at="a.txt", create=True)
        for _ in range(3):
            mine, theirs = context.Pipe()
            child = context.Process(target=_in_child, args=(repo, theirs))
            child.start()
            assert mine.recv() == (b"from the parent", b"from the child")
            child.join()
            assert child.exitcode == 0
        assert repo.read("prod:b.txt") == b"from the child"
        assert len(repo.reflog("prod")) == 4
        assert repo.check(data=True).ok
