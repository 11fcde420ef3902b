"""Has this file changed since it was last stored? What stat(2) said then, and what the content was.

    key    device (8), inode (8)
    value  size (8), mtime_ns (8), ctime_ns (8), recorded_ns (8), digest (32), object (0 or 32), CRC-32 (4)

Times are signed: files from before 1970 exist.

An entry answers for a file only if size, mtime and ctime are the same, and if it was recorded more than two seconds
after both times: a file that is written twice within one tick of the file system's clock looks the same after the
second time.

Derived: deleting it costs one reading of the files, and so does whatever goes wrong with it.
Not trusted with existence: whoever uses an answer makes sure that
the repository still has the object.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import lmdb

from moorage.index.base import IndexDamaged, IndexUnwritable
from moorage.index.environment import Environment, acquire, release
from moorage.model.digest import DIGEST_BYTES, ContentDigest, RecipeId

_log = logging.getLogger(__name__)

TRUSTED_AFTER_NS = 2_000_000_000
_KEY = struct.Struct("<QQ")
_VALUE = struct.Struct("<Qqqq32s")
_CRC = struct.Struct("<I")


class FileIdentity(NamedTuple):
    """What stat(2) says of a file that was not changed since, as far as stat can tell. A tuple: made for every file."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class KnownContent:
    """What a file held when it was recorded."""

    digest: ContentDigest
    object: RecipeId | None


class StatCache:
    """Looks files up and records them, many at a time. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Open or make the cache in `folder`. Raises `OSError`, `lmdb.Error`."""
        self._environment: Environment = acquire(folder)

    def find(self, files: Sequence[FileIdentity]) -> list[KnownContent | None]:
        """What each file holds, None where that is not known for sure."""

        def work(transaction: lmdb.Transaction) -> list[KnownContent | None]:
            return [self._find(transaction, file) for file in files]

        try:
            return self._environment.read(work)
        except IndexDamaged as error:
            _log.warning("the stat cache is passed over: %s", error)
            return [None] * len(files)

    def _find(self, transaction: lmdb.Transaction, file: FileIdentity) -> KnownContent | None:
        key = _KEY.pack(file.device, file.inode)
        found = transaction.get(key)
        if found is None or len(found) < _VALUE.size + _CRC.size:
            return None
        value = bytes(found[: -_CRC.size])
        if _CRC.unpack(found[-_CRC.size :])[0] != zlib.crc32(value, zlib.crc32(key)):
            return None
        size, mtime_ns, ctime_ns, recorded_ns, digest = _VALUE.unpack_from(value)
        if (size, mtime_ns, ctime_ns) != (file.size_bytes, file.mtime_ns, file.ctime_ns):
            return None
        if recorded_ns - max(mtime_ns, ctime_ns) <= TRUSTED_AFTER_NS:
            return None
        object_bytes = value[_VALUE.size :]
        if len(object_bytes) not in (0, DIGEST_BYTES):
            return None
        return KnownContent(ContentDigest(digest), RecipeId(object_bytes) if object_bytes else None)

    def record(self, files: Iterable[tuple[FileIdentity, KnownContent]], *, now_ns: int) -> None:
        """Remember what files held at `now_ns`, Unix time, at which their identity was seen once more."""
        items = []
        for file, content in files:
            key = _KEY.pack(file.device, file.inode)
            value = _VALUE.pack(file.size_bytes, file.mtime_ns, file.ctime_ns, now_ns, content.digest)
            value += content.object or b""
            items.append((key, value + _CRC.pack(zlib.crc32(value, zlib.crc32(key)))))
        if not items:
            return
        try:
            self._environment.write(partial(_put, items))
        except IndexUnwritable as error:
            _log.warning("the stat cache was not written: %s", error)

    def close(self) -> None:
        """Give the cache back."""
        release(self._environment)


def _put(items: Sequence[tuple[bytes, bytes]], transaction: lmdb.Transaction) -> None:
    transaction.cursor().putmulti(items, overwrite=True)
