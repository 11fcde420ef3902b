"""How is a view mounted through libfuse, where `/dev/fuse` cannot be spoken to directly?

The portable second driver, by mfusepy, the maintained successor of fusepy. It serves the same view, and differs in what
libfuse's path interface cannot say:

* libfuse gives one nodeid to one *path*, whatever its content, and the kernel keeps pages by nodeid. If a path changed
  its content while somebody had it open, old and new pages would mix. So a mount that follows a branch moves only while
  no file of it is open, and the whole mount at once.
* Pages are kept across opens only where a path is the same file for good (a mount of a tag, of a snapshot, of
  everything, or with `--pin`), and names are looked up each time where they can change.
* Reads are of 128 KiB; there is no passthrough to come.

Threads: libfuse calls from several; handles are numbers that are never used again.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import ParamSpec, TypeAlias, TypeVar

from moorage.errors import MountError, PathNotFoundError
from moorage.mount.driver import Place, Ready, Serving
from moorage.mount.host import mountinfo
from moorage.mount.host.owner import Owner
from moorage.mount.journal.failures import Failures
from moorage.mount.journal.open_log import Opened, caller_of
from moorage.mount.kernel.wire import BLOCK_BYTES, FOREVER_S, NAME_MAX_BYTES
from moorage.mount.shown.view import Listing, Node, Reader, View, no_xattr, target_of

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")
Note: TypeAlias = Callable[[str, Node], None]
"""(path below the mountpoint, what is there): somebody has opened it."""

_DOTS = 2
"""Positions 0 and 1 of a listing are `.` and `..`."""
_WINDOW = 1024
"""Entries fetched at once for a listing."""


def serve(view: View, place: Place, ready: Ready) -> None:
    """The libfuse driver (see `driver.Driver`); signals are handled by libfuse."""
    mfusepy = _load()
    valid_s = FOREVER_S if view.is_fixed else 0
    options: dict[str, object] = {
        "ro": True,
        "nosuid": True,
        "nodev": True,
        "default_permissions": True,
        "allow_other": place.allow_other,
        "kernel_cache": view.keeps_files,
        "entry_timeout": valid_s,
        "negative_timeout": valid_s,
        "attr_timeout": valid_s,
        "use_ino": True,
        "subtype": mountinfo.FSTYPE.partition(".")[2],
        "fsname": place.source.replace("\\", "\\\\").replace(",", "\\,"),
    }
    answers = threading.Event()

    def begin() -> None:
        answers.set()
        ready(_serving(mfusepy, place))

    try:
        adapter = LibfuseAdapter(view, place.owner, begin, _note_of(mfusepy, place))
        mfusepy.FUSE(adapter, place.mountpoint, foreground=True, **options)
    except RuntimeError as error:
        if not answers.is_set():
            raise MountError(f"libfuse would not mount on {place.mountpoint} (error {error})") from error
        _log.info("libfuse ended with %s", error)  # 8: a signal; it has unmounted


def _load() -> ModuleType:
    # mfusepy takes libfuse 2 where both are installed, and decides when it is imported.
    os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")
    try:
        import mfusepy
    except (ImportError, OSError, AttributeError) as error:
        raise MountError(
            f"libfuse cannot be used: {error}", hint="install libfuse 3 (Debian: libfuse3-3), or use the kernel driver"
        ) from error
    assert isinstance(mfusepy, ModuleType)
    return mfusepy


def _serving(mfusepy: ModuleType, place: Place) -> Serving:
    entry = mountinfo.top_at(place.mountpoint)
    version = f"libfuse {mfusepy.fuse_version_major}.{mfusepy.fuse_version_minor}"
    return Serving("" if entry is None else entry.device, version)


def _note_of(mfusepy: ModuleType, place: Place) -> Note:
    """What writes down an open."""
    opens = place.opens
    if opens is None:
        return lambda path, node: None
    mountpoint = place.mountpoint.rstrip("/")

    def note(path: str, node: Node) -> None:
        uid, _, thread = mfusepy.fuse_get_context()
        snapshot = None if node.standing is None else node.standing.snapshot.hex()
        opens.note(Opened(time.time_ns(), caller_of(thread, uid), mountpoint + path, snapshot, node.digest.hex()))

    return note


class LibfuseAdapter:
    """What mfusepy calls. It looks methods up by name, so it needs no base class and runs without libfuse in tests."""

    use_ns = True

    def __init__(
        self, view: View, owner: Owner, on_init: Callable[[], None], on_open: Note = lambda path, node: None
    ) -> None:
        """Serve `view`; everything belongs to `owner`. `on_init` is called when libfuse begins, `on_open` after each
        open of a file."""
        self._view = view
        self._on_init = on_init
        self._on_open = on_open
        self._owner = owner
        self._failures = Failures()
        self._handles = itertools.count(1)
        self._lock = threading.Lock()
        self._root = view.root()
        self._files: dict[int, tuple[Node, Reader]] = {}
        self._directories: dict[int, tuple[Node, Listing]] = {}

    # -- names ------------------------------------------------------------------------------------

    def _where(self) -> Node:
        """The root: as it stands now, or, while a file is open, as it stood when that was opened."""
        with self._lock:
            if not self._files:
                self._root = self._view.root()
            return self._root

    def _find(self, path: str, root: Node | None = None) -> Node:
        node = self._where() if root is None else root
        for name in path.strip("/").split("/") if path != "/" else ():
            found = self._view.lookup(node, name) if node.is_directory else None
            if found is None:
                raise PathNotFoundError(f"no such path: {path}", path=path)
            node = found
        return node

    def _answer(self, what: str, path: str, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do `work`; whatever goes wrong becomes an `OSError`, the only thing that libfuse's errno can be made of."""
        try:
            return work(*args, **kwargs)
        except Exception as error:
            number = self._failures.errno_of(what, path, error)
            raise OSError(number, os.strerror(number)) from error

    def init(self, path: str) -> None:
        """Libfuse has mounted, and answers from now on."""
        self._on_init()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        """The attributes of a path, or of an open file."""
        opened = self._files.get(fh) if fh else None
        return self._attributes(opened[0] if opened else self._answer("GETATTR", path, self._find, path))

    def _attributes(self, node: Node) -> dict[str, int]:
        return {
            "st_ino": node.inode,
            "st_mode": self._owner.shown(node.mode),
            "st_nlink": node.links,
            "st_size": node.size_bytes,
            "st_blocks": (node.size_bytes + 511) // 512,
            "st_blksize": BLOCK_BYTES,
            "st_atime": node.time_ns,
            "st_mtime": node.time_ns,
            "st_ctime": node.time_ns,
            "st_uid": self._owner.uid,
            "st_gid": self._owner.gid,
        }

    def readlink(self, path: str) -> str:
        """Where a symlink points."""
        return target_of(self._answer("READLINK", path, self._find, path)).decode("utf-8")

    def statfs(self, path: str) -> dict[str, int]:
        """A medium that is exactly full."""
        blocks = -(-self._view.size_bytes() // BLOCK_BYTES)
        return {"f_bsize": BLOCK_BYTES, "f_frsize": BLOCK_BYTES, "f_blocks": blocks, "f_namemax": NAME_MAX_BYTES}

    # -- files ------------------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> int:
        """Open a file for reading; holds the mount where it stands until it is released."""
        if flags & (os.O_ACCMODE | os.O_TRUNC | os.O_CREAT | os.O_APPEND):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return self._answer("OPEN", path, self._open, path)

    def _open(self, path: str) -> int:
        while True:
            root = self._where()
            node = self._find(path, root)
            reader = self._view.open(node)
            with self._lock:
                if self._root is not root and self._root.standing != root.standing:
                    reader.close()
                    continue  # the mount moved in between: what was found is of the snapshot before
                handle = next(self._handles)
                self._files[handle] = (node, reader)
            self._on_open(path, node)
            return handle

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Verified bytes of an open file."""
        return self._answer("READ", path, self._files[fh][1].read_at, offset, size)

    def release(self, path: str, fh: int) -> int:
        """Close; the last one lets the mount move on."""
        with self._lock:
            opened = self._files.pop(fh, None)
        if opened is not None:
            opened[1].close()
        return 0

    # -- directories ------------------------------------------------------------------------------

    def opendir(self, path: str) -> int:
        """Pin a listing."""
        return self._answer("OPENDIR", path, self._opendir, path)

    def _opendir(self, path: str) -> int:
        node = self._find(path)
        handle = next(self._handles)
        self._directories[handle] = (node, self._view.listing(node))
        return handle

    def readdir_with_offset(self, path: str, offset: int, fh: int) -> Iterator[tuple[str, dict[str, int], int]]:
        """(name, attributes, where the next entry starts), from `offset`."""
        node, listing = self._directories[fh]
        for position, name in enumerate((".", "..")[offset:], offset):
            yield name, {"st_ino": node.inode, "st_mode": node.mode}, position + 1
        position = max(offset, _DOTS)
        while entries := self._answer("READDIR", path, listing.window, position - _DOTS, _WINDOW):
            for entry in entries:
                child = self._view.child(node, entry)
                position += 1
                yield entry.name, {"st_ino": child.inode, "st_mode": child.mode}, position

    def releasedir(self, path: str, fh: int) -> int:
        """Let the listing go."""
        self._directories.pop(fh, None)
        return 0

    # -- extended attributes ----------------------------------------------------------------------

    def _xattrs(self, path: str) -> dict[str, bytes]:
        node = self._answer("GETXATTR", path, self._find, path)
        return self._view.xattrs(node, node.standing)

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        """One extended attribute."""
        value = self._xattrs(path).get(name)
        if value is None:
            raise OSError(no_xattr(name), os.strerror(no_xattr(name)))
        return value

    def listxattr(self, path: str) -> list[str]:
        """The names of all of them."""
        return list(self._xattrs(path))
