"""Do requests come in and replies go out over a descriptor that behaves like the device, and does nothing end the loop?

A pair of sockets that keep packets apart stands for `/dev/fuse`.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from moorage.errors import MountError
from moorage.mount.host.owner import Owner
from moorage.mount.kernel import session as sessions
from moorage.mount.kernel import wire
from moorage.mount.kernel.operations import Operations
from moorage.mount.kernel.session import Session, handshake
from moorage.mount.kernel.wire import InitFlag, Opcode
from moorage.mount.shown.inodes import ROOT, InodeTable
from tests.mount.fakes import FakeRepository

TIMEOUT_S = 30


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, int]]:
    """(the kernel's end, the descriptor to serve)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(TIMEOUT_S)
    fd = theirs.detach()
    with ours:
        yield ours, fd


def request(opcode: int, nodeid: int = ROOT, body: bytes = b"", unique: int = 7) -> bytes:
    return wire.HEADER_IN.pack(wire.BODY + len(body), opcode, unique, nodeid, 0, 0, 0, 0, 0) + body


def init(major: int, minor: int, flags: InitFlag) -> bytes:
    body = wire.INIT_IN.pack(major, minor, 131072, flags & 0xFFFFFFFF) + wire.INIT_IN_FLAGS2.pack(flags >> 32)
    return request(Opcode.INIT, 0, body + bytes(44))


def answer(kernel: socket.socket) -> tuple[int, int, bytes]:
    """(error, unique, body)."""
    packet = kernel.recv(1 << 20)
    length, error, unique = wire.HEADER_OUT.unpack_from(packet)
    assert length == len(packet)
    return error, unique, packet[wire.HEADER_OUT.size :]


def test_the_handshake_takes_only_what_is_offered_and_wanted(pair: tuple[socket.socket, int]) -> None:
    kernel, fd = pair
    offered = InitFlag.ASYNC_READ | InitFlag.MAX_PAGES | InitFlag.AUTO_INVAL_DATA | InitFlag.INIT_EXT
    kernel.send(init(7, 45, offered | InitFlag.PASSTHROUGH))
    agreed = handshake(fd)
    os.close(fd)
    assert agreed.minor == wire.MINOR
    assert agreed.flags == InitFlag.ASYNC_READ | InitFlag.MAX_PAGES | InitFlag.INIT_EXT
    assert InitFlag.PASSTHROUGH in agreed.offered
    error, unique, body = answer(kernel)
    fields = wire.INIT_OUT.unpack(body)
    assert (error, unique, fields[:2]) == (0, 7, (7, wire.MINOR))
    assert InitFlag(fields[3]) == agreed.flags
    assert fields[8] == 256


def test_a_newer_major_version_is_asked_to_come_again(pair: tuple[socket.socket, int]) -> None:
    kernel, fd = pair
    kernel.send(init(8, 3, InitFlag(0)))
    kernel.send(init(7, 36, InitFlag.ASYNC_READ))
    assert handshake(fd).minor == 36
    os.close(fd)
    assert wire.INIT_OUT.unpack(answer(kernel)[2])[0] == 7
    assert answer(kernel)[0] == 0


def test_an_old_kernel_is_refused_in_words(pair: tuple[socket.socket, int]) -> None:
    kernel, fd = pair
    kernel.send(init(7, 23, InitFlag.ASYNC_READ))
    with pytest.raises(MountError, match=r"FUSE 7\.23"):
        handshake(fd)
    os.close(fd)
    assert answer(kernel)[0] == -errno.EPROTO


def test_a_kernel_that_starts_with_something_else_is_refused(pair: tuple[socket.socket, int]) -> None:
    kernel, fd = pair
    kernel.send(request(Opcode.GETATTR))
    with pytest.raises(MountError, match="not INIT"):
        handshake(fd)
    os.close(fd)


def test_a_silent_kernel_is_an_error_and_no_hang(
    pair: tuple[socket.socket, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "HANDSHAKE_TIMEOUT_S", 0)
    with pytest.raises(MountError, match="did not start to talk"):
        handshake(pair[1])
    os.close(pair[1])


@pytest.fixture
def serving(pair: tuple[socket.socket, int]) -> Iterator[tuple[socket.socket, Session, list[str]]]:
    kernel, fd = pair
    view = FakeRepository().fixed_view({"f": b"data"})
    operations = Operations(view, InodeTable(view.folder), Owner(0, 0))
    session = Session(fd, operations, threads=3)
    ended: list[str] = []
    session.start(lambda: ended.append("ended"))
    yield kernel, session, ended
    kernel.close()
    assert session.join(TIMEOUT_S)
    assert ended == ["ended"]


def test_requests_are_answered_under_their_own_number(serving: tuple[socket.socket, Session, list[str]]) -> None:
    kernel, session, _ = serving
    for unique in range(100, 150):
        kernel.send(request(Opcode.LOOKUP, ROOT, b"f\0", unique))
    assert sorted(answer(kernel)[1] for _ in range(50)) == list(range(100, 150))
    assert session.counts() == {"LOOKUP": 50}


@pytest.mark.parametrize("count", [0, 1, 3, sessions.MOST_PARTS, 3 * sessions.MOST_PARTS])
def test_an_answer_in_pieces(serving: tuple[socket.socket, Session, list[str]], count: int) -> None:
    kernel, session, _ = serving
    pieces: list[bytes | memoryview] = [bytes([number % 251]) * (number % 7 + 1) for number in range(count)]
    session._operations.handlers[Opcode.READ] = lambda *_: list(pieces)
    kernel.send(request(Opcode.READ, ROOT, unique=7))
    assert answer(kernel) == (0, 7, b"".join(pieces))


def test_the_loop_survives_whatever_comes(
    serving: tuple[socket.socket, Session, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    kernel, _, _ = serving
    kernel.send(request(Opcode.READ, unique=1))  # cut short: the body is what the buffer held before
    kernel.send(request(9999, unique=2))
    kernel.send(request(Opcode.GETATTR, 12345, unique=3))
    kernel.send(request(Opcode.FORGET, 12345, wire.FORGET_IN.pack(3), 4))
    errors = sorted(answer(kernel)[0] for _ in range(3))
    assert errors == sorted([-errno.EISDIR, -errno.ENOSYS, -errno.ESTALE])
    kernel.send(request(Opcode.LOOKUP, ROOT, b"f\0", 55))
    assert answer(kernel)[:2] == (0, 55)


def test_a_bug_in_a_handler_is_eio_and_a_log_line(
    serving: tuple[socket.socket, Session, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    kernel, session, _ = serving

    def broken(_nodeid: int, _buffer: wire.Buffer, _length: int) -> bytes:
        raise ZeroDivisionError("a bug")

    session._operations.handlers[Opcode.STATFS] = broken
    for unique, opcode in enumerate((Opcode.STATFS, Opcode.LOOKUP)):
        kernel.send(request(opcode, ROOT, b"f\0", unique))
    assert sorted([answer(kernel)[0], answer(kernel)[0]]) == [-errno.EIO, 0]
    assert "STATFS /: EIO because of ZeroDivisionError: a bug" in caplog.text
