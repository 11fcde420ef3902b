"""What may go into a repository? Hypothesis strategies for names, contents and directories, small ones first.

Whatever they draw is legal. Contents repeat themselves now and then, and each other, so that there is something to
deduplicate and to compress.
"""

from __future__ import annotations

from hypothesis import strategies as st

from moorage.errors import InvalidInputError
from moorage.ingest.ignore import IGNORE_FILE
from moorage.model.config import ChunkingParams, RepositoryConfig
from moorage.model.names import MAX_ENTRY_NAME_BYTES, check_ref_name
from moorage.testing.model import Directory, ModelFile, ModelLink, Node


def _is_ref_name(name: str) -> bool:
    try:
        check_ref_name(name)
    except InvalidInputError:
        return False
    return True


def ref_names() -> st.SearchStrategy[str]:
    """Of branches and tags, with slashes and any script."""
    part = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=":~/"), min_size=1, max_size=12)
    return st.lists(part, min_size=1, max_size=3).map("/".join).filter(_is_ref_name)


def entry_names() -> st.SearchStrategy[str]:
    """Of files and directories: anything that a Linux file system takes and that is UTF-8."""
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=40)
    return text.filter(lambda name: name not in (".", "..", IGNORE_FILE) and len(name.encode()) <= MAX_ENTRY_NAME_BYTES)


def contents(max_bytes: int = 4096) -> st.SearchStrategy[bytes]:
    """Of files: short, or long and repetitive, or long and the same as others for a part."""
    short = st.binary(max_size=64)
    seeds = st.integers(0, 5)
    blocks = st.lists(seeds, min_size=1, max_size=8).map(lambda found: b"".join(_block(seed) for seed in found))
    repeated = st.builds(lambda piece, times: piece * times, st.binary(min_size=1, max_size=40), st.integers(1, 120))
    return st.one_of(short, blocks, repeated).map(lambda data: data[:max_bytes])


def _block(seed: int) -> bytes:
    """Some bytes that do not compress, the same for the same seed: multiplicative hashing of a counter."""
    return b"".join(((seed * 997 + n) * 0x9E3779B1 & 0xFFFFFFFF).to_bytes(4, "little") for n in range(150))


def files(max_bytes: int = 4096) -> st.SearchStrategy[ModelFile]:
    """Mostly not executable."""
    return st.builds(ModelFile, contents(max_bytes), st.sampled_from([False, False, False, True]))


def links() -> st.SearchStrategy[ModelLink]:
    """To anywhere, mostly to where there is nothing."""
    return st.sampled_from(["a", "../b", "/etc/hostname", "nowhere/at all", "ü"]).map(ModelLink)


def directories(
    names: st.SearchStrategy[str] | None = None, max_leaves: int = 8, max_bytes: int = 4096
) -> st.SearchStrategy[Directory]:
    """Of files, symlinks and directories, some of them empty; no name means something to `commit`."""
    named = entry_names() if names is None else names
    leaf: st.SearchStrategy[Node] = st.one_of(files(max_bytes), files(max_bytes), links(), st.just({}))
    nodes: st.SearchStrategy[Node] = st.recursive(
        leaf, lambda inner: st.dictionaries(named, inner, min_size=1, max_size=4), max_leaves=max_leaves
    )
    return st.dictionaries(named, nodes, max_size=5)


def configs() -> st.SearchStrategy[RepositoryConfig]:
    """With chunks and packs so small that little data makes many."""
    chunking = st.sampled_from(
        [ChunkingParams(64, 64, 64), ChunkingParams(64, 256, 1024), ChunkingParams(64, 1024, 4096)]
    )
    return st.builds(
        RepositoryConfig,
        repository_id=st.text("0123456789abcdef", min_size=32, max_size=32),
        created_ns=st.just(1_700_000_000_000_000_000),
        chunking=chunking,
        compression_level=st.sampled_from([1, 3, 19]),
        pack_target_bytes=st.sampled_from([1024, 4096, 64 * 1024]),
    )
