"""Does an environment grow, survive other processes, and leave no page pinned?"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import lmdb
import pytest

from moorage.index import environment
from moorage.index.base import IndexUnwritable
from moorage.index.gate import Gate
from moorage.index.lmdb_index import LmdbIndex
from moorage.index.seal import is_sound
from tests.unit.index.made import object_id, pack, pack_id
from tests.unit.index.test_lmdb_index import in_another_process

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def _tiny_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "MAP_BYTES", 64 * 1024)


@pytest.mark.usefixtures("_tiny_map")
def test_a_full_map_grows(tmp_path: Path) -> None:
    index = LmdbIndex(tmp_path)
    ids = [object_id(number) for number in range(5_000)]
    for start in range(0, 5_000, 500):
        index.add([pack(start, ids[start : start + 500])])
    assert None not in index.find(ids)
    assert index._environment.env.info()["map_size"] >= 512 * 1024
    index.close()


@pytest.mark.usefixtures("_tiny_map")
def test_a_map_that_another_process_grew_is_followed(tmp_path: Path) -> None:
    index = LmdbIndex(tmp_path)
    index.add([pack("one", [object_id("a")])])
    code = "index = LmdbIndex(Path(sys.argv[1])); index.add([pack('two', [object_id(n) for n in range(20_000)])])"
    in_another_process(code, str(tmp_path))
    assert index.find([object_id(19_999), object_id("a")]) != [None, None]
    assert None not in index.find([object_id(number) for number in range(20_000)])
    index.add([pack("three", [object_id("c")])])
    assert len(index.packs()) == 3
    index.close()


@pytest.mark.usefixtures("_tiny_map")
def test_the_map_does_not_move_under_the_feet_of_a_reader(tmp_path: Path) -> None:
    index = LmdbIndex(tmp_path)
    first = [object_id(number) for number in range(100)]
    index.add([pack("first", first)])
    reading, may_end = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        def slowly(transaction: lmdb.Transaction) -> None:
            reading.set()
            may_end.wait()
            assert all(transaction.get(b"\1" + id) is not None for id in first)

        try:
            index._environment.read(slowly)
        except BaseException as error:  # noqa: BLE001  # told to the main thread
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    reading.wait()
    writer = threading.Thread(
        target=lambda: index.add([pack("more", [object_id(f"more {number}") for number in range(2_000)])])
    )
    writer.start()
    while not index._environment._gate._wanting_alone:
        pass
    assert index._environment.env.info()["map_size"] == 64 * 1024
    may_end.set()
    reader.join()
    writer.join()
    assert failures == []
    assert index._environment.env.info()["map_size"] > 64 * 1024
    assert index.find([object_id("more 1999")]) != [None]
    index.close()


# -- other processes -------------------------------------------------------------------------------


def test_a_live_writer_vouches_for_the_file(tmp_path: Path) -> None:
    index = LmdbIndex(tmp_path)
    index.add([pack("one", [object_id("a")])])
    index.close()
    (tmp_path / "seal").unlink()  # as in the moment between a commit and its seal
    held = os.open(tmp_path / "writer.lock", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    index = LmdbIndex(tmp_path)  # does not wait
    assert index.packs() == {pack_id("one")}
    index.close()
    os.close(held)


def test_without_a_writer_a_file_without_its_seal_is_made_anew(tmp_path: Path) -> None:
    """The negative control of the test above, and what a kill between a commit and its seal leads to."""
    index = LmdbIndex(tmp_path)
    index.add([pack("one", [object_id("a")])])
    index.close()
    (tmp_path / "seal").unlink()
    index = LmdbIndex(tmp_path)
    assert index.packs() == set()
    index.close()


def test_who_lost_the_files_to_another_process_writes_to_the_new_ones(tmp_path: Path) -> None:
    index = LmdbIndex(tmp_path)
    index.add([pack("one", [object_id("a")])])
    (tmp_path / "seal").unlink()
    code = "index = LmdbIndex(Path(sys.argv[1])); print(len(index.packs())); index.add([pack('two', [object_id('b')])])"
    assert in_another_process(code, str(tmp_path)) == "0"
    assert index.packs() == {pack_id("one")}  # what it had is still right
    index.add([pack("three", [object_id("c")])])
    assert index.packs() == {pack_id("two"), pack_id("three")}
    assert in_another_process("print(len(LmdbIndex(Path(sys.argv[1])).packs()))", str(tmp_path)) == "2"
    index.close()
    assert is_sound(tmp_path)


def test_a_folder_that_was_deleted_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    index = LmdbIndex(folder)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    with pytest.raises(IndexUnwritable):
        index.add([pack("one", [object_id("a")])])
    index.close()


def test_a_killed_reader_pins_no_pages(tmp_path: Path) -> None:
    index = LmdbIndex(tmp_path)
    index.add([pack("one", [object_id("a")])])
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom moorage.index.lmdb_index import LmdbIndex\n"
        "index = LmdbIndex(Path(sys.argv[1]))\n"
        "with index._environment.env.begin() as transaction:\n"
        "    print('reading', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert reader.stdout is not None
    assert reader.stdin is not None
    assert reader.stdout.readline() == b"reading\n"
    reader.send_signal(signal.SIGKILL)
    reader.wait()
    reader.stdout.close()
    reader.stdin.close()
    assert str(reader.pid) in index._environment.env.readers()
    index.add([pack("two", [object_id("b")])])
    assert str(reader.pid) not in index._environment.env.readers()
    index.close()


# -- the gate --------------------------------------------------------------------------------------


def test_who_wants_to_be_alone_waits_and_keeps_others_out() -> None:
    gate = Gate()
    order: list[str] = []
    inside, may_leave, waits = threading.Event(), threading.Event(), threading.Event()

    def reader() -> None:
        with gate:
            inside.set()
            may_leave.wait()
            order.append("first reader")

    def mover() -> None:
        waits.set()
        with gate.alone():
            order.append("alone")

    threads = [threading.Thread(target=reader), threading.Thread(target=mover)]
    threads[0].start()
    inside.wait()
    threads[1].start()
    waits.wait()
    while not gate._wanting_alone:
        pass
    late = threading.Thread(target=lambda: _enter(gate, order))
    late.start()
    may_leave.set()
    for thread in [*threads, late]:
        thread.join()
    assert order == ["first reader", "alone", "late reader"]


def _enter(gate: Gate, order: list[str]) -> None:
    with gate:
        order.append("late reader")


def test_readers_go_in_together() -> None:
    gate = Gate()
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(gate)
        assert gate._inside == 3
    with gate.alone():
        assert gate._inside == 0


def test_an_error_leaves_the_gate_open() -> None:
    gate = Gate()
    with pytest.raises(RuntimeError), gate.alone():
        raise RuntimeError
    with pytest.raises(RuntimeError), gate:
        raise RuntimeError
    with gate.alone():
        pass
