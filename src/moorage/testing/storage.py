"""Does this storage keep the promises of `moorage.storage.base`? The tests, for whoever writes one.

    class TestMyStorage(StorageConformance):
        @pytest.fixture
        def storage(self) -> Storage:
            return MyStorage(...)

Each test gets a storage with nothing in it. Durability is beyond what a test in one process can see.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from moorage.errors import AlreadyExistsError, CorruptDataError, KeyNotFoundError
from moorage.model.ranges import ByteRange
from moorage.storage.base import Storage

KEY = "packs/ab/abcdef"
SIZES = [0, 1, 4095, 4096, 4097, 1_000_003]
_RACERS = 8
_ROUNDS = 20


def pattern(size: int, seed: int = 0) -> bytes:
    """`size` bytes in which no range looks like another."""
    words = b"".join((seed << 32 | number).to_bytes(8, "big") for number in range(size // 8 + 1))
    return words[:size]


class StorageConformance:
    """Inherit, and override the fixture."""

    @pytest.fixture
    def storage(self) -> Storage:
        """The storage to test, with nothing in it."""
        raise NotImplementedError

    # -- what was stored is there ------------------------------------------------------------------

    @pytest.mark.parametrize("size", SIZES)
    def test_created_bytes_are_read_back(self, storage: Storage, size: int) -> None:
        """All of them, by every way of reading."""
        data = pattern(size)
        storage.create(KEY, data)
        assert storage.get(KEY) == data
        assert storage.size(KEY) == size
        assert storage.exists(KEY)
        assert storage.get_range(KEY, 0, size) == data

    def test_any_buffer_will_do(self, storage: Storage) -> None:
        """And may be used for something else when `create` has returned."""
        data = bytearray(pattern(5_000))
        storage.create("refs/a", data)
        storage.create("refs/b", memoryview(data)[1_000:2_000])
        data[:] = bytes(5_000)
        assert storage.get("refs/a") == pattern(5_000)
        assert storage.get("refs/b") == pattern(5_000)[1_000:2_000]

    def test_ranges(self, storage: Storage) -> None:
        """In the order asked, overlapping, adjacent, empty, and none at all."""
        data = pattern(10_000)
        storage.create(KEY, data)
        asked = [(9_000, 10_000), (0, 1), (5, 5), (0, 10_000), (1, 2), (2, 3), (10_000, 10_000)]
        found = storage.get_ranges(KEY, [ByteRange(start, stop) for start, stop in asked])
        assert found == [data[start:stop] for start, stop in asked]
        assert storage.get_ranges(KEY, []) == []

    @pytest.mark.parametrize(("start", "stop"), [(0, 101), (99, 101), (100, 101), (500, 600)])
    def test_a_range_beyond_the_end_is_damage(self, storage: Storage, start: int, stop: int) -> None:
        """Whoever asks was promised those bytes."""
        storage.create(KEY, pattern(100))
        with pytest.raises(CorruptDataError):
            storage.get_ranges(KEY, [ByteRange(0, 100), ByteRange(start, stop)])

    @pytest.mark.parametrize(("start", "stop"), [(0, 1), (5_000, 6_000), (9_999, 20_000), (50_000, 60_000)])
    def test_prefetching_is_a_hint(self, storage: Storage, start: int, stop: int) -> None:
        """Nothing is another for it, and it does not fail, whatever it is asked for."""
        storage.create(KEY, pattern(10_000))
        for key in (KEY, "packs/ab/absent", "packs", f"{KEY}/below"):
            storage.prefetch(key, ByteRange(start, stop))
        assert storage.get(KEY) == pattern(10_000)
        assert [info.key for info in storage.list_keys("packs/")] == [KEY]

    @pytest.mark.parametrize("key", ["a/b", "refs/branches/%C3%BC%2Fx/0000000000000001", "x/" + "n" * 200, "a/b.c-d_e"])
    def test_keys_are_taken_as_they_are(self, storage: Storage, key: str) -> None:
        """No decoding of escapes, no limit below 200 bytes a part."""
        storage.create(key, b"here")
        assert [info.key for info in storage.list_keys(key.rsplit("/", 1)[0] + "/")] == [key]
        assert storage.get(key) == b"here"

    # -- what was not is not -----------------------------------------------------------------------

    def test_an_absent_key_is_not_found(self, storage: Storage) -> None:
        """By any way of asking; also where the key would be a folder."""
        storage.create("packs/ab/there", b"x")
        asks: list[Callable[[str], object]] = [
            storage.get,
            storage.size,
            storage.delete,
            lambda key: storage.get_range(key, 0, 1),
            lambda key: storage.confirm(["packs/ab/there", key]),
        ]
        for absent in ("packs/ab/absent", "nowhere/at/all", "packs/ab/there/below"):
            assert not storage.exists(absent)
            for ask in asks:
                with pytest.raises(KeyNotFoundError):
                    ask(absent)

    def test_listing_nothing(self, storage: Storage) -> None:
        """An empty storage, and a prefix that nothing has."""
        assert list(storage.list_keys("packs/")) == []
        assert storage.list_folders("refs/branches/") == []
        storage.create("packsaddle/x", b"x")
        assert list(storage.list_keys("packs/")) == []
        assert storage.list_folders("packs/") == []

    def test_listing(self, storage: Storage) -> None:
        """Everything below a prefix with its size, and nothing else."""
        keys = {"packs/aa/1": 1, "packs/aa/2": 0, "packs/ab/1": 3, "packs/top": 7, "index/1": 4, "packsaddle/1": 5}
        for key, size in keys.items():
            storage.create(key, pattern(size))
        below = {key: size for key, size in keys.items() if key.startswith("packs/")}
        assert {info.key: info.size_bytes for info in storage.list_keys("packs/")} == below
        assert {info.key for info in storage.list_keys("packs/aa/")} == {"packs/aa/1", "packs/aa/2"}
        assert set(keys) <= {info.key for info in storage.list_keys("")}
        assert storage.list_folders("packs/") == ["aa", "ab"]

    # -- created once, and whole -------------------------------------------------------------------

    def test_a_key_is_created_once(self, storage: Storage) -> None:
        """The first bytes stay, whatever comes after, equal or not."""
        storage.create(KEY, b"first")
        for data in (b"second", b"first", b""):
            with pytest.raises(AlreadyExistsError) as raised:
                storage.create(KEY, data)
            assert raised.value.fields["key"] == KEY
        assert storage.get(KEY) == b"first"

    def test_a_deleted_key_may_be_created_again(self, storage: Storage) -> None:
        """And is gone in between."""
        storage.create(KEY, b"first")
        storage.delete(KEY)
        assert not storage.exists(KEY)
        assert list(storage.list_keys("packs/")) == []
        storage.create(KEY, b"second")
        assert storage.get(KEY) == b"second"

    def test_confirming(self, storage: Storage) -> None:
        """What is there can be confirmed, any number at once, and none."""
        storage.create("packs/aa/1", b"x")
        storage.create("packs/ab/1", b"x")
        storage.confirm(["packs/aa/1", "packs/ab/1", "packs/aa/1"])
        storage.confirm([])

    # -- uploads -----------------------------------------------------------------------------------

    def test_an_upload_appears_when_it_is_published(self, storage: Storage) -> None:
        """With all of its parts in order, of whatever kind and number; and not before."""
        parts = [pattern(1 + number % 50, number) for number in range(3_000)]
        with storage.upload() as upload:
            upload.write(parts[:1])
            upload.write([])
            upload.write([bytearray(part) for part in parts[1:10]])
            upload.write([memoryview(part) for part in parts[10:]])
            assert not storage.exists(KEY)
            upload.publish(KEY)
            assert storage.get(KEY) == b"".join(parts)
        assert storage.get(KEY) == b"".join(parts)

    def test_parts_may_be_used_again(self, storage: Storage) -> None:
        """When `write` has returned."""
        buffer = bytearray(b"first ")
        with storage.upload() as upload:
            upload.write([buffer])
            buffer[:] = b"second"
            upload.write([buffer])
            upload.publish(KEY)
        assert storage.get(KEY) == b"first second"

    def test_an_empty_upload(self, storage: Storage) -> None:
        """Is an empty object."""
        with storage.upload() as upload:
            upload.publish(KEY)
        assert storage.get(KEY) == b""

    def test_an_upload_that_is_not_published_never_was(self, storage: Storage) -> None:
        """Whether it is discarded, left, or left by an exception."""
        upload = storage.upload()
        upload.write([b"discarded"])
        upload.discard()
        upload.discard()
        with storage.upload() as left:
            left.write([b"left"])
        with contextlib.suppress(ZeroDivisionError), storage.upload() as failed:
            failed.write([b"failed"])
            raise ZeroDivisionError
        assert list(storage.list_keys("")) == []

    def test_publishing_under_a_taken_key(self, storage: Storage) -> None:
        """Is refused, leaves what is there, and the upload may be discarded."""
        storage.create(KEY, b"first")
        with storage.upload() as upload:
            upload.write([b"second"])
            with pytest.raises(AlreadyExistsError) as raised:
                upload.publish(KEY)
            upload.discard()
        assert raised.value.fields["key"] == KEY
        assert storage.get(KEY) == b"first"
        assert [info.key for info in storage.list_keys("")] == [KEY]

    def test_several_uploads_at_once(self, storage: Storage) -> None:
        """Do not mix."""
        uploads = [storage.upload() for _ in range(5)]
        for turn in range(10):
            for number, upload in enumerate(uploads):
                upload.write([pattern(100, 10 * number + turn)])
        for number, upload in enumerate(uploads):
            upload.publish(f"packs/{number:02}/x")
        for number in range(5):
            expected = b"".join(pattern(100, 10 * number + turn) for turn in range(10))
            assert storage.get(f"packs/{number:02}/x") == expected

    # -- races -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("uploading", [False, True], ids=["create", "publish"])
    def test_one_of_many_creates_a_key(self, storage: Storage, uploading: bool) -> None:
        """The one that is told so; all others are told that they were late, and read the winner's bytes."""
        for round_ in range(_ROUNDS):
            key = f"refs/branches/x/{round_:016}"
            won, read = _race_for(storage, key, uploading=uploading)
            assert len(won) == 1
            assert read == won * (_RACERS - 1)
            assert storage.get(key) == won[0]

    def test_a_key_appears_whole(self, storage: Storage) -> None:
        """Whoever looks sees nothing, or all of it: by getting, by its size, by listing."""
        size = 300_000
        over = threading.Event()
        seen: set[int] = set()

        def look() -> None:
            while not over.is_set():
                for info in storage.list_keys("packs/"):
                    seen.update((info.size_bytes, storage.size(info.key), len(storage.get(info.key))))

        def write() -> None:
            try:
                for round_ in range(_ROUNDS):
                    storage.create(f"packs/aa/{round_}", pattern(size, round_))
            finally:
                over.set()

        _together([write, look, look])
        assert seen <= {size}


def _race_for(storage: Storage, key: str, *, uploading: bool) -> tuple[list[bytes], list[bytes]]:
    """Let several threads create one key at once: what those who succeeded wrote, and what the others then read."""
    gate = threading.Barrier(_RACERS)
    won: list[bytes] = []
    read: list[bytes] = []

    def race(number: int) -> None:
        data = pattern(1_000, number)
        gate.wait()
        try:
            if uploading:
                with storage.upload() as upload:
                    upload.write([data])
                    upload.publish(key)
            else:
                storage.create(key, data)
            won.append(data)
        except AlreadyExistsError:
            read.append(storage.get(key))

    _together([partial(race, number) for number in range(_RACERS)])
    return won, read


def _together(works: Sequence[Callable[[], None]]) -> None:
    """Run each in a thread of its own, and raise what any of them raises."""
    with ThreadPoolExecutor(len(works)) as pool:
        for running in [pool.submit(work) for work in works]:
            running.result()
