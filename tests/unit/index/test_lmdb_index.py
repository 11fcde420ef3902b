"""Does an index in LMDB last, and does it notice what was not put there?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from moorage.index import environment
from moorage.index.base import IndexDamaged, IndexUnwritable
from moorage.index.lmdb_index import LmdbIndex, _sealed
from moorage.model.objects import ObjectKind
from tests.unit.index.made import object_id, pack, pack_id, segment_id

IDS = [object_id(number) for number in range(50)]


def filled(folder: Path) -> LmdbIndex:
    index = LmdbIndex(folder)
    index.add([pack("one", IDS)], [segment_id("s")], [pack_id("old")])
    return index


def in_another_process(code: str, *arguments: str) -> str:
    """Run a piece of Python that knows what this module knows."""
    preamble = "import sys\nfrom pathlib import Path\nfrom tests.unit.index.test_lmdb_index import *\n"
    done = subprocess.run(
        [sys.executable, "-c", preamble + code, *arguments],
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_it_is_there_after_closing(tmp_path: Path) -> None:
    filled(tmp_path).close()
    index = LmdbIndex(tmp_path)
    assert None not in index.find(IDS)
    assert (index.packs(), index.segments(), index.retired()) == (
        {pack_id("one")},
        {segment_id("s")},
        {pack_id("old")},
    )
    index.close()


def test_two_indexes_of_one_folder_share_an_environment(tmp_path: Path) -> None:
    first, second = filled(tmp_path), LmdbIndex(tmp_path)
    assert first._environment is second._environment
    assert None not in second.find(IDS)
    first.close()
    second.add([pack("two", [object_id("late")])])
    assert second.find([object_id("late")])[0] is not None
    second.close()
    assert not [env for env in environment._open.values() if env.folder == tmp_path]


def test_two_paths_to_one_folder_share_an_environment(tmp_path: Path) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    first, second = LmdbIndex(folder), LmdbIndex(link)
    assert first._environment is second._environment
    link.unlink()  # so that the second path leads nowhere when it is closed
    second.close()
    first.close()


def test_another_process_adds_and_is_seen(tmp_path: Path) -> None:
    index = filled(tmp_path)
    code = (
        "index = LmdbIndex(Path(sys.argv[1])); index.add([pack('two', [object_id('theirs')])])\n"
        "print(len(index.packs()))"
    )
    assert in_another_process(code, str(tmp_path)) == "2"
    assert index.find([object_id("theirs")])[0] is not None
    assert index.packs() == {pack_id("one"), pack_id("two")}
    index.close()


def test_many_processes_that_open_a_new_index_at_once_share_it(tmp_path: Path) -> None:
    """Each would lose what the others add if it had deleted their files, or they its."""
    code = (
        "number = sys.argv[2]; index = LmdbIndex(Path(sys.argv[1]))\n"
        "for turn in range(5):\n"
        "    index.add([pack(f'{number}/{turn}', [object_id(f'{number}/{turn}')])])\n"
        "index.close()\n"
    )
    preamble = "import sys\nfrom pathlib import Path\nfrom tests.unit.index.test_lmdb_index import *\n"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", preamble + code, str(tmp_path / "index"), str(number)],
            cwd=Path(__file__).resolve().parents[3],
        )
        for number in range(4)
    ]
    assert [process.wait() for process in running] == [0] * 4
    index = LmdbIndex(tmp_path / "index")
    assert len(index.packs()) == 20
    index.close()


# -- what was not put there ------------------------------------------------------------------------


def write(index: LmdbIndex, key: bytes, value: bytes) -> None:
    index._environment.write(
        lambda transaction: transaction.put(key, value)  # type: ignore[arg-type]  # its answer is of no use
    )


def place_key() -> bytes:
    return bytes([ObjectKind.CHUNK]) + IDS[0]


DAMAGE: dict[str, tuple[bytes, bytes]] = {
    "a flipped bit": (place_key(), b"\1" * 33),
    "a value that is too short": (place_key(), b"\1"),
    "an empty value": (place_key(), b""),
    "a sealed value of another length": (place_key(), _sealed(place_key(), b"short")),
    "a pack that is not listed": (place_key(), _sealed(place_key(), b"unlisted" + bytes(17))),
    "a codec that nobody knows": (
        place_key(),
        _sealed(place_key(), pack_id("one")[:8] + bytes(16) + b"\x63"),
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_place_that_is_wrong_is_no_answer(name: str, tmp_path: Path) -> None:
    index = filled(tmp_path)
    write(index, *DAMAGE[name])
    with pytest.raises(IndexDamaged):
        index.find(IDS)
    assert index.find(IDS[1:])[0] is not None
    index.close()


@pytest.mark.parametrize(
    ("key", "look"),
    [
        (b"\x10" + pack_id("one")[:8], LmdbIndex.packs),
        (b"\x11" + segment_id("s"), LmdbIndex.segments),
        (b"\x12" + pack_id("old"), LmdbIndex.retired),
    ],
)
def test_a_list_that_is_wrong_is_no_answer(key: bytes, look: Callable[[LmdbIndex], object], tmp_path: Path) -> None:
    index = filled(tmp_path)
    write(index, key, b"\1" * 36)
    with pytest.raises(IndexDamaged):
        look(index)
    index.close()


def test_what_lmdb_cannot_make_sense_of_is_damage(tmp_path: Path) -> None:
    index = filled(tmp_path)

    def corrupt(transaction: lmdb.Transaction) -> None:
        raise lmdb.CorruptedError("mdb_get: MDB_CORRUPTED")

    with pytest.raises(IndexDamaged, match="MDB_CORRUPTED"):
        index._environment.read(corrupt)
    index.close()


@pytest.mark.parametrize("error", [lmdb.DiskError("mdb_txn_commit: No space left on device"), OSError(28, "No space")])
def test_what_cannot_be_written_is_said_and_changes_nothing(error: Exception, tmp_path: Path) -> None:
    index = filled(tmp_path)

    def fails(transaction: lmdb.Transaction) -> None:
        transaction.put(b"\x10x", b"y")
        raise error

    with pytest.raises(IndexUnwritable):
        index._environment.write(fails)
    assert index.packs() == {pack_id("one")}
    index.close()
