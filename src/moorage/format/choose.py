"""Which encoding suits these bytes? Decided on a sample, so that bytes that do not compress are never compressed.

A sample of at most 16 KiB from the middle is written every way that could pay; the smallest wins if it saves at least a
few percent. What won is remembered by a `Chooser`, one a file, and only re-examined where the remembered way does worse
or better than it did, so that the cost of choosing stays near one percent.
"""

from __future__ import annotations

from moorage import native
from moorage.format.stored import PLANE_WIDTHS, RAW, WORTHWHILE, Encoding, Method, compress
from moorage.model.objects import Codec

SAMPLE_BYTES = 16 * 1024
MIN_PLANES_BYTES = 4 * 1024
"""Below this the table of planes and the frames' headers eat what planes save."""
_WIDEST = max(PLANE_WIDTHS.values())
_DRIFT = 0.04
_BETTER_BY = 0.9
"""A search for matches is slower than entropy coding alone: it must be this much smaller to be chosen for a plane."""


def choose(sample: bytes | memoryview, *, level: int) -> tuple[Encoding, float]:
    """The encoding that makes `sample` smallest, and its size as a part of the sample's length."""
    if len(sample) == 0:
        return RAW, 1.0
    best, best_ratio = RAW, 1.0
    for candidate, ratio in _candidates(sample, level):
        # The order is from cheap to costly to decode: a later one must be clearly smaller.
        if ratio < min(best_ratio * 0.98, WORTHWHILE):
            best, best_ratio = candidate, ratio
    return best, best_ratio


def _candidates(sample: bytes | memoryview, level: int) -> list[tuple[Encoding, float]]:
    found = [
        (Encoding(Codec.ZSTD, (method,)), len(compress(sample, method, level)) / len(sample))
        for method in (Method.ENTROPY, Method.ZSTD)
    ]
    if len(sample) >= MIN_PLANES_BYTES:
        for codec, width in PLANE_WIDTHS.items():
            found.append(_planes(sample, codec, width, level))
    return found


def _planes(sample: bytes | memoryview, codec: Codec, width: int, level: int) -> tuple[Encoding, float]:
    planes = memoryview(native.split_planes(sample, width))
    length = len(sample) // width
    methods: list[Method] = []
    total = len(sample) - width * length + 4 * width
    for number in range(width):
        plane = planes[number * length : (number + 1) * length]
        method, size = Method.RAW, length
        entropy = len(compress(plane, Method.ENTROPY, level))
        if entropy < length * WORTHWHILE:
            method, size = Method.ENTROPY, entropy
            searched = len(compress(plane, Method.ZSTD, level))
            if searched < entropy * _BETTER_BY:
                method, size = Method.ZSTD, searched
        methods.append(method)
        total += size
    return Encoding(codec, tuple(methods)), total / len(sample)


class Chooser:
    """Remembers what suited the last sample of one stream of chunks; cheap to make.

    May be called from several threads: they may overwrite what each other remembers, which costs a little room and
    never a byte's rightness.
    """

    def __init__(self, level: int) -> None:
        """`level` is the repository's zstd level."""
        self._level = level
        self._last: tuple[Encoding, float] | None = None
        """One tuple, so that an encoding and its ratio always belong together."""

    def choose(self, data: bytes | memoryview, offset: int) -> Encoding:
        """The encoding for chunks like `data` that start at multiples of 8 (see `Encoding.at`); `data` starts at
        `offset` of its file."""
        start = max(0, (len(data) - SAMPLE_BYTES) // 2)
        start += -(offset + start) % _WIDEST
        sample = memoryview(data)[start : start + SAMPLE_BYTES]
        last = self._last
        if last is None or not self._still_suits(*last, sample):
            self._last = last = choose(sample, level=self._level)
        return last[0]

    def _still_suits(self, encoding: Encoding, remembered: float, sample: memoryview) -> bool:
        if len(sample) < MIN_PLANES_BYTES:
            return False
        if encoding.codec is Codec.RAW:
            # What did not compress may be followed by what does: one cheap trial tells.
            return len(compress(sample, Method.ENTROPY, self._level)) >= len(sample) * WORTHWHILE
        if encoding.codec is Codec.ZSTD:
            ratio = len(compress(sample, encoding.methods[0], self._level)) / len(sample)
        else:
            ratio = _planes_ratio(sample, encoding, self._level)
        return abs(ratio - remembered) < _DRIFT


def _planes_ratio(sample: memoryview, encoding: Encoding, level: int) -> float:
    """The size of `sample` as planes, as a part of its length. A plane that is stored raw and need not be counts as
    what it could be, so that bf16 after fp32, which as fp32 would be as small as fp32 is, looks different from it."""
    width = PLANE_WIDTHS[encoding.codec]
    planes = memoryview(native.split_planes(sample, width))
    length = len(sample) // width
    total = 4 * width
    for number, method in enumerate(encoding.methods):
        tried = Method.ENTROPY if method is Method.RAW else method
        size = len(compress(planes[number * length : (number + 1) * length], tried, level))
        total += size if size < length * WORTHWHILE else length
    return total / len(sample)
