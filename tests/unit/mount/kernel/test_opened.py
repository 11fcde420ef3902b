"""Does a handle mean the same to the server that gave it out and to the next one?"""

from __future__ import annotations

from moorage.mount.kernel.opened import OpenDirectories, OpenDirectory, OpenFiles
from moorage.mount.shown.following import Standing
from moorage.mount.shown.inodes import ROOT, InodeTable
from moorage.mount.shown.view import Node, View
from tests.mount.fakes import Bytes, FakeRepository


class Served:
    """The directories of one server; `next` is another one, with the same table."""

    def __init__(self, view: View, table: InodeTable, moments: dict[int, Standing]) -> None:
        self.view = view
        self.table = table
        self.directories = OpenDirectories(view, table, self.node, moments)

    def node(self, nodeid: int) -> Node:
        slot = self.table.get(nodeid)
        return self.view.root() if slot is None else slot.node

    def walk(self, path: str) -> int:
        nodeid = ROOT
        for name in path.split("/"):
            found = self.view.lookup(self.node(nodeid), name)
            assert found is not None
            nodeid = self.table.remember(nodeid, name, found)
        return nodeid

    def open(self, nodeid: int) -> int:
        return self.directories.enter(nodeid, self.node(nodeid))

    def next(self) -> Served:
        return Served(self.view, self.table, dict(self.directories._moments))


def names(directory: OpenDirectory | None) -> list[str]:
    assert directory is not None
    return [line.name for line in directory.listing.window(0, 100)]


def everything(repository: FakeRepository) -> Served:
    view = repository.whole_view()
    return Served(view, InodeTable(view.folder), {})


def test_each_opening_of_a_folder_is_a_listing_of_its_own() -> None:
    repository = FakeRepository()
    repository.set("prod", {"f": b""})
    served = everything(repository)
    nodeid = served.walk("branches")
    first = served.open(nodeid)
    repository.set("test", {"f": b""})
    second = served.open(nodeid)
    assert first != second
    assert names(served.directories.get(nodeid, first)) == ["prod"]
    assert names(served.directories.get(nodeid, second)) == ["prod", "test"]
    served.directories.leave(nodeid, first)
    served.directories.leave(nodeid, second)
    assert len(served.directories) == 0


def test_to_another_server_the_handle_of_a_folder_is_a_new_listing_and_never_one_of_its_own() -> None:
    repository = FakeRepository()
    repository.set("prod", {"f": b""})
    served = everything(repository)
    nodeid = served.walk("branches")
    old = served.open(nodeid)
    after = served.next()
    assert after.open(nodeid) != old
    assert names(after.directories.get(nodeid, old)) == ["prod"]
    after.directories.leave(nodeid, old)
    assert len(after.directories) == 1


def test_directories_in_a_tree_share_a_listing() -> None:
    repository = FakeRepository()
    id = repository.set("prod", {"d": {"f": b""}})
    served = everything(repository)
    nodeid = served.walk(f"snapshots/{id.hex()}/d")
    handle = served.open(nodeid)
    assert served.open(nodeid) == handle == served.next().open(nodeid)
    assert served.directories.get(nodeid, handle) is served.directories.get(nodeid, handle)
    served.directories.leave(nodeid, handle)
    assert len(served.directories) == 1


def test_the_root_is_shown_as_it_was_when_it_was_opened_by_another_server_too() -> None:
    repository = FakeRepository()
    repository.set("prod", {"old": b""})
    view = repository.view("prod")
    served = Served(view, InodeTable(view.folder), {})
    old = served.open(ROOT)
    repository.set("prod", {"new": b""})
    new = served.open(ROOT)
    for server in (served, served.next()):
        assert names(server.directories.get(ROOT, old)) == ["old"]
        assert names(server.directories.get(ROOT, new)) == ["new"]
        assert server.directories.get(ROOT, 12345) is None


def test_a_file_that_another_server_had_open_is_opened_once_more_for_whoever_reads() -> None:
    opened, closed = [], []

    class Reader(Bytes):
        def close(self) -> None:
            closed.append(self)

    def again(nodeid: int) -> Reader:
        opened.append(nodeid)
        return Reader(b"data")

    files = OpenFiles(again)
    assert files.reader(7).read_at(0, 4) == b"data"
    assert files.reader(7).read_at(0, 4) == b"data"
    assert opened == [7]
    mine = Reader(b"data")
    assert files.enter(7, mine) is not mine  # there is one already
    assert closed == [mine]
    files.leave(7)  # whichever of the two it was, the other one can still read
    assert files.reader(7).read_at(0, 4) == b"data"
    files.leave(7)
    assert len(files) == 0
    files.leave(7)
    files.reader(8)
    files.forget([7, 8])
    assert len(files) == 0
    assert len(closed) == 4
