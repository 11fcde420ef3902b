"""What are the bytes of this file between these offsets? Planned from recipes, read in few ranges, each verified.

A `FileReader` holds no descriptor and no transaction: opening one costs nothing, forgetting to close one leaks nothing,
and it serves any number of threads.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Literal, TextIO, overload

from moorage.errors import CorruptDataError, DataError, FormatError, InvalidInputError, WrongKindError
from moorage.format.stored import Bytes
from moorage.model.digest import ChunkId, RecipeId
from moorage.model.objects import PackLocation
from moorage.model.ranges import ByteRange
from moorage.model.recipe import Recipe
from moorage.model.tree import Entry, EntryKind
from moorage.packs.reader import copy_raw, is_raw, span_of
from moorage.read.plan import ChunkSlice, slices_of
from moorage.repository.handle import RepositoryHandle

BUFFER_BYTES = 1024 * 1024
"""What `open_file` reads at a time."""
_LEAST_SPAN_BYTES = 4 * 1024 * 1024


class FileReader:
    """Reads one file of a tree at any offset. Thread-safe."""

    def __init__(self, handle: RepositoryHandle, entry: Entry) -> None:
        """`entry` is a file, else `WrongKindError`."""
        if entry.kind is not EntryKind.FILE:
            raise WrongKindError(f"{entry.name} is a {entry.kind.word}, not a file")
        self._handle = handle
        self.entry = entry
        self.size_bytes = entry.size_bytes

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer only at the end of the file.

        Raises `MissingObjectError`, `CorruptDataError`, `StorageError`; never returns a byte that was not verified.
        """
        parts = self.parts_at(offset, size)
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def parts_at(self, offset: int, size: int) -> list[Bytes]:
        """The same bytes as `read_at`, in pieces one after the other: for who need not have them in one."""
        stop = min(offset + size, self.size_bytes)
        if offset < 0 or size < 0:
            raise InvalidInputError(f"cannot read {size} bytes at {offset}")
        if offset >= stop:
            return []
        slices = list(self._slices(offset, stop))
        objects = self._handle.objects
        if len(slices) == 1:
            return _cut(slices, [objects.chunk(slices[0].id)])
        return _cut(slices, objects.chunks([piece.id for piece in slices]))

    def parts_and_form_at(self, offset: int, size: int) -> tuple[list[Bytes], bool]:
        """As `parts_at`, of bytes that the file has; and whether all of them are stored raw, as `copy_to` needs it."""
        slices = list(self._slices(offset, offset + size))
        ids = [piece.id for piece in slices]
        places = self._handle.locator.find(ids)
        return _cut(slices, self._handle.objects.chunks(ids, places)), all(map(is_raw, places))

    def copy_to(self, fd: int, offset: int, size: int) -> bool:
        """Copy `size` bytes from `offset` to the same place of an open file, within the kernel, **unverified**.

        False, and what is there does not count, unless all of it is stored raw where it can be copied from. Raises
        `DataError`, `StorageError`.
        """
        slices = list(self._slices(offset, min(offset + size, self.size_bytes)))
        places = self._handle.locator.find([piece.id for piece in slices])
        wanted: list[tuple[PackLocation, ByteRange, int]] = []
        for piece, place in zip(slices, places, strict=True):
            if place.raw_bytes != piece.chunk_bytes:
                return False
            wanted.append((place, ByteRange(piece.start, piece.stop), offset))
            offset += piece.stop - piece.start
        return copy_raw(self._handle.storage, wanted, fd)

    def spans(self, offset: int, size: int) -> list[tuple[str, ByteRange]]:
        """About where so many bytes from `offset`, more than none, lie in the storage, for `prefetch`.

        Only where they begin and end is looked up. Where that is not in one pack, about as far apart as they are long,
        the same is tried with each half of them, down to 4 MiB; what is scattered more finely is left out. Raises
        `DataError`, `StorageError`.
        """
        stop = min(offset + size, self.size_bytes)
        ids = [next(self._slices(at, at + 1)).id for at in (offset, stop - 1)]
        first, last = self._handle.locator.lookup(ids)
        if first is None or last is None:
            return []
        span = span_of(first, last, 2 * size)
        if span is not None:
            return [span]
        half = size // 2
        if size <= _LEAST_SPAN_BYTES or offset + half >= stop:
            return []
        return self.spans(offset, half) + self.spans(offset + half, size - half)

    def prefetch(self, span: tuple[str, ByteRange]) -> None:
        """Say that what lies there will soon be read: a hint (see `Storage.prefetch`), which may wait for a disk."""
        self._handle.storage.prefetch(*span)

    def close(self) -> None:
        """Nothing is held that would have to be given back."""

    def chunks(self) -> Iterator[tuple[ChunkId, int]]:
        """All chunks of the file, in order, with their raw sizes; recipes are read as they are needed."""
        for piece in self._slices(0, self.size_bytes):
            yield piece.id, piece.chunk_bytes

    def chunk_ends(self, start: int, stop: int) -> Iterator[int]:
        """Where chunks end between two offsets, the last of them at `stop`."""
        for piece in self._slices(start, min(stop, self.size_bytes)):
            start += piece.stop - piece.start
            yield start

    def _slices(self, start: int, stop: int) -> Iterator[ChunkSlice]:
        if self.entry.object is None:
            if self.size_bytes:
                yield ChunkSlice(ChunkId(self.entry.digest), self.size_bytes, start, stop)
            return
        assert isinstance(self.entry.object, RecipeId)
        recipe = self._recipe(self.entry.object, self.size_bytes)
        yield from slices_of(recipe, start, stop, self._recipe)

    def _recipe(self, id: RecipeId, size_bytes: int, level: int | None = None) -> Recipe:
        recipe = self._handle.objects.recipe(id)
        if recipe.size_bytes != size_bytes:
            raise CorruptDataError(
                f"recipe {id.hex()} stands for {recipe.size_bytes} bytes, not {size_bytes}", id=id.hex()
            )
        if level is not None and recipe.level != level:
            raise FormatError(f"recipe {id.hex()} is of level {recipe.level} where level {level} was promised")
        return recipe


def _cut(slices: Sequence[ChunkSlice], chunks: Sequence[Bytes]) -> list[Bytes]:
    """Of each chunk what its slice says."""
    parts: list[Bytes] = []
    for piece, chunk in zip(slices, chunks, strict=True):
        if len(chunk) != piece.chunk_bytes:
            raise CorruptDataError(f"chunk {piece.id.hex()} is not as long as its recipe says", id=piece.id.hex())
        whole = piece.start == 0 and piece.stop == len(chunk)
        parts.append(chunk if whole else memoryview(chunk)[piece.start : piece.stop])
    return parts


def part_of(parts: Sequence[Bytes], start: int, stop: int) -> list[Bytes]:
    """Bytes `start` to `stop` of what `parts` are one after the other, without a copy."""
    found: list[Bytes] = []
    for part in parts:
        if start < len(part) and stop > 0:
            is_whole = start <= 0 and stop >= len(part)
            found.append(part if is_whole else memoryview(part)[max(start, 0) : stop])
        start, stop = start - len(part), stop - len(part)
    return found


class _RawFile(io.RawIOBase):
    """The standard library's view of a `FileReader`."""

    def __init__(self, reader: FileReader, name: str, on_close: Callable[[], None] | None) -> None:
        super().__init__()
        self._on_close = on_close
        self._reader = reader
        self._position = 0
        self.name = name
        self.mode = "rb"

    def close(self) -> None:
        if not self.closed:
            super().close()
            if self._on_close is not None:
                self._on_close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if self.closed:
            raise ValueError("seek of closed file")
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._reader.size_bytes}.get(whence)
        if base is None:
            raise ValueError(f"invalid whence: {whence}")
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed: WriteableBuffer
        if self.closed:
            raise ValueError("read of closed file")
        room = memoryview(buffer).cast("B")
        try:
            data = self._reader.read_at(self._position, len(room))
        except DataError:  # of a chunk further on, perhaps: who comes to it has the error
            end = next(self._reader.chunk_ends(self._position, self._position + len(room)))
            data = self._reader.read_at(self._position, end - self._position)
        room[: len(data)] = data
        self._position += len(data)
        return len(data)

    def readall(self) -> bytes:
        if self.closed:
            raise ValueError("read of closed file")
        data = self._reader.read_at(self._position, max(0, self._reader.size_bytes - self._position))
        self._position += len(data)
        return data


@overload
def open_file(
    handle: RepositoryHandle,
    entry: Entry,
    mode: Literal["rb"] = "rb",
    *,
    name: str = "",
    on_close: Callable[[], None] | None = None,
) -> BinaryIO: ...


@overload
def open_file(
    handle: RepositoryHandle,
    entry: Entry,
    mode: Literal["r", "rt"],
    *,
    name: str = "",
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    on_close: Callable[[], None] | None = None,
) -> TextIO: ...


@overload
def open_file(
    handle: RepositoryHandle,
    entry: Entry,
    mode: str = "rb",
    *,
    name: str = "",
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    on_close: Callable[[], None] | None = None,
) -> BinaryIO | TextIO: ...


def open_file(
    handle: RepositoryHandle,
    entry: Entry,
    mode: str = "rb",
    *,
    name: str = "",
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    on_close: Callable[[], None] | None = None,
) -> BinaryIO | TextIO:
    """A seekable, buffered file: binary for "rb", text for "r" and "rt" (UTF-8 unless told otherwise).

    `on_close` is called once, when the file is closed. Raises `InvalidInputError` for any other mode, `WrongKindError`
    for what is not a file.
    """
    if mode not in ("rb", "r", "rt"):
        raise InvalidInputError(f"mode {mode!r}: files of a repository are only read", hint='use "rb" or "r"')
    raw = _RawFile(FileReader(handle, entry), name or entry.name, on_close)
    binary = io.BufferedReader(raw, BUFFER_BYTES)
    if mode == "rb":
        return binary
    return io.TextIOWrapper(binary, encoding=encoding or "utf-8", errors=errors, newline=newline)
