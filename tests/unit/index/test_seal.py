"""Is everything found that would make LMDB follow a wild pointer, before LMDB opens the file?"""

from __future__ import annotations

from pathlib import Path

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.index import seal
from moorage.index.lmdb_index import LmdbIndex
from moorage.index.seal import is_sound, read_used
from moorage.index.stat_cache import FileIdentity, KnownContent, StatCache
from moorage.model.digest import ContentDigest, RecipeId
from tests.unit.index.made import object_id, pack


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of an index with a few hundred objects."""
    folder = tmp_path_factory.mktemp("index")
    index = LmdbIndex(folder)
    for turn in range(3):
        index.add([pack(turn, [object_id(f"{turn}/{number}") for number in range(150)])])
    index.close()
    return {name: (folder / name).read_bytes() for name in ("data.mdb", "seal")}


def lay(folder: Path, data: bytes, line: bytes) -> Path:
    (folder / "data.mdb").write_bytes(data)
    (folder / "seal").write_bytes(line)
    return folder


def used_bytes(sealed: dict[str, bytes]) -> int:
    return int(sealed["seal"].split()[1])


def test_what_was_sealed_is_sound(sealed: dict[str, bytes], tmp_path: Path) -> None:
    assert is_sound(lay(tmp_path, sealed["data.mdb"], sealed["seal"]))


def test_it_reads_what_lmdb_says_of_itself(tmp_path: Path) -> None:
    index = LmdbIndex(tmp_path)
    for turn in range(5):
        index.add([pack(turn, [object_id(f"{turn}/{number}") for number in range(50)])])
        info = index._environment.env.info()
        used = read_used(tmp_path / "data.mdb")
        assert used is not None
        page_bytes = index._environment.env.stat()["psize"]
        assert (used.transaction, used.size_bytes) == (info["last_txnid"], (info["last_pgno"] + 1) * page_bytes)
    index.close()


def test_a_flipped_bit_is_found_wherever_it_is(sealed: dict[str, bytes], tmp_path: Path) -> None:
    data = bytearray(sealed["data.mdb"])
    places = [*range(160), *range(4096, 4096 + 160), *range(320, used_bytes(sealed), 61)]
    lay(tmp_path, bytes(data), sealed["seal"])
    with open(tmp_path / "data.mdb", "r+b", buffering=0) as file:
        for place in places:
            file.seek(place)
            file.write(bytes([data[place] ^ 1 << place % 8]))
            assert not is_sound(tmp_path), f"byte {place}"
            file.seek(place)
            file.write(bytes([data[place]]))
    assert is_sound(tmp_path)


def test_a_file_that_was_cut_is_found(sealed: dict[str, bytes], tmp_path: Path) -> None:
    used = used_bytes(sealed)
    for length in [0, 1, 151, 152, 4096, 4200, 8192, *range(8192, used, 4096), used - 1]:
        assert not is_sound(lay(tmp_path, sealed["data.mdb"][:length], sealed["seal"])), length


def test_what_lies_behind_the_last_page_does_not_matter(sealed: dict[str, bytes], tmp_path: Path) -> None:
    data = sealed["data.mdb"][: used_bytes(sealed)]
    assert is_sound(lay(tmp_path, data, sealed["seal"]))
    assert is_sound(lay(tmp_path, data + b"left over" * 500, sealed["seal"]))


@pytest.mark.parametrize("line", [b"", b"\n", b"1 2 3\n", b"\xff\xff", b"garbage"])
def test_another_seal_is_none(sealed: dict[str, bytes], line: bytes, tmp_path: Path) -> None:
    assert not is_sound(lay(tmp_path, sealed["data.mdb"], line))


def test_the_seal_of_the_transaction_before_is_none(tmp_path: Path) -> None:
    index = LmdbIndex(tmp_path)
    before = (tmp_path / "seal").read_bytes()
    index.add([pack("one", [object_id("a")])])
    index.close()
    assert is_sound(tmp_path)
    (tmp_path / "seal").write_bytes(before)
    assert not is_sound(tmp_path)


def test_missing_files(sealed: dict[str, bytes], tmp_path: Path) -> None:
    assert not is_sound(tmp_path)
    lay(tmp_path, sealed["data.mdb"], sealed["seal"])
    (tmp_path / "data.mdb").unlink()
    assert not is_sound(tmp_path)


@pytest.mark.parametrize("data", [b"", bytes(100), bytes(20_000), b"\xff" * 20_000])
def test_what_is_no_database_says_nothing_of_itself(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(data)
    assert read_used(tmp_path / "data.mdb") is None


def test_a_large_file_is_only_checked_for_its_length(
    sealed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal, "MAX_SEALED_BYTES", 8192)
    lay(tmp_path, sealed["data.mdb"], sealed["seal"])
    seal.write_seal(tmp_path)
    assert is_sound(tmp_path)
    flipped = bytearray(sealed["data.mdb"])
    flipped[used_bytes(sealed) - 100] ^= 1
    (tmp_path / "data.mdb").write_bytes(flipped)
    assert is_sound(tmp_path)
    (tmp_path / "data.mdb").write_bytes(sealed["data.mdb"][: used_bytes(sealed) - 1])
    assert not is_sound(tmp_path)


def test_damage_that_kills_lmdb_is_what_the_seal_is_for(sealed: dict[str, bytes], tmp_path: Path) -> None:
    """Negative control: LMDB alone opens a damaged file, and hands out what is not right, or fails, or worse."""
    id = bytes(object_id("1/7"))
    lay(tmp_path, sealed["data.mdb"].replace(id, id[:-1] + bytes([id[-1] ^ 1])), sealed["seal"])
    with lmdb.open(str(tmp_path), lib_version=0, readonly=True, lock=False) as env, env.begin() as reading:
        assert reading.get(b"\1" + id) is None  # it is there, and is not found
    assert not is_sound(tmp_path)


Step = tuple[str, int]


@settings(max_examples=settings().max_examples // 4)
@given(st.lists(st.tuples(st.sampled_from(["add", "clear", "record", "long record"]), st.integers(1, 400)), max_size=8))
def test_after_every_transaction_the_file_is_sound(tmp_path_factory: pytest.TempPathFactory, steps: list[Step]) -> None:
    """Also where pages have been freed, at the end of the file too."""
    folder = tmp_path_factory.mktemp("sealed")
    index, cache = LmdbIndex(folder / "index"), StatCache(folder / "stat")
    for number, (step, count) in enumerate(steps):
        if step == "add":
            index.add([pack(number, [object_id(f"{number}/{item}") for item in range(count)])])
        elif step == "clear":
            index.clear()
        else:
            content = KnownContent(ContentDigest.of(b""), RecipeId.of(b"") if step == "long record" else None)
            cache.record([(FileIdentity(1, item, 0, 0, 0), content) for item in range(count)], now_ns=number)
        assert is_sound(folder / "index")
        assert is_sound(folder / "stat")
    index.close()
    cache.close()
