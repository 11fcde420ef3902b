"""Whose do the files of a mount seem to be, and who may read them?

Trees know no owners and of the mode only whether a file is a program, so that is said of a mount as a whole: a user, a
group, and what is taken away from 0444, 0555 (programs) and 0555 (directories). The kernel checks these modes itself
(`default_permissions`).
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from typing import NamedTuple

from moorage.errors import InvalidInputError

MAX_ID = (1 << 32) - 2
"""The one above it means no id at all."""
_UMASK = re.compile(r"(0o)?[0-7]{1,4}")


class Owner(NamedTuple):
    """What all files and directories of a mount have in common."""

    uid: int
    gid: int
    umask: int = 0
    """Bits that no mode has; at most 0o777."""

    @classmethod
    def of(cls, uid: int | None, gid: int | None, umask: int | None) -> Owner:
        """With what is None taken from this process, and nothing masked."""
        return cls(os.getuid() if uid is None else uid, os.getgid() if gid is None else gid, umask or 0)

    def shown(self, mode: int) -> int:
        """A mode as this mount shows it."""
        return mode & ~self.umask


def user_id(text: str) -> int:
    """A user's number, by number or name. Raises `InvalidInputError`."""
    if text.isdecimal():
        return _checked(text, "user")
    try:
        return pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError) as error:
        raise InvalidInputError(f"there is no user {text!r}", hint="give a name or a number") from error


def group_id(text: str) -> int:
    """A group's number, by number or name. Raises `InvalidInputError`."""
    if text.isdecimal():
        return _checked(text, "group")
    try:
        return grp.getgrnam(text).gr_gid
    except (KeyError, ValueError) as error:
        raise InvalidInputError(f"there is no group {text!r}", hint="give a name or a number") from error


def _checked(text: str, what: str) -> int:
    number = int(text)
    if number > MAX_ID:
        raise InvalidInputError(f"{text} is too large for the number of a {what}", hint=f"at most {MAX_ID}")
    return number


def umask_of(text: str) -> int:
    """A umask, in octal. Raises `InvalidInputError`."""
    if not _UMASK.fullmatch(text) or int(text, 8) > 0o777:
        raise InvalidInputError(
            f"{text!r} is not a umask", hint="octal, at most 0777; 027 lets the group read and others nothing"
        )
    return int(text, 8)
