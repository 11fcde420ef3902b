"""Read a mount in every way and compare with the true bytes; run as a program by tests of death.

    reading.py MOUNT PLAIN SEED

Says `ready`, and at the end of its input one line of JSON: how many operations, which errors, how many wrong answers,
and how long the longest took. Pages are dropped before they are read, so that the server is asked.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import random
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path

PAUSE_S = 0.002
"""Between operations, so that many readers leave the server a processor."""


class Reader:
    """One process that reads."""

    def __init__(self, mounted: Path, plain: Path, seed: int) -> None:
        """Read below `mounted` what is also below `plain`."""
        self._mounted = mounted
        self._files = {str(path.relative_to(plain)): path.read_bytes() for path in plain.rglob("*") if path.is_file()}
        self._names = sorted(self._files)
        folders = [path for path in [plain, *plain.rglob("*")] if path.is_dir()]
        self._folders = {str(path.relative_to(plain)): sorted(os.listdir(path)) for path in folders}
        self._random = random.Random(seed)
        self._held: list[tuple[int, str]] = []
        self._open_folder = os.open(mounted, os.O_RDONLY | os.O_DIRECTORY)
        self._found = {"operations": 0, "wrong": 0}
        self._errors: list[str] = []
        self._longest_s = 0.0

    def run(self) -> dict[str, object]:
        """Until the input ends."""
        actions = [self._read, self._map, self._keep_open, self._list, self._list_again, self._stat]
        while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
            self._try(self._random.choice(actions))
        self._try(self._read)  # also who was told to end at once has read something
        return {**self._found, "errors": self._errors, "longest_s": round(self._longest_s, 3)}

    def _try(self, action: Callable[[], bool]) -> None:
        begun = time.monotonic()
        try:
            if not action():
                self._found["wrong"] += 1
        except OSError as error:
            self._errors.append(f"{action.__name__}: {error}")
        self._found["operations"] += 1
        self._longest_s = max(self._longest_s, time.monotonic() - begun)

    def _opened(self) -> tuple[int, str]:
        name = self._random.choice(self._names)
        fd = os.open(self._mounted / name, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return fd, name

    def _read(self) -> bool:
        fd, name = self._opened()
        with open(fd, "rb") as file:
            return file.read() == self._files[name]

    def _map(self) -> bool:
        fd, name = self._opened()
        with open(fd, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
            return view[:] == self._files[name]

    def _keep_open(self) -> bool:
        """Read somewhere in a file that has been open for a while."""
        self._held.append(self._opened())
        fd, name = self._random.choice(self._held)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        offset = self._random.randrange(len(self._files[name]))
        good = os.pread(fd, 100_000, offset) == self._files[name][offset : offset + 100_000]
        if len(self._held) > 20:
            os.close(self._held.pop(self._random.randrange(20))[0])
        return good

    def _list(self) -> bool:
        name = self._random.choice(list(self._folders))
        return sorted(os.listdir(self._mounted / name)) == self._folders[name]

    def _list_again(self) -> bool:
        """A directory that has been open from the start."""
        os.lseek(self._open_folder, 0, os.SEEK_SET)
        return sorted(os.listdir(self._open_folder)) == self._folders["."]

    def _stat(self) -> bool:
        name = self._random.choice(self._names)
        return os.stat(self._mounted / name).st_size == len(self._files[name])


if __name__ == "__main__":
    reader = Reader(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    print("ready", flush=True)
    result = reader.run()
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(result), flush=True)
