"""What is the answer to each request of the kernel?

One method an opcode, each taking the nodeid and the buffer that the request lies in, and returning the body of the
reply, or an errno, or None where the protocol wants no answer. They may raise: `session` turns every exception into an
errno with `failed`, so that nothing ever raises into the loop.

How long the kernel may keep what it is told:

* The first-level names of a mount that follows a branch, and names that mean a branch where everything is mounted: not
  at all, or a tick of the clock while they come in bursts (see `lifetimes`). A walk through one is a LOOKUP, and that
  is where a moved branch is noticed. `View.is_lasting` knows them.
* Names of files where opens are written down: not at all (see `provenance`), not even in a burst.
* Everything else, for good: names below the root (also those that are not there), all attributes, listings, symlink
  targets, pages. Nodeids are content, so none of it can become wrong. The root's own attributes are among these: a
  lifetime of 0 there would cost a GETATTR at each walk.

Threads: any number at once. What handles mean: see `opened`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping

from moorage.model.tree import EntryKind
from moorage.mount.host.owner import Owner
from moorage.mount.journal.failures import Failures
from moorage.mount.kernel import wire
from moorage.mount.kernel.lifetimes import Bursts
from moorage.mount.kernel.listings import Listings
from moorage.mount.kernel.opened import OpenDirectories, OpenFiles
from moorage.mount.kernel.passthrough import OpenModes
from moorage.mount.kernel.provenance import Provenance
from moorage.mount.kernel.unthinking import Handler, Reply, without_thought
from moorage.mount.kernel.wire import FOREVER, Lifetime, Opcode, OpenFlag
from moorage.mount.shown.following import Standing
from moorage.mount.shown.inodes import ROOT, InodeTable
from moorage.mount.shown.sticky import Holds
from moorage.mount.shown.view import Node, View, no_xattr, target_of

_WRITE_FLAGS = os.O_ACCMODE | os.O_TRUNC | os.O_CREAT | os.O_APPEND
_FILE_FLAGS = OpenFlag.KEEP_CACHE | OpenFlag.NOFLUSH
_PASSTHROUGH_FLAGS = OpenFlag.PASSTHROUGH | OpenFlag.NOFLUSH
_DIRECTORY_FLAGS = OpenFlag.CACHE_DIR | OpenFlag.KEEP_CACHE
_NO_TIME: Lifetime = (0, 0)
_NAMES = {int(opcode): opcode.name for opcode in Opcode}


class Operations:
    """Answers requests about one view."""

    def __init__(
        self,
        view: View,
        table: InodeTable,
        owner: Owner,
        modes: OpenModes | None = None,
        provenance: Provenance | None = None,
        moments: Mapping[int, Standing] | None = None,
        holds: Holds | None = None,
    ) -> None:
        """Serve `view`; everything belongs to `owner`. `modes` says which files the kernel reads itself,
        `provenance` writes down what is opened, `moments` are those of the root that another server gave out, `holds`
        which snapshot each process is shown, if not all are shown the newest."""
        self._view = view
        self._table = table
        self._modes = OpenModes() if modes is None else modes
        self._owner = owner
        self._provenance = provenance
        self._files = OpenFiles(lambda nodeid: view.open(self._node(nodeid)))
        self._directories = OpenDirectories(view, table, self._node, {} if moments is None else moments)
        self._listings = Listings(view, table, owner, self._is_kept, self._kept_all)
        self.failures = Failures()
        """What went wrong so far."""
        self._holds = holds
        self._bursts = Bursts() if holds is None else None
        self.handlers = self._table_of_handlers()
        """By opcode."""
        self.after: dict[int, Callable[[int], None]] = {Opcode.RELEASE: self._modes.leave}
        """By opcode: what is done with a nodeid when the kernel has taken the answer. A count goes down only then: if
        the kernel asks again, because this server died, it must not go down twice."""

    def _table_of_handlers(self) -> list[Handler]:
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
        }
        handlers = without_thought()
        for opcode, handler in known.items():
            handlers[opcode] = handler
        return handlers

    @property
    def followed(self) -> tuple[str, int] | None:
        """See `View.followed`."""
        return self._view.followed

    def sizes(self) -> tuple[int, int, int]:
        """How many files and directories are open, and how many nodeids there are."""
        return len(self._files), len(self._directories), len(self._table)

    # -- names ------------------------------------------------------------------------------------

    def _node(self, nodeid: int) -> Node:
        if nodeid == ROOT:
            return self._view.root()
        slot = self._table.get(nodeid)
        if slot is None:
            raise OSError(errno.ESTALE, f"the kernel asks about nodeid {nodeid}, which it gave back")
        return slot.node

    def _seen(self, nodeid: int, buffer: wire.Buffer) -> Node:
        """A directory as the caller sees it."""
        node = self._node(nodeid)
        if self._holds is None or self._view.is_lasting(node):
            return node
        return self._view.seen(node, self._holds.of(_caller_of(buffer)))

    def _attributes(self, node: Node) -> bytes:
        return wire.attributes(node.inode, node.size_bytes, node.time_ns, node.mode, node.links, self._owner)

    def _lookup(self, nodeid: int, buffer: wire.Buffer, length: int) -> Reply:
        raw = wire.name(buffer, length)
        if len(raw) > wire.NAME_MAX_BYTES:
            return errno.ENAMETOOLONG
        directory = self._seen(nodeid, buffer)
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
            standing = node.standing if nodeid == ROOT else self._standing(nodeid, directory, buffer)
            self._provenance.walked(buffer, found, nodeid, name, standing)
        return reply

    def _forget(self, nodeid: int, buffer: wire.Buffer, _length: int) -> Reply:
        self._give_back([(nodeid, wire.FORGET_IN.unpack_from(buffer, wire.BODY)[0])])
        return None

    def _batch_forget(self, _nodeid: int, buffer: wire.Buffer, length: int) -> Reply:
        self._give_back(wire.forgotten(buffer, length))
        return None

    def _give_back(self, lookups: Iterable[tuple[int, int]]) -> None:
        gone = self._table.forget(lookups)
        self._modes.forget(gone)
        self._files.forget(gone)

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
        reader = self._view.open(node)  # anew each time: it may be hydrated by now
        try:
            is_direct = bool(flags & os.O_DIRECT)
            backing = self._modes.enter(nodeid, _caller_of(buffer), reader.hydrated(), is_direct=is_direct)
        except BaseException:
            reader.close()
            raise
        if backing is None:
            # Somebody has this nodeid open in a way that this open cannot share. The kernel looks the name up again,
            # is given a twin, and opens that; the caller sees nothing. It tries once only, so a twin that is there
            # already, and open in a third way, must not be what it is given.
            current = self._table.current(nodeid)
            if current == nodeid or not self._modes.would_share(current, reader.hydrated()):
                self._table.retire(current)
            reader.close()
            return errno.ESTALE
        self._files.enter(nodeid, reader)
        self._table.renew()  # an open is written down too, and may be all that ever happens
        if self._provenance is not None:
            self._provenance.opened(buffer, nodeid, node, self._standing(nodeid, node, buffer))
        # Nothing but the end of a hold is looked up by the handle of a file.
        handle = nodeid if self._holds is None else self._holds.opened(_caller_of(buffer))
        return wire.OPEN_OUT.pack(handle, _PASSTHROUGH_FLAGS if backing else _FILE_FLAGS, backing)

    def _read(self, nodeid: int, buffer: wire.Buffer, _length: int) -> Reply:
        _handle, offset, size = wire.READ_IN.unpack_from(buffer, wire.BODY)
        # All or nothing: the kernel takes a short answer for the end of the file and shows zeros behind it, so a
        # damaged chunk in the middle of a megabyte is an error for the megabyte. The kernel then asks page by page.
        return self._files.reader(nodeid).parts_at(offset, size)

    def _release(self, nodeid: int, buffer: wire.Buffer, _length: int) -> Reply:
        self._files.leave(nodeid)
        if self._holds is not None:
            self._holds.closed(wire.HANDLE_IN.unpack_from(buffer, wire.BODY)[0])
        return b""

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

    def _opendir(self, nodeid: int, buffer: wire.Buffer, _length: int) -> Reply:
        node = self._seen(nodeid, buffer)
        handle = self._directories.enter(nodeid, node)
        return wire.OPEN_OUT.pack(handle, _DIRECTORY_FLAGS if self._view.is_lasting(node) else OpenFlag(0), 0)

    def _readdir(self, nodeid: int, buffer: wire.Buffer, _length: int) -> Reply:
        return self._list(nodeid, *wire.READ_IN.unpack_from(buffer, wire.BODY), plus=False)

    def _readdirplus(self, nodeid: int, buffer: wire.Buffer, _length: int) -> Reply:
        return self._list(nodeid, *wire.READ_IN.unpack_from(buffer, wire.BODY), plus=True)

    def _list(self, nodeid: int, handle: int, position: int, size: int, *, plus: bool) -> Reply:
        """The lines from `position` that fit in `size` bytes; each with its lookup if `plus`."""
        directory = self._directories.get(nodeid, handle)
        if directory is None:
            return errno.EBADF
        return self._listings.page(directory, position, size, plus=plus)

    def _is_kept(self, directory: Node, node: Node) -> bool:
        """Whether the kernel may keep the name of a node for good."""
        # Of a directory in a tree `_kept_all` must say the same of all.
        if self._is_traced(node):
            return False
        return self._view.is_lasting(directory, node)

    def _is_traced(self, node: Node) -> bool:
        """Whether an open of it has to be a walk, so that it is known by which name it was opened."""
        return self._provenance is not None and node.kind is EntryKind.FILE

    def _kept_all(self, directory: Node) -> Lifetime | None:
        """How long the kernel may keep every name of a directory, of which it gets a page; None if not all, or not at
        all."""
        if self._provenance is not None or directory.folder is not None:
            return None
        if self._view.is_lasting(directory):
            return FOREVER
        kept_ns = 0 if self._bursts is None else self._bursts.listed()
        # Whoever opened the root reads it as it stood then; what he is listed is what a walk finds as long as it stands
        # there now.
        return (0, kept_ns) if kept_ns and self._view.root().standing == directory.standing else None

    def _looked_up(self, parent: int, directory: Node, name: str, node: Node) -> bytes:
        """The entry of what was walked to."""
        lifetime = _NO_TIME
        if self._is_kept(directory, node):
            lifetime = FOREVER
        elif self._bursts is not None and not self._is_traced(node) and not self._view.is_lasting(directory, node):
            lifetime = (0, self._bursts.walked())
        return wire.entry(self._table.remember(parent, name, node), lifetime, self._attributes(node))

    def _releasedir(self, nodeid: int, buffer: wire.Buffer, _length: int) -> Reply:
        self._directories.leave(nodeid, wire.HANDLE_IN.unpack_from(buffer, wire.BODY)[0])
        return b""

    # -- extended attributes ----------------------------------------------------------------------

    def _xattrs(self, nodeid: int, buffer: wire.Buffer) -> dict[str, bytes]:
        node = self._seen(nodeid, buffer) if nodeid == ROOT else self._node(nodeid)
        return self._view.xattrs(node, self._standing(nodeid, node))

    def _standing(self, nodeid: int, node: Node, walk: wire.Buffer | None = None) -> Standing | None:
        """The newest standing at which `nodeid` was still there: names below the first level are cached for good, so
        it is the first-level name above that has been looked up most recently.

        In a mount of everything that name is a folder, and what is below it has a standing of its own; None for a file
        that has been found in several snapshots, since the question does not say which of its paths is meant.

        If the caller of `walk` came here from the root, then by what his process is shown."""
        hold = None if self._holds is None or walk is None else self._holds.of(_caller_of(walk))
        if hold is not None and hold.standing is not None:
            return hold.standing
        above, slot = self._table.standing_above(nodeid), self._table.get(nodeid)
        if above is not None:
            return above
        return None if slot is not None and slot.is_shared else node.standing

    def _getxattr(self, nodeid: int, buffer: wire.Buffer, length: int) -> Reply:
        size = wire.XATTR_IN.unpack_from(buffer, wire.BODY)[0]
        name = wire.name(buffer, length, wire.BODY + wire.XATTR_IN.size).decode("utf-8", "replace")
        value = self._xattrs(nodeid, buffer).get(name)
        return no_xattr(name) if value is None else _sized(value, size)

    def _listxattr(self, nodeid: int, buffer: wire.Buffer, _length: int) -> Reply:
        size = wire.XATTR_IN.unpack_from(buffer, wire.BODY)[0]
        return _sized(b"".join(name.encode() + b"\0" for name in self._xattrs(nodeid, buffer)), size)

    # -- what went wrong --------------------------------------------------------------------------

    def failed(self, error: Exception, opcode: int, nodeid: int, buffer: wire.Buffer, length: int) -> int:
        """The errno for an exception; what is not the reader's own mistake is logged, with the path."""
        what, _, path = self.about(opcode, nodeid, buffer, length).partition(" ")
        return self.failures.errno_of(what, path, error)

    def about(self, opcode: int, nodeid: int, buffer: wire.Buffer, length: int) -> str:
        """What a request asks: its kind and the path."""
        path = self._table.path(nodeid)
        if opcode == Opcode.LOOKUP:
            path = path.rstrip("/") + "/" + wire.name(buffer, length).decode("utf-8", "backslashreplace")
        return f"{_NAMES.get(opcode, f'request-{opcode}')} {path}"

    def refused(self, opcode: int, nodeid: int, buffer: wire.Buffer, length: int) -> int | None:
        """The answer to a request for which there is no worker; what the kernel gives back is taken, since that waits
        for nothing."""
        if opcode in wire.NEVER_ANSWERED:
            self.handlers[opcode](nodeid, buffer, length)
            return None
        return errno.EIO

    def unanswered(self, opcode: int, nodeid: int, reply: bytes) -> None:
        """Take back what `reply` promised, since the kernel no longer wanted it."""
        if opcode == Opcode.LOOKUP:
            self._give_back([(wire.ENTRY_HEAD.unpack_from(reply)[0], 1)])
        elif opcode == Opcode.READDIRPLUS:
            self._give_back(wire.looked_up(reply))
        elif opcode == Opcode.OPEN:
            self._files.leave(nodeid)
            self._modes.leave(nodeid)
            if self._holds is not None:
                self._holds.closed(wire.OPEN_OUT.unpack_from(reply)[0])
        elif opcode == Opcode.OPENDIR:
            self._directories.leave(nodeid, wire.OPEN_OUT.unpack_from(reply)[0])


def _caller_of(buffer: wire.Buffer) -> int:
    """The thread that asks; 0 if it is of a pid namespace that ours cannot see into."""
    thread: int = wire.PID_IN.unpack_from(buffer, wire.PID_AT)[0]
    return thread


def _sized(value: bytes, size: int) -> Reply:
    """The answer to a caller who has room for `size` bytes; with 0 he asks how many there are."""
    if size == 0:
        return wire.XATTR_OUT.pack(len(value), 0)
    return value if len(value) <= size else errno.ERANGE
