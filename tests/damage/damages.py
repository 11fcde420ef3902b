"""How can a file be damaged? Each way as a value, done to a file on disk and undone again."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing done to one file of a repository."""

    path: str
    """From the repository's root."""
    way: str
    """One of `WAYS`, or "flipped" or "swapped"."""
    bit: int = 0
    """Of the whole file, where one is flipped; the first of the page, where one is zeroed."""
    other: str = ""
    """The path of the sibling that it is swapped with."""

    def __str__(self) -> str:
        """As a failing test shows it."""
        detail = f" at bit {self.bit}" if self.way == "flipped" else f" with {self.other}" if self.other else ""
        return f"{self.path} {self.way}{detail}"

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that it is done to."""
        return (self.path, self.other) if self.other else (self.path,)

    def do(self, folder: Path) -> bool:
        """Damage the file in `folder`; False where that changes nothing, as with zeroes on zeroes."""
        file = folder / self.path
        before = file.read_bytes()
        if self.way == "deleted":
            file.unlink()
            return True
        if self.way == "swapped":
            other = folder / self.other
            after, there = other.read_bytes(), before
            _rewrite(other, there)
        else:
            after = _after(self, before)
        _rewrite(file, after)
        return after != before

    def undo(self, folder: Path, pristine: Path) -> None:
        """Put back what the file was."""
        for path in self.paths:
            _rewrite(folder / path, (pristine / path).read_bytes())


def _after(damage: Damage, before: bytes) -> bytes:
    match damage.way:
        case "emptied":
            return b""
        case "short by one":
            return before[:-1]
        case "halved":
            return before[: len(before) // 2]
        case "long by one":
            return before + b"\0"
        case "page zeroed":
            start = damage.bit // 8
            stop = min(start + PAGE_BYTES, len(before))
            return before[:start] + bytes(stop - start) + before[stop:]
        case "flipped":
            changed = bytearray(before)
            changed[damage.bit // 8] ^= 1 << damage.bit % 8
            return bytes(changed)
    raise AssertionError(damage.way)


def _rewrite(file: Path, data: bytes) -> None:
    """A new file of the same name, as a restored backup or a bad copy is; modes do not matter to root, nor here."""
    file.unlink(missing_ok=True)
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(fd, "wb") as new:
        new.write(data)


WAYS = ("deleted", "emptied", "short by one", "halved", "long by one")


def whole_file_damages(folder: Path, path: str, siblings: Sequence[str]) -> Iterator[Damage]:
    """Every way but flipping; `siblings` are files of the same kind."""
    for way in WAYS:
        yield Damage(path, way)
    size = (folder / path).stat().st_size
    for start in range(0, size, PAGE_BYTES):
        yield Damage(path, "page zeroed", bit=8 * start)
    others = [sibling for sibling in siblings if sibling != path]
    if others:
        yield Damage(path, "swapped", other=others[sum(path.encode()) % len(others)])


def flips(folder: Path, path: str, count: int | None) -> Iterator[Damage]:
    """`count` single bits of a file, spread evenly, from a fixed seed; all where it has no more, or for None."""
    bits = 8 * (folder / path).stat().st_size
    if count is None or bits <= count:
        chosen: Sequence[int] = range(bits)
    else:
        chance = random.Random(bits)
        chosen = [chance.randrange(n * bits // count, (n + 1) * bits // count) for n in range(count)]
    for bit in chosen:
        yield Damage(path, "flipped", bit=bit)


def files_of(folder: Path) -> list[str]:
    """The files of the repository proper: neither derived ones nor leftovers."""
    found = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return sorted(path for path in found if path.split("/", 1)[0] not in ("derived", "tmp"))


def kind_of(path: str) -> str:
    """Files of one kind are siblings: packs, segments, ref records, configuration records."""
    return path.split("/", 1)[0]
