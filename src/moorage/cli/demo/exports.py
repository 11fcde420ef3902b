"""What does a training job leave in a directory? A classifier, an encoder's weights, and the table they learned from.

    models/model.pkl              a pickle: scikit-learn's forest where it is installed, else one of plain tuples
    models/encoder.safetensors    100 tensors of bf16; in version 2 two of them are others
    data/train.parquet (or .csv)  the table; in version 2 it has a few rows more
    README.md

Each is written by the library that really writes such files where that is installed, else by hand in the same format.
"""

from __future__ import annotations

import csv
import pickle
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moorage.cli.demo.weights import ELEMENT_BYTES, Tensor, write_safetensors

TENSORS = 100
TUNED = (41, 73)
"""The tensors that version 2 has changed: 2 % of them."""
COLUMNS = 1024
ROWS_FOR_A_MIB = 500
MORE_ROWS = 0.02
"""In version 2, as a part of those in version 1."""
TREES, DEPTH = 50, 9
FEATURES = ("amount", "age", "balance", "duration")

Row = tuple[float, float, float, float, int]


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was made."""

    path: str
    """Below the directory."""
    size_bytes: int
    by: str
    """What wrote it."""


@dataclass(frozen=True, slots=True)
class Release:
    """One state of the training."""

    version: int
    accuracy: float


RELEASES = (Release(1, 0.91), Release(2, 0.94))


def write_release(folder: Path, release: Release, size_mib: int) -> list[Written]:
    """Write what is different in `release`, everything in the first; the weights take about `size_mib`."""
    for name in ("models", "data"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = _rows(int(ROWS_FOR_A_MIB * size_mib * (1 + MORE_ROWS * (release.version - 1))))
    table, table_by = _write_table(folder / "data", rows)
    by = {
        "models/model.pkl": _write_model(folder / "models/model.pkl", release, rows[:2000]),
        "models/encoder.safetensors": write_safetensors(
            folder / "models/encoder.safetensors", _tensors(release, size_mib), {"version": f"v{release.version}"}
        ),
        table: table_by,
    }
    if release.version == 1:
        (folder / "README.md").write_text("# credit-risk\n\nA classifier, its encoder, and what they learned from.\n")
        by["README.md"] = "text"
    return [Written(path, (folder / path).stat().st_size, by[path]) for path in by]


def _tensors(release: Release, size_mib: int) -> list[Tensor]:
    shape = (max(1, size_mib * 1024 * 1024 // (TENSORS * COLUMNS * ELEMENT_BYTES)), COLUMNS)
    return [
        Tensor(
            f"encoder.layers.{number}.weight", shape, f"{number}-{release.version if number in TUNED else 'pretrained'}"
        )
        for number in range(TENSORS)
    ]


# -- the table -------------------------------------------------------------------------------------


def _rows(number: int) -> list[Row]:
    draw = random.Random("rows")
    rows: list[Row] = []
    for _ in range(number):
        amount, age = round(draw.lognormvariate(6, 1), 2), float(draw.randint(18, 80))
        balance, duration = round(draw.gauss(2000, 1500), 2), float(draw.randint(6, 72))
        rows.append((amount, age, balance, duration, int(amount * duration > 20 * balance)))
    return rows


def _write_table(folder: Path, rows: Sequence[Row]) -> tuple[str, str]:
    names = (*FEATURES, "default")
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        with open(folder / "train.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            writer.writerows(rows)
        return "data/train.csv", "written by Python's csv"
    table = pa.table(dict(zip(names, zip(*rows, strict=True), strict=True)))
    parquet.write_table(table, folder / "train.parquet", row_group_size=10_000)
    return "data/train.parquet", f"written by pyarrow {pa.__version__}"


# -- the classifier --------------------------------------------------------------------------------


def _write_model(path: Path, release: Release, rows: Sequence[Row]) -> str:
    """A dictionary around the estimator, so that any program can say which version it has loaded."""
    estimator, by = _estimator(release, rows)
    model = {
        "name": "credit-risk",
        "version": f"v{release.version}",
        "accuracy": release.accuracy,
        "features": FEATURES,
        "estimator": estimator,
    }
    with open(path, "wb") as file:
        pickle.dump(model, file, protocol=5)
    return by


def _estimator(release: Release, rows: Sequence[Row]) -> tuple[object, str]:
    try:
        import sklearn
        from sklearn.ensemble import RandomForestClassifier
    except ImportError:
        draw = random.Random(release.version)
        return [_tree(draw, DEPTH) for _ in range(TREES)], "pickle of a forest of plain tuples"
    forest = RandomForestClassifier(n_estimators=TREES, max_depth=DEPTH, random_state=release.version)
    forest.fit([row[:4] for row in rows], [row[4] for row in rows])
    return forest, f"pickle of a forest of scikit-learn {sklearn.__version__}"


def _tree(draw: random.Random, depth: int) -> object:
    """(feature, threshold, below, above), and at the leaves a probability."""
    if depth == 0:
        return draw.random()
    return (draw.randrange(len(FEATURES)), draw.gauss(0, 1), _tree(draw, depth - 1), _tree(draw, depth - 1))
