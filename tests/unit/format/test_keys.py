"""Does each file lie under its one key, and is every other key refused?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import FormatError
from moorage.format.keys import (
    config_key,
    highest_number,
    pack_key,
    parse_number,
    parse_pack_key,
    parse_ref_folder,
    parse_segment_key,
    ref_key,
    segment_key,
)
from moorage.model.digest import PackId, SegmentId
from moorage.model.refs import RefKind, RefName
from tests.unit.format.values import REF_NAMES, digests

PACK, SEGMENT = PackId.of(b"pack"), SegmentId.of(b"segment")


@given(st.integers(1, 10**16 - 1))
def test_numbers(number: int) -> None:
    assert parse_number(config_key(number)) == number
    assert len(config_key(number)) == len("config/") + 16


@pytest.mark.parametrize(
    "last",
    [
        "",
        "1",
        "0000000000000000",
        "00000000000000001",
        "000000000000000x",
        "+000000000000001",
        "\uff10" * 15 + "\uff11",
    ],
)
def test_what_is_no_number(last: str) -> None:
    with pytest.raises(FormatError):
        parse_number(f"config/{last}")


def numbered(*numbers: int) -> list[str]:
    return [f"{number:016d}" for number in numbers]


@given(st.permutations(range(1, 30)), st.integers(0, 29))
def test_numbers_without_a_gap(numbers: list[int], count: int) -> None:
    assert highest_number(numbered(*(number for number in numbers if number <= count))) == count


@pytest.mark.parametrize(
    "names",
    [
        numbered(2),
        numbered(1, 3),
        numbered(1, 2, 4),
        numbered(0, 1),
        [*numbered(1, 3), ".nfs"],
        [*numbered(1, 3), "000000000000001x"],
        [*numbered(1), "2"],
        [*numbered(1), "00000000000000002"],
        ["notes.txt"],
        ["\uff10" * 15 + "\uff11"],
        [""],
    ],
)
def test_numbers_that_are_worth_a_look(names: list[str]) -> None:
    assert highest_number(names) is None


@given(digests(PackId))
def test_packs(pack: PackId) -> None:
    assert parse_pack_key(pack_key(pack)) == pack


@pytest.mark.parametrize(
    "key",
    [
        f"packs/{PACK.hex()}",
        f"packs/00/{PACK.hex()}",
        f"packs/{PACK.hex()[:2]}/{PACK.hex().upper()}",
        f"packs/{PACK.hex()[:2]}/{PACK.hex()[:-1]}",
        f"packs/{PACK.hex()[:2]}/{PACK.hex()}.tmp",
        f"packs/{PACK.hex()[:2]}/x/{PACK.hex()}",
        "packs/",
    ],
)
def test_what_is_no_pack(key: str) -> None:
    with pytest.raises(FormatError):
        parse_pack_key(key)


@given(digests(SegmentId))
def test_segments(segment: SegmentId) -> None:
    assert parse_segment_key(segment_key(segment)) == segment


@pytest.mark.parametrize("key", [f"index/{SEGMENT.hex().upper()}", f"index/x/{SEGMENT.hex()}", "index/", "index/zz"])
def test_what_is_no_segment(key: str) -> None:
    with pytest.raises(FormatError):
        parse_segment_key(key)


@given(st.sampled_from(RefKind), REF_NAMES, st.integers(1, 10**16 - 1))
def test_refs(kind: RefKind, name: str, number: int) -> None:
    ref = RefName(kind, name)
    key = ref_key(ref, number)
    assert parse_ref_folder(kind, key) == ref
    assert parse_number(key) == number
    assert key.count("/") == 3
    assert key.isascii()
    assert all(len(part) <= 255 for part in key.split("/"))


def test_branches_and_tags_are_apart() -> None:
    branch, tag = (ref_key(RefName(kind, "a"), 1) for kind in RefKind)
    assert (branch, tag) == ("refs/branches/a/0000000000000001", "refs/tags/a/0000000000000001")


@pytest.mark.parametrize("folder", ["", "a b", "%41", "%2f", "%e9", ".a", "~", "-a", "%3A", "a%2F%2Fb"])
def test_what_is_no_ref(folder: str) -> None:
    with pytest.raises(FormatError):
        parse_ref_folder(RefKind.BRANCH, f"refs/branches/{folder}/0000000000000001")
