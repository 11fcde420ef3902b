"""What happens where the compiled kernel is absent, stale, foreign or broken? The next backend takes over."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import moorage.native
from moorage import native
from moorage.native import BackendUnavailable, CBackend, NumpyBackend, PythonBackend
from moorage.native.c_backend import ABI_VERSION
from tests.needs import needs_tool
from tests.unit.native.backends import KERNEL_SOURCE, backend, gear, random_bytes

PARAMS = gear(64, 128, 256, small_bits=7, large_bits=3)


def compiled(source: str, folder: Path, *flags: str) -> Path:
    """`source` as a shared library."""
    (folder / "kernel.c").write_text(source)
    library = folder / "_kernel.so"
    command = ["cc", "-O3", "-shared", "-fPIC", *flags, "-o", str(library), str(folder / "kernel.c")]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library


@needs_tool("cc")
def test_the_source_compiles_without_a_warning_and_loads(tmp_path: Path) -> None:
    library = compiled(
        KERNEL_SOURCE.read_text(), tmp_path, "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"
    )
    data = random_bytes("fresh", 5_000)
    assert CBackend(library).cut_points(data, PARAMS, True) == PythonBackend().cut_points(data, PARAMS, True)


@needs_tool("cc")
def test_a_kernel_of_another_version_is_not_used(tmp_path: Path) -> None:
    older = re.sub(r"#define ABI_VERSION \d+", f"#define ABI_VERSION {ABI_VERSION - 1}", KERNEL_SOURCE.read_text())
    library = compiled(older, tmp_path)
    with pytest.raises(BackendUnavailable, match=f"version {ABI_VERSION - 1}, not {ABI_VERSION}"):
        CBackend(library)


@needs_tool("cc")
def test_a_library_without_our_functions_is_not_used(tmp_path: Path) -> None:
    library = compiled("int something_else(void) { return 0; }", tmp_path)
    with pytest.raises(BackendUnavailable, match="moorage_kernel_abi"):
        CBackend(library)


def test_an_absent_or_foreign_file_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="cannot be loaded"):
        CBackend(tmp_path / "absent.so")
    foreign = tmp_path / "foreign.so"
    foreign.write_bytes(b"\x7fELF of another machine")
    with pytest.raises(BackendUnavailable, match="cannot be loaded"):
        CBackend(foreign)


def test_numpy_that_cannot_be_imported_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(BackendUnavailable, match="numpy"):
        NumpyBackend()


def test_the_first_that_works_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend("numpy")

    def no_kernel() -> CBackend:
        return CBackend(tmp_path / "absent.so")

    chosen, reasons = native.choose((no_kernel, NumpyBackend, PythonBackend))
    assert (chosen.name, len(reasons)) == ("numpy", 1)
    monkeypatch.setitem(sys.modules, "numpy", None)
    chosen, reasons = native.choose((no_kernel, NumpyBackend, PythonBackend))
    assert (chosen.name, len(reasons)) == ("python", 2)


def test_the_kernel_is_chosen_where_it_works() -> None:
    backend("c")
    assert native.backend_name() == native.selected().name == "c"
    assert native.why_not_faster() == []


def test_the_functions_of_the_package_are_those_of_the_chosen_backend() -> None:
    data = random_bytes("front", 3_000)
    assert native.cut_points(data, PARAMS, True) == native.selected().cut_points(data, PARAMS, True)
    assert native.split_planes(data, 4) == native.selected().split_planes(data, 4)
    assert native.gather([(1, [data])]) == native.selected().gather([(1, [data])]) == data


def test_a_package_without_its_kernel_works(tmp_path: Path) -> None:
    """A whole process over a copy of the package that nothing was compiled for."""
    package = Path(moorage.native.__file__).parents[1]
    shutil.copytree(package, tmp_path / "moorage", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    data = random_bytes("without", 3_000)
    program = (
        "import sys; sys.modules['numpy'] = None\n"
        "from moorage import native\n"
        f"params = native.GearParams({PARAMS.min_bytes}, {PARAMS.target_bytes}, {PARAMS.max_bytes},"
        f" {PARAMS.mask_small}, {PARAMS.mask_large})\n"
        "print(native.backend_name(), native.cut_points(sys.stdin.buffer.read(), params, True))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=data, cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.decode().strip() == f"python {native.cut_points(data, PARAMS, True)}"
