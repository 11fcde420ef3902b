"""A mount whose server counts what it is asked, and says what it holds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from moorage.mount import serve
from moorage.repository.handle import RepositoryHandle
from tests.mount import build
from tests.mount.build import Content
from tests.mount.conftest import kill_later

PROGRAM = Path(__file__).with_name("counting.py")


class Counted:
    """A mount whose server counts."""

    def __init__(self, process: subprocess.Popen[str], path: Path, handle: RepositoryHandle, log: Path) -> None:
        """Talk with the server over its standard input and output; its standard error is `log`."""
        self._process = process
        self._log = log
        self.path = path
        self.handle = handle

    def _ask(self, word: str) -> dict[str, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        found: dict[str, int] = json.loads(self._process.stdout.readline())
        return found

    @property
    def pid(self) -> int:
        """Of the server."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server has warned of."""
        return self._log.read_text(encoding="utf-8")

    def counts(self) -> dict[str, int]:
        """How many requests of each kind came in so far."""
        return self._ask("")

    def held(self) -> dict[str, int]:
        """What the server holds."""
        return self._ask("held")

    @contextmanager
    def asked(self) -> Iterator[dict[str, int]]:
        """What is asked inside the block, by kind; FORGETs left out, which are the kernel's own affair."""
        before, asked = self.counts(), dict[str, int]()
        yield asked
        after = self.counts()
        asked.update({kind: after[kind] - before.get(kind, 0) for kind in after if after[kind] != before.get(kind, 0)})
        asked.pop("FORGET", None)
        asked.pop("BATCH_FORGET", None)


@contextmanager
def counted(
    folder: Path,
    files: Mapping[str, Content],
    *broken: str,
    cache_bytes: int = 0,
    revision: str = "prod",
    through: Path | None = None,
    before: Sequence[str] = (),
    bound_s: float = 0,
) -> Iterator[Counted]:
    """Mount a new repository with `files` on its branch `prod`, both below `folder`; nothing is hydrated unless a
    cache is given. `through` is another path by which the server finds what is in `folder`, `before` is put before its
    command, and `bound_s` is how much longer than usual it may live."""
    handle = build.create(folder / "repository")
    build.branch(handle, "prod", files)
    directory = folder / "mnt"
    directory.mkdir()
    repository = (through or folder) / "repository"
    command = [*before, sys.executable, str(PROGRAM), str(repository), revision, str(directory), str(cache_bytes)]
    pipe = subprocess.PIPE
    with (
        open(folder / "log", "w", encoding="utf-8") as log,
        subprocess.Popen([*command, *broken], stdin=pipe, stdout=pipe, stderr=log, text=True) as process,
    ):
        watchdog = kill_later(process.pid, bound_s=bound_s)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield Counted(process, directory, handle, folder / "log")
        finally:
            serve.umount(directory, lazy=True)
            watchdog.cancel()
            handle.close()
