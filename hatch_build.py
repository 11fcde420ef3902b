"""How does the C kernel get into a wheel, and what happens where there is no compiler?

hatchling runs this hook for `pip install .`, `pip install -e .` and `python -m build`. It compiles the one C file next
to its Python loader and marks the wheel for this platform; the library is loaded by ctypes, so one wheel serves every
Python version. Where there is no C compiler, or what it makes cannot be loaded, the wheel is pure Python: the fallback
has the same cut points, slower. An install never fails because of the kernel.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

SOURCE = Path("src/moorage/native/kernel.c")
LIBRARY = Path("src/moorage/native/_kernel.so")
# No -march=native: a wheel may be built on one machine and run on another.
FLAGS = ("-O3", "-shared", "-fPIC")
TIMEOUT_SECONDS = 120


class KernelBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # its parameter is the builder's config, unused here
    """Compiles the kernel before the files of a wheel are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the compiled kernel to the wheel, or leave the wheel pure."""
        root = Path(self.root)
        if not compile_kernel(root / SOURCE, root / LIBRARY):
            return
        build_data["artifacts"].append(f"/{LIBRARY.as_posix()}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform_tag()}"


def compile_kernel(source: Path, library: Path) -> bool:
    """Compile and put in place; False, and no library left, where that cannot be done.

    The new library gets its name by a rename: a process that has the old one loaded keeps its own file, while writing
    over that file would crash it. An old library does not outlive a failed compile, since it may not match the source.
    """
    made = library.with_name(f"{library.name}.{os.getpid()}.tmp")
    try:
        if any(_compiles(compiler, source, made) for compiler in _compilers()):
            made.replace(library)
            return True
        library.unlink(missing_ok=True)
    except OSError as error:
        print(f"moorage: the C kernel was not built: {error}", file=sys.stderr)  # noqa: T201  # the build's log
    finally:
        made.unlink(missing_ok=True)
    return False


def _compilers() -> list[list[str]]:
    """What may compile, best first. CC, where it is set, is the only one: `CC=false` means no kernel."""
    chosen = os.environ.get("CC")
    candidates = [shlex.split(chosen)] if chosen else [["cc"], ["gcc"], ["clang"]]
    return [command for command in candidates if command and shutil.which(command[0])]


def _compiles(compiler: list[str], source: Path, made: Path) -> bool:
    """Whether this compiler makes a library that this Python can load (a cross compiler does not)."""
    if not source.is_file():
        return False
    try:
        subprocess.run(
            [*compiler, *FLAGS, "-o", str(made), str(source)],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
        )
        ctypes.CDLL(str(made))
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _platform_tag() -> str:
    """The tag of this very platform: on Linux plain `linux_<machine>`, as nothing here proves a manylinux promise."""
    return next((tag for tag in platform_tags() if tag.startswith("linux_")), next(platform_tags()))
