"""Do the libraries that people load models with get from a mount what they get from a disk?

Each program runs twice in a process of its own, once on a plain directory and once on the mount, knows nothing of
moorage, and must say the same both times. The files are made by the same libraries.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.mount.build import Content
from tests.mount.conftest import Mount, MountIt
from tests.needs import libfuse_missing, needs_fuse, needs_module, require

pytestmark = needs_fuse

NUMPY, JOBLIB, PANDAS, PYARROW, SAFETENSORS, TORCH = (
    needs_module(name) for name in ("numpy", "joblib", "pandas", "pyarrow", "safetensors", "torch")
)

WRITERS: dict[str, tuple[tuple[str, ...], str]] = {
    "standard": (
        (),
        """
import pickle, sqlite3, zipfile
pickle.dump({"weights": list(range(100_000)), "name": "model"}, open("model.pkl", "wb"))
with zipfile.ZipFile("model.zip", "w") as archive:
    archive.write("model.pkl")
with sqlite3.connect("table.db") as db:
    db.execute("create table t (x integer)")
    db.executemany("insert into t values (?)", ((x,) for x in range(20_000)))
""",
    ),
    "numpy": (
        ("numpy",),
        """
import numpy as np
values = np.arange(3_000_000, dtype="float32").reshape(1000, 3000)
np.save("array.npy", values)
np.savez("arrays.npz", a=values, b=values[:10])
values.tofile("array.raw")
""",
    ),
    "joblib": (
        ("joblib", "numpy"),
        """
import joblib, numpy as np
joblib.dump({"coefficients": np.arange(500_000, dtype="float64"), "classes": ["a", "b"]}, "model.joblib")
""",
    ),
    "tables": (
        ("pandas", "pyarrow"),
        """
import numpy as np, pandas as pd, pyarrow as pa, pyarrow.feather as feather
frame = pd.DataFrame({"x": np.arange(50_000), "y": np.arange(50_000) / 7, "z": [f"row {n}" for n in range(50_000)]})
frame.to_parquet("table.parquet")
frame.to_csv("table.csv", index=False)
feather.write_feather(pa.Table.from_pandas(frame), "table.feather", compression="uncompressed")
""",
    ),
    "safetensors": (
        ("safetensors", "numpy"),
        """
import numpy as np
from safetensors.numpy import save_file
save_file({f"w{n}": np.full((256, 512), n, dtype="float32") for n in range(16)}, "model.safetensors")
""",
    ),
    "torch": (
        ("torch",),
        """
import torch
torch.save({f"w{n}": torch.full((256, 512), float(n)) for n in range(16)}, "model.pt")
""",
    ),
}


class Reader(NamedTuple):
    """One way of reading."""

    needs: tuple[pytest.MarkDecorator, ...]
    program: str


READERS = {
    "pickle": Reader((), "import pickle; print(sum(pickle.load(open('model.pkl', 'rb'))['weights']))"),
    "zipfile": Reader((), "import zipfile; print(len(zipfile.ZipFile('model.zip').read('model.pkl')))"),
    "sqlite": Reader(
        (),
        """
import sqlite3
db = sqlite3.connect("file:table.db?immutable=1", uri=True)
print(db.execute("select sum(x) from t").fetchone())
""",
    ),
    "sendfile": Reader(
        (),
        """
import os
read, write = os.pipe()
file = open("model.pkl", "rb")
print(os.sendfile(write, file.fileno(), 5, 1000), sum(os.read(read, 1000)))
""",
    ),
    "populated map": Reader(
        (),
        """
import mmap
file = open("model.pkl", "rb")
map = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE | mmap.MAP_POPULATE, prot=mmap.PROT_READ)
print(sum(map[::4096]))
""",
    ),
    "np.load": Reader((NUMPY,), "import numpy as np; print(np.load('array.npy').sum())"),
    "np.load mmap_mode=r": Reader(
        (NUMPY,),
        """
import numpy as np
array = np.load("array.npy", mmap_mode="r")
print(type(array).__name__, array[-1].sum(), array.sum())
""",
    ),
    "np.load mmap_mode=c": Reader(
        (NUMPY,),
        """
import numpy as np
array = np.load("array.npy", mmap_mode="c")
array[0] = 1
print(array[0].sum(), array[1].sum())
""",
    ),
    "np.memmap": Reader(
        (NUMPY,),
        """
import numpy as np
array = np.memmap("array.raw", dtype="float32", mode="r")
print(array.shape, array[::1000].sum())
""",
    ),
    "np.load of npz": Reader((NUMPY,), "import numpy as np; print(np.load('arrays.npz')['b'].sum())"),
    "joblib": Reader((JOBLIB, NUMPY), "import joblib; print(joblib.load('model.joblib')['coefficients'].sum())"),
    "joblib mmap_mode=r": Reader(
        (JOBLIB, NUMPY),
        """
import joblib
model = joblib.load("model.joblib", mmap_mode="r")
print(type(model["coefficients"]).__name__, model["coefficients"].sum(), model["classes"])
""",
    ),
    "read_parquet": Reader(
        (PANDAS, PYARROW),
        """
import pandas as pd
frame = pd.read_parquet("table.parquet")
print(frame.shape, frame["y"].sum(), frame["z"].iloc[-1])
""",
    ),
    "read_parquet of one column": Reader(
        (PANDAS, PYARROW), "import pandas as pd; print(pd.read_parquet('table.parquet', columns=['x'])['x'].sum())"
    ),
    "parquet by memory map": Reader(
        (PYARROW, PANDAS),
        "import pyarrow.parquet as pq; print(pq.read_table('table.parquet', memory_map=True).num_rows)",
    ),
    "read_csv": Reader((PANDAS, PYARROW), "import pandas as pd; print(pd.read_csv('table.csv')['y'].sum())"),
    "feather by memory map": Reader(
        (PYARROW, PANDAS),
        "import pyarrow.feather as feather; print(feather.read_table('table.feather', memory_map=True)['x'][49_999])",
    ),
    "safe_open": Reader(
        (SAFETENSORS, NUMPY),
        """
from safetensors import safe_open
with safe_open("model.safetensors", "np") as file:
    print(sorted(file.keys()), file.get_tensor("w3").sum(), file.get_slice("w5")[:2].sum())
""",
    ),
    "safetensors load_file": Reader(
        (SAFETENSORS, NUMPY),
        """
from safetensors.numpy import load_file
print(sum(float(tensor.sum()) for tensor in load_file("model.safetensors").values()))
""",
    ),
    "torch.load": Reader(
        (TORCH,), "import torch; print(sum(float(tensor.sum()) for tensor in torch.load('model.pt').values()))"
    ),
    "torch.load mmap": Reader(
        (TORCH,),
        "import torch; print(sum(float(tensor.sum()) for tensor in torch.load('model.pt', mmap=True).values()))",
    ),
}


def _is_here(name: str) -> bool:
    probe = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    return subprocess.run([sys.executable, "-c", probe, name], check=False).returncode == 0


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as the installed libraries write them."""
    directory = tmp_path_factory.mktemp("plain")
    for modules, program in WRITERS.values():
        if all(map(_is_here, modules)):
            subprocess.run([sys.executable, "-c", program], cwd=directory, check=True)
    return directory


@pytest.fixture(scope="module", params=["kernel", "libfuse"])
def mount(request: pytest.FixtureRequest, mount_it: MountIt, plain: Path) -> Mount:
    if request.param == "libfuse":
        require(libfuse_missing)
    files: dict[str, Content] = {path.name: path.read_bytes() for path in plain.iterdir()}
    return mount_it({"models": files}, driver=request.param)


def said(program: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=reader.needs) for way, reader in READERS.items()], ids=list(READERS)
)
def test_it_reads_the_same(mount: Mount, plain: Path, way: str) -> None:
    program = READERS[way].program
    assert said(program, mount.path / "models") == said(program, plain) != ""


@pytest.mark.parametrize("program", ["open('model.pkl', 'r+b')", "open('new', 'wb')"])
def test_who_wants_to_write_is_told_at_once(mount: Mount, program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=mount.path / "models", capture_output=True, text=True, check=False
    )
    assert "Read-only file system" in done.stderr
