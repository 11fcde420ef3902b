"""How does what a nodeid stands for lie in memory?

As bytes, since a kernel remembers hundreds of thousands of names, and asks about few of them: a node, its entry, its
name, its digest and what else Python makes of them are five times as large. A node is made of the bytes when somebody
asks for it. A ledger writes down the same bytes, so a new server takes them as they are.

    offset size field
    0      1    kind (0 for a folder), 4 where it is executable, 8 where it was found by way of a branch
    1      32   digest
    33     8    when it was first stored
    41     8    size
    49     1    1 where an object id follows, 2 where it was looked up in more than one snapshot
    50     4    number of the standing at which it was last looked up, 0 for none
    54     8    nodeid of the directory in which it was last looked up
    62     32   object id, where there is one
           8    inode, of a directory or a folder: that of its place, which may be forgotten
                name by which it was last looked up, UTF-8
                a NUL and the target of a symlink, or the word of a folder

What a file or symlink *is* are the first 49 bytes (its `key_of`), with the whole digest. It is the whole key that is
compared, never a part or a hash of it.

Threads: pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct
from typing import NamedTuple

from moorage.model.digest import DIGEST_BYTES, ContentDigest, RecipeId, TreeId
from moorage.model.tree import Entry, EntryKind
from moorage.mount.shown.following import Standing
from moorage.mount.shown.view import Folder, Node, View, folder_node

NOWHERE = 0
"""In the place of a standing's number: in no snapshot."""
_HEAD = Struct("<B32sQQBIQ")
_STANDING = Struct("<I")
_PARENT = Struct("<Q")
_INODE = Struct("<Q")
_IDENTITY_BYTES, _FLAGS_AT, _STANDING_AT, _PARENT_AT = 49, 49, 50, 54
_KIND, _EXECUTABLE, _OF_BRANCH = 3, 4, 8
_HAS_OBJECT, _SHARED = 1, 2
_KINDS = {int(kind): kind for kind in EntryKind}
_FOLDER, _FILE, _DIRECTORY, _SYMLINK = 0, *map(int, EntryKind)


class Slot(NamedTuple):
    """What one nodeid stands for."""

    nodeid: int
    parent: int
    """Nodeid of the directory in which it was last looked up."""
    name: str
    """By which it was last looked up."""
    node: Node
    """As it was last looked up: same content, but perhaps in a newer snapshot, or by a newer recipe."""
    is_shared: bool
    """Whether it was looked up in more than one snapshot: nothing special where a branch is followed."""


def packed(parent: int, name: str, node: Node, standing: int) -> bytes:
    """What is remembered of `node`, found as `name` in `parent` at the standing of that number."""
    entry = node.entry
    if entry is None:
        word = "" if node.folder is None else node.folder.word
        head = _HEAD.pack(_FOLDER, node.digest, node.time_ns, 0, 0, standing, parent)
        return head + _INODE.pack(node.inode) + f"{name}\0{word}".encode()
    is_of_branch = is_of_a_branch(node.standing)
    middle = _INODE.pack(node.inode) if node.is_directory else b""
    return packed_entry(entry, name.encode(), middle, standing, parent, is_of_branch=is_of_branch)


def is_of_a_branch(standing: Standing | None) -> bool:
    """Whether what is found there was found by way of a branch. It is told from what was found in a named snapshot:
    only so can both say in which snapshot they are."""
    return standing is not None and standing.branch != ""


def packed_entry(
    entry: Entry, raw_name: bytes, inode: bytes, standing: int, parent: int, *, is_of_branch: bool
) -> bytes:
    """The same of an entry; `inode` is packed, and empty for what is no directory."""
    code = entry.kind | (_OF_BRANCH if is_of_branch else 0)
    if entry.executable:
        code |= _EXECUTABLE
    flags, tail = 0, inode + raw_name
    if entry.object is not None:
        flags, tail = _HAS_OBJECT, entry.object + tail
    if entry.target:
        tail += b"\0" + entry.target.encode()
    return _HEAD.pack(code, entry.digest, entry.first_stored_ns, entry.size_bytes, flags, standing, parent) + tail


def packed_entries(
    entries: Iterable[Entry],
    raw_names: Iterable[bytes],
    inodes: Iterable[int],
    standing: int,
    parent: int,
    *,
    is_of_branch: bool,
) -> list[bytes]:
    """The same of entries of one directory. A first walk over a tree is thousands of these, most of them plain."""
    pack, plain = _HEAD.pack, _FILE | (_OF_BRANCH if is_of_branch else 0)
    places = []
    for entry, raw_name, inode in zip(entries, raw_names, inodes, strict=True):
        if entry.kind is EntryKind.FILE and entry.object is None and not entry.executable:
            head = pack(plain, entry.digest, entry.first_stored_ns, entry.size_bytes, 0, standing, parent)
            places.append(head + raw_name)
        else:
            middle = _INODE.pack(inode) if entry.kind is EntryKind.DIRECTORY else b""
            places.append(packed_entry(entry, raw_name, middle, standing, parent, is_of_branch=is_of_branch))
    return places


def key_of(place: bytes) -> bytes:
    """What tells one slot from another: of a directory its parent, its name and its digest."""
    if place[0] & 1:  # a file or a symlink: asked for each name of a first walk
        return place[:_IDENTITY_BYTES]
    name, _, _ = place[_name_at(place) :].partition(b"\0")
    return bytes((place[0] & _KIND,)) + place[1 : 1 + DIGEST_BYTES] + place[_PARENT_AT : _HEAD.size] + name


def again(old: bytes, new: bytes) -> bytes:
    """What is remembered when a slot is looked up again as `new`."""
    flags = old[_FLAGS_AT] & _SHARED
    if old[_STANDING_AT:_PARENT_AT] != new[_STANDING_AT:_PARENT_AT]:
        flags = _SHARED
    if not flags:
        return new
    return new[:_FLAGS_AT] + bytes((new[_FLAGS_AT] | flags,)) + new[_STANDING_AT:]


def standing_of(place: bytes) -> int:
    """The number of the standing at which it was last looked up."""
    number: int = _STANDING.unpack_from(place, _STANDING_AT)[0]
    return number


def parent_of(place: bytes) -> int:
    """The nodeid of the directory in which it was last looked up."""
    nodeid: int = _PARENT.unpack_from(place, _PARENT_AT)[0]
    return nodeid


def name_of(place: bytes) -> str:
    """The name by which it was last looked up."""
    return place[_name_at(place) :].partition(b"\0")[0].decode()


def slot_of(nodeid: int, place: bytes, standing: Standing | None, folder: Callable[[str], Folder]) -> Slot:
    """What `place` says; `folder` finds one by its word."""
    code, digest, time_ns, size_bytes, flags, _, parent = _HEAD.unpack_from(place)
    at = _name_at(place)
    name, _, rest = place[at:].decode().partition("\0")
    kind, is_shared = code & _KIND, bool(flags & _SHARED)
    inode = _INODE.unpack_from(place, at - _INODE.size)[0] if kind in (_FOLDER, _DIRECTORY) else 0
    if kind == _FOLDER:
        return Slot(nodeid, parent, name, folder_node(folder(rest), inode), is_shared)
    id: TreeId | RecipeId | None = None
    if flags & _HAS_OBJECT:
        raw = place[_HEAD.size : _HEAD.size + DIGEST_BYTES]
        id = TreeId(raw) if kind == _DIRECTORY else RecipeId(raw)
    is_executable = bool(code & _EXECUTABLE)
    entry = Entry(name, _KINDS[kind], ContentDigest(digest), id, size_bytes, time_ns, is_executable, rest)
    return Slot(nodeid, parent, name, View.again(entry, inode, standing), is_shared)


def _name_at(place: bytes) -> int:
    at = _HEAD.size
    if place[_FLAGS_AT] & _HAS_OBJECT:
        at += DIGEST_BYTES
    return at + _INODE.size if place[0] & _KIND in (_FOLDER, _DIRECTORY) else at
