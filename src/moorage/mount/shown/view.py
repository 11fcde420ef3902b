"""What does a snapshot look like as a file system?

The view knows directories, names, attributes and bytes, and nothing of any protocol: `kernel.operations` and `libfuse`
are two thin adapters over it, and a test can ask it directly.

Inodes are content: `st_ino` of a file is a function of its digest, its executable bit and when it was first stored, so
the same file has one inode in every directory and every snapshot; of a directory, of its parent, its name and its
digest. No inode ever changes what it means, hence everything below the root may be cached for good. `st_ino` is for
programs that compare; nothing is ever looked up by it, so a collision of 64 bits can serve no wrong byte. What tells
nodes apart is `Node.identity`.

Directories that no tree has (`branches` of a mount of everything) are a `Folder` each; see `all_branches`.

Threads: nodes are values; every method may be called from any thread.
"""

from __future__ import annotations

import abc
import errno
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple, Protocol

from moorage.format.stored import Bytes
from moorage.model.digest import ContentDigest, TreeId
from moorage.model.tree import Entry, EntryKind
from moorage.mount.shown.attributes import DIRECTORY_MODE, ROOT_INODE, inode_of_content, inode_of_directory, mode_of
from moorage.mount.shown.following import Root, Standing
from moorage.mount.shown.sticky import Hold
from moorage.read.cached_file import CachedFile

_DIRECTORY = EntryKind.DIRECTORY
_OF_FOLDERS = ContentDigest.of(b"a directory that is in no tree")
"""What is in such a directory changes while it stays the same one."""

XATTR_BLAKE3 = "user.moorage.blake3"
XATTR_TREE = "user.moorage.tree"
XATTR_SNAPSHOT = "user.moorage.snapshot"
XATTR_BRANCH = "user.moorage.branch"

SNAPSHOTS = ".snapshots"
"""In the root of a mount of one revision: found but not listed, unless the tree has that name itself (see `stood`)."""


class Trees(Protocol):
    """What the view needs of `TreeReader`."""

    def lookup(self, tree: TreeId, name: str, /) -> Entry | None:
        """The entry called `name`."""
        ...

    def entries(self, tree: TreeId, /) -> Iterator[Entry]:
        """All entries, in canonical order."""
        ...


class Reader(Protocol):
    """An open file, such as `hydration.HydratingReader`."""

    def read_at(self, offset: int, size: int, /) -> bytes:
        """Verified bytes, fewer than `size` only at the end of the file."""
        ...

    def parts_at(self, offset: int, size: int, /) -> list[Bytes]:
        """The same bytes in pieces, one after the other."""
        ...

    def hydrated(self) -> CachedFile | None:
        """The same bytes as a plain file, where there is one."""
        ...

    def close(self) -> None:
        """Give back what is held for it; called once."""
        ...


class Node(NamedTuple):
    """A file, a directory or a symlink, as one moment of the mount sees it."""

    kind: EntryKind
    inode: int
    mode: int
    size_bytes: int
    """What `st_size` says: 0 for directories, so that summing sizes counts every byte once."""
    time_ns: int
    """When the content was first stored; of the root, when its snapshot was made."""
    digest: ContentDigest
    entry: Entry | None
    """None only for the root, and for folders."""
    tree: TreeId | None
    """Of directories that are in a tree."""
    standing: Standing | None
    """Where the root stood when this node was looked up; below a snapshot of a mount of everything, that one; None
    for what is in no snapshot."""
    folder: Folder | None = None
    """What is in a directory that is in no tree."""

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes a file or symlink this one; a directory is also where it is, which its inode tells.

        What was found by way of a branch is told from what was found in a named snapshot: only so can both say in which
        snapshot they are.
        """
        is_of_branch = self.standing is not None and self.standing.branch != ""
        return (self.kind, self.digest, self.mode, self.time_ns, self.size_bytes, is_of_branch)

    @property
    def is_directory(self) -> bool:
        """Whether it has names in it."""
        return self.kind is _DIRECTORY

    @property
    def links(self) -> int:
        """What `st_nlink` says: 1, and 2 for directories."""
        return 2 if self.kind is _DIRECTORY else 1


class Line(NamedTuple):
    """One name of a folder, where an entry cannot say what it is."""

    name: str
    node: Node


class Folder(abc.ABC):
    """What is in a directory that no tree has."""

    @property
    @abc.abstractmethod
    def word(self) -> str:
        """Tells which folder of the mount this is, so that another process finds the same one again."""

    @abc.abstractmethod
    def lookup(self, here: Node, name: str, /) -> Node | None:
        """The node called `name`; `here` is the folder's own."""

    @abc.abstractmethod
    def lines(self, here: Node, /) -> Iterable[Entry | Line]:
        """All that a listing shows."""

    @abc.abstractmethod
    def is_lasting(self, found: Node | None, /) -> bool:
        """Whether a name that means `found`, or nothing, will mean it for good."""

    def find(self, word: str, /) -> Folder:
        """Find the folder of that word: this one, or one somewhere in it. Raises `KeyError`."""
        if word != self.word:
            raise KeyError(word)
        return self

    def held(self, hold: Hold | None, /) -> Folder:
        """The folder as a process sees it that is shown one moment; as anybody else does for None."""
        return self


class Listing:
    """The entries of one directory as it was when it was opened; read as far as somebody asked.

    A directory of a million entries costs nothing to open, and what was read stays, so that a reader may go back.
    """

    def __init__(self, entries: Iterator[Entry | Line]) -> None:
        """List `entries`, which are drawn as they are needed."""
        self._source = entries
        self._drawn: list[Entry | Line] = []
        self._drawing = threading.Lock()
        self._error: Exception | None = None

    def window(self, start: int, count: int) -> list[Entry | Line]:
        """At most `count` entries from position `start`; fewer only at the end. Raises what reading the tree
        raises, each time: a directory is never silently cut short."""
        drawn = self._drawn
        if len(drawn) < start + count:
            with self._drawing:
                self._draw(start + count - len(drawn))
        return drawn[start : start + count]

    def _draw(self, count: int) -> None:
        if self._error is not None:
            raise self._error
        try:
            self._drawn.extend(islice(self._source, max(count, 0)))
        except Exception as error:
            self._error = error
            raise


class View:
    """A read-only file system over the trees of a repository."""

    def __init__(
        self,
        trees: Trees,
        open_file: Callable[[Entry], Reader],
        root: Root | Folder,
        snapshots: Folder | None = None,
    ) -> None:
        """Show what `root` stands on, or what is in it; `snapshots` is what is found below `SNAPSHOTS`."""
        self._snapshots = snapshots
        self._trees = trees
        self._open_file = open_file
        self._root = root
        self.is_fixed = not isinstance(root, Folder) and root.is_fixed
        """Whether everything may be cached for good."""
        self.keeps_files = isinstance(root, Folder) or root.is_fixed
        """Whether a path that leads to a file, and through no symlink, leads to that file for good."""

    @property
    def followed(self) -> tuple[str, int] | None:
        """The branch that is followed, by the name that it has now, and when it moved to what is shown (Unix time, in
        ns); None where none is."""
        if isinstance(self._root, Folder):
            return None
        moved_ns = self._root.moved_ns
        return None if moved_ns is None else (self._root.last().branch, moved_ns)

    def root(self) -> Node:
        """The root as it stands now; asks the refs when the mount follows a branch."""
        if isinstance(self._root, Folder):
            return folder_node(self._root, ROOT_INODE)
        return self.root_of(self._root.now())

    def seen(self, directory: Node, hold: Hold | None) -> Node:
        """A directory as a process sees it that is shown one moment; as it stands for None."""
        if directory.folder is not None:
            return directory._replace(folder=directory.folder.held(hold))
        if hold is None or directory.entry is not None or directory.standing is None:
            return directory
        return self.root_of(hold.stand(directory.standing))

    def is_lasting(self, directory: Node, found: Node | None = None) -> bool:
        """Whether what a name of `directory` was found to mean, or that it means nothing, may be kept for good."""
        if directory.folder is not None:
            return directory.folder.is_lasting(found)
        return self.is_fixed or directory.entry is not None

    def folder(self, word: str) -> Folder:
        """The folder of that word, also when there is nothing in it any more. Raises `KeyError`."""
        root = self._root if isinstance(self._root, Folder) else self._snapshots
        if root is None:
            raise KeyError(word)
        return root.find(word)

    @staticmethod
    def root_of(standing: Standing) -> Node:
        """The root as it stands, or stood, there."""
        return Node(
            EntryKind.DIRECTORY,
            ROOT_INODE,
            DIRECTORY_MODE,
            0,
            standing.time_ns,
            standing.digest,
            None,
            standing.tree,
            standing,
        )

    def lookup(self, directory: Node, name: str) -> Node | None:
        """The node called `name` in `directory`, or None."""
        if directory.folder is not None:
            return directory.folder.lookup(directory, name)
        entry = self._trees.lookup(_tree_of(directory), name)
        if entry is not None:
            return self.child(directory, entry)
        if name == SNAPSHOTS and directory.entry is None and self._snapshots is not None:
            return folder_in(directory, name, self._snapshots)
        return None

    def listing(self, directory: Node) -> Listing:
        """What is in `directory`, pinned."""
        if directory.folder is not None:
            return Listing(iter(directory.folder.lines(directory)))
        return Listing(self._trees.entries(_tree_of(directory)))

    @staticmethod
    def child(directory: Node, entry: Entry | Line) -> Node:
        """The node of an entry of `directory`."""
        if isinstance(entry, Line):
            return entry.node
        inode = inode_of_directory(directory.inode, entry.name, entry.digest) if entry.kind is _DIRECTORY else 0
        return View.again(entry, inode, directory.standing)

    @staticmethod
    def again(entry: Entry, inode: int, standing: Standing | None) -> Node:
        """The node of an entry that was looked up before; `inode` only of a directory, whose place it tells."""
        kind = entry.kind
        tree, size, mode = None, entry.size_bytes, mode_of(entry)
        if kind is _DIRECTORY:
            size = 0
            tree = TreeId(entry.object) if entry.object is not None else None
        else:
            inode = inode_of_content(entry.digest, mode, entry.first_stored_ns)
        return Node(kind, inode, mode, size, entry.first_stored_ns, entry.digest, entry, tree, standing)

    def open(self, node: Node) -> Reader:
        """A reader of a file's bytes; the caller closes it."""
        if node.entry is None or node.kind is not EntryKind.FILE:
            raise IsADirectoryError(errno.EISDIR, "only files are opened")
        return self._open_file(node.entry)

    @staticmethod
    def xattrs(node: Node, standing: Standing | None) -> dict[str, bytes]:
        """The extended attributes of `node` as of `standing`. A symlink has none: Linux would not let them be read."""
        if node.folder is not None or node.kind is EntryKind.SYMLINK:
            return {}
        found = {XATTR_BLAKE3: node.digest.hex().encode()}
        if node.is_directory:
            found[XATTR_TREE] = found[XATTR_BLAKE3]
        if standing is not None:
            found[XATTR_SNAPSHOT] = standing.snapshot.hex().encode()
            if standing.branch:
                found[XATTR_BRANCH] = standing.branch.encode("utf-8")
        return found

    def size_bytes(self) -> int:
        """How large what was shown last is; 0 where that is everything. Waits for nothing: who asks is often a
        program that looks at all mounts there are."""
        return 0 if isinstance(self._root, Folder) else self._root.last().size_bytes


def folder_node(folder: Folder, inode: int) -> Node:
    """The node of a folder."""
    return Node(EntryKind.DIRECTORY, inode, DIRECTORY_MODE, 0, 0, _OF_FOLDERS, None, None, None, folder)


def folder_in(here: Node, name: str, folder: Folder) -> Node:
    """The node of a folder that is called `name` in the folder of `here`."""
    return folder_node(folder, inode_of_directory(here.inode, name, _OF_FOLDERS))


def no_xattr(name: str) -> int:
    """The errno for an extended attribute that a node does not have.

    Of labels, capabilities and access lists there are none here at all: `ls -l`, which asks for two of them for each
    file, takes ENOTSUP for an answer about the whole file system and asks once.
    """
    return errno.ENODATA if name.startswith("user.") else errno.ENOTSUP


def target_of(node: Node) -> bytes:
    """Where a symlink points."""
    return b"" if node.entry is None else node.entry.target.encode("utf-8")


def _tree_of(directory: Node) -> TreeId:
    if directory.tree is None:
        raise NotADirectoryError(errno.ENOTDIR, "only directories have names in them")
    return directory.tree
