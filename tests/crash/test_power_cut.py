"""Is anything acknowledged lost when the power fails, on ext4 and on xfs?

A writer works on a file system in a loop-mounted image; at a random moment the file system is stopped without writing
out its journal (FS_IOC_SHUTDOWN), which is what a power cut leaves: what was synced, and of the rest what the kernel
happened to have written. It is mounted again, and everything that the writer had been told was done must be there.

In every second run LMDB does not sync: its fdatasync would make our own files durable by the way, and hide that we had
forgotten to; and its torn files are what an index must be rebuilt from.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.crash.forkserver import ForkServer
from tests.crash.ground import IS_SOAK
from tests.crash.power import Acknowledged, LeftOut, look_after_cut, make_repository, write_until_cut
from tests.needs import needs_loop_mounts, needs_tool

pytestmark = [needs_loop_mounts, needs_tool("mkfs.xfs")]

CUTS = 1_000 if IS_SOAK else 50
"""Of each file system."""
CONTROL_CUTS = 100 if IS_SOAK else 12
_RENEWED_EVERY = 10
"""Cuts that one repository takes; more would mostly test old data again."""
_MKFS = {
    "ext4": ["mkfs.ext4", "-q", "-F"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
}
_IMAGE_BYTES = 320 * 1024 * 1024
"""Sparse; what xfs asks for at least."""


@dataclass
class Disk:
    """A file system in an image."""

    image: Path
    point: Path

    def mount(self) -> None:
        """Make it accessible, recovering its journal."""
        _run("mount", "-o", "loop", str(self.image), str(self.point))

    def unmount(self) -> None:
        """Let go of it."""
        _run("umount", str(self.point))


@dataclass
class Outcome:
    """Of many cuts."""

    steps: int = 0
    """That were acknowledged before a cut."""
    wrong: list[list[str]] = field(default_factory=list)
    """What was wrong after each cut after which something was."""


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def _disk(folder: Path, kind: str) -> Iterator[Disk]:
    disk = Disk(folder / f"{kind}.img", folder / f"{kind}.mounted")
    with open(disk.image, "wb") as image:
        image.truncate(_IMAGE_BYTES)
    _run(*_MKFS[kind], str(disk.image))
    disk.point.mkdir(exist_ok=True)
    disk.mount()
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk.point)], check=False, capture_output=True)
        disk.image.unlink()


def _cut_often(server: ForkServer, disk: Disk, cuts: int, left_out: LeftOut) -> Outcome:
    outcome = Outcome()
    folder = disk.point / "store"
    kept: list[Acknowledged] = []
    for cut in range(cuts):
        if cut % _RENEWED_EVERY == 0 or outcome.wrong:
            kept = []
            shutil.rmtree(folder, ignore_errors=True)
            assert server.run(make_repository, folder).status == 0
            _run("sync", "-f", str(disk.point))
        sync_index = left_out is LeftOut.NOTHING and cut % 2 == 0
        ended = server.run(write_until_cut, folder, 1_000 * (cut + 1), cut, left_out, sync_index=sync_index)
        assert ended.status == 0, ended.printed
        (acknowledged,) = ended.said
        outcome.steps += len(acknowledged)
        kept += acknowledged
        disk.unmount()
        disk.mount()
        looked = server.run(look_after_cut, folder, kept)
        if looked.said != ([],):
            found = [f"after cut {cut}: {problem}" for problems in looked.said for problem in problems]
            outcome.wrong.append(found or [f"after cut {cut}: {looked.status}, {looked.printed}"])
    return outcome


@pytest.mark.parametrize("kind", _MKFS)
def test_nothing_acknowledged_is_lost(server: ForkServer, fast_folder: Path, kind: str) -> None:
    with _disk(fast_folder, kind) as disk:
        outcome = _cut_often(server, disk, CUTS, LeftOut.NOTHING)
    print(f"{kind}: {CUTS} cuts, {outcome.steps} acknowledged steps before them")
    assert not outcome.wrong, "\n".join(line for lines in outcome.wrong for line in lines)
    assert outcome.steps > CUTS


@pytest.mark.parametrize("left_out", [LeftOut.FILES, LeftOut.FOLDERS, LeftOut.ALL])
@pytest.mark.parametrize("kind", _MKFS)
def test_a_sync_that_is_left_out_is_caught(server: ForkServer, fast_folder: Path, kind: str, left_out: LeftOut) -> None:
    """The negative control: the same test, with fsync of files, folders or all left out, sees losses after most cuts.

    (Without folders only the last step is lost: the sync of the next file writes the journal of the one before.)
    """
    with _disk(fast_folder, kind) as disk:
        outcome = _cut_often(server, disk, CONTROL_CUTS, left_out)
    print(f"{kind}: without fsync of {left_out.value}: {len(outcome.wrong)} of {CONTROL_CUTS} cuts lost something")
    assert len(outcome.wrong) > CONTROL_CUTS // (4 if left_out is LeftOut.FOLDERS else 2)
