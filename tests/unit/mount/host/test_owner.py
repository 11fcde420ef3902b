"""Are users, groups and umasks understood as mount(8) understands them, and is everything else refused by name?"""

from __future__ import annotations

import grp
import os
import pwd
import stat

import pytest

from moorage.errors import InvalidInputError
from moorage.mount.host.owner import MAX_ID, Owner, group_id, umask_of, user_id


def test_names_and_numbers() -> None:
    me, my_group = pwd.getpwuid(os.getuid()), grp.getgrgid(os.getgid())
    assert user_id(me.pw_name) == user_id(str(me.pw_uid)) == me.pw_uid
    assert group_id(my_group.gr_name) == group_id(str(my_group.gr_gid)) == my_group.gr_gid
    assert user_id("4000000") == 4_000_000
    assert user_id(str(MAX_ID)) == MAX_ID


@pytest.mark.parametrize("text", ["", "-1", "1.5", "no such one", "nul\0", "0x10", " 1"])
def test_what_is_neither(text: str) -> None:
    with pytest.raises(InvalidInputError, match="there is no user"):
        user_id(text)
    with pytest.raises(InvalidInputError, match="there is no group"):
        group_id(text)


def test_numbers_that_mean_nothing() -> None:
    for parse in (user_id, group_id):
        with pytest.raises(InvalidInputError, match="too large"):
            parse(str(MAX_ID + 1))


@pytest.mark.parametrize(("text", "umask"), [("0", 0), ("022", 0o22), ("27", 0o27), ("0077", 0o77), ("0o777", 0o777)])
def test_a_umask_is_octal(text: str, umask: int) -> None:
    assert umask_of(text) == umask


@pytest.mark.parametrize("text", ["", "8", "1777", "-1", "u=rwx", "0x7", "00000"])
def test_what_is_no_umask(text: str) -> None:
    with pytest.raises(InvalidInputError, match="is not a umask"):
        umask_of(text)


def test_what_is_not_said_is_that_of_the_process() -> None:
    assert Owner.of(None, None, None) == (os.getuid(), os.getgid(), 0)
    assert Owner.of(0, 0, 0) == (0, 0, 0)
    assert Owner.of(5, None, 0o27) == (5, os.getgid(), 0o27)


def test_a_mode_keeps_its_kind() -> None:
    assert Owner(0, 0, 0o777).shown(stat.S_IFDIR | 0o555) == stat.S_IFDIR
    assert Owner(0, 0, 0o022).shown(stat.S_IFREG | 0o444) == stat.S_IFREG | 0o444
    assert Owner(0, 0, 0o027).shown(stat.S_IFREG | 0o555) == stat.S_IFREG | 0o550
