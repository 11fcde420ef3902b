"""What every reader and writer of one repository must agree on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from moorage.errors import InvalidInputError
from moorage.model.limits import MAX_TIME_NS
from moorage.model.recipe import MAX_CHUNK_BYTES

FORMAT_VERSION = 1
MAX_PACK_TARGET_BYTES = 4 * 1024 * 1024 * 1024
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class ChunkingParams:
    """Where files are cut. Changing them makes every repository grow: they are fixed when a repository is created."""

    min_bytes: int = 16 * 1024
    target_bytes: int = 64 * 1024
    """A power of two."""
    max_bytes: int = 256 * 1024

    def __post_init__(self) -> None:
        """Refuse parameters with which the cutter cannot work."""
        if self.target_bytes & (self.target_bytes - 1):
            raise InvalidInputError("the target chunk size is a power of two")
        if not 64 <= self.min_bytes <= self.target_bytes <= self.max_bytes <= MAX_CHUNK_BYTES:
            raise InvalidInputError("chunk sizes: 64 <= min <= target <= max <= 16 MiB")


@dataclass(frozen=True, slots=True)
class RepositoryConfig:
    """One numbered record of a repository's configuration; the highest number holds."""

    repository_id: str
    """32 hexadecimal digits, random, made once."""
    created_ns: int
    number: int = 1
    chunking: ChunkingParams = ChunkingParams()
    compression_level: int = 1
    """Of zstd, 1 to 19."""
    pack_target_bytes: int = 64 * 1024 * 1024
    features: tuple[str, ...] = ()
    """Names of things a reader must know to read; an unknown one is `NewerFormatError`."""

    def __post_init__(self) -> None:
        """Check what can be checked without reading anything."""
        if not _ID.fullmatch(self.repository_id):
            raise InvalidInputError("a repository's id is 32 hexadecimal digits, in lower case")
        if self.number < 1 or not 0 <= self.created_ns <= MAX_TIME_NS:
            raise InvalidInputError("configuration records count from 1, and time from 1970")
        if not 1 <= self.compression_level <= 19:
            raise InvalidInputError("the compression level is 1 to 19")
        if not 1024 <= self.pack_target_bytes <= MAX_PACK_TARGET_BYTES:
            raise InvalidInputError("packs are closed at 1 KiB to 4 GiB")
