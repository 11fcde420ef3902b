"""How does a process get mounts of its own, that nobody else sees and that end with it?

A mount namespace is a private table of mounts: what is mounted there is seen by the process and its children alone, and
is gone with the last of them, however that ends. Who may mount enters one by `unshare(CLONE_NEWNS)`; an ordinary user,
where the kernel lets him, together with a user namespace in which he may, under his own user and group id. What he runs
there has no more rights than before, and a little less: other users' files look as if they were of `nobody`, and
setuid programs stay without effect.

Nothing that is mounted inside leaks out. What is mounted or unmounted outside still comes in (MS_SLAVE): in a wholly
private copy an automounter could not answer, and a disk unmounted outside would be held for good.

Whether a user namespace can be entered *and* mounted in is found by a child that tries: some systems allow the first
and then refuse all mounts, and there is no way back out.

Source: unshare(2), user_namespaces(7), mount_namespaces(7), capabilities(7).

Threads: only a process of one thread may enter a user namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_REC = 0x4000
_MS_SLAVE = 0x80000
_CAP_SYS_ADMIN = 21
_CAPABILITY_VERSION = 0x20080522
_PR_CAP_AMBIENT, _IS_SET, _RAISE, _LOWER = 47, 1, 2, 3


def enter() -> bool:
    """Move this process into a mount namespace of its own; False where that is not allowed, and then nothing has
    changed."""
    try:
        _unshare(_CLONE_NEWNS)
        _receive_only()
    except OSError:
        return _user_namespace_works() and _enter_as_user()
    return True


@contextlib.contextmanager
def may_mount() -> Iterator[None]:
    """What is executed meanwhile may mount in this namespace too; an ordinary user's programs otherwise may not, since
    executing gives up what he gained by entering. Root's may anyway."""
    if _ambient(_IS_SET) == 1:
        yield
        return
    before = _capabilities()
    effective, permitted, inheritable, *high = before
    with contextlib.suppress(OSError):
        _set_capabilities((effective, permitted, inheritable | 1 << _CAP_SYS_ADMIN, *high))
        _check(_ambient(_RAISE))
    try:
        yield
    finally:
        _ambient(_LOWER)
        _set_capabilities(before)


def _ambient(what: int) -> int:
    """What survives executing, of the right to mount."""
    return int(_libc().prctl(_PR_CAP_AMBIENT, what, _CAP_SYS_ADMIN, 0, 0))


def _capabilities() -> tuple[int, ...]:
    """The effective, permitted and inheritable ones, 32 of each; then the same of the next 32."""
    data = ctypes.create_string_buffer(24)
    _check(_libc().capget(struct.pack("<Ii", _CAPABILITY_VERSION, 0), data))
    return struct.unpack("<6I", data.raw)


def _set_capabilities(capabilities: tuple[int, ...]) -> None:
    _check(_libc().capset(struct.pack("<Ii", _CAPABILITY_VERSION, 0), struct.pack("<6I", *capabilities)))


def _enter_as_user() -> bool:
    try:
        _become_user()
    except OSError:
        return False  # the child could: somebody has changed a limit in between
    return True


def _user_namespace_works() -> bool:
    child = os.fork()
    if child == 0:
        try:
            _become_user()
        except BaseException:  # noqa: BLE001 - this is a process of its own, which must not go on from here
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _become_user() -> None:
    user, group = os.getuid(), os.getgid()
    _unshare(_CLONE_NEWUSER | _CLONE_NEWNS)
    # A group may be mapped by an ordinary user only after he has given up changing groups.
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    _receive_only()


def _receive_only() -> None:
    _check(_libc().mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_SLAVE), None))


def _unshare(flags: int) -> None:
    _check(_libc().unshare(flags))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
