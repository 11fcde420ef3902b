"""Is each request answered as promised, byte for byte, without a kernel?"""

from __future__ import annotations

import errno
import os
import stat
import struct
from pathlib import Path

import pytest

from moorage.errors import CorruptDataError
from moorage.mount.host.owner import Owner
from moorage.mount.journal.open_log import OpenLog
from moorage.mount.kernel import lifetimes, wire
from moorage.mount.kernel.operations import Operations
from moorage.mount.kernel.provenance import Provenance
from moorage.mount.kernel.unthinking import MUTATING, Reply
from moorage.mount.kernel.wire import FOREVER_S, Opcode, OpenFlag
from moorage.mount.shown.following import Fixed
from moorage.mount.shown.inodes import ROOT, InodeTable
from moorage.mount.shown.sticky import Holds
from moorage.mount.shown.view import View
from tests.mount.build import Content, Link
from tests.mount.fakes import FakeRepository, failing

FILES: dict[str, Content] = {
    "d": {"file": b"0123456789", "link": Link("file"), **{f"{n:03}": b"x" for n in range(200)}},
    "top": b"top",
}


class Kernel:
    """Asks as the kernel does."""

    def __init__(self, view: View) -> None:
        self.table = InodeTable(view.folder)
        self.operations = Operations(view, self.table, Owner(1000, 100))

    def ask(self, opcode: int, nodeid: int, body: bytes = b"") -> Reply:
        request = wire.HEADER_IN.pack(wire.BODY + len(body), opcode, 1, nodeid, 0, 0, 0, 0, 0) + body
        buffer = bytearray(request + b"\xff" * 64)
        try:
            reply = self.operations.handlers[opcode](nodeid, buffer, len(request))
            return b"".join(reply) if isinstance(reply, list) else reply
        except Exception as error:  # noqa: BLE001 - as the session does
            return self.operations.failed(error, opcode, nodeid, buffer, len(request))

    def bytes_of(self, opcode: int, nodeid: int, body: bytes = b"") -> bytes:
        reply = self.ask(opcode, nodeid, body)
        assert isinstance(reply, bytes), reply
        return reply

    def lookup(self, path: str) -> int:
        nodeid = ROOT
        for name in path.split("/"):
            nodeid = wire.ENTRY_HEAD.unpack_from(self.bytes_of(Opcode.LOOKUP, nodeid, name.encode() + b"\0"))[0]
        return nodeid

    def open(self, opcode: Opcode, nodeid: int) -> tuple[int, OpenFlag]:
        handle, flags, _ = wire.OPEN_OUT.unpack(self.bytes_of(opcode, nodeid, wire.OPEN_IN.pack(0, 0)))
        return handle, OpenFlag(flags)

    def list(self, nodeid: int, size: int, *, plus: bool = False) -> list[tuple[str, int, int]]:
        """(name, nodeid or 0, ino) of everything, read in buffers of `size`."""
        handle, _ = self.open(Opcode.OPENDIR, nodeid)
        position, found = 0, []
        opcode = Opcode.READDIRPLUS if plus else Opcode.READDIR
        while page := self.bytes_of(opcode, nodeid, wire.READ_IN.pack(handle, position, size)):
            assert len(page) <= size
            at = 0
            while at < len(page):
                looked_up = wire.ENTRY_HEAD.unpack_from(page, at)[0] if plus else 0
                at += 128 if plus else 0
                ino, position, length, _ = wire.DIRENT.unpack_from(page, at)
                found.append((page[at + 24 : at + 24 + length].decode(), looked_up, ino))
                at += 24 + length + -length % 8
        return found


@pytest.fixture
def kernel() -> Kernel:
    return Kernel(FakeRepository().fixed_view(FILES))


@pytest.fixture
def following() -> tuple[Kernel, FakeRepository]:
    repository = FakeRepository()
    repository.set("prod", FILES)
    return Kernel(repository.view("prod")), repository


def test_lookup_gives_attributes_for_good(kernel: Kernel) -> None:
    reply = kernel.bytes_of(Opcode.LOOKUP, kernel.lookup("d"), b"file\0")
    nodeid, generation, name_s, attr_s, *_ = wire.ENTRY_HEAD.unpack_from(reply)
    assert (generation, name_s, attr_s) == (0, FOREVER_S, FOREVER_S)
    attributes = wire.ATTRIBUTES.unpack_from(reply, 40)
    assert attributes[1] == 10
    assert attributes[9:13] == (stat.S_IFREG | 0o444, 1, 1000, 100)
    assert kernel.bytes_of(Opcode.GETATTR, nodeid)[16:] == reply[40:]


def test_names_that_are_not_there_are_remembered_below_the_root_of_a_following_mount(
    following: tuple[Kernel, FakeRepository],
) -> None:
    kernel, _ = following
    assert kernel.ask(Opcode.LOOKUP, ROOT, b"nothing\0") == errno.ENOENT
    assert kernel.ask(Opcode.LOOKUP, kernel.lookup("d"), b"nothing\0") == wire.NEGATIVE_ENTRY


def test_first_level_names_of_a_following_mount_are_never_remembered(following: tuple[Kernel, FakeRepository]) -> None:
    kernel, _ = following
    assert wire.ENTRY_HEAD.unpack_from(kernel.bytes_of(Opcode.LOOKUP, ROOT, b"d\0"))[2] == 0
    assert wire.ENTRY_HEAD.unpack_from(kernel.bytes_of(Opcode.LOOKUP, kernel.lookup("d"), b"file\0"))[2] == FOREVER_S


def test_a_fixed_mount_is_remembered_altogether(kernel: Kernel) -> None:
    assert wire.ENTRY_HEAD.unpack_from(kernel.bytes_of(Opcode.LOOKUP, ROOT, b"d\0"))[2] == FOREVER_S
    assert kernel.ask(Opcode.LOOKUP, ROOT, b"nothing\0") == wire.NEGATIVE_ENTRY
    assert kernel.open(Opcode.OPENDIR, ROOT)[1] == OpenFlag.CACHE_DIR | OpenFlag.KEEP_CACHE


def listed(kernel: Kernel, handle: int) -> dict[str, tuple[int, int]]:
    """Nodeid and lifetime of what the root's first page hands out."""
    page = kernel.bytes_of(Opcode.READDIRPLUS, ROOT, wire.READ_IN.pack(handle, 0, 32768))
    at, found = 0, {}
    while at < len(page):
        nodeid, _, valid_s, _, valid_ns, _ = wire.ENTRY_HEAD.unpack_from(page, at)
        length = wire.DIRENT.unpack_from(page, at + 128)[2]
        if nodeid:
            assert valid_s == 0
            found[page[at + 152 : at + 152 + length].decode()] = (nodeid, valid_ns)
        at += 152 + length + -length % 8
    return found


def burst(kernel: Kernel) -> None:
    for _ in range(40):
        kernel.bytes_of(Opcode.LOOKUP, ROOT, b"d\0")


def test_in_a_burst_the_root_of_a_following_mount_hands_its_names_out_for_a_tick(
    following: tuple[Kernel, FakeRepository], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifetimes, "_WITHIN_NS", 1 << 62)
    monkeypatch.setattr(lifetimes, "_LASTS_NS", 1 << 62)
    kernel, repository = following
    handle, _ = kernel.open(Opcode.OPENDIR, ROOT)
    assert listed(kernel, handle) == {}
    burst(kernel)
    found = listed(kernel, handle)
    assert set(found) == set(FILES)
    assert {valid_ns for _, valid_ns in found.values()} == {lifetimes.TICK_NS}
    assert all(kernel.lookup(name) == nodeid for name, (nodeid, _) in found.items())
    repository.set("prod", {**FILES, "top": b"moved"})
    assert listed(kernel, handle) == {}  # the handle stays where it was, walks do not
    assert listed(kernel, kernel.open(Opcode.OPENDIR, ROOT)[0])["top"] == (kernel.lookup("top"), lifetimes.TICK_NS)


def test_control_a_handle_that_stays_must_not_hand_out_what_has_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Operations, "_kept_all", lambda *_: (0, lifetimes.TICK_NS))
    repository = FakeRepository()
    repository.set("prod", FILES)
    kernel = Kernel(repository.view("prod"))
    handle, _ = kernel.open(Opcode.OPENDIR, ROOT)
    repository.set("prod", {**FILES, "top": b"moved"})
    assert listed(kernel, handle)["top"][0] != kernel.lookup("top")


def test_where_opens_are_written_down_a_file_is_asked_for_in_a_burst_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lifetimes, "_WITHIN_NS", 1 << 62)
    repository = FakeRepository()
    repository.set("prod", FILES)
    view = repository.view("prod")
    kernel = Kernel(view)
    log = OpenLog(tmp_path / "opens")
    kernel.operations = Operations(view, kernel.table, Owner(0, 0), provenance=Provenance(log, "/m", kernel.table))
    burst(kernel)
    kept = {name: kernel.bytes_of(Opcode.LOOKUP, ROOT, name + b"\0") for name in (b"d", b"top")}
    assert {name: wire.ENTRY_HEAD.unpack_from(reply)[4] for name, reply in kept.items()} == {
        b"d": lifetimes.TICK_NS,
        b"top": 0,
    }
    assert listed(kernel, kernel.open(Opcode.OPENDIR, ROOT)[0]) == {}
    log.close()


def test_without_a_burst_it_hands_none_out(following: tuple[Kernel, FakeRepository]) -> None:
    kernel, _ = following
    kernel.lookup("d")
    assert listed(kernel, kernel.open(Opcode.OPENDIR, ROOT)[0]) == {}


def test_one_snapshot_to_a_process_knows_no_bursts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifetimes, "_WITHIN_NS", 1 << 62)
    repository = FakeRepository()
    repository.set("prod", FILES)
    view = repository.view("prod")
    kernel = Kernel(view)
    kernel.operations = Operations(view, kernel.table, Owner(1000, 100), holds=Holds())
    burst(kernel)
    assert listed(kernel, kernel.open(Opcode.OPENDIR, ROOT)[0]) == {}


@pytest.mark.parametrize(
    ("name", "number"), [(b"\xff\xfe", None), (b"x" * 255, None), (b"x" * 256, errno.ENAMETOOLONG)]
)
def test_odd_names(kernel: Kernel, name: bytes, number: int | None) -> None:
    assert kernel.ask(Opcode.LOOKUP, ROOT, name + b"\0") == (wire.NEGATIVE_ENTRY if number is None else number)


def test_a_name_in_a_file_is_enotdir(kernel: Kernel) -> None:
    assert kernel.ask(Opcode.LOOKUP, kernel.lookup("top"), b"x\0") == errno.ENOTDIR


def test_a_moved_branch_shows_at_the_next_lookup_and_open_files_stay(following: tuple[Kernel, FakeRepository]) -> None:
    kernel, repository = following
    old = kernel.lookup("d/file")
    handle, flags = kernel.open(Opcode.OPEN, old)
    assert flags == OpenFlag.KEEP_CACHE | OpenFlag.NOFLUSH
    repository.set("prod", {"d": {"file": b"new"}})
    new = kernel.lookup("d/file")
    assert new != old
    assert kernel.ask(Opcode.READ, old, wire.READ_IN.pack(handle, 2, 100)) == b"23456789"
    assert kernel.ask(Opcode.READ, new, wire.READ_IN.pack(kernel.open(Opcode.OPEN, new)[0], 0, 100)) == b"new"


def test_read_release_and_reading_after_that(kernel: Kernel) -> None:
    nodeid = kernel.lookup("d/file")
    handle, _ = kernel.open(Opcode.OPEN, nodeid)
    assert kernel.ask(Opcode.READ, nodeid, wire.READ_IN.pack(handle, 10, 100)) == b""
    assert kernel.ask(Opcode.RELEASE, nodeid, wire.HANDLE_IN.pack(handle) + bytes(16)) == b""
    assert len(kernel.operations._files) == 0
    # Another server may have given out the handle: then it means the same here.
    assert kernel.ask(Opcode.READ, nodeid, wire.READ_IN.pack(handle, 0, 1)) == b"0"
    assert kernel.ask(Opcode.RELEASE, nodeid, wire.HANDLE_IN.pack(handle) + bytes(16)) == b""
    assert len(kernel.operations._files) == 0
    assert kernel.ask(Opcode.READ, ROOT, wire.READ_IN.pack(1, 0, 1)) == errno.EISDIR


def test_open_for_writing_is_erofs(kernel: Kernel) -> None:
    nodeid = kernel.lookup("top")
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_TRUNC, os.O_APPEND):
        assert kernel.ask(Opcode.OPEN, nodeid, wire.OPEN_IN.pack(flags, 0)) == errno.EROFS


@pytest.mark.parametrize("opcode", MUTATING)
def test_everything_that_would_change_something_is_erofs(kernel: Kernel, opcode: Opcode) -> None:
    assert kernel.ask(opcode, ROOT, bytes(100)) == errno.EROFS


@pytest.mark.parametrize("opcode", [0, 7, 19, Opcode.FLUSH, Opcode.INTERRUPT, Opcode.IOCTL, Opcode.POLL, 63])
def test_the_rest_is_enosys(kernel: Kernel, opcode: int) -> None:
    assert kernel.ask(opcode, ROOT, bytes(100)) == errno.ENOSYS


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("size", [512, 1000, 4096, 65536])
def test_a_listing_is_whole_in_any_buffer(kernel: Kernel, size: int, *, plus: bool) -> None:
    nodeid = kernel.lookup("d")
    found = kernel.list(nodeid, size, plus=plus)
    names = [name for name, _, _ in found]
    assert names == [".", "..", *sorted(FILES["d"])]  # type: ignore[arg-type]  # it is a dict
    assert found[0][2] == wire.ATTRIBUTES.unpack_from(kernel.bytes_of(Opcode.GETATTR, nodeid), 16)[0]
    assert found[1][2] == 1
    assert all(bool(looked_up) == (plus and name not in (".", "..")) for name, looked_up, _ in found)


def test_readdirplus_counts_one_lookup_a_line_and_no_more(kernel: Kernel) -> None:
    nodeid = kernel.lookup("d")
    before = len(kernel.table)
    found = kernel.list(nodeid, 500, plus=True)
    assert len(kernel.table) == before + 3  # one slot for the 200 equal files
    for _, looked_up, _ in found[2:]:
        kernel.table.forget([(looked_up, 1)])
    assert len(kernel.table) == before


def test_readdirplus_looks_nothing_up_that_may_not_be_kept(following: tuple[Kernel, FakeRepository]) -> None:
    kernel, _ = following
    assert [(name, looked_up) for name, looked_up, _ in kernel.list(ROOT, 4096, plus=True)] == [
        (name, 0) for name in (".", "..", "d", "top")
    ]
    assert len(kernel.table) == 0
    below = kernel.list(kernel.lookup("d"), 4096, plus=True)
    assert all(looked_up for _, looked_up, _ in below[2:])


def test_a_buffer_too_small_for_one_line_is_no_end(kernel: Kernel) -> None:
    handle, _ = kernel.open(Opcode.OPENDIR, kernel.lookup("d"))
    assert kernel.ask(Opcode.READDIR, 2, wire.READ_IN.pack(handle, 2, 16)) == errno.EINVAL


def test_an_opened_root_stays_and_is_not_cached(following: tuple[Kernel, FakeRepository]) -> None:
    kernel, repository = following
    handle, flags = kernel.open(Opcode.OPENDIR, ROOT)
    assert flags == OpenFlag(0)
    repository.set("prod", {"other": b""})
    page = kernel.bytes_of(Opcode.READDIR, ROOT, wire.READ_IN.pack(handle, 2, 4096))
    assert b"top" in page
    assert [name for name, _, _ in kernel.list(ROOT, 4096)] == [".", "..", "other"]


def test_forget_and_batch_forget_have_no_answer_and_drop_slots(kernel: Kernel) -> None:
    first, second = kernel.lookup("top"), kernel.lookup("d")
    assert kernel.ask(Opcode.FORGET, first, wire.FORGET_IN.pack(1)) is None
    body = wire.BATCH_FORGET_IN.pack(1, 0) + wire.FORGET_ONE.pack(second, 1)
    assert kernel.ask(Opcode.BATCH_FORGET, 0, body) is None
    assert len(kernel.table) == 0
    assert kernel.ask(Opcode.GETATTR, first) == errno.ESTALE


def test_readlink_access_statfs(kernel: Kernel) -> None:
    assert kernel.ask(Opcode.READLINK, kernel.lookup("d/link")) == b"file"
    assert kernel.ask(Opcode.ACCESS, ROOT, wire.ACCESS_IN.pack(os.R_OK, 0)) == b""
    assert kernel.ask(Opcode.ACCESS, ROOT, wire.ACCESS_IN.pack(os.W_OK, 0)) == errno.EROFS
    fields = wire.STATFS_OUT.unpack(kernel.bytes_of(Opcode.STATFS, ROOT))
    assert fields[:8] == (1, 0, 0, 0, 0, 4096, 255, 4096)


@pytest.mark.parametrize(
    ("whence", "offset", "answer"),
    [
        (os.SEEK_DATA, 3, 3),
        (os.SEEK_HOLE, 3, 10),
        (os.SEEK_DATA, 10, None),
        (os.SEEK_HOLE, 10, None),
    ],
)
def test_lseek_knows_no_holes(kernel: Kernel, whence: int, offset: int, answer: int | None) -> None:
    reply = kernel.ask(Opcode.LSEEK, kernel.lookup("d/file"), wire.LSEEK_IN.pack(1, offset, whence, 0))
    assert reply == (errno.ENXIO if answer is None else struct.pack("=Q", answer))


def test_xattrs_tell_their_size_and_refuse_a_small_buffer(kernel: Kernel) -> None:
    nodeid = kernel.lookup("top")

    def get(name: bytes, size: int) -> Reply:
        return kernel.ask(Opcode.GETXATTR, nodeid, wire.XATTR_IN.pack(size, 0) + name + b"\0")

    assert get(b"user.moorage.blake3", 0) == wire.XATTR_OUT.pack(64, 0)
    assert get(b"user.moorage.blake3", 63) == errno.ERANGE
    value = get(b"user.moorage.blake3", 64)
    assert isinstance(value, bytes)
    assert len(value) == 64
    assert get(b"security.capability", 100) == get(b"system.posix_acl_access", 100) == errno.ENOTSUP
    assert get(b"user.\xff", 100) == errno.ENODATA
    names = kernel.ask(Opcode.LISTXATTR, nodeid, wire.XATTR_IN.pack(1000, 0))
    assert names == b"user.moorage.blake3\0user.moorage.snapshot\0"


def test_the_snapshot_of_an_unchanged_file_is_the_newest_it_was_seen_in(
    following: tuple[Kernel, FakeRepository],
) -> None:
    kernel, repository = following
    nodeid = kernel.lookup("d/file")
    newest = repository.set("prod", {**FILES, "top": b"changed"})
    kernel.lookup("d")  # the walk looks only the first name up again
    body = wire.XATTR_IN.pack(100, 0) + b"user.moorage.snapshot\0"
    assert kernel.ask(Opcode.GETXATTR, nodeid, body) == newest.hex().encode()


def test_a_failed_read_is_eio_and_names_the_path(caplog: pytest.LogCaptureFixture) -> None:
    repository = FakeRepository()
    id = repository.set("prod", FILES)
    standing = repository.following("prod").now()
    kernel = Kernel(View(repository, failing(CorruptDataError("chunk 12ab")), Fixed(standing)))
    nodeid = kernel.lookup("d/file")
    handle, _ = kernel.open(Opcode.OPEN, nodeid)
    assert kernel.ask(Opcode.READ, nodeid, wire.READ_IN.pack(handle, 0, 10)) == errno.EIO
    assert "READ /d/file: EIO because of CorruptDataError: chunk 12ab" in caplog.text
    assert id == standing.snapshot


def test_an_answer_that_nobody_took_is_taken_back(kernel: Kernel) -> None:
    reply = kernel.bytes_of(Opcode.LOOKUP, ROOT, b"top\0")
    kernel.operations.unanswered(Opcode.LOOKUP, ROOT, reply)
    assert len(kernel.table) == 0
    nodeid = kernel.lookup("top")
    opened = kernel.bytes_of(Opcode.OPEN, nodeid, wire.OPEN_IN.pack(0, 0))
    kernel.operations.unanswered(Opcode.OPEN, nodeid, opened)
    assert len(kernel.operations._files) == 0


def test_an_answer_that_nobody_took_is_taken_back_listings_too() -> None:
    repository = FakeRepository()
    kernel = Kernel(repository.fixed_view({"d": {}, "a" * 250: b"1", "f": b"2"}))
    handle, _ = kernel.open(Opcode.OPENDIR, ROOT)
    page = kernel.bytes_of(Opcode.READDIRPLUS, ROOT, wire.READ_IN.pack(handle, 0, 4096))
    assert len(kernel.table) == 3
    kernel.operations.unanswered(Opcode.READDIRPLUS, ROOT, page)
    assert len(kernel.table) == 0
    found = kernel.bytes_of(Opcode.LOOKUP, ROOT, b"f\0")
    assert len(kernel.table) == 1
    kernel.operations.unanswered(Opcode.LOOKUP, ROOT, found)
    assert len(kernel.table) == 0
