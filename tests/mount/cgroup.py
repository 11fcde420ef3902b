"""How is a program given only so much memory? A control group of its own, of version 1 or 2."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.mount.conftest import eventually

_ONE, _TWO = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryGroup:
    """A group whose members share a limit."""

    path: Path
    is_two: bool

    @property
    def command(self) -> list[str]:
        """What to write before a command so that it runs in the group."""
        return ["/bin/sh", "-c", f'echo $$ > {self.path}/cgroup.procs; exec "$@"', "sh"]

    def reclaim(self) -> None:
        """Have the kernel forget what it remembers for members of the group, names included; of nobody else."""
        with contextlib.suppress(OSError):  # there was less than that
            if self.is_two:
                (self.path / "memory.reclaim").write_text("1G")
            else:
                (self.path / "memory.force_empty").write_text("0")

    @property
    def pressed(self) -> int:
        """How often something had to give way for lack of room."""
        if not self.is_two:
            return int((self.path / "memory.failcnt").read_text())
        lines = (self.path / "memory.events").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("max "))


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup]:
    """A new group with that much memory, page cache included; gone afterwards, as its members must be."""
    is_two = not _ONE.is_dir()
    parent = _TWO if is_two else _ONE
    if is_two:
        (parent / "cgroup.subtree_control").write_text("+memory")
    path = parent / f"moorage-test-{os.getpid()}-{secrets.token_hex(4)}"
    path.mkdir()
    try:
        (path / ("memory.max" if is_two else "memory.limit_in_bytes")).write_text(str(limit_bytes))
        yield MemoryGroup(path, is_two)
    finally:
        eventually(lambda: not (path / "cgroup.procs").read_text())
        path.rmdir()


@functools.cache
def memory_group_missing() -> str | None:
    """Control groups that limit memory, and may be made."""
    try:
        with memory_group(64 * 1024 * 1024) as group:
            assert group.pressed == 0
    except OSError as error:
        return f"no control group for memory can be made here: {error}"
    return None
