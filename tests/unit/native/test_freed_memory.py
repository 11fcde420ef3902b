"""Is memory that was freed still there for the next buffer, once a program has asked for that?"""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from moorage.native.freed_memory import keep_freed_memory
from tests.needs import require

PROGRAM = """
import resource, sys
from moorage.native.freed_memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def turn():
    held = [bytes(3 << 20), bytes(2 << 20), bytes(1 << 20)]
    held.clear()
for _ in range(3):
    turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    turn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Page faults of 50 times the same buffers."""
    require(lambda: None if platform.libc_ver()[0] == "glibc" else "another C library than glibc")
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_what_was_freed_is_there_for_the_next() -> None:
    assert faults("keep") < 100


def test_without_asking_it_is_not() -> None:
    """The control: the same buffers are fresh memory each time."""
    assert faults("leave") > 1_000


def test_a_c_library_without_the_setting_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory()
