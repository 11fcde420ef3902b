"""Does a view of everything show each ref where it stands, each snapshot as it was, and nothing that is not there?"""

from __future__ import annotations

import os
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import InvalidInputError, StorageError
from moorage.model.digest import SnapshotId
from moorage.model.names import check_ref_name
from moorage.model.refs import RefAction, RefKind
from moorage.model.tree import EntryKind
from moorage.mount.host.owner import Owner
from moorage.mount.kernel import wire
from moorage.mount.kernel.operations import Operations
from moorage.mount.kernel.unthinking import Reply
from moorage.mount.kernel.wire import FOREVER_S, Opcode, OpenFlag
from moorage.mount.shown.inodes import ROOT, InodeTable
from moorage.mount.shown.view import XATTR_BLAKE3, XATTR_SNAPSHOT, XATTR_TREE, Node, View, target_of
from tests.mount.fakes import FakeRepository, branch

SECOND_NS = 1_000_000_000
NOON_NS = 1_788_264_000 * SECOND_NS  # 2026-09-01T12:00:00Z


def find(view: View, path: str) -> Node | None:
    """What is at a path; a symlink in the middle is followed, one at the end is not."""
    node, names, at = view.root(), path.split("/"), ""
    for position, name in enumerate(names):
        found = view.lookup(node, name)
        if found is None:
            return None
        at = f"{at}/{name}"
        if found.kind is EntryKind.SYMLINK and position < len(names) - 1:
            at = os.path.normpath(f"{os.path.dirname(at)}/{target_of(found).decode()}")
            target = find(view, at.strip("/"))
            assert target is not None
            found = target
        node = found
    return node


def there(view: View, path: str) -> Node:
    node = find(view, path)
    assert node is not None, path
    return node


def names_in(view: View, path: str = "") -> list[str]:
    node = there(view, path) if path else view.root()
    return [line.name for line in view.listing(node).window(0, 10_000)]


def snapshot_of(view: View, path: str) -> SnapshotId:
    """Where a symlink leads, by what a program would do: take its target from where it lies."""
    node = there(view, path)
    assert node.kind is EntryKind.SYMLINK
    end = os.path.normpath(f"/{os.path.dirname(path)}/{target_of(node).decode()}")
    top, folder, id = end.split("/")
    assert (top, folder) == ("", "snapshots")
    return SnapshotId.parse(id)


@pytest.fixture
def repository() -> FakeRepository:
    return FakeRepository()


def test_the_first_level(repository: FakeRepository) -> None:
    view = repository.whole_view()
    assert names_in(view) == ["at", "branches", "snapshots", "tags"]
    assert [names_in(view, name) for name in names_in(view)] == [[], [], [], []]
    assert find(view, "others") is None
    assert view.size_bytes() == 0


def test_branches_and_tags_lead_to_snapshots(repository: FakeRepository) -> None:
    one = repository.set("prod", {"f": b"1"})
    two = repository.set("experiment/v2/x", {"f": b"2"})
    repository.record("v1", RefAction.SET, one, kind=RefKind.TAG)
    view = repository.whole_view()
    assert names_in(view, "branches") == ["experiment", "prod"]
    assert names_in(view, "branches/experiment") == ["v2"]
    assert snapshot_of(view, "branches/prod") == snapshot_of(view, "tags/v1") == one
    assert snapshot_of(view, "branches/experiment/v2/x") == two
    assert target_of(there(view, "branches/experiment/v2/x")) == f"../../../snapshots/{two.hex()}".encode()
    assert there(view, "branches/prod/f").digest == there(view, f"snapshots/{one.hex()}/f").digest
    assert find(view, "branches/v1") is None
    assert find(view, "branches/experiment/v2/y") is None


def test_a_branch_stays_what_it_is_when_another_is_made_below_it(repository: FakeRepository) -> None:
    one = repository.set("prod", {"f": b"1"})
    view = repository.whole_view()
    assert snapshot_of(view, "branches/prod") == one
    two = repository.set("prod/hot", {"f": b"2"})
    three = repository.set("prod/hot/now", {"f": b"3"})
    assert snapshot_of(view, "branches/prod") == one
    assert names_in(view, "branches") == ["prod", "prod~"]
    assert names_in(view, "branches/prod~") == ["hot", "hot~"]
    assert snapshot_of(view, "branches/prod~/hot") == two
    assert snapshot_of(view, "branches/prod~/hot~/now") == three
    assert names_in(view, "at") == ["prod", "prod~"]
    repository.record("prod", RefAction.DELETE, one)
    assert names_in(view, "branches") == ["prod"]
    assert snapshot_of(view, "branches/prod/hot") == snapshot_of(view, "branches/prod~/hot") == two


def test_a_move_makes_a_new_symlink_and_leaves_the_snapshot_alone(repository: FakeRepository) -> None:
    one = repository.set("prod", {"f": b"1"})
    view = repository.whole_view()
    link, root = there(view, "branches/prod"), there(view, f"snapshots/{one.hex()}")
    repository.set("prod", {"f": b"2"})
    moved = there(view, "branches/prod")
    assert moved.identity != link.identity
    assert moved.inode != link.inode
    assert there(view, f"snapshots/{one.hex()}") == root
    repository.record("prod", RefAction.SET, one)
    assert target_of(there(view, "branches/prod")) == target_of(link)


def test_deleted_and_renamed_branches(repository: FakeRepository) -> None:
    one = repository.set("prod", {"f": b"1"})
    two = repository.set("team/next", {"f": b"2"})
    view = repository.whole_view()
    assert names_in(view, "branches") == ["prod", "team"]
    repository.rename("prod", "old/prod")
    repository.record("team/next", RefAction.DELETE, two)
    assert names_in(view, "branches") == ["old"]
    assert find(view, "branches/prod") is find(view, "branches/team") is find(view, "branches/team/next") is None
    assert snapshot_of(view, "branches/old/prod") == one
    assert find(view, f"snapshots/{two.hex()}/f") is not None


def test_snapshots_by_id_by_prefix_and_in_the_listing(repository: FakeRepository) -> None:
    before = repository.set("prod", {"f": b"1"})
    head = repository.set("prod", {"f": b"2"})
    repository.record("v1", RefAction.SET, head, kind=RefKind.TAG)
    view = repository.whole_view()
    assert names_in(view, "snapshots") == [head.hex()]
    assert there(view, f"snapshots/{before.hex()}").is_directory
    assert snapshot_of(view, f"snapshots/{before.hex()[:8]}") == before
    for name in (before.hex()[:3], before.hex().upper(), "f" * 64, "zzzz", before.hex() + "0", "."):
        assert find(view, f"snapshots/{name}") is None, name


def test_a_prefix_that_two_have_is_none(repository: FakeRepository) -> None:
    id = repository.set("prod", {"f": b"1"})
    twin = SnapshotId(id[:4] + bytes(28))
    repository.snapshots[twin] = repository.snapshots[id]
    view = repository.whole_view()
    assert find(view, f"snapshots/{id.hex()[:8]}") is None
    assert snapshot_of(view, f"snapshots/{id.hex()[:12]}") == id


def test_where_a_branch_stood(repository: FakeRepository) -> None:
    one, two = repository.store({"f": b"1"}), repository.store({"f": b"2"})
    repository.record("team/prod", RefAction.SET, one, time_ns=NOON_NS)
    repository.record("team/prod", RefAction.SET, two, time_ns=NOON_NS + 60 * SECOND_NS + 5_000)
    view = repository.whole_view()
    assert names_in(view, "at") == ["team"]
    assert names_in(view, "at/team") == ["prod"]
    listed = names_in(view, "at/team/prod")
    assert listed == ["2026-09-01T12:00:00.000000Z", "2026-09-01T12:01:00.000005Z"]
    assert [snapshot_of(view, f"at/team/prod/{name}") for name in listed] == [one, two]
    assert snapshot_of(view, "at/team/prod/2026-09-01T12:00:30Z") == one
    assert snapshot_of(view, "at/team/prod/2026-09-01T14:01:30+02:00") == two
    assert snapshot_of(view, "at/team/prod/2026-09-01 12:00:30+00:00") == one, "a blank is as good as a T"
    assert snapshot_of(view, "at/team/prod/2099-01-01") == two
    assert snapshot_of(view, "at/team/prod/1") == one
    for name in ("2026-09-01T11:59Z", "yesterday", "2", "2026-99-01", "0}~1", "-", ":", "1" * 5000):
        assert find(view, f"at/team/prod/{name}") is None, name
    repository.record("team/prod", RefAction.DELETE, two, time_ns=NOON_NS + 90 * SECOND_NS)
    assert names_in(view, "at") == []
    assert find(view, "at/team/prod") is None


def test_a_directory_of_times_that_is_held_open_after_its_branch_died(repository: FakeRepository) -> None:
    id = repository.set("prod", {"f": b"1"})
    view = repository.whole_view()
    held = there(view, "at/prod")
    repository.record("prod", RefAction.DELETE, id)
    assert view.listing(held).window(0, 10) == []
    assert view.lookup(held, "0") is None


def test_attributes_of_folders_snapshots_and_files(repository: FakeRepository) -> None:
    id = repository.set("prod", {"d": {"f": b"1"}})
    view = repository.whole_view()
    branches, root, file = (there(view, path) for path in ("branches", f"snapshots/{id.hex()}", "branches/prod/d/f"))
    assert view.xattrs(branches, branches.standing) == {}
    assert view.xattrs(root, root.standing) == {
        XATTR_BLAKE3: root.digest.hex().encode(),
        XATTR_TREE: root.digest.hex().encode(),
        XATTR_SNAPSHOT: id.hex().encode(),
    }
    assert view.xattrs(file, file.standing)[XATTR_SNAPSHOT] == id.hex().encode()
    with pytest.raises(IsADirectoryError):
        view.open(branches)


def test_one_probe_once_a_branch_is_known_and_its_last_place_when_refs_are_gone(
    repository: FakeRepository, caplog: pytest.LogCaptureFixture
) -> None:
    id = repository.set("prod", {"f": b"1"})
    view = repository.whole_view()
    assert snapshot_of(view, "branches/prod") == id
    repository.is_unreachable = True
    assert [snapshot_of(view, "branches/prod") for _ in range(3)] == [id] * 3
    assert caplog.text.count("shown where it stood") == 1
    with pytest.raises(StorageError):
        find(view, "branches/never-seen")
    repository.is_unreachable = False
    probes = repository.probes
    find(view, "branches/prod")
    assert repository.probes == probes + 1


# -- any names ---------------------------------------------------------------------------------------


def _is_name(text: str) -> bool:
    try:
        check_ref_name(text)
    except InvalidInputError:
        return False
    return True


PARTS = st.sampled_from(["a", "b", "@", "refs", "ä", "x y", "..."]) | st.text(max_size=4)
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join).filter(_is_name)


def path_of(name: str, names: set[str]) -> str:
    """Where a branch is to be found, said another way: each part that is itself a branch ends in `~`."""
    parts = name.split("/")
    marked = [part + "~" * ("/".join(parts[: n + 1]) in names) for n, part in enumerate(parts[:-1])]
    return "/".join([*marked, parts[-1]])


def walk(view: View, path: str) -> dict[str, SnapshotId]:
    found: dict[str, SnapshotId] = {}
    for name in names_in(view, path):
        below = f"{path}/{name}"
        if there(view, below).kind is EntryKind.SYMLINK:
            found[below] = snapshot_of(view, below)
        else:
            found.update(walk(view, below))
    return found


@given(names=st.sets(NAMES, max_size=8), dead=st.sets(NAMES, max_size=3))
def test_every_living_branch_is_listed_once_and_found_where_it_is_listed(names: set[str], dead: set[str]) -> None:
    repository, numbers = FakeRepository(), count()
    heads = {name: repository.set(name, {"f": b"%d" % next(numbers)}) for name in sorted(names | dead)}
    for name in dead:
        repository.record(name, RefAction.DELETE, heads[name])
    living = names - dead
    view = repository.whole_view()
    assert walk(view, "branches") == {f"branches/{path_of(name, living)}": heads[name] for name in living}
    assert sorted(names_in(view, "snapshots")) == sorted(heads[name].hex() for name in living)
    for name in living:
        assert names_in(view, f"at/{path_of(name, living)}") != []


# -- what the kernel is told --------------------------------------------------------------------------


def test_how_long_the_kernel_may_keep_names_and_listings(repository: FakeRepository) -> None:
    id = repository.set("team/prod", {"d": {"f": b"1"}})
    view = repository.whole_view()
    operations = Operations(view, InodeTable(view.folder), Owner(0, 0))

    def ask(opcode: Opcode, nodeid: int, body: bytes) -> Reply:
        request = wire.HEADER_IN.pack(wire.BODY + len(body), opcode, 1, nodeid, 0, 0, 0, 0, 0) + body
        return operations.handlers[opcode](nodeid, request, len(request))

    def lifetimes(path: str) -> list[int]:
        nodeid, found = ROOT, []
        for name in path.split("/"):
            reply = ask(Opcode.LOOKUP, nodeid, name.encode() + b"\0")
            assert isinstance(reply, bytes)
            nodeid, _, valid_s, attributes_valid_s, *_ = wire.ENTRY_HEAD.unpack_from(reply)
            assert attributes_valid_s == FOREVER_S
            found.append(valid_s)
        return found

    def listing_flags(*names: str) -> int:
        nodeid = ROOT
        for name in names:
            reply = ask(Opcode.LOOKUP, nodeid, name.encode() + b"\0")
            assert isinstance(reply, bytes)
            nodeid = wire.ENTRY_HEAD.unpack_from(reply)[0]
        opened = ask(Opcode.OPENDIR, nodeid, wire.OPEN_IN.pack(0, 0))
        assert isinstance(opened, bytes)
        return int(wire.OPEN_OUT.unpack(opened)[1])

    assert lifetimes("branches/team/prod") == [FOREVER_S, 0, 0]
    assert lifetimes(f"snapshots/{id.hex()}/d/f") == [FOREVER_S] * 4
    assert lifetimes(f"snapshots/{id.hex()[:8]}") == [FOREVER_S, 0]
    assert lifetimes("at/team/prod/0") == [FOREVER_S, 0, 0, 0]
    assert listing_flags() == listing_flags("snapshots", id.hex()) == OpenFlag.CACHE_DIR | OpenFlag.KEEP_CACHE
    assert listing_flags("branches") == listing_flags("snapshots") == listing_flags("at", "team", "prod") == 0


def test_a_file_that_was_found_in_two_snapshots_names_neither(repository: FakeRepository) -> None:
    one = repository.set("prod", {"f": b"same", "g": b"1"})
    two = repository.set("prod", {"f": b"same", "g": b"2"})
    view = repository.whole_view()
    table = InodeTable(view.folder)
    operations = Operations(view, table, Owner(0, 0))

    def remember(id: SnapshotId, name: str) -> int:
        root = there(view, f"snapshots/{id.hex()}")
        parent = table.remember(table.remember(ROOT, "snapshots", there(view, "snapshots")), id.hex(), root)
        node = view.lookup(root, name)
        assert node is not None
        return table.remember(parent, name, node)

    def snapshot(nodeid: int) -> bytes | None:
        return operations._xattrs(nodeid, b"").get(XATTR_SNAPSHOT)

    nodeid = remember(one, "f")
    assert snapshot(nodeid) == one.hex().encode()
    assert remember(two, "f") == nodeid
    assert snapshot(nodeid) is None
    assert snapshot(remember(two, "g")) == two.hex().encode()
    assert branch("prod") in repository.records
