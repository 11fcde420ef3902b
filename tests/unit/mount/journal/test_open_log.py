"""Is each open written down once, in bounded room, without anybody waiting, and is what is missing said?"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from moorage.mount.host import places
from moorage.mount.journal import who
from moorage.mount.journal.open_log import Caller, Opened, OpenLog, caller_of, generation, lines_of
from moorage.mount.journal.who import Question, answers

DIGEST, SNAPSHOT = "ab" * 32, "cd" * 32
NOON_NS = 1_788_264_000 * 1_000_000_000  # 2026-09-01T12:00:00Z


def opened(number: int, path: str = "/srv/models/f", snapshot: str | None = SNAPSHOT, digest: str = DIGEST) -> Opened:
    return Opened(NOON_NS + number * 1_000_000_000, Caller(number, 7, "/usr/bin/cat"), path, snapshot, digest)


def numbers(path: Path) -> list[object]:
    return [fields["pid"] for fields in lines_of(path) if "pid" in fields]


def dropped(path: Path) -> int:
    return sum(int(str(fields.get("dropped", 0))) for fields in lines_of(path))


def test_a_line_is_what_is_documented(tmp_path: Path) -> None:
    log = OpenLog(tmp_path / "opens" / "x.jsonl")
    log.note(opened(3, "/srv/\udcff\n"))
    log.close()
    [line] = (tmp_path / "opens" / "x.jsonl").read_bytes().splitlines()
    assert json.loads(line) == {
        "time": "2026-09-01T12:00:03.000000Z",
        "pid": 3,
        "uid": 7,
        "executable": "/usr/bin/cat",
        "path": "/srv/\udcff\n",
        "snapshot": SNAPSHOT,
        "blake3": DIGEST,
    }
    assert (tmp_path / "opens" / "x.jsonl").stat().st_mode & 0o777 == 0o600


def test_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    for number in (1, 2):
        log = OpenLog(tmp_path / "x.jsonl")
        log.note(opened(number))
        log.close()
    assert numbers(tmp_path / "x.jsonl") == [1, 2]


def test_files_are_bounded_and_the_newest_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for number in range(200):
        log = OpenLog(path, file_bytes=1000, generations=2)
        log.note(opened(number))
        log.close()  # one at a time: how many are written together is not bounded
    assert sorted(os.listdir(tmp_path)) == ["x.jsonl", "x.jsonl.1", "x.jsonl.2"]
    assert all((tmp_path / name).stat().st_size <= 1000 for name in os.listdir(tmp_path))
    kept = numbers(path)
    assert kept == list(range(200))[-len(kept) :]
    assert len(kept) > 5


def test_two_that_write_to_one_place_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    logs = [OpenLog(path, file_bytes=4000, generations=1000) for _ in range(2)]
    for number in range(300):
        logs[number % 2].note(opened(number))
    for log in logs:
        log.close()
    found = [fields["pid"] for fields in lines_of(path, 1000)]
    assert sorted(map(int, map(str, found))) == list(range(300))


class SlowLog(OpenLog):
    """Writes when it is let."""

    def __init__(self, path: Path, waiting: int) -> None:
        self.go = threading.Event()
        self.taken = threading.Event()
        super().__init__(path, waiting=waiting)

    def _write(self, batch: list[Opened]) -> None:
        self.taken.set()
        self.go.wait()
        super()._write(batch)


def test_a_slow_disk_drops_lines_says_how_many_and_blocks_nobody(tmp_path: Path) -> None:
    log = SlowLog(tmp_path / "x.jsonl", waiting=10)
    log.note(opened(0))
    log.taken.wait()
    for number in range(1, 100):
        log.note(opened(number))  # would hang the test if it waited
    log.go.set()
    log.close()
    written = numbers(tmp_path / "x.jsonl")
    assert written == list(range(11))
    assert dropped(tmp_path / "x.jsonl") == 89


def test_control_nothing_is_dropped_where_there_is_room(tmp_path: Path) -> None:
    log = SlowLog(tmp_path / "x.jsonl", waiting=1000)
    for number in range(100):
        log.note(opened(number))
    log.go.set()
    log.close()
    assert numbers(tmp_path / "x.jsonl") == list(range(100))
    assert dropped(tmp_path / "x.jsonl") == 0


def test_a_full_disk_is_said_once_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = SlowLog(tmp_path / "x.jsonl", waiting=1000)
    real, calls = os.write, iter(range(1000))

    def failing(fd: int, data: bytes) -> int:
        if fd == log._fd and next(calls) < 2:
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr("os.write", failing)
    log.go.set()
    for number in range(4):
        log.taken.clear()
        log.note(opened(number))
        log.taken.wait()
        while log._queue.qsize():
            pass
    log.close()
    found = numbers(tmp_path / "x.jsonl")
    assert len(found) + dropped(tmp_path / "x.jsonl") == 4
    assert dropped(tmp_path / "x.jsonl") >= 1
    assert caplog.text.count("opens are not written down") == 1


def test_a_line_that_was_cut_off_hides_no_other(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"time": "2026-09-01T1\n[1]\n"x"\n{}\n')
    log = OpenLog(path)
    log.note(opened(1))
    log.close()
    assert numbers(path) == [1]


def test_a_caller_is_a_process_and_not_a_thread() -> None:
    found: list[Caller] = []
    thread = threading.Thread(target=lambda: found.append(caller_of(threading.get_native_id(), 5)))
    thread.start()
    thread.join()
    assert found == [Caller(os.getpid(), 5, os.readlink("/proc/self/exe"))]


def test_a_caller_that_cannot_be_asked() -> None:
    assert caller_of(2**22 + 1, 5) == Caller(2**22 + 1, 5, None)
    assert caller_of(0, 5) == Caller(0, 5, None)


# -- asking -------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two mounts have written: numbers 0 to 3 and 4."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    models = OpenLog(places.opens_file("/srv/models"))
    models.note(opened(0, "/srv/models/a/f"))
    models.note(opened(2, "/srv/models/ab", digest="12" * 32))
    models.note(opened(3, "/srv/models/a/g", snapshot=None))
    models.close()
    other = OpenLog(places.opens_file("/srv/other"))
    other.note(opened(1, "/srv/other/f", snapshot="34" * 32))
    other.close()
    return places.opens_file("/srv/models")


def pids(question: Question, since_ns: int = 0) -> list[int | None]:
    return [opening.pid for opening in answers(question, since_ns)]


@pytest.mark.parametrize(
    ("question", "found"),
    [
        (Question(path="/srv/models/a"), [0, 3]),
        (Question(path="/srv/models/ab"), [2]),
        (Question(path="/srv/models"), [0, 2, 3]),
        (Question(path="/nowhere", real_path="/srv/other"), [1]),
        (Question(path="/srv/mod"), []),
        (Question(path="/"), [0, 1, 2, 3]),
        (Question(id_prefix="abab"), [0, 1, 3]),
        (Question(id_prefix="cdcd"), [0, 2]),
        (Question(id_prefix="ffff"), []),
        (Question(snapshot=SNAPSHOT), [0, 2]),
        (Question(digests=frozenset(["12" * 32])), [2]),
        (Question(), []),
    ],
)
def test_what_fits_a_question_by_time(written: Path, question: Question, found: list[int]) -> None:
    assert pids(question) == found


def test_only_since_then(written: Path) -> None:
    assert pids(Question(path="/srv"), NOON_NS + 1_000_000_000) == [1, 2, 3]


def test_what_was_dropped_is_always_told(written: Path) -> None:
    with written.open("ab") as file:
        file.write(b'{"time": "2026-09-01T12:00:09.000000Z", "dropped": 5}\n')
    [opening] = answers(Question(path="/nowhere"))
    assert (opening.dropped, opening.pid, opening.path) == (5, None, None)


def test_older_generations_are_asked_too(written: Path) -> None:
    written.rename(generation(written, 2))
    assert pids(Question(path="/srv/models")) == [0, 2, 3]


@pytest.mark.parametrize(
    ("word", "is_path", "is_id"),
    [
        ("/srv/x", True, False),
        ("./prod", True, False),
        ("..", True, False),
        ("prod", False, False),
        ("abcd", False, True),
        ("ab" * 32, False, True),
        ("abc", False, False),
        ("ABCD", False, False),
        ("prod:/srv", False, False),
    ],
)
def test_words(word: str, is_path: bool, is_id: bool) -> None:
    assert (who.is_path(word), who.is_id(word)) == (is_path, is_id)


def test_a_path_is_asked_for_before_and_after_symlinks(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    question = who.about_path(str(tmp_path / "link" / "f"))
    assert (question.path, question.real_path) == (f"{tmp_path}/link/f", f"{tmp_path}/real/f")
