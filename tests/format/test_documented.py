"""Does the page on format 1 say what the code does? Its tables and numbers are read from the page and compared.

A struct of the code is compared field by field: where each lies and how long it is. What has no struct (planes, rows of
MessagePack) is encoded, and looked at where the page says it is.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import msgspec
import pytest
from blake3 import blake3

from moorage.chunking.params import gear_params
from moorage.format import config as config_format
from moorage.format import pack, recipe, record, refs, segment, snapshot, stored, tree
from moorage.format.keys import config_key, pack_key, ref_key, segment_key
from moorage.model import config, limits, names, objects
from moorage.model import recipe as recipe_model
from moorage.model import snapshot as snapshot_model
from moorage.model import tree as tree_model
from moorage.model.digest import PackId, SegmentId, TreeId
from moorage.model.refs import RefAction, RefKind, RefName
from moorage.native import GEAR, GEAR_SEED
from moorage.repository import trees
from tests.format.page import PAGE, number, prose, table

STRUCTS: list[tuple[str, struct.Struct]] = [
    ("Footer", pack._FOOTER_HEAD),
    ("Footer entry", pack._ENTRY),
    ("Trailer", pack._TRAILER),
    ("Stored object", stored._HEADER),
    ("Recipe", recipe._HEAD),
    ("Segment", segment._HEAD),
]


def places(layout: struct.Struct) -> list[tuple[int, int]]:
    """(offset, size) of each field of a struct, padding included."""
    codes: list[str] = re.findall(r"\d*[a-zA-Z]", layout.format)
    found = []
    offset = 0
    for code in codes:
        size = struct.calcsize("<" + code)
        found.append((offset, size))
        offset += size
    return found


def documented_places(heading: str, text: str | None = None) -> list[tuple[int, int]]:
    """The rows whose offset and size are plain numbers; what follows them varies in length."""
    rows = table(heading, text=text).rows
    return [(int(row["offset"]), int(row["size"])) for row in rows if row["size"].isdigit() and row["offset"].isdigit()]


@pytest.mark.parametrize(("heading", "layout"), STRUCTS)
def test_each_struct_lies_as_documented(heading: str, layout: struct.Struct) -> None:
    assert documented_places(heading) == places(layout)


def test_a_shifted_field_would_be_noticed() -> None:
    """Negative control."""
    text = PAGE.read_text("utf-8").replace(
        "| 40 | 8 | XXH3 of the stored object, header included |", "| 40 | 4 | XXH3 of the stored object |"
    )
    assert documented_places("Footer entry", text) != places(pack._ENTRY)


@pytest.mark.parametrize(
    ("heading", "magic"),
    [
        ("Pack", pack.PACK_MAGIC),
        ("Footer", pack._FOOTER_MAGIC),
        ("Trailer", pack._TRAILER_MAGIC),
        ("Segment", segment._MAGIC),
    ],
)
def test_magics(heading: str, magic: bytes) -> None:
    stated = [found for row in table(heading).rows for found in re.findall(r"magic `?([A-Z]{8})", row["field"])]
    assert stated == [magic.decode()]


@pytest.mark.parametrize(
    ("heading", "version"),
    [("Footer", pack.FOOTER_VERSION), ("Segment", segment._VERSION)],
)
def test_versions(heading: str, version: int) -> None:
    assert f"version, {version}" in table(heading).column("field")


def test_the_sizes_around_a_footer() -> None:
    rows = table("Pack").rows
    assert rows[0]["size"] == str(len(pack.PACK_MAGIC))
    assert rows[2]["size"] == f"{pack._FOOTER_HEAD.size} + {pack._ENTRY.size} n"
    assert rows[3]["size"] == str(pack._TRAILER.size)


# -- records and rows ------------------------------------------------------------------------------

TYPES = {
    "integer": "int",
    "string": "str",
    "boolean": "bool",
    "bytes": "bytes",
    "list of strings": "list[str]",
    "list of bytes": "list[bytes]",
    "object": "_Chunking",
}


@pytest.mark.parametrize(
    ("heading", "position", "row"),
    [
        ("Configuration", 0, config_format._Config),
        ("Configuration", 1, config_format._Chunking),
        ("Ref record", 0, refs._Record),
        ("Tree", 0, tree._Row),
        ("Tree", 1, tree._SpanRow),
        ("Snapshot", 0, snapshot._Wire),
    ],
)
def test_fields_and_their_order(heading: str, position: int, row: type[msgspec.Struct]) -> None:
    rows = table(heading, position).rows
    name = table(heading, position).columns[0]
    documented = [(line[name], TYPES[line["type"]]) for line in rows]
    assert documented == [(field.name, str(row.__annotations__[field.name])) for field in msgspec.structs.fields(row)]


def test_kinds_and_codecs() -> None:
    kinds = table("Kinds and codecs").mapping()
    assert kinds == {kind.name.lower(): str(int(kind)) for kind in objects.ObjectKind}
    codecs = table("Kinds and codecs", 1).mapping()
    assert codecs == {codec.name.lower(): str(int(codec)) for codec in objects.Codec}


def test_kinds_of_entries() -> None:
    meaning = table("Tree").rows[1]["meaning"]
    assert re.findall(r"(\d) (\w+)", meaning) == [(str(int(kind)), kind.word) for kind in tree_model.EntryKind]


def test_actions_and_what_may_follow_them() -> None:
    stated = table("Ref record").rows[5]["meaning"]
    assert re.findall(r"[a-z]+(?:-[a-z]+)?(?=`|$)", stated) == [action.value for action in RefAction]
    following = " ".join(table("Ref record", 1).column("record"))
    assert all(action.value in following for action in RefAction)


# -- numbers ---------------------------------------------------------------------------------------

LIMITS: dict[str, int] = {
    "bytes of a record": record.MAX_RECORD_BYTES,
    "quoted name of a ref": names.MAX_QUOTED_REF_BYTES,
    "bytes of a name in a tree": names.MAX_ENTRY_NAME_BYTES,
    "bytes of a path": names.MAX_PATH_BYTES,
    "bytes of a symlink's target": tree_model.MAX_TARGET_BYTES,
    "bytes of a chunk": recipe_model.MAX_CHUNK_BYTES,
    "raw bytes of an object": stored.MAX_RAW_BYTES,
    "objects in a pack": pack.MAX_PACK_OBJECTS,
    "references in a recipe": recipe_model.MAX_REFERENCES,
    "highest level of a recipe": recipe_model.MAX_LEVEL,
    "entries or spans in a tree object": tree_model.MAX_TREE_ENTRIES,
    "highest level of a tree": tree_model.MAX_TREE_LEVEL,
    "directories in directories": trees.MAX_DEPTH,
    "parents of a snapshot": snapshot_model.MAX_PARENTS,
    "nesting of metadata": snapshot._MAX_NESTING,
    "largest size or time": limits.MAX_SIZE_BYTES,
}


def test_limits() -> None:
    assert {what: number(value) for what, value in table("Limits").mapping().items()} == LIMITS
    assert limits.MAX_SIZE_BYTES == limits.MAX_TIME_NS


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        (r"`repository` +\| string.* (\d+) lower-case", 32),
        (r"1,024 to ([\d,]+) \|", config.MAX_PACK_TARGET_BYTES),
        (r"of (\d+) digits\. Ids", len(config_key(1).rsplit("/", 1)[-1])),
        (r"raw length, 1 to ([\d,]+) \|", stored.MAX_RAW_BYTES),
        (r"number of objects, 1 to ([\d,]+) \|", pack.MAX_PACK_OBJECTS),
        (r"level, 0 to (\d+) \|", recipe_model.MAX_LEVEL),
        (r"At level 1 to (\d+) the object", tree_model.MAX_TREE_LEVEL),
        (r"not before ([\d,]+) references", recipe._MIN_RUN),
        (r"not before ([\d,]+) entries", tree._MIN_RUN),
        (r"bits 0 to (\d+) its stored length", stored._ZSTD_BIT.bit_length() - 2),
        (r"state starts at `(0x[0-9a-f]+)`", GEAR_SEED),
    ],
)
def test_numbers_in_the_text(sentence: str, value: int) -> None:
    found = re.findall(sentence, prose())
    assert [number(text) for text in found] == [value]


def test_the_configuration_of_a_new_repository_is_allowed() -> None:
    assert table("Configuration", 1).rows[0]["meaning"].startswith(f"`{config_format.ALGORITHM}`")
    assert table("Configuration").rows[0]["meaning"] == str(config.FORMAT_VERSION)
    assert not config_format.KNOWN_FEATURES
    assert "none is defined" in table("Configuration").rows[7]["meaning"]


# -- test vectors ----------------------------------------------------------------------------------

GEAR_64K = gear_params(config.ChunkingParams(16_384, 65_536, 262_144))

VECTORS: dict[str, Callable[[], str]] = {
    "gear[0]": lambda: hex(GEAR[0]),
    "gear[255]": lambda: hex(GEAR[255]),
    "mask_small for a target of 65,536": lambda: hex(GEAR_64K.mask_small),
    "mask_large for a target of 65,536": lambda: hex(GEAR_64K.mask_large),
    "digest of an empty file": lambda: blake3(b"").hexdigest(),
    "digest of an empty directory": lambda: tree.directory_digest([]).hex(),
    "key of record 7 of branch `exp/é.v2`": lambda: ref_key(RefName(RefKind.BRANCH, "exp/é.v2"), 7),
    "tree object of an empty directory": lambda: tree.encode_tree(tree_model.Tree(())).hex(),
}


def test_vectors() -> None:
    assert table("Test vectors").mapping() == {what: make() for what, make in VECTORS.items()}


def test_the_context_of_directory_digests() -> None:
    rows = {row["entry"]: row["digest"] for row in table("Digests").rows}
    assert f"`{tree.DIGEST_CONTEXT}`" in rows["directory"]


def test_keys() -> None:
    digits = PackId.of(b"").hex()
    shapes = {
        "config/<number>": config_key(1),
        "packs/<first 2 digits>/<pack id>": pack_key(PackId.of(b"")),
        "index/<segment id>": segment_key(SegmentId.of(b"")),
        "refs/branches/<quoted name>/<number>": ref_key(RefName(RefKind.BRANCH, "a"), 1),
        "refs/tags/<quoted name>/<number>": ref_key(RefName(RefKind.TAG, "a"), 1),
    }
    stated = [key for key in table("Keys").column("key") if "<" in key and not key.startswith("tmp/")]
    made = {
        "<number>": "0000000000000001",
        "<first 2 digits>": digits[:2],
        "<pack id>": digits,
        "<segment id>": digits,
        "<quoted name>": "a",
    }
    assert set(stated) == set(shapes)
    for shape, key in shapes.items():
        assert re.sub(r"<[^>]+>", lambda match: made[match[0]], shape) == key


# -- what has no struct ----------------------------------------------------------------------------


@pytest.mark.parametrize(("codec", "width"), stored.PLANE_WIDTHS.items())
def test_planes_lie_as_documented(codec: objects.Codec, width: int) -> None:
    rows = table("Byte planes").rows
    assert [row["size"] for row in rows] == ["4 w", "...", "raw length mod w"]
    raw = bytes(range(8)) * 600 + b"tail!"[: width - 1]
    methods = (stored.Method.ENTROPY,) * (width - 1) + (stored.Method.RAW,)
    data = stored.encode_stored(raw, objects.ObjectKind.CHUNK, stored.Encoding(codec, methods), level=1)
    payload = data[stored.HEADER_BYTES :]
    count = len(raw) // width
    lengths = struct.unpack_from(f"<{width}I", payload)
    position = 4 * width
    for plane, length in enumerate(lengths):
        piece = payload[position : position + (length & 0x7FFF_FFFF)]
        position += len(piece)
        expected = raw[plane : count * width : width]
        if length >> 31:
            assert stored._decompress(memoryview(piece), count) == expected
        else:
            assert piece == expected
    assert lengths[0] >> 31 == 1
    assert lengths[-1] >> 31 == 0
    assert payload[position:] == raw[count * width :]


def test_a_recipe_lies_as_documented() -> None:
    rows = table("Recipe").rows
    assert rows[3]["size"] == "4 n at level 0, else 8 n"
    assert rows[4]["size"] == "32 n"
    ids = bytes(32) + bytes([1]) * 32
    assert recipe.encode_recipe(recipe_model.Recipe(0, (5, 6), ids)) == bytes.fromhex(
        "00000000 02000000 05000000 06000000" + ids.hex()
    )
    assert recipe.encode_recipe(recipe_model.Recipe(2, (5, 6), ids)) == bytes.fromhex(
        "02000000 02000000 0500000000000000 0600000000000000" + ids.hex()
    )


def test_a_segment_lies_as_documented() -> None:
    segments = [SegmentId.of(bytes([n])) for n in range(2)]
    packs = [PackId.of(bytes([n])) for n in range(3)]
    entry = objects.PackEntry(objects.ObjectKind.TREE, _tree_id(), 8, 20, 3, objects.Codec.RAW, 7)
    footer = pack.encode_footer([entry])
    data = segment.encode_segment([footer], segments, packs)
    assert data[24 : 24 + 64] == b"".join(sorted(segments))
    assert data[24 + 64 : 24 + 64 + 96] == b"".join(sorted(packs))
    assert data[24 + 64 + 96 :] == struct.pack("<I", len(footer)) + footer


def _tree_id() -> TreeId:
    return TreeId.of(tree.encode_tree(tree_model.Tree(())))
