"""How a repository's configuration is kept: `config/<n>`, a record (see `record`), the highest n holds.

field               type            meaning
format              integer         1
number              integer         n, as in the key
repository          string          32 hexadecimal digits, random
created_ns          integer         Unix time
chunking            object          algorithm ("gear64"), min_bytes, target_bytes, max_bytes
compression_level   integer         of zstd
pack_target_bytes   integer         a pack is closed when it is this long
features            list of string  what a reader must know; an unknown one is refused
"""

from __future__ import annotations

import msgspec

from moorage.errors import CorruptDataError, FormatError, InvalidInputError, NewerFormatError
from moorage.format.keys import parse_number
from moorage.format.record import decode_record, encode_record
from moorage.model.config import FORMAT_VERSION, ChunkingParams, RepositoryConfig

ALGORITHM = "gear64"
KNOWN_FEATURES: frozenset[str] = frozenset()


class _Chunking(msgspec.Struct, forbid_unknown_fields=True):
    algorithm: str
    min_bytes: int
    target_bytes: int
    max_bytes: int


class _Config(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    number: int
    repository: str
    created_ns: int
    chunking: _Chunking
    compression_level: int
    pack_target_bytes: int
    features: list[str]


def encode_config(config: RepositoryConfig) -> bytes:
    """The bytes of `config/<n>`."""
    chunking = config.chunking
    return encode_record(
        _Config(
            FORMAT_VERSION,
            config.number,
            config.repository_id,
            config.created_ns,
            _Chunking(ALGORITHM, chunking.min_bytes, chunking.target_bytes, chunking.max_bytes),
            config.compression_level,
            config.pack_target_bytes,
            list(config.features),
        )
    )


def decode_config(data: bytes, *, key: str) -> RepositoryConfig:
    """Read `config/<n>` back. Raises `CorruptDataError`, `NewerFormatError`, `FormatError`."""
    record = decode_record(data, _Config, key=key)
    unknown = sorted(set(record.features) - KNOWN_FEATURES)
    if record.format < FORMAT_VERSION:
        raise FormatError(f"there is no format {record.format}: {key}", key=key)
    if record.format > FORMAT_VERSION or unknown or record.chunking.algorithm != ALGORITHM:
        raise NewerFormatError(
            f"this repository was written by a newer version of moorage (format {record.format}, "
            f"chunking {record.chunking.algorithm!r}, unknown features: {', '.join(unknown) or 'none'})",
            hint="upgrade moorage",
            format=record.format,
            features=unknown,
        )
    if record.number != parse_number(key):
        raise CorruptDataError(f"{key} holds configuration record {record.number}", hint="run `moorage check`", key=key)
    try:
        return RepositoryConfig(
            repository_id=record.repository,
            created_ns=record.created_ns,
            number=record.number,
            chunking=ChunkingParams(record.chunking.min_bytes, record.chunking.target_bytes, record.chunking.max_bytes),
            compression_level=record.compression_level,
            pack_target_bytes=record.pack_target_bytes,
            features=tuple(record.features),
        )
    except InvalidInputError as error:
        raise FormatError(f"impossible configuration in {key}: {error.message}", key=key) from error
