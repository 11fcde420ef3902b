"""How do requests and replies of the FUSE protocol lie in memory?

Everything is in the byte order of the machine. A request is a header and a body; a reply is a header and a body, in
one `writev`.

    request header, 40 bytes         reply header, 16 bytes
    offset size field                offset size field
    0      4    length, all of it    0      4    length, all of it
    4      4    opcode               4      4    error: 0 or a negative errno
    8      8    unique               8      8    unique of the request
    16     8    nodeid
    24     4    uid
    28     4    gid
    32     4    pid
    36     2    extension length / 8
    38     2    padding

A name in a request is its bytes and one NUL. Names, targets and extended attributes in replies have none.

    attributes, 88 bytes             entry reply, 128 bytes
    0      8    ino                  0      8    nodeid (0: there is no such name, and that may be cached)
    8      8    size                 8      8    generation
    16     8    blocks of 512        16     8    the name stays valid for, s
    24     24   atime, mtime, ctime  24     8    the attributes stay valid for, s
    48     12   their nanoseconds    32     4    ... and ns
    60     4    mode                 36     4    ... and ns
    64     4    nlink                40     88   attributes
    68     4    uid
    72     4    gid                  directory entry, 24 bytes and the name, padded to 8
    76     4    rdev                 0      8    ino
    80     4    blksize              8      8    where the next entry starts
    84     4    flags                16     4    length of the name
                                     20     4    type (mode >> 12)

The hot path uses the `Struct` objects below with `unpack_from` on the request buffer: no slice, no copy. `BODY` is
where a body starts in that buffer.

Source: `include/uapi/linux/fuse.h`, protocol 7.31 to 7.45; no layout used here changed between those.
"""

from __future__ import annotations

import enum
import stat
from collections.abc import Iterable
from struct import Struct
from typing import TypeAlias

from moorage.mount.host.owner import Owner

Buffer: TypeAlias = "bytes | bytearray | memoryview"
"""What a request lies in."""
Lifetime: TypeAlias = tuple[int, int]
"""For how long the kernel may keep a name: seconds, and nanoseconds."""

MAJOR = 7
MINOR = 40
"""What we claim: the first with everything that is meant here, passthrough included."""
OLDEST_MINOR = 31
"""Linux 5.4. Older kernels lack cached directories or symlinks, or numbers this module relies on."""

BODY = 40
"""Where a request's body starts: after its header."""
FOREVER_S = 1 << 30
"""34 years: longer than a mount lives, and safe in the kernel's arithmetic on every machine."""
FOREVER: Lifetime = (FOREVER_S, 0)
NAME_MAX_BYTES = 255


class Opcode(enum.IntEnum):
    """What a request wants."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52
    COPY_FILE_RANGE_64 = 53


OPCODE_LIMIT = 64
"""Tables by opcode have this many places; a larger opcode is unknown."""

NEVER_ANSWERED = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.NOTIFY_REPLY})
"""An answer to one of these is an error to the kernel."""


class InitFlag(enum.IntFlag):
    """What the two sides agree on in INIT; bits from 32 up travel in a second word."""

    ASYNC_READ = 1 << 0
    """Several reads of one file at once: without it read-ahead is one request at a time."""
    AUTO_INVAL_DATA = 1 << 12
    """Drop pages when attributes change. Never asked for: ours do not."""
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    PARALLEL_DIROPS = 1 << 18
    """Lookups in one directory do not wait for each other."""
    ABORT_ERROR = 1 << 21
    """Reading the device of an aborted connection gives ECONNABORTED, of an unmounted one ENODEV."""
    MAX_PAGES = 1 << 22
    """Reads of more than 128 KiB."""
    CACHE_SYMLINKS = 1 << 23
    INIT_EXT = 1 << 30
    """The second word of flags is there."""
    PASSTHROUGH = 1 << 37
    """Linux 6.9: an open file may be backed by a file of another file system."""
    HAS_RESEND = 1 << 39
    """Linux 6.9: requests in flight can be had again after a server died."""


class OpenFlag(enum.IntFlag):
    """What an OPEN or OPENDIR reply asks of the kernel."""

    KEEP_CACHE = 1 << 1
    """Keep the pages of earlier opens: right, because a nodeid never changes its content."""
    CACHE_DIR = 1 << 3
    """Keep the listing in the page cache."""
    NOFLUSH = 1 << 5
    """No FLUSH at close. With it a killed client does not wait for a server that is gone."""
    PASSTHROUGH = 1 << 7
    """Reads and maps go to the backing file whose id the reply names. Only NOFLUSH may stand beside it."""


NOTIFY_RESEND = 7
"""In the place of the error, with unique 0: send again what was read and not answered."""

HEADER_IN = Struct("=IIQQIIIHH")
HEADER_OUT = Struct("=IiQ")
PID_IN = Struct("=I")
PID_AT = 32
"""Offset of the caller in a request: its thread's id, as /proc knows it."""
UID_IN = Struct("=I")
UID_AT = 24

INIT_IN = Struct("=IIII")
"""Body: major, minor, max_readahead, flags."""
INIT_IN_FLAGS2 = Struct("=I")
INIT_IN_FLAGS2_AT = BODY + INIT_IN.size
INIT_OUT = Struct("=IIIIHHIIHHIIH22x")
"""Major, minor, max_readahead, flags, max_background, congestion_threshold, max_write, time_gran, max_pages,
map_alignment, flags2, max_stack_depth, request_timeout."""

ATTRIBUTES = Struct("=QQQQQQIIIIIIIIII")
ENTRY_HEAD = Struct("=QQQQII")
ATTR_HEAD = Struct("=QII")
NEGATIVE_ENTRY = ENTRY_HEAD.pack(0, 0, FOREVER_S, 0, 0, 0) + bytes(ATTRIBUTES.size)
"""There is no such name, and there never will be."""

BACKING_MAP = Struct("=iIQ")
"""Argument of the ioctl that registers a backing file: its descriptor, flags, padding."""
BACKING_ID = Struct("=I")
"""Argument of the ioctl that gives one back."""
BACKING_OPEN = 0x4010E501
BACKING_CLOSE = 0x4004E502

FORGET_IN = Struct("=Q")
BATCH_FORGET_IN = Struct("=II")
FORGET_ONE = Struct("=QQ")
OPEN_IN = Struct("=II")
OPEN_OUT = Struct("=QIi")
"""File handle, `OpenFlag`, backing id."""
READ_IN = Struct("=QQI")
"""File handle, offset, size: of READ, READDIR and READDIRPLUS."""
HANDLE_IN = Struct("=Q")
"""First field of RELEASE and RELEASEDIR."""
ACCESS_IN = Struct("=II")
XATTR_IN = Struct("=II")
XATTR_OUT = Struct("=II")
LSEEK_IN = Struct("=QQII")
LSEEK_OUT = Struct("=Q")
STATFS_OUT = Struct("=QQQQQIII28x")
"""Blocks, free, available, files, free files, block size, longest name, fragment size."""
DIRENT = Struct("=QQII")
ENTRY_BYTES = ENTRY_HEAD.size + ATTRIBUTES.size
NO_ENTRY = bytes(ENTRY_BYTES)
"""In place of a lookup, in READDIRPLUS: this name was not looked up."""
_LIFETIMES = Struct("=QQQII")
"""Of `ENTRY_HEAD`, all but the nodeid."""
_TIMES = Struct("=QQQIII")
_MODE = Struct("=IIIIIII")
"""Of `ATTRIBUTES`, what most names of a directory have in common."""
_LINES = [Struct(f"=Q{_LIFETIMES.size}sQQQ{_TIMES.size}s{_MODE.size}sQQII{padded}s") for padded in range(0, 257, 8)]
"""`ENTRY_HEAD`, `ATTRIBUTES`, `DIRENT` and a name, by the length of that in words."""
_PADDING = [bytes(-size % 8) for size in range(8)]
STATX_OUT_HEAD = Struct("=QII16x")
"""Attributes stay valid for (s, ns), flags."""
STATX = Struct("=IIQIIIHHQQQQqIiqIiqIiqIiIIII112x")
"""mask, blksize, attributes, nlink, uid, gid, mode, spare, ino, size, blocks, attributes_mask, four times of (s, ns,
reserved) in the order atime, btime, ctime, mtime, and two device numbers."""
STATX_BASIC_AND_BIRTH = 0x7FF | 0x800
BLOCK_BYTES = 4096
"""What `st_blksize` says. Larger would make buffered readers fetch more than they need at each seek."""


def name(buffer: Buffer, length: int, start: int = BODY) -> bytes:
    """The name that ends a request of `length` bytes, without its NUL."""
    return bytes(buffer[start : length - 1])


def _times(time_ns: int) -> bytes:
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return _TIMES.pack(seconds, seconds, seconds, nanoseconds, nanoseconds, nanoseconds)


def attributes(ino: int, size_bytes: int, time_ns: int, mode: int, nlink: int, owner: Owner) -> bytes:
    """Pack the attributes of a node whose three times are one."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return ATTRIBUTES.pack(
        ino,
        size_bytes,
        (size_bytes + 511) // 512,
        seconds,
        seconds,
        seconds,
        nanoseconds,
        nanoseconds,
        nanoseconds,
        owner.shown(mode),
        nlink,
        owner.uid,
        owner.gid,
        0,
        BLOCK_BYTES,
        0,
    )


def entry(nodeid: int, lifetime: Lifetime, packed_attributes: bytes) -> bytes:
    """Pack the answer to a lookup; the attributes are valid for good."""
    return ENTRY_HEAD.pack(nodeid, 0, lifetime[0], FOREVER_S, lifetime[1], 0) + packed_attributes


def attr(packed_attributes: bytes) -> bytes:
    """Pack the answer to GETATTR; valid for good."""
    return ATTR_HEAD.pack(FOREVER_S, 0, 0) + packed_attributes


def statx(ino: int, size_bytes: int, time_ns: int, mode: int, nlink: int, owner: Owner) -> bytes:
    """Pack the answer to STATX: as `attributes`, and the time of birth."""
    moment = (*divmod(time_ns, 1_000_000_000), 0)
    return STATX_OUT_HEAD.pack(FOREVER_S, 0, 0) + STATX.pack(
        STATX_BASIC_AND_BIRTH,
        BLOCK_BYTES,
        0,
        nlink,
        owner.uid,
        owner.gid,
        owner.shown(mode),
        0,
        ino,
        size_bytes,
        (size_bytes + 511) // 512,
        0,
        *moment,
        *moment,
        *moment,
        *moment,
        0,
        0,
        0,
        0,
    )


def dirent(ino: int, next_position: int, raw_name: bytes, mode: int) -> bytes:
    """Pack one line of a READDIR reply."""
    size = len(raw_name)
    return DIRENT.pack(ino, next_position, size, mode >> 12) + raw_name + _PADDING[size & 7]


def direntsplus(
    nodeids: Iterable[int],
    attributes: Iterable[tuple[int, int, int, int]],
    raw_names: Iterable[bytes],
    position: int,
    owner: Owner,
    lifetime: Lifetime,
) -> list[bytes]:
    """Pack lines of a READDIRPLUS reply that come after `position`, of names with attributes (ino, size, time, mode):
    what `entry`, of `attributes`, and `dirent` pack. A name with nodeid 0 is only listed.

    A listing is thousands of these, so what they have in common is packed once."""
    lifetimes = _LIFETIMES.pack(0, lifetime[0], FOREVER_S, lifetime[1], 0)
    modes: dict[int, bytes] = {}
    lines, last_ns, times = [], -1, b""
    for nodeid, (ino, size_bytes, time_ns, mode), raw_name in zip(nodeids, attributes, raw_names, strict=True):
        position += 1
        if not nodeid:
            lines.append(NO_ENTRY + dirent(ino, position, raw_name, mode))
            continue
        if time_ns != last_ns:
            last_ns, times = time_ns, _times(time_ns)
        shown = modes.get(mode)
        if shown is None:
            links = 2 if stat.S_ISDIR(mode) else 1
            shown = modes[mode] = _MODE.pack(owner.shown(mode), links, owner.uid, owner.gid, 0, BLOCK_BYTES, 0)
        size, blocks = len(raw_name), (size_bytes + 511) // 512
        pack = _LINES[size + 7 >> 3].pack
        lines.append(
            pack(nodeid, lifetimes, ino, size_bytes, blocks, times, shown, ino, position, size, mode >> 12, raw_name)
        )
    return lines


def looked_up(reply: bytes) -> list[tuple[int, int]]:
    """The (nodeid, lookups) that the answer to a READDIRPLUS hands out."""
    found, at = [], 0
    while at < len(reply):
        nodeid = ENTRY_HEAD.unpack_from(reply, at)[0]
        at += ENTRY_HEAD.size + ATTRIBUTES.size
        name_bytes = DIRENT.unpack_from(reply, at)[2]
        at += DIRENT.size + -(-name_bytes // 8) * 8
        if nodeid:
            found.append((nodeid, 1))
    return found


def forgotten(buffer: Buffer, length: int) -> list[tuple[int, int]]:
    """The (nodeid, lookups) of a BATCH_FORGET. A count that the request's length does not bear out is cut down."""
    count = BATCH_FORGET_IN.unpack_from(buffer, BODY)[0]
    start = BODY + BATCH_FORGET_IN.size
    stop = min(length, start + count * FORGET_ONE.size)
    stop -= (stop - start) % FORGET_ONE.size
    return list(FORGET_ONE.iter_unpack(memoryview(buffer)[start:stop]))


def init_reply(minor: int, max_readahead: int, flags: InitFlag, *, max_write: int, max_pages: int) -> bytes:
    """Pack the answer to INIT. With passthrough a backing file must lie on a plain file system (stack depth 1)."""
    return INIT_OUT.pack(
        MAJOR,
        minor,
        max_readahead,
        flags & 0xFFFFFFFF,
        MAX_BACKGROUND,
        MAX_BACKGROUND * 3 // 4,
        max_write,
        1,  # times are exact to the nanosecond
        max_pages,
        0,
        flags >> 32,
        1 if flags & InitFlag.PASSTHROUGH else 0,
        0,
    )


MAX_BACKGROUND = 64
"""Read-ahead requests in flight; from three quarters of it the kernel slows its read-ahead down."""
