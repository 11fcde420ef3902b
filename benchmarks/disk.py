"""How is a disk made slower, so that a figure does not depend on what the machine's host happens to have in memory?

By the kernel: the block I/O controller of a control group, which the benchmark, and all that it starts, then runs in.
For root, where there is such a controller: version 1 with `blkio`, or 2 with `io`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_GROUP = "moorage-bench"
_MOST_DIGITS = 9
"""The kernel takes no more than 64 bits of bytes a second."""


class Disk:
    """The disk below a folder, which can be made slower for this process and its children."""

    def __init__(self, folder: Path) -> None:
        """Raises `OSError` where the system has no means to do so, or this user may not."""
        device = folder.stat().st_dev
        self._number = f"{os.major(device)}:{os.minor(device)}"
        about = Path("/sys/dev/block", self._number).resolve(strict=True)
        if (about / "partition").exists():  # the controller knows whole disks only
            self._number = (about.parent / "dev").read_text("ascii").strip()
        self._is_old = (_GROUPS / "blkio").is_dir()
        self._above = _GROUPS / "blkio" if self._is_old else _GROUPS
        self._group = self._above / _GROUP

    def limit(self, mb_a_second: int) -> None:
        """So many MB (10^6 bytes) a second are read from it, 0 for all that it gives."""
        bytes_a_second = mb_a_second * 1_000_000
        if self._is_old:
            self._write(self._group / "blkio.throttle.read_bps_device", f"{self._number} {bytes_a_second}")
        else:
            self._write(self._group / "io.max", f"{self._number} rbps={bytes_a_second or 'max'}")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have the limits count for this process, and for those that it starts."""
        if not self._is_old:
            self._write(self._above / "cgroup.subtree_control", "+io")
        self._group.mkdir(exist_ok=True)
        try:
            self._write(self._group / "cgroup.procs", str(os.getpid()))
            yield
        finally:
            self._write(self._above / "cgroup.procs", str(os.getpid()))
            with contextlib.suppress(OSError):  # somebody may be in it still
                self._group.rmdir()

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, "ascii")


@contextmanager
def disk_below(folder: Path) -> Iterator[Disk]:
    """The disk that a folder is on, which limits this process meanwhile; ends the benchmark where that cannot be."""
    with contextlib.ExitStack() as stack:
        try:
            disk = Disk(folder)
            stack.enter_context(disk.entered())
            disk.limit(0)
            stack.callback(disk.limit, 0)
        except OSError as error:
            sys.exit(f"the disk below {folder} cannot be made slower here: {error}")
        yield disk


def parse_speed(text: str) -> int:
    """MB/s, for `Disk.limit`."""
    if not text.isdecimal() or len(text) > _MOST_DIGITS:
        raise argparse.ArgumentTypeError(f"{text!r} is no speed: write 1500 for 1,500 MB/s, 0 for what the disk gives")
    return int(text)
