"""How are a mount and a checkout asked the same, at random, so that a single different answer is found?

A `Way` is a directory to ask below, and the plain directories that it may be equal to at this moment: one, or, just
after a move, two, since in a burst of walks the kernel may keep a name for a tick. Whatever is asked goes to both, and
what comes back (bytes, kinds, sizes, names, or an errno) must be the same. What a file system of its own has, such as
block counts, the size of a directory, or whether a file may be written, is left out.

The same seed asks the same, so a difference names what is needed to see it again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import random
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

TICK_S = 1.0
"""For how long after a move a name may lead to where it led before; far more than it does."""
MOST_OPEN = 24
PAGE = 4096

Answer = object
PathQuestion = Callable[[str], Answer]
FileQuestion = Callable[[int], Answer]


class Difference(AssertionError):
    """The mount has said something else than the checkout."""


@dataclass
class Way:
    """Where to ask, and what that is a picture of."""

    root: Path
    plain: Path
    before: Path | None = None
    """What it showed before the last move, for as long as it may be meant."""
    moved_at: float = 0.0

    @property
    def candidates(self) -> list[Path]:
        """The plain directories that it may be equal to."""
        is_fresh = self.before is not None and time.monotonic() - self.moved_at < TICK_S
        return [self.plain, self.before] if is_fresh and self.before is not None else [self.plain]

    def moves_to(self, plain: Path) -> None:
        """From now on it shows this."""
        self.before, self.plain, self.moved_at = self.plain, plain, time.monotonic()


@dataclass
class Pair:
    """The same file or directory, open on both sides."""

    name: str
    mounted: int
    plain: int
    is_direct: bool = False

    def close(self) -> None:
        os.close(self.mounted)
        os.close(self.plain)


@dataclass
class Asker:
    """Asks at random."""

    ways: Sequence[Way]
    names: Sequence[str]
    seed: int
    random: random.Random = field(init=False)
    files: list[Pair] = field(default_factory=list)
    folders: list[Pair] = field(default_factory=list)
    asked: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._groups: dict[str, list[str]] = {}
        for name in self.names:
            self._groups.setdefault(name.partition("/")[0], []).append(name)

    def _some(self) -> str:
        """A name of the tree; each first-level name and what is below it is as likely as each other."""
        return self.random.choice(self._groups[self.random.choice(list(self._groups))])

    def ask(self) -> None:
        """One question. Raises `Difference`."""
        self.asked += 1
        kind = self.random.random()
        if kind < 0.45:
            self._ask_path()
        elif kind < 0.55 or not self.files:
            self._open_file()
        elif kind < 0.58 or not self.folders:
            self._open_folder()
        elif kind < 0.66:
            self._ask_folder()
        else:
            self._ask_file()

    def close(self) -> None:
        """Close all that is open."""
        while self.files:
            self.files.pop().close()
        while self.folders:
            self.folders.pop().close()

    # -- by path ----------------------------------------------------------------------------------

    def _name(self) -> str:
        """A name of the tree, or something close to one."""
        name = self._some()
        if self.random.random() < 0.7:
            return name
        other = self._some()
        return self.random.choice(
            [
                name + "/",
                name + "/x",
                name + "/.",
                f"./{name}",
                name.replace("/", "//"),
                f"{name}/../{name.rpartition('/')[2]}",
                name[:-1] or "x",
                name + "\udcff",
                "n" * 256,
                name.swapcase(),
                f"{other}/{name}",
                "",
            ]
        )

    def _ask_path(self) -> None:
        way, name, question = self.random.choice(self.ways), self._name(), self.random.choice(PATH_QUESTIONS)
        got = _answer(question, _join(way.root, name))
        expected = [_answer(question, _join(plain, name)) for plain in way.candidates]
        if got not in expected:
            self._differs(way, name, question, got, expected)

    # -- by descriptor ----------------------------------------------------------------------------

    def _open_file(self) -> None:
        way, name = self.random.choice(self.ways), self._some()
        is_direct = self.random.random() < 0.2
        flags = os.O_RDONLY | (os.O_DIRECT if is_direct else 0)
        mounted = _opened(_join(way.root, name), flags)
        found = [(plain, _opened(_join(plain, name), flags)) for plain in way.candidates]
        fitting = [fd for _, fd in found if isinstance(fd, int) == isinstance(mounted, int)]
        if len(found) > 1:
            fitting = [fd for fd in fitting if _is_same_file(mounted, fd)]
        if not fitting:
            self._differs(way, name, _opened, mounted, [fd for _, fd in found])
        for _, fd in found:
            if fd is not fitting[0] and isinstance(fd, int):
                os.close(fd)
        if isinstance(mounted, int) and isinstance(fitting[0], int):
            pair = Pair(name, mounted, fitting[0], is_direct)
            if stat.S_ISREG(os.fstat(mounted).st_mode):
                self._keep(self.files, pair)
            else:
                pair.close()

    def _open_folder(self) -> None:
        way, name = self.random.choice(self.ways), self._some()
        if len(way.candidates) > 1:
            return  # which of them it is cannot be told by looking
        mounted, plain = (_opened(_join(root, name), os.O_DIRECTORY) for root in (way.root, way.plain))
        if isinstance(mounted, int) and isinstance(plain, int):
            self._keep(self.folders, Pair(name, mounted, plain))
        elif mounted != plain:
            self._differs(way, name, _opened, mounted, [plain])

    def _keep(self, kept: list[Pair], pair: Pair) -> None:
        if len(kept) >= MOST_OPEN:
            kept.pop(self.random.randrange(len(kept))).close()
        kept.append(pair)

    def _ask_folder(self) -> None:
        pair, name = self.random.choice(self.folders), self._name()
        if name.startswith(".") or ".." in name or not name:
            name = "."
        inside = [below.removeprefix(pair.name + "/") for below in self.names if below.startswith(pair.name + "/")]
        if inside and self.random.random() < 0.8:
            name = self.random.choice(inside)
        question = self.random.choice(FOLDER_QUESTIONS)
        mounted, plain = (_answer(question, fd, name) for fd in (pair.mounted, pair.plain))
        if mounted != plain:
            self._differs(pair, name, question, mounted, [plain])

    def _ask_file(self) -> None:
        pair = self.random.choice(self.files)
        size = os.fstat(pair.plain).st_size
        question = self._direct_question(size) if pair.is_direct else self._file_question(size)
        mounted, plain = (_answer(question, fd) for fd in (pair.mounted, pair.plain))
        if mounted != plain:
            self._differs(pair, "", question, mounted, [plain])

    def _offset(self, size: int) -> int:
        edge = self.random.choice([0, PAGE, 65536, 131072, 1 << 20, size])
        return max(0, self.random.choice([edge, edge + self.random.randint(-3, 3), self.random.randint(0, size + 10)]))

    def _file_question(self, size: int) -> FileQuestion:
        offset, length = self._offset(size), self.random.choice([0, 1, 100, PAGE, 70_000, 300_000, size])
        whence = self.random.choice([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE, 77])
        signed = offset * self.random.choice([1, 1, -1])
        advice = self.random.choice([os.POSIX_FADV_DONTNEED, os.POSIX_FADV_RANDOM, os.POSIX_FADV_NORMAL])
        chosen: FileQuestion = self.random.choice(
            [
                lambda fd: _short(os.pread(fd, length, offset)),
                lambda fd: _short(os.pread(fd, length, offset)),
                lambda fd: _short(os.pread(fd, length, signed)),
                lambda fd: _vector(fd, offset, [length, 10, 1000]),
                lambda fd: (_short(os.read(fd, length)), os.lseek(fd, 0, os.SEEK_CUR)),
                lambda fd: os.lseek(fd, signed, whence),
                lambda fd: _mapped(fd, offset, length),
                lambda fd: _mapped(fd, offset, length),
                lambda fd: _sent(fd, offset, length),
                lambda fd: _again(fd, offset, length),
                _status_of_fd,
                lambda fd: os.posix_fadvise(fd, 0, 0, advice),
                lambda fd: fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB),
                lambda fd: fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB),
                os.fsync,
                lambda fd: os.write(fd, b"x"),
                lambda fd: os.ftruncate(fd, 0),
                os.listdir,
            ]
        )
        return chosen

    def _direct_question(self, size: int) -> FileQuestion:
        """What a file that is open with O_DIRECT may be asked on any disk: whole pages, into a buffer of pages."""
        offset = self._offset(size) // PAGE * PAGE
        pages = self.random.choice([1, 1, 2, 16, 33, 300])
        return lambda fd: _direct(fd, offset, pages * PAGE)

    def _differs(self, where: object, name: str, question: object, got: object, expected: object) -> None:
        told = f"question {self.asked} of seed {self.seed}: {_called(question)} of {name!r} at {where}"
        raise Difference(f"{told}\nmount:    {got!r:.500}\ncheckout: {expected!r:.500}")


def _called(question: object) -> str:
    code = getattr(question, "__code__", None)
    values = [cell.cell_contents for cell in getattr(question, "__closure__", None) or ()]
    line = f" (line {code.co_firstlineno}, {values})" if code is not None else ""
    return f"{getattr(question, '__name__', question)}{line}"


def _join(root: Path, name: str) -> str:
    return f"{root}/{name}"


def _answer(question: Callable[..., Answer], *arguments: object) -> Answer:
    try:
        return question(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))


def _opened(path: str, flags: int) -> Answer:
    return _answer(os.open, path, flags)


def _is_same_file(mounted: Answer, plain: Answer) -> bool:
    if not isinstance(mounted, int) or not isinstance(plain, int):
        return mounted == plain
    found = [os.fstat(fd) for fd in (mounted, plain)]
    if [stat.S_IFMT(status.st_mode) for status in found] != [stat.S_IFMT(found[0].st_mode)] * 2:
        return False
    if not stat.S_ISREG(found[0].st_mode):
        return True
    size = found[0].st_size
    return size == found[1].st_size and _mapped(mounted, 0, size) == _mapped(plain, 0, size)


def _whole(path: str) -> Answer:
    with open(path, "rb") as file:
        return blake3(file.read()).hexdigest()


def _short(data: bytes) -> Answer:
    return data if len(data) <= 64 else (len(data), blake3(data).hexdigest(), data[:16])


def _attributes(status: os.stat_result) -> Answer:
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        return "directory"
    return kind, status.st_mode & 0o111 if kind == stat.S_IFREG else 0, status.st_size, status.st_nlink


def _times_are_one(status: os.stat_result) -> bool:
    return status.st_mtime_ns == status.st_ctime_ns == status.st_atime_ns > 0


def _status(path: str) -> Answer:
    return _attributes(os.stat(path))


def _status_of_link(path: str) -> Answer:
    return _attributes(os.lstat(path))


def _status_of_fd(fd: int) -> Answer:
    return _attributes(os.fstat(fd))


def _lines(path: str | int) -> Answer:
    with os.scandir(path) as found:
        return sorted(
            (line.name, line.is_dir(follow_symlinks=False), line.is_file(follow_symlinks=False), line.is_symlink())
            for line in found
        )


def _lines_twice(path: str) -> Answer:
    """Through one descriptor: some, then from the start."""
    fd = os.open(path, os.O_DIRECTORY)
    try:
        first = sorted(os.listdir(fd))
        os.lseek(fd, 0, os.SEEK_SET)
        return first, sorted(os.listdir(fd))
    finally:
        os.close(fd)


def _digest(path: str) -> Answer:
    """Of a file, what it says of itself, where it does."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        return None
    try:
        return os.getxattr(path, "user.moorage.blake3").decode()
    except OSError as error:
        return _whole(path) if error.errno == errno.ENODATA else error.errno


def _open_as(flags: int) -> PathQuestion:
    def opened(path: str) -> Answer:
        os.close(os.open(path, flags))
        return "opened"

    return opened


def _accessible(mode: int) -> PathQuestion:
    return lambda path: os.access(path, mode)


def _beginning(path: str) -> Answer:
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 10)
    finally:
        os.close(fd)


PATH_QUESTIONS: list[PathQuestion] = [
    _status,
    _status,
    _status_of_link,
    _status_of_link,
    _lines,
    _lines_twice,
    _digest,
    _whole,
    _beginning,
    os.readlink,
    _accessible(os.F_OK),
    _accessible(os.R_OK),
    _accessible(os.X_OK),
    _open_as(os.O_RDONLY | os.O_NOFOLLOW),
    _open_as(os.O_RDONLY | os.O_DIRECTORY),
    _open_as(os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW),
    _open_as(os.O_PATH),
    _open_as(os.O_PATH | os.O_NOFOLLOW),
    _open_as(os.O_RDONLY | os.O_NOATIME),
    lambda path: os.getxattr(path, "user.none"),
    lambda path: os.getxattr(path, "user.none", follow_symlinks=False),
    lambda path: os.statvfs(path).f_namemax,
]


def _below(fd: int, name: str) -> Answer:
    return _attributes(os.stat(name, dir_fd=fd))


def _link_below(fd: int, name: str) -> Answer:
    return _attributes(os.stat(name, dir_fd=fd, follow_symlinks=False))


def _read_below(fd: int, name: str) -> Answer:
    opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd)
    try:
        return _short(os.read(opened, 100_000))
    finally:
        os.close(opened)


FOLDER_QUESTIONS: list[Callable[[int, str], Answer]] = [
    _below,
    _link_below,
    _read_below,
    lambda fd, name: os.readlink(name, dir_fd=fd),
    lambda fd, name: os.access(name, os.X_OK, dir_fd=fd),
    lambda fd, _: os.lseek(fd, 0, os.SEEK_SET) or _lines(fd),
    lambda fd, _: os.read(fd, 10),
    lambda fd, _: _status_of_fd(fd),
]


def _vector(fd: int, offset: int, lengths: list[int]) -> Answer:
    buffers = [bytearray(length) for length in lengths]
    return os.preadv(fd, buffers, offset), [_short(bytes(buffer)) for buffer in buffers]


def _mapped(fd: int, offset: int, length: int) -> Answer:
    size = os.fstat(fd).st_size
    if size == 0:
        return "nothing to map"
    with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as mapped:
        return len(mapped), _short(mapped[offset : offset + length])


def _sent(fd: int, offset: int, length: int) -> Answer:
    target = os.memfd_create("sent")
    try:
        count = os.sendfile(target, fd, offset, length)
        return count, _short(os.pread(target, count, 0))
    finally:
        os.close(target)


def _again(fd: int, offset: int, length: int) -> Answer:
    """The same file, opened through its descriptor; where its hydrated copy was deleted meanwhile, that is refused."""
    try:
        opened = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        opened = os.dup(fd)
    try:
        return _short(os.pread(opened, length, offset))
    finally:
        os.close(opened)


def _direct(fd: int, offset: int, length: int) -> Answer:
    with mmap.mmap(-1, length) as buffer:
        count = os.preadv(fd, [buffer], offset)
        return count, _short(buffer[:count])


def times_below(root: Path) -> dict[str, int]:
    """The one time of each file and symlink; -1 where it has several."""
    found: dict[str, int] = {}
    for folder, _, files in os.walk(root):
        for name in files:
            path = os.path.join(folder, name)
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(path)
                found[os.path.relpath(path, root)] = status.st_mtime_ns if _times_are_one(status) else -1
    return found
