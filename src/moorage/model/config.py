"""What every reader and writer of one repository must agree on."""

from __future__ import annotations

from dataclasses import dataclass

from moorage.errors import InvalidInputError

FORMAT_VERSION = 1


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
        if not 64 <= self.min_bytes <= self.target_bytes <= self.max_bytes <= 16 * 1024 * 1024:
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
        if len(self.repository_id) != 32 or self.number < 1:
            raise InvalidInputError(
                "a repository's id is 32 hexadecimal digits and its configuration records count from 1"
            )
        if not 1 <= self.compression_level <= 19:
            raise InvalidInputError("the compression level is 1 to 19")
        if self.pack_target_bytes < 1024:
            raise InvalidInputError("packs are at least 1 KiB")
