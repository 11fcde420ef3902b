"""What does somebody want mounted where?

A value that passes from the command to the processes behind a mount, as JSON. It imports next to nothing, since one of
these processes is small on purpose (see `supervisor`).
"""

from __future__ import annotations

from dataclasses import dataclass

from moorage.errors import InvalidInputError
from moorage.mount.host.owner import MAX_ID
from moorage.mount.journal.log_format import formatter

EVERYTHING = "--all"
"""What stands for a revision in a mount of everything; no ref can be called so."""
KERNEL, LIBFUSE = DRIVERS = ("kernel", "libfuse")

DEFAULT_TIMEOUT_S = 30.0
SHORTEST_TIMEOUT_S, LONGEST_TIMEOUT_S = 1.0, 86_400.0

_FLAGS = ("pin", "allow_other", "log_opens", "sticky")
_TEXTS = ("revision", "driver", "log_format", "metrics")
_NUMBERS = {
    # option: (at most, hint)
    "uid": (MAX_ID, "pwd.getpwnam(name).pw_uid is the number of a user"),
    "gid": (MAX_ID, "grp.getgrnam(name).gr_gid is the number of a group"),
    "umask": (0o777, "0o027 lets the group read and others nothing"),
    "cache_bytes": (1 << 63, "in bytes, such as 50 << 30; 0 hydrates nothing"),
}


@dataclass(frozen=True, slots=True)
class MountRequest:
    """What somebody wants mounted where."""

    repository: str
    """An absolute path."""
    revision: str
    """`EVERYTHING` shows all branches, tags and snapshots."""
    mountpoint: str
    """An absolute path; may lead through symlinks."""
    pin: bool = False
    """Stay on the snapshot at which the branch stands now."""
    allow_other: bool = False
    uid: int | None = None
    """Whose everything seems to be; None is whoever serves it."""
    gid: int | None = None
    umask: int | None = None
    """Bits that no mode has; None takes none away."""
    driver: str = "kernel"
    log: str = ""
    """Empty when it logs to its terminal."""
    log_format: str = "text"
    """One of `log_format.FORMATS`."""
    cache_bytes: int | None = None
    """How large the file cache may be; 0 hydrates nothing, None is the default of `FileCache`."""
    log_opens: bool = False
    """Write down who opens what (`places.opens_file`)."""
    sticky: bool = False
    """Show each process one snapshot for as long as it reads (see the module of that name)."""
    timeout_s: float | None = None
    """Within which every request is answered; None is `DEFAULT_TIMEOUT_S`. The libfuse driver has none."""
    metrics: str = ""
    """Where numbers are put out: `ADDRESS:PORT` of this machine, or an absolute path of a file; empty for nowhere."""
    program: int = -1
    """An inherited descriptor of the process that the mount is for, and with which it ends; -1 where it is for all."""
    is_temporary: bool = False
    """Whether the mountpoint is removed when the mount is over."""
    covers: bool = False
    """Whether it may lie over a mount of ours: where one program alone sees it."""

    @property
    def is_everything(self) -> bool:
        """Whether not one revision but all there is are shown."""
        return self.revision == EVERYTHING

    @property
    def programs(self) -> list[int]:
        """What each process behind the mount must inherit."""
        return [self.program] if self.program >= 0 else []

    def __post_init__(self) -> None:
        """Refuse what is of another type or too large, does not exist, or contradicts itself: here it is an error of
        who asks, in the server it would be one of each reader."""
        self._check_types()
        if self.is_everything and self.pin:
            raise InvalidInputError(
                "a mount of everything cannot be pinned", hint="mount one branch with --pin, or read below snapshots/"
            )
        if self.sticky and self.pin:
            raise InvalidInputError("--sticky and --pin exclude each other: what is pinned never moves")
        if self.driver not in DRIVERS:
            raise InvalidInputError(f"there is no driver {self.driver!r}", hint=f"one of: {', '.join(DRIVERS)}")
        if self.driver == LIBFUSE:
            self._check_libfuse()
        if self.timeout_s is not None and not SHORTEST_TIMEOUT_S <= self.timeout_s <= LONGEST_TIMEOUT_S:
            raise InvalidInputError(
                f"a timeout of {self.timeout_s:g} s is not between {SHORTEST_TIMEOUT_S:g} s and a day",
                hint=f"unasked it is {DEFAULT_TIMEOUT_S:g} s",
            )
        formatter(self.log_format)

    def _check_types(self) -> None:
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise InvalidInputError(f"{name} is neither True nor False: {getattr(self, name)!r}")
        for name in _TEXTS:
            check_text(name, getattr(self, name))
        for name, (most, hint) in _NUMBERS.items():
            number = getattr(self, name)
            if number is None:
                continue
            if not isinstance(number, int) or isinstance(number, bool):
                raise InvalidInputError(f"{name} is not a number: {number!r}", hint=hint)
            if not 0 <= number <= most:
                raise InvalidInputError(
                    f"{name} is not between 0 and {_shown(name, most)}: {_shown(name, number)}", hint=hint
                )
        seconds: object = self.timeout_s
        if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float)):
            raise InvalidInputError(f"timeout_s is not a number: {seconds!r}", hint="in seconds, such as 2.5")

    def _check_libfuse(self) -> None:
        for is_asked, option, why in (
            (self.sticky, "--sticky", "libfuse has one snapshot for all"),
            (self.metrics, "--metrics", "libfuse does not count"),
            (self.timeout_s is not None, "--timeout", "libfuse waits for as long as it takes"),
        ):
            if is_asked:
                raise InvalidInputError(f"{option} needs the kernel driver", hint=why)


def check_text(name: str, value: object) -> None:
    """Raises `InvalidInputError` for an option that should be a string and is none."""
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} is not a string: {value!r}")


def _shown(name: str, number: int) -> str:
    return oct(number) if name == "umask" else str(number)
