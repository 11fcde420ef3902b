"""Makes golden repositories, as this version writes them: `python -m tests.format.make_golden`.

Golden repositories are never made again: what a release wrote, every later one reads. So what is there is left alone; a
new one gets a new name here, and stays for ever. Clock and random numbers are fixed, so that two runs of one version
differ in nothing but what compression libraries make of the bytes.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from blake3 import blake3

from moorage.chunking import chunker_for
from moorage.format.keys import parse_pack_key, segment_key
from moorage.format.recipe import encode_recipe
from moorage.format.segment import encode_segment
from moorage.format.stored import RAW, ZSTD, Encoding, Method, encode_stored
from moorage.format.tree import directory_digest, encode_fork, encode_tree
from moorage.ingest.commit import commit
from moorage.model.config import ChunkingParams, RepositoryConfig
from moorage.model.digest import ChunkId, ContentDigest, ObjectId, RecipeId, SegmentId, SnapshotId, TreeId
from moorage.model.objects import Codec, ObjectKind
from moorage.model.progress import SILENT
from moorage.model.recipe import Recipe
from moorage.model.refs import RefKind, RefName
from moorage.model.snapshot import Json, Snapshot
from moorage.model.tree import Entry, EntryKind, Tree, TreeFork, TreeSpan
from moorage.packs.reader import read_footer
from moorage.packs.writer import StoredObject
from moorage.repository import writer as writer_module
from moorage.repository.handle import RepositoryHandle
from moorage.repository.tree_writer import RecipeWriter, write_snapshot, write_tree
from moorage.repository.writer import ObjectWriter
from tests.format.manifest import manifest_of

GOLDEN = Path(__file__).with_name("golden")
START_NS = 1_790_000_000_123_456_789
MINUTE_NS = 60_000_000_000
ACTOR = "grace@harbour"


def noise(seed: str, size: int) -> bytes:
    """Bytes that nothing compresses, the same for ever."""
    return blake3(seed.encode()).digest(length=size)


def numbers(seed: str, count: int, width: int, tame: int) -> bytes:
    """Numbers of `width` bytes whose `tame` last bytes hardly vary, as weights have them."""
    source = noise(seed, count * width)
    data = bytearray(source)
    for place in range(width - tame, width):
        data[place::width] = bytes(0x3C + value % 3 for value in source[place::width])
    return bytes(data)


@contextmanager
def fixed_clock_and_chance() -> Iterator[None]:
    """Time moves a minute at each look, and random numbers are counted."""
    ticks = itertools.count(START_NS, MINUTE_NS)
    tokens = itertools.count(1)
    with ExitStack() as stack:
        stack.enter_context(mock.patch("time.time_ns", side_effect=lambda: next(ticks)))
        token = lambda size: blake3(b"token %d" % next(tokens)).digest(length=size)  # noqa: E731
        stack.enter_context(mock.patch("os.urandom", side_effect=token))
        yield


def config(name: str, **changes: object) -> RepositoryConfig:
    repository_id = blake3(name.encode()).hexdigest(length=16)
    return RepositoryConfig(repository_id, START_NS, **changes)  # type: ignore[arg-type]  # fields by name


def branch(name: str) -> RefName:
    return RefName(RefKind.BRANCH, name)


def tag(name: str) -> RefName:
    return RefName(RefKind.TAG, name)


# -- what ingest writes: small commits, one mixed pack each, no segment -----------------------------


def make_small(handle: RepositoryHandle, work: Path) -> None:
    source = work / "source"
    (source / "nested" / "deeper").mkdir(parents=True)
    (source / "empty directory").mkdir()
    files = {
        "model.pkl": noise("model", 3_000),
        "notes.txt": b"The tide tables for the harbour.\n" * 40,
        "empty": b"",
        "one": b"1",
        "weights.bf16": numbers("bf16", 5_000, 2, 1),
        "weights.f32": numbers("f32", 4_000, 4, 1),
        "na\u00efve file.txt": b"composed",
        "nai\u0308ve file.txt": b"decomposed",
        "\U0001f6a2": b"a ship",
        "two\nlines": b"a name with a newline",
        "n" * 255: b"a name of 255 bytes",
        "nested/deeper/copy of model.pkl": noise("model", 3_000),
        "run.sh": b"#!/bin/sh\nexit 0\n",
    }
    for name, data in files.items():
        (source / name).write_bytes(data)
    (source / "run.sh").chmod(0o755)
    (source / "link").symlink_to("nested/deeper")
    (source / "dangling").symlink_to("../nowhere/\u00e9")
    last = _commit(
        handle, source, message="the first\n\nwith a second paragraph", metadata={"accuracy": 0.93}, create=True
    )
    _commit(handle, b"replaced", at="nested/second.bin", message="below a path")
    _commit(handle, source / "model.pkl", at="nested/deeper/model.pkl")
    handle.refs.create(tag("v1.0"), last, actor=ACTOR, reason="released")
    handle.refs.create(branch("experiment/\u00e9t\u00e9 1"), last, actor=ACTOR, reason="to try things")
    _commit(handle, b"from the experiment", at="one", branch="experiment/\u00e9t\u00e9 1", message="try")


def _commit(handle: RepositoryHandle, source: Path | bytes, branch: str = "prod", **options: object) -> SnapshotId:
    given = {"at": "", "message": "", "metadata": {}, "create": False, "author": ACTOR, "progress": SILENT, **options}
    return commit(handle, source, branch=branch, **given).snapshot  # type: ignore[arg-type]  # options by name


# -- large commits, every codec, every event of a ref ----------------------------------------------


@dataclass
class Builder:
    """Writes objects one at a time, as the format allows and ingest rarely does."""

    handle: RepositoryHandle
    time_ns: int = START_NS

    @contextmanager
    def writer(self, small_commit_bytes: int = 0) -> Iterator[ObjectWriter]:
        """A transaction; with 0 even a small one makes packs of data and of metadata, and a segment."""
        with mock.patch.object(writer_module, "SMALL_COMMIT_BYTES", small_commit_bytes), self.handle.writer() as writer:
            yield writer
            writer.finish()

    def chunk(self, writer: ObjectWriter, raw: bytes, encoding: Encoding) -> ChunkId:
        id = ChunkId.of(raw)
        if writer.claim([id]):
            stored = encode_stored(raw, ObjectKind.CHUNK, encoding, level=writer.config.compression_level)
            assert stored[0] == encoding.codec, f"{encoding.codec!r} saves nothing here"
            writer.add_chunks([StoredObject(ObjectKind.CHUNK, id, stored, len(raw))])
        return id

    def file(
        self,
        writer: ObjectWriter,
        name: str,
        data: bytes,
        encoding: Encoding = RAW,
        *,
        piece: int | None = None,
        executable: bool = False,
    ) -> Entry:
        """A file, cut by its content or else into pieces of one size."""
        chunker = chunker_for(writer.config.chunking, name, data[:4096])
        ends = [*range(piece, len(data), piece), len(data)] if piece else chunker.cut(data, final=True)
        recipe = RecipeWriter(writer)
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            if end > start:
                recipe.add(self.chunk(writer, data[start:end], encoding.at(start)), end - start)
        made = recipe.finish()
        object_id = made if isinstance(made, RecipeId) else None
        return Entry(name, EntryKind.FILE, ContentDigest.of(data), object_id, len(data), self.time_ns, executable)

    def link(self, name: str, target: str) -> Entry:
        raw = target.encode()
        return Entry(name, EntryKind.SYMLINK, ContentDigest.of(raw), None, len(raw), self.time_ns, target=target)

    def directory(self, writer: ObjectWriter, name: str, *entries: Entry) -> Entry:
        tree = write_tree(writer, entries)
        return Entry(name, EntryKind.DIRECTORY, tree.digest, tree.id, tree.size_bytes, self.time_ns)

    def snapshot(
        self,
        writer: ObjectWriter,
        root: Entry,
        *parents: SnapshotId,
        message: str = "",
        metadata: Mapping[str, Json] | None = None,
    ) -> SnapshotId:
        self.time_ns += MINUTE_NS
        assert isinstance(root.object, TreeId)
        return write_snapshot(
            writer,
            Snapshot(root.object, root.digest, root.size_bytes, parents, ACTOR, self.time_ns, message, metadata or {}),
        )


TRICKY: dict[str, Json] = {
    "floats": [0.1, 1e-5, 1e-6, 1.5e15, 1e16, 1.5e300, 5e-324, -0.0, 100.0, 1 / 3],
    "integers": [0, -1, 2**63, 2**70],
    "text": 'quote " backslash \\ slash / tab \t bell \x07 delete \x7f line \u2028 ship \U0001f6a2',
    "nothing": None,
    "yes": True,
    "nested": {"b": [[], {}], "a": {"\uffff": 1, "\U00010000": 2}},
    "": "an empty key",
}


def make_history(handle: RepositoryHandle, work: Path) -> None:
    build = Builder(handle)
    entropy, raw, zstd = Method.ENTROPY, Method.RAW, Method.ZSTD
    planes = {
        "bf16": (2, 1, Encoding(Codec.PLANES_2, (raw, entropy))),
        "f32": (4, 1, Encoding(Codec.PLANES_4, (raw, raw, raw, zstd))),
        "f64": (8, 2, Encoding(Codec.PLANES_8, (raw,) * 6 + (entropy, entropy))),
    }
    with build.writer() as writer:
        weights = [
            # Pieces of odd length, so that elements straddle them, and a tail that is no whole element.
            build.file(writer, f"weights.{name}", numbers(name, 2_000, width, tame)[:3_003], encoding, piece=1_001)
            for name, (width, tame, encoding) in planes.items()
        ]
        text = build.file(writer, "log.txt", b"epoch 1: loss 0.9\nepoch 2: loss 0.5\n" * 60, ZSTD)
        blob = build.file(writer, "blob", noise("blob", 6_000))
        program = build.file(writer, "run", b"#!/bin/sh\n" * 20, ZSTD, executable=True)
        models = build.directory(writer, "models", *weights, build.link("latest", "weights.bf16"))
        root = build.directory(writer, "root", models, text, blob, program, build.directory(writer, "empty"))
        first = build.snapshot(writer, root, message="first", metadata=TRICKY)
    lines: list[SnapshotId] = []
    for number in range(2):
        with build.writer() as writer:
            changed = build.file(
                writer, "blob", noise("blob", 3_000) + b"an insertion" + noise("blob", 6_000)[3_000 + number :]
            )
            root = build.directory(writer, "root", models, changed, build.link(f"side-{number}", "models"))
            lines.append(build.snapshot(writer, root, first, message=f"line {number}"))
    with build.writer() as writer:
        crossed = [build.snapshot(writer, root, *lines[::step], message="criss-cross") for step in (1, -1)]
        merged = build.snapshot(writer, root, *crossed, message="merged", metadata={"merged": True})
    _history_of_refs(handle, first, lines, crossed, merged)
    _retire_a_pack(handle)


def _history_of_refs(
    handle: RepositoryHandle, first: SnapshotId, lines: list[SnapshotId], crossed: list[SnapshotId], merged: SnapshotId
) -> None:
    refs = handle.refs
    refs.create(branch("main"), first, actor=ACTOR, reason="start")
    refs.move(branch("main"), lines[0], expected=first, actor="ada@lighthouse", reason="line 0")
    refs.move(branch("main"), merged, expected=lines[0], actor=ACTOR, reason="merge of refs/branches/side into main")
    refs.create(branch("gone"), lines[1], actor=ACTOR, reason='said "why not?"\n\twith a tab')
    refs.delete(branch("gone"), actor=ACTOR, reason="not needed")
    refs.create(branch("old name"), crossed[0], actor=ACTOR, reason="to be renamed")
    refs.rename(branch("old name"), branch("team/new.name"), actor=ACTOR, reason="a better name")
    refs.create(branch("old name"), crossed[1], actor=ACTOR, reason="the name is used again")
    refs.create(tag("v1"), first, actor=ACTOR, reason="too early")
    refs.delete(tag("v1"), actor=ACTOR, reason="it was too early")
    refs.create(tag("v1"), lines[1], actor=ACTOR, reason="now")
    refs.create(tag(".hidden"), first, actor=ACTOR, reason="a dot in front")


def _retire_a_pack(handle: RepositoryHandle) -> None:
    """A segment that supersedes one and retires a pack that is still there, as a repacking in progress leaves them."""
    segments = sorted(info.key for info in handle.storage.list_keys("index/"))
    packs = sorted(parse_pack_key(info.key) for info in handle.storage.list_keys("packs/"))
    old = SegmentId.parse(segments[0].removeprefix("index/"))
    data = encode_segment([read_footer(handle.storage, pack) for pack in packs], [old], [packs[0]])
    handle.storage.create(segment_key(SegmentId.of(data)), data)


# -- more references, and more entries, than one object holds ---------------------------------------


def make_large(handle: RepositoryHandle, work: Path) -> None:
    build = Builder(handle)
    # Hashes do not compress, but the same one over and over does, and a golden repository should be small.
    with mock.patch.dict(writer_module._ENCODING_OF_METADATA, {ObjectKind.RECIPE: ZSTD}), build.writer() as writer:
        huge = build.file(writer, "huge", bytes(64) * 16_390 + b"the end", RAW, piece=64)
        tower = _recipe_of_level_2(build, writer)
        names = [f"{blake3(b'%d' % number).hexdigest(length=3)}-{number}" for number in range(8_300)]
        empty = Entry("x", EntryKind.FILE, ContentDigest.of(b""), None, 0, build.time_ns)
        many = [Entry(name, empty.kind, empty.digest, None, 0, empty.first_stored_ns) for name in names]
        root = build.directory(
            writer,
            "root",
            huge,
            tower,
            build.directory(writer, "many files", *many),
            _fork_of_level_2(build, writer),
        )
        snapshot = build.snapshot(writer, root, message="large")
    handle.refs.create(branch("main"), snapshot, actor=ACTOR, reason="start")


def _recipe_of_level_2(build: Builder, writer: ObjectWriter) -> Entry:
    """A file of eight chunks in two recipes of level 1, each of two recipes of level 0."""
    pieces = [noise(f"piece {number}", 64) for number in range(8)]
    ids: list[ObjectId] = [build.chunk(writer, piece, RAW) for piece in pieces]
    sizes = [64] * 8
    for level in range(3):
        step = 2 if level < 2 else len(ids)
        above: list[ObjectId] = []
        for start in range(0, len(ids), step):
            recipe = Recipe(level, tuple(sizes[start : start + step]), b"".join(ids[start : start + step]))
            raw = encode_recipe(recipe)
            above.append(RecipeId.of(raw))
            writer.put(above[-1], raw)
        ids, sizes = above, [64 * 8 // len(above)] * len(above)
    (top,) = ids
    return Entry("tower", EntryKind.FILE, ContentDigest.of(b"".join(pieces)), top, 512, build.time_ns)


def _fork_of_level_2(build: Builder, writer: ObjectWriter) -> Entry:
    """A directory of eight files in two forks of level 1, each of two tree objects."""
    entries = [build.file(writer, f"file {number}", b"%d" % number, RAW) for number in range(8)]
    spans = []
    for start in range(0, 8, 2):
        raw = encode_tree(Tree(tuple(entries[start : start + 2])))
        writer.put(TreeId.of(raw), raw)
        spans.append(TreeSpan(entries[start + 1].name, 2, TreeId.of(raw)))
    for level in (1, 2):
        above = []
        for start in range(0, len(spans), 2):
            run = spans[start : start + 2]
            raw = encode_fork(TreeFork(level, tuple(run)))
            writer.put(TreeId.of(raw), raw)
            above.append(TreeSpan(run[-1].last_name, sum(span.entries for span in run), TreeId.of(raw)))
        spans = above
    digest = directory_digest(entries)
    return Entry("forked twice", EntryKind.DIRECTORY, digest, spans[0].object, 8, build.time_ns)


# -- all of them -----------------------------------------------------------------------------------

TINY = ChunkingParams(64, 256, 1_024)
RECIPES: dict[str, tuple[Callable[[RepositoryHandle, Path], None], dict[str, object]]] = {
    "v1-small": (make_small, {}),
    "v1-history": (make_history, {"chunking": TINY, "compression_level": 3, "pack_target_bytes": 4_096}),
    "v1-large": (make_large, {"chunking": ChunkingParams(64, 64, 64)}),
}


def make(name: str, target: Path) -> None:
    """Make one golden repository, and the manifest of what must be read from it."""
    recipe, settings = RECIPES[name]
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {"XDG_CACHE_HOME": folder}):
        work = Path(folder)
        with fixed_clock_and_chance(), RepositoryHandle.create(work / name, config(name, **settings)) as handle:
            recipe(handle, work)
        for derived in ("derived", "tmp"):
            shutil.rmtree(work / name / derived, ignore_errors=True)
        shutil.copytree(work / name, target / name)
    text = json.dumps(manifest_of(target / name), indent=1, ensure_ascii=True, sort_keys=True)
    (target / f"{name}.json").write_text(text + "\n", encoding="ascii")


def main() -> None:
    """Make those that are not there yet."""
    for name in RECIPES:
        if (GOLDEN / name).exists():
            print(f"{name} is there, and stays as it is", file=sys.stderr)
        else:
            make(name, GOLDEN)
            size = sum(file.stat().st_size for file in (GOLDEN / name).rglob("*") if file.is_file())
            print(f"{name}: {size} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
