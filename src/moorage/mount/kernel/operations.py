"""What is the answer to each request of the kernel?

One method an opcode, each taking the nodeid and the buffer that the request lies in, and returning the body of the
reply, or an errno, or None where the protocol wants no answer. They may raise: `session` turns every exception into an
errno with `failed`, so that nothing ever raises into the loop.

How long the kernel may keep what it is told:

* The first-level names of a mount that follows a branch, and names that mean a branch where everything is mounted: not
  at all. Each walk through one is a LOOKUP, and that is where a moved branch is noticed. `View.is_lasting` knows them.
* Names of files where opens are written down: not at all (see `provenance`).
* Everything else, for good: names below the root (also those that are not there), all attributes, listings, symlink
  targets, pages. Nodeids are content, so none of it can become wrong. The root's own attributes are among these: a
  lifetime of 0 there would cost a GETATTR at each walk.

Threads: any number at once. File and directory handles are numbers that are never used again.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from moorage.model.tree import EntryKind
from moorage.mount.failures import Failures
from moorage.mount.following import Standing
from moorage.mount.inodes import ROOT, InodeTable
from moorage.mount.kernel import wire
from moorage.mount.kernel.passthrough import OpenModes
from moorage.mount.kernel.provenance import Provenance
from moorage.mount.kernel.wire import FOREVER_S, Opcode, OpenFlag
from moorage.mount.view import ROOT_INODE, Listing, Node, Reader, View, no_xattr, target_of

Reply: TypeAlias = "bytes | int | None"
"""The body of a reply, or an errno, or no answer at all."""
Handler: TypeAlias = Callable[[int, wire.Buffer, int], Reply]
"""(nodeid, buffer with the whole request, its length) -> reply."""

MUTATING = (
    Opcode.SETATTR,
    Opcode.SYMLINK,
    Opcode.MKNOD,
    Opcode.MKDIR,
    Opcode.UNLINK,
    Opcode.RMDIR,
    Opcode.RENAME,
    Opcode.LINK,
    Opcode.WRITE,
    Opcode.SETXATTR,
    Opcode.REMOVEXATTR,
    Opcode.CREATE,
    Opcode.FALLOCATE,
    Opcode.RENAME2,
    Opcode.COPY_FILE_RANGE,
    Opcode.COPY_FILE_RANGE_64,
    Opcode.TMPFILE,
)
"""EROFS, whatever they say. The mount is read-only, so the kernel refuses most of them before they come here."""

_WRITE_FLAGS = os.O_ACCMODE | os.O_TRUNC | os.O_CREAT | os.O_APPEND
_FILE_FLAGS = OpenFlag.KEEP_CACHE | OpenFlag.NOFLUSH
_PASSTHROUGH_FLAGS = OpenFlag.PASSTHROUGH | OpenFlag.NOFLUSH
_DIRECTORY_FLAGS = OpenFlag.CACHE_DIR | OpenFlag.KEEP_CACHE
_LOOKUP_BYTES = wire.ENTRY_HEAD.size + wire.ATTRIBUTES.size
_DOTS = 2
"""Positions 0 and 1 of a listing are `.` and `..`. The kernel asks with a page at least, which has room for both."""
_NAMES = {int(opcode): opcode.name for opcode in Opcode}


class _OpenFile(NamedTuple):
    nodeid: int
    reader: Reader


class _OpenDirectory(NamedTuple):
    nodeid: int
    node: Node
    parent_inode: int
    listing: Listing


class Operations:
    """Answers requests about one view."""

    def __init__(
        self,
        view: View,
        table: InodeTable,
        owner: tuple[int, int],
        modes: OpenModes | None = None,
        provenance: Provenance | None = None,
    ) -> None:
        """Serve `view`; everything belongs to `owner` (uid, gid). `modes` says which files the kernel reads itself,
        `provenance` writes down what is opened."""
        self._view = view
        self._table = table
        self._modes = OpenModes() if modes is None else modes
        self._owner = owner
        self._provenance = provenance
        self._handles = itertools.count(1)
        self._files: dict[int, _OpenFile] = {}
        self._directories: dict[int, _OpenDirectory] = {}
        self._failures = Failures()
        self.handlers = self._table_of_handlers()
        """By opcode."""

    def _table_of_handlers(self) -> list[Handler]:
        handlers: list[Handler] = [_unknown] * wire.OPCODE_LIMIT
        for opcode in MUTATING:
            handlers[opcode] = _read_only
        known: dict[Opcode, Handler] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.FORGET: self._forget,
            Opcode.BATCH_FORGET: self._batch_forget,
            Opcode.GETATTR: self._getattr,
            Opcode.STATX: self._statx,
            Opcode.READLINK: self._readlink,
            Opcode.OPEN: self._open,
            Opcode.READ: self._read,
            Opcode.RELEASE: self._release,
            Opcode.OPENDIR: self._opendir,
            Opcode.READDIR: self._readdir,
            Opcode.READDIRPLUS: self._readdirplus,
            Opcode.RELEASEDIR: self._releasedir,
            Opcode.STATFS: self._statfs,
            Opcode.ACCESS: self._access,
            Opcode.GETXATTR: self._getxattr,
            Opcode.LISTXATTR: self._listxattr,
            Opcode.LSEEK: self._lseek,
            Opcode.NOTIFY_REPLY: _no_answer,
            Opcode.DESTROY: _done,
            # ENOSYS is the answer that makes the kernel do these itself, and never ask again: closing and syncing need
            # nothing, and a request that is being answered cannot be interrupted.
            Opcode.FLUSH: _unknown,
            Opcode.FSYNC: _unknown,
            Opcode.FSYNCDIR: _unknown,
            Opcode.INTERRUPT: _unknown,
        }
        for opcode, handler in known.items():
            handlers[opcode] = handler
        return handlers

    # -- names ------------------------------------------------------------------------------------

    def _node(self, nodeid: int) -> Node:
        if nodeid == ROOT:
            return self._view.root()
        slot = self._table.get(nodeid)
        if slot is None:
            raise OSError(errno.ESTALE, f"the kernel asks about nodeid {nodeid}, which it gave back")
        return slot.node

    def _attributes(self, node: Node) -> bytes:
        return wire.attributes(node.inode, node.size_bytes, node.time_ns, node.mode, node.links, self._owner)

    def _lookup(self, nodeid: int, buffer: wire.Buffer, length: int) -> Reply:
        raw = wire.name(buffer, length)
        if len(raw) > wire.NAME_MAX_BYTES:
            return errno.ENAMETOOLONG
        directory = self._node(nodeid)
        absent = wire.NEGATIVE_ENTRY if self._view.is_lasting(directory) else errno.ENOENT
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            return absent  # every name of a tree is UTF-8
        node = self._view.lookup(directory, name)
        if node is None:
            return absent
        reply = self._looked_up(nodeid, directory, name, node)
        if self._provenance is not None and node.kind is EntryKind.FILE:
            found = wire.ENTRY_HEAD.unpack_from(reply)[0]
            standing = node.standing if nodeid == ROOT else self._standing(nodeid, directory)
            self._provenance.walked(buffer, found, nodeid, name, standing)
        return reply

    def _forget(self, nodeid: int, buffer: wire.Buffer, _length: int) -> Reply:
        self._table.forget([(nodeid, wire.FORGET_IN.unpack_from(buffer, wire.BODY)[0])])
        return None

    def _batch_forget(self, _nodeid: int, buffer: wire.Buffer, length: int) -> Reply:
        self._table.forget(wire.forgotten(buffer, length))
        return None

    def _getattr(self, nodeid: int, _buffer: wire.Buffer, _length: int) -> Reply:
        return wire.attr(self._attributes(self._node(nodeid)))

    def _statx(self, nodeid: int, _buffer: wire.Buffer, _length: int) -> Reply:
        node = self._node(nodeid)
        return wire.statx(node.inode, node.size_bytes, node.time_ns, node.mode, node.links, self._owner)

    def _readlink(self, nodeid: int, _buffer: wire.Buffer, _length: int) -> Reply:
        return target_of(self._node(nodeid))

    def _access(self, _nodeid: int, buffer: wire.Buffer, _length: int) -> Reply:
        wanted = wire.ACCESS_IN.unpack_from(buffer, wire.BODY)[0]
        return errno.EROFS if wanted & os.W_OK else b""

    def _statfs(self, _nodeid: int, _buffer: wire.Buffer, _length: int) -> Reply:
        blocks = -(-self._view.size_bytes() // wire.BLOCK_BYTES)
        return wire.STATFS_OUT.pack(blocks, 0, 0, 0, 0, wire.BLOCK_BYTES, wire.NAME_MAX_BYTES, wire.BLOCK_BYTES)

    # -- files ------------------------------------------------------------------------------------

    def _open(self, nodeid: int, buffer: wire.Buffer, _length: int) -> Reply:
        flags = wire.OPEN_IN.unpack_from(buffer, wire.BODY)[0]
        if flags & _WRITE_FLAGS:
            return errno.EROFS
        node = self._node(nodeid)
        reader = self._view.open(node)
        try:
            caller = wire.PID_IN.unpack_from(buffer, wire.PID_AT)[0]
            is_direct = bool(flags & os.O_DIRECT)
            backing = self._modes.enter(nodeid, caller, reader.hydrated(), is_direct=is_direct)
        except BaseException:
            reader.close()
            raise
        if backing is None:
            # Somebody has this nodeid open in a way that this open cannot share. The kernel looks the name up again,
            # is given a twin, and opens that; the caller sees nothing.
            reader.close()
            self._table.retire(nodeid)
            return errno.ESTALE
        handle = next(self._handles)
        self._files[handle] = _OpenFile(nodeid, reader)
        if self._provenance is not None:
            self._provenance.opened(buffer, nodeid, node, self._standing(nodeid, node))
        return wire.OPEN_OUT.pack(handle, _PASSTHROUGH_FLAGS if backing else _FILE_FLAGS, backing)

    def _read(self, _nodeid: int, buffer: wire.Buffer, _length: int) -> Reply:
        handle, offset, size = wire.READ_IN.unpack_from(buffer, wire.BODY)
        file = self._files.get(handle)
        if file is None:
            return errno.EBADF
        # All or nothing: the kernel takes a short answer for the end of the file and shows zeros behind it, so a
        # damaged chunk in the middle of a megabyte is an error for the megabyte. The kernel then asks page by page.
        return file.reader.read_at(offset, size)

    def _release(self, _nodeid: int, buffer: wire.Buffer, _length: int) -> Reply:
        self._close(wire.HANDLE_IN.unpack_from(buffer, wire.BODY)[0])
        return b""

    def _close(self, handle: int) -> None:
        file = self._files.pop(handle, None)
        if file is not None:
            self._modes.leave(file.nodeid)
            file.reader.close()

    def _lseek(self, nodeid: int, buffer: wire.Buffer, _length: int) -> Reply:
        _handle, offset, whence, _ = wire.LSEEK_IN.unpack_from(buffer, wire.BODY)
        size = self._node(nodeid).size_bytes
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            return errno.EINVAL
        if offset >= size:
            return errno.ENXIO
        # A file is data from start to end: no holes are stored.
        return wire.LSEEK_OUT.pack(offset if whence == os.SEEK_DATA else size)

    # -- directories ------------------------------------------------------------------------------

    def _opendir(self, nodeid: int, _buffer: wire.Buffer, _length: int) -> Reply:
        node = self._node(nodeid)
        slot = self._table.get(nodeid)
        above = None if slot is None else self._table.get(slot.parent)
        parent_inode = ROOT_INODE if above is None else above.node.inode
        handle = next(self._handles)
        self._directories[handle] = _OpenDirectory(nodeid, node, parent_inode, self._view.listing(node))
        return wire.OPEN_OUT.pack(handle, _DIRECTORY_FLAGS if self._view.is_lasting(node) else OpenFlag(0), 0)

    def _readdir(self, _nodeid: int, buffer: wire.Buffer, _length: int) -> Reply:
        return self._list(*wire.READ_IN.unpack_from(buffer, wire.BODY), plus=False)

    def _readdirplus(self, _nodeid: int, buffer: wire.Buffer, _length: int) -> Reply:
        return self._list(*wire.READ_IN.unpack_from(buffer, wire.BODY), plus=True)

    def _list(self, handle: int, position: int, size: int, *, plus: bool) -> Reply:
        """The lines from `position` that fit in `size` bytes; each with its lookup if `plus`."""
        directory = self._directories.get(handle)
        if directory is None:
            return errno.EBADF
        lookup_bytes = _LOOKUP_BYTES if plus else 0
        lines = self._dots(directory, lookup_bytes)[position:] if position < _DOTS else []
        position = max(position, _DOTS)
        room = size - sum(map(len, lines))
        shortest = lookup_bytes + wire.DIRENT.size + 8
        for entry in directory.listing.window(position - _DOTS, room // shortest + 1):
            raw_name = entry.name.encode("utf-8")
            # Measured before it is made: a line that does not fit must not count as a lookup.
            room -= lookup_bytes + wire.DIRENT.size + -(-len(raw_name) // 8) * 8
            if room < 0:
                break
            position += 1
            node = self._view.child(directory.node, entry)
            if plus:
                lines.append(self._looked_up(directory.nodeid, directory.node, entry.name, node))
            lines.append(wire.dirent(node.inode, position, raw_name, node.mode))
        # Nothing at all means the end, so a buffer too small for one line must be an error.
        return b"".join(lines) if lines or room >= 0 else errno.EINVAL

    def _looked_up(self, parent: int, directory: Node, name: str, node: Node) -> bytes:
        is_traced = self._provenance is not None and node.kind is EntryKind.FILE
        valid_s = FOREVER_S if self._view.is_lasting(directory, node) and not is_traced else 0
        return wire.entry(self._table.remember(parent, name, node), valid_s, self._attributes(node))

    @staticmethod
    def _dots(directory: _OpenDirectory, lookup_bytes: int) -> list[bytes]:
        """`.` and `..`, which never count as lookups: their nodeid, in READDIRPLUS, is 0."""
        nothing, mode = bytes(lookup_bytes), directory.node.mode
        return [
            nothing + wire.dirent(directory.node.inode, 1, b".", mode),
            nothing + wire.dirent(directory.parent_inode, 2, b"..", mode),
        ]

    def _releasedir(self, _nodeid: int, buffer: wire.Buffer, _length: int) -> Reply:
        self._directories.pop(wire.HANDLE_IN.unpack_from(buffer, wire.BODY)[0], None)
        return b""

    # -- extended attributes ----------------------------------------------------------------------

    def _xattrs(self, nodeid: int) -> dict[str, bytes]:
        node = self._node(nodeid)
        return self._view.xattrs(node, self._standing(nodeid, node))

    def _standing(self, nodeid: int, node: Node) -> Standing | None:
        """The newest standing at which `nodeid` was still there: names below the first level are cached for good, so
        it is the first-level name above that has been looked up most recently.

        In a mount of everything that name is a folder, and what is below it has a standing of its own; None for a file
        that has been found in several snapshots, since the question does not say which of its paths is meant."""
        top, slot = self._table.top(nodeid), self._table.get(nodeid)
        if top is not None and top.node.standing is not None:
            return top.node.standing
        return None if slot is not None and slot.is_shared else node.standing

    def _getxattr(self, nodeid: int, buffer: wire.Buffer, length: int) -> Reply:
        size = wire.XATTR_IN.unpack_from(buffer, wire.BODY)[0]
        name = wire.name(buffer, length, wire.BODY + wire.XATTR_IN.size).decode("utf-8", "replace")
        value = self._xattrs(nodeid).get(name)
        return no_xattr(name) if value is None else _sized(value, size)

    def _listxattr(self, nodeid: int, buffer: wire.Buffer, _length: int) -> Reply:
        size = wire.XATTR_IN.unpack_from(buffer, wire.BODY)[0]
        return _sized(b"".join(name.encode() + b"\0" for name in self._xattrs(nodeid)), size)

    # -- what went wrong --------------------------------------------------------------------------

    def failed(self, error: Exception, opcode: int, nodeid: int, buffer: wire.Buffer, length: int) -> int:
        """The errno for an exception; what is not the reader's own mistake is logged, with the path."""
        path = self._table.path(nodeid)
        if opcode == Opcode.LOOKUP:
            path = path.rstrip("/") + "/" + wire.name(buffer, length).decode("utf-8", "backslashreplace")
        return self._failures.errno_of(_NAMES.get(opcode, f"request {opcode}"), path, error)

    def unanswered(self, opcode: int, reply: bytes) -> None:
        """Take back what `reply` promised, since the kernel no longer wanted it."""
        if opcode == Opcode.LOOKUP:
            self._table.forget([(wire.ENTRY_HEAD.unpack_from(reply)[0], 1)])
        elif opcode in (Opcode.OPEN, Opcode.OPENDIR):
            handle = wire.OPEN_OUT.unpack_from(reply)[0]
            self._directories.pop(handle, None)
            self._close(handle)


def _unknown(_nodeid: int, _buffer: wire.Buffer, _length: int) -> Reply:
    return errno.ENOSYS


def _read_only(_nodeid: int, _buffer: wire.Buffer, _length: int) -> Reply:
    return errno.EROFS


def _done(_nodeid: int, _buffer: wire.Buffer, _length: int) -> Reply:
    return b""


def _no_answer(_nodeid: int, _buffer: wire.Buffer, _length: int) -> Reply:
    return None


def _sized(value: bytes, size: int) -> Reply:
    """The answer to a caller who has room for `size` bytes; with 0 he asks how many there are."""
    if size == 0:
        return wire.XATTR_OUT.pack(len(value), 0)
    return value if len(value) <= size else errno.ERANGE
