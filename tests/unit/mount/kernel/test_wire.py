"""Do the layouts have the sizes and offsets that the kernel's header gives them?"""

from __future__ import annotations

import stat
from struct import calcsize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.mount.host.owner import Owner
from moorage.mount.kernel import wire
from moorage.mount.kernel.wire import InitFlag


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        (wire.HEADER_IN, 40),
        (wire.HEADER_OUT, 16),
        (wire.INIT_OUT, 64),
        (wire.ATTRIBUTES, 88),
        (wire.ENTRY_HEAD, 40),
        (wire.ATTR_HEAD, 16),
        (wire.OPEN_OUT, 16),
        (wire.STATFS_OUT, 80),
        (wire.DIRENT, 24),
        (wire.XATTR_OUT, 8),
        (wire.LSEEK_IN, 24),
        (wire.STATX_OUT_HEAD, 32),
        (wire.STATX, 256),
        (wire.FORGET_ONE, 16),
        (wire.READ_IN, 20),
    ],
)
def test_sizes(layout: object, size: int) -> None:
    assert calcsize(getattr(layout, "format")) == size  # noqa: B009 - Struct.format is not in every stub


def test_every_opcode_has_a_place_in_the_tables() -> None:
    assert max(wire.Opcode) < wire.OPCODE_LIMIT


@given(st.binary(max_size=300).filter(lambda raw: b"\0" not in raw))
def test_a_name_comes_back_without_its_nul(raw: bytes) -> None:
    request = bytes(wire.BODY) + raw + b"\0"
    buffer = bytearray(request + b"left over from the request before")
    assert wire.name(buffer, len(request)) == raw


u64 = st.integers(0, 2**64 - 1)


@given(ino=u64, size=st.integers(0, 2**63 - 1), time_ns=st.integers(0, 2**63 - 1))
def test_attributes(ino: int, size: int, time_ns: int) -> None:
    packed = wire.attributes(ino, size, time_ns, stat.S_IFREG | 0o444, 1, Owner(1000, 100))
    fields = wire.ATTRIBUTES.unpack(packed)
    assert fields[:2] == (ino, size)
    assert fields[2] * 512 >= size > (fields[2] - 1) * 512
    assert all(fields[3 + n] * 1_000_000_000 + fields[6 + n] == time_ns for n in range(3))
    assert fields[9:14] == (stat.S_IFREG | 0o444, 1, 1000, 100, 0)


def test_an_entry_is_its_head_and_the_attributes() -> None:
    attributes = wire.attributes(7, 1, 2, stat.S_IFREG | 0o444, 1, Owner(0, 0))
    packed = wire.entry(5, (0, 0), attributes)
    assert wire.ENTRY_HEAD.unpack_from(packed) == (5, 0, 0, wire.FOREVER_S, 0, 0)
    assert packed[wire.ENTRY_HEAD.size :] == attributes
    assert len(wire.NEGATIVE_ENTRY) == len(packed) == 128
    assert wire.ENTRY_HEAD.unpack_from(wire.NEGATIVE_ENTRY)[0] == 0


MODES = {stat.S_IFREG | 0o444: 1, stat.S_IFREG | 0o555: 1, stat.S_IFDIR | 0o555: 2, stat.S_IFLNK | 0o777: 1}
ATTRIBUTES = st.tuples(
    u64, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1) | st.just(7), st.sampled_from([*MODES])
)
NAMED = st.tuples(u64 | st.just(0), ATTRIBUTES, st.binary(min_size=1, max_size=255))


@given(st.lists(NAMED, max_size=5), st.integers(0, 1 << 40), st.tuples(st.integers(0, 1 << 30), st.integers(0, 999)))
def test_a_line_of_readdirplus_is_an_entry_and_a_line(
    named: list[tuple[int, tuple[int, int, int, int], bytes]], position: int, lifetime: tuple[int, int]
) -> None:
    owner = Owner(5, 6, 0o027)
    expected = []
    for number, (nodeid, (ino, size, time_ns, mode), raw) in enumerate(named, position + 1):
        attributes = wire.attributes(ino, size, time_ns, mode, MODES[mode], owner)
        entry = wire.entry(nodeid, lifetime, attributes) if nodeid else bytes(128)
        expected.append(entry + wire.dirent(ino, number, raw, mode))
    nodeids, attributes_of_all, raw_names = ([line[at] for line in named] for at in range(3))
    assert wire.direntsplus(nodeids, attributes_of_all, raw_names, position, owner, lifetime) == expected  # type: ignore[arg-type]  # lists of what each line has at one place
    assert all(len(line) % 8 == 0 for line in expected)


def test_statx_says_when_it_was_born() -> None:
    packed = wire.statx(7, 1000, 3_000_000_004, stat.S_IFREG | 0o444, 1, Owner(5, 6, 0o027))
    assert len(packed) == 288
    fields = wire.STATX.unpack_from(packed, wire.STATX_OUT_HEAD.size)
    assert fields[3:7] == (1, 5, 6, stat.S_IFREG | 0o440)
    assert fields[8:10] == (7, 1000)
    assert fields[12:24] == (3, 4, 0) * 4


@given(raw=st.binary(min_size=1, max_size=255), position=u64, ino=u64)
def test_a_directory_line_is_padded_to_eight(raw: bytes, position: int, ino: int) -> None:
    packed = wire.dirent(ino, position, raw, stat.S_IFDIR | 0o555)
    assert len(packed) % 8 == 0
    assert wire.DIRENT.unpack_from(packed) == (ino, position, len(raw), stat.S_IFDIR >> 12)
    assert packed[24 : 24 + len(raw)] == raw
    assert not packed[24 + len(raw) :].strip(b"\0")


@given(st.lists(st.tuples(u64, u64), max_size=20), st.integers(0, 30))
def test_batch_forget_reads_no_further_than_the_request(pairs: list[tuple[int, int]], claimed: int) -> None:
    body = wire.BATCH_FORGET_IN.pack(claimed, 0) + b"".join(wire.FORGET_ONE.pack(*pair) for pair in pairs)
    request = bytes(wire.BODY) + body
    buffer = bytearray(request + bytes(4096))
    assert wire.forgotten(buffer, len(request)) == pairs[:claimed]


def test_the_answer_to_init_splits_its_flags() -> None:
    flags = InitFlag.ASYNC_READ | InitFlag.INIT_EXT | InitFlag.PASSTHROUGH | InitFlag.HAS_RESEND
    fields = wire.INIT_OUT.unpack(wire.init_reply(38, 1 << 20, flags, max_write=65536, max_pages=256))
    assert fields[:4] == (7, 38, 1 << 20, (1 << 0) | (1 << 30))
    assert fields[6] == 65536
    assert fields[8] == 256
    assert fields[10] == (1 << 5) | (1 << 7)
