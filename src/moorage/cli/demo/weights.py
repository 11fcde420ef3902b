"""What do trained weights look like to a compressor, and how does a file of them?

bf16 numbers of a normal distribution: the byte with sign and exponent takes few values, the byte with the mantissa is
noise. Both are drawn byte by byte, many at a time, so it takes the standard library half a second to make 100 MiB.

safetensors: 8 bytes with the length of a header (little-endian), the header in JSON, then the tensors back to back. See
https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import NormalDist

ELEMENT_BYTES = 2
_STANDARD_DEVIATION = 0.02
_ALIGNMENT_BYTES = 8


@dataclass(frozen=True, slots=True)
class Tensor:
    """A matrix of bf16, made from its seed when it is needed."""

    name: str
    shape: tuple[int, int]
    seed: str

    @property
    def size_bytes(self) -> int:
        """Of all its elements."""
        return self.shape[0] * self.shape[1] * ELEMENT_BYTES

    def data(self) -> bytes:
        """Its elements, row by row, little-endian: the noisy byte first."""
        draw = random.Random(self.seed)
        half = self.size_bytes // ELEMENT_BYTES
        elements = bytearray(self.size_bytes)
        elements[0::2] = draw.randbytes(half)
        elements[1::2] = draw.randbytes(half).translate(_SIGN_AND_EXPONENT)
        return bytes(elements)


def _sign_and_exponent() -> bytes:
    """For each of 256 equally likely draws the high byte of a bf16 number of our normal distribution."""
    normal = NormalDist(0, _STANDARD_DEVIATION)
    quantiles = (normal.inv_cdf((draw + 0.5) / 256) for draw in range(256))
    return bytes(struct.pack(">f", quantile)[0] for quantile in quantiles)


_SIGN_AND_EXPONENT = _sign_and_exponent()


def write_safetensors(path: Path, tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> str:
    """Write a file of tensors, and say what wrote it: safetensors, where it and a bf16 for numpy are installed."""
    try:
        import numpy as np
        import safetensors
        from safetensors.numpy import save_file

        bfloat16 = import_module("ml_dtypes").bfloat16
    except ImportError:
        with open(path, "wb") as file:
            file.writelines(_file_of(tensors, metadata))
        return "bf16, written by hand: a JSON header, then the tensors"
    arrays = {tensor.name: np.frombuffer(tensor.data(), dtype=bfloat16).reshape(tensor.shape) for tensor in tensors}
    save_file(arrays, path, dict(metadata))
    return f"bf16, written by safetensors {safetensors.__version__}"


def _file_of(tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> Iterator[bytes]:
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.size_bytes
        header[tensor.name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT_BYTES)
    yield struct.pack("<Q", len(text))
    yield text
    for tensor in tensors:
        yield tensor.data()
