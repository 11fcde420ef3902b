"""What is stored in a benchmark? Data made from seeds: the same bytes in every run.

* weights: files like those of safetensors, of bf16 tensors drawn from normal distributions whose width differs from
  tensor to tensor, as it does in a trained model; 4 files of 25 tensors, so that 2 tensors are 2 %
* a second version: the same files written anew, 2 of the 100 tensors trained on (every number of them moved a little)
* incompressible: pseudo-random bytes
* small files: 20,000 of a few kB each, half of them text, in folders of 100

Weights need numpy (an extra of the project: `libraries`).
"""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path
from typing import Any

from blake3 import blake3

WEIGHT_FILES = 4
TENSORS_PER_FILE = 25
CHANGED = frozenset({(1, 7), (2, 19)})
"""(file, tensor) of those that the second version has trained on: 2 %."""
_COLUMNS = 1024
_PIECE_BYTES = 8 * 1024 * 1024
_WORDS = ("layer", "weight", "bias", "norm", "attention", "value", "token", "epoch", "loss", "rate", "step", "score")


def has_numpy() -> bool:
    """Whether weights can be made here."""
    return importlib.util.find_spec("numpy") is not None


def make_weights(folder: Path, size_bytes: int, *, seed: int = 1, changed: bool = False) -> None:
    """A model of about `size_bytes`; with `changed` its second version."""
    folder.mkdir(parents=True)
    rows = max(1, size_bytes // (WEIGHT_FILES * TENSORS_PER_FILE) // (2 * _COLUMNS))
    tensor_bytes = 2 * _COLUMNS * rows
    for file in range(WEIGHT_FILES):
        header: dict[str, Any] = {
            f"model.layers.{file * TENSORS_PER_FILE + tensor}.weight": {
                "dtype": "BF16",
                "shape": [rows, _COLUMNS],
                "data_offsets": [tensor * tensor_bytes, (tensor + 1) * tensor_bytes],
            }
            for tensor in range(TENSORS_PER_FILE)
        }
        encoded = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
        encoded += b" " * (-len(encoded) % 8)
        with (folder / f"model-{file + 1:05}-of-{WEIGHT_FILES:05}.safetensors").open("wb") as output:
            output.write(len(encoded).to_bytes(8, "little") + encoded)
            for tensor in range(TENSORS_PER_FILE):
                trained = changed and (file, tensor) in CHANGED
                output.write(_tensor(seed, file, tensor, rows * _COLUMNS, trained=trained))


def _tensor(seed: int, file: int, tensor: int, count: int, *, trained: bool) -> bytes:
    import numpy as np

    generator = np.random.default_rng([seed, file, tensor])
    width = 0.02 * 2.0 ** generator.uniform(-2, 2)
    values = generator.standard_normal(count, dtype=np.float32) * np.float32(width)
    if trained:
        values += generator.standard_normal(count, dtype=np.float32) * np.float32(width / 50)
    bits = values.view(np.uint32)
    # Rounded to the nearest bf16, ties to even, as frameworks round.
    bits += np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    made: bytes = (bits >> np.uint32(16)).astype(np.uint16).tobytes()
    return made


def make_incompressible(folder: Path, size_bytes: int, *, seed: int = 1) -> None:
    """Four files of pseudo-random bytes."""
    folder.mkdir(parents=True)
    for file in range(WEIGHT_FILES):
        make_noise(folder / f"archive-{file}.bin", size_bytes // WEIGHT_FILES, f"{seed}/{file}")


def make_noise(path: Path, size_bytes: int, key: str = "") -> None:
    """A file of pseudo-random bytes, others for each `key`."""
    hasher = blake3(key.encode())
    with path.open("wb") as output:
        for start in range(0, size_bytes, _PIECE_BYTES):
            output.write(hasher.digest(length=min(_PIECE_BYTES, size_bytes - start), seek=start))


def make_small_files(folder: Path, count: int, *, seed: int = 1) -> None:
    """Many files of about 2.7 kB on average, the largest 64 KiB; half of them JSON lines, half bytes like pickles."""
    chance = random.Random(seed)
    for number in range(count):
        inside = folder / f"run-{number // 100:04}"
        if number % 100 == 0:
            inside.mkdir(parents=True)
        size = min(64 * 1024, max(1, int(chance.lognormvariate(7.3, 1.1))))
        if number % 2:
            (inside / f"metrics-{number:06}.json").write_bytes(_lines(chance, size))
        else:
            (inside / f"sample-{number:06}.bin").write_bytes(_half_noise(chance, size))


def _lines(chance: random.Random, size: int) -> bytes:
    lines: list[str] = []
    left = size
    while left > 0:
        line = json.dumps({chance.choice(_WORDS): round(chance.random(), 6), "step": chance.randrange(100_000)})
        lines.append(line)
        left -= len(line) + 1
    return "\n".join(lines).encode()[:size]


def _half_noise(chance: random.Random, size: int) -> bytes:
    """Random bytes between runs of zeros."""
    half = chance.randbytes((size + 1) // 2)
    return b"".join(half[start : start + 32] + bytes(32) for start in range(0, len(half), 32))[:size]
