"""Do b3sum and zstd, which know nothing of us, agree?"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from moorage.format.stored import HEADER_BYTES, ZSTD, Encoding, Method, decode_stored, encode_stored
from moorage.ingest.commit import commit
from moorage.model.config import ChunkingParams, RepositoryConfig
from moorage.model.digest import ChunkId
from moorage.model.objects import Codec, ObjectKind
from moorage.model.progress import SILENT
from moorage.read.resolve import locate, parse_location
from moorage.repository.handle import RepositoryHandle
from tests.needs import needs_tool

TINY = ChunkingParams(64, 256, 1_024)


def output_of(*command: str, given: bytes = b"") -> bytes:
    return subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True).stdout


@needs_tool("b3sum")
@pytest.mark.parametrize("size", [0, 1, 64, 1_024, 1_025, 50_000, 3_000_000])
def test_b3sum_prints_the_digest_of_a_file(size: int, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(number * number % 251 for number in range(size)))
    config = RepositoryConfig("0" * 32, 0, chunking=TINY if size < 100_000 else ChunkingParams())
    with RepositoryHandle.create(tmp_path / "store", config) as handle:
        options = {"message": "", "metadata": {}, "author": "a", "create": True, "progress": SILENT}
        commit(handle, file, branch="b", at="file", **options)  # type: ignore[arg-type]  # options by name
        digest = locate(handle, parse_location("b:file")).file.digest
    assert output_of("b3sum", "--no-names", str(file)).decode().strip() == digest.hex()


@needs_tool("b3sum")
def test_b3sum_prints_the_id_of_a_chunk() -> None:
    raw = b"a chunk, named by its bytes" * 9
    assert output_of("b3sum", "--no-names", given=raw).decode().strip() == ChunkId.of(raw).hex()


@needs_tool("zstd")
@pytest.mark.parametrize("method", [Method.ENTROPY, Method.ZSTD])
def test_zstd_decodes_a_stored_frame(method: Method) -> None:
    raw = b"what compresses well compresses well " * 400
    stored = encode_stored(raw, ObjectKind.CHUNK, Encoding(Codec.ZSTD, (method,)), level=3)
    assert stored[0] == Codec.ZSTD
    assert output_of("zstd", "-d", "-c", given=stored[HEADER_BYTES:]) == raw


@needs_tool("zstd")
def test_zstd_decodes_a_plane() -> None:
    raw = bytes(value for number in range(4_000) for value in (number * 97 % 256, 0x3C + number % 3))
    stored = encode_stored(raw, ObjectKind.CHUNK, Encoding(Codec.PLANES_2, (Method.RAW, Method.ENTROPY)), level=1)
    assert stored[0] == Codec.PLANES_2
    noisy, tame = struct.unpack_from("<2I", stored, HEADER_BYTES)
    start = HEADER_BYTES + 8 + noisy
    frame = stored[start : start + (tame & 0x7FFF_FFFF)]
    assert output_of("zstd", "-d", "-c", given=frame) == raw[1::2]


@needs_tool("zstd")
def test_a_frame_made_by_zstd_is_read() -> None:
    raw = b"made by the program, not by the library " * 50
    payload = output_of("zstd", "-19", "--no-check", "--stream-size", str(len(raw)), "-c", given=raw)
    ours = encode_stored(raw, ObjectKind.CHUNK, ZSTD, level=1)
    header = struct.pack("<BBHII", Codec.ZSTD, ObjectKind.CHUNK, 0, len(raw), len(payload))
    assert ours[:8] == header[:8]
    from_program = header + payload
    assert decode_stored(from_program, kind=ObjectKind.CHUNK, raw_bytes=len(raw)) == raw
