"""Does memory stay bounded, whatever the size of a file?

Each measurement is of a process of its own, since what a process once took it keeps.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import needs_linux

ROOT = Path(__file__).resolve().parents[3]
MIB = 1024 * 1024
MOST_BYTES = 200 * MIB

PROGRAM = """
import os, sys
import moorage

folder, what, mib = sys.argv[1], sys.argv[2], int(sys.argv[3])

class Noise:
    left = mib << 20
    def read(self, size):
        data = os.urandom(min(size, self.left))
        self.left -= len(data)
        return data

with moorage.Repository.create(f"{folder}/store") as repo:
    if what == "sparse":
        with open(f"{folder}/file", "wb") as file:
            file.truncate(mib << 20)
        result = repo.commit(f"{folder}/file", branch="b", at="file", create=True)
    else:
        result = repo.commit(Noise(), branch="b", at="file", create=True)
    size = sum(len(piece) for piece in repo.read_pieces("b:file"))
    assert size == result.logical_bytes == mib << 20
    # Not ru_maxrss: Linux counts into it what the process that started this one took.
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(int(status["VmHWM"].split()[0]) * 1024, result.new_bytes)
"""


def peak(folder: Path, what: str, mib: int) -> tuple[int, int]:
    """(peak memory of the process, bytes that were new) when a file of so many MiB is committed and read back."""
    command = [sys.executable, "-c", PROGRAM, str(folder), what, str(mib)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    memory, new = done.stdout.split()
    return int(memory), int(new)


@needs_linux
@pytest.mark.parametrize(("what", "mib"), [("sparse", 512), ("noise", 300)])
def test_a_large_file_takes_no_more_memory_than_it_may(tmp_path: Path, what: str, mib: int) -> None:
    memory, new = peak(tmp_path, what, mib)
    assert memory < MOST_BYTES
    assert new == (256 * 1024 if what == "sparse" else mib * MIB)
