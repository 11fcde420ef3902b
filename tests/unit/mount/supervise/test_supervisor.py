"""Is the supervisor as small as it says?"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.needs import needs_linux

PROGRAM = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({"modules": sorted(sys.modules), "kib": int(status["VmHWM"].split()[0])}))
"""
pytestmark = needs_linux

MOST_KIB = 30 * 1024
HEAVY = {
    "blake3",
    "lmdb",
    "msgspec",
    "numpy",
    "typer",
    "zstandard",
    "moorage.repository.handle",
    "moorage.mount.shown.view",
}


def importing(module: str) -> tuple[set[str], int]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, module], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    return set(found["modules"]), found["kib"]


@pytest.mark.parametrize("package", ["supervise", "private"])
def test_it_imports_nothing_of_what_reads_repositories(package: str) -> None:
    modules, kib = importing(f"moorage.mount.{package}.supervisor")
    assert modules & HEAVY == set()
    assert kib < MOST_KIB


def test_control_a_server_does() -> None:
    modules, _ = importing("moorage.mount.supervise.supervised")
    assert HEAVY - modules <= {"numpy", "typer"}
