"""What does somebody want mounted where?

A value that passes from the command to the processes behind a mount, as JSON. It imports next to nothing, since one of
these processes is small on purpose (see `supervisor`).
"""

from __future__ import annotations

from dataclasses import dataclass

from moorage.errors import InvalidInputError
from moorage.mount.journal.log_format import formatter

EVERYTHING = "--all"
"""What stands for a revision in a mount of everything; no ref can be called so."""
KERNEL, LIBFUSE = DRIVERS = ("kernel", "libfuse")

DEFAULT_TIMEOUT_S = 30.0
SHORTEST_TIMEOUT_S, LONGEST_TIMEOUT_S = 1.0, 86_400.0


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
    timeout_s: float = DEFAULT_TIMEOUT_S
    """Within which every request is answered."""
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
        """Refuse a driver or a log format that does not exist, and what contradicts itself."""
        if self.is_everything and self.pin:
            raise InvalidInputError(
                "a mount of everything cannot be pinned", hint="mount one branch with --pin, or read below snapshots/"
            )
        if self.sticky and self.pin:
            raise InvalidInputError("--sticky and --pin exclude each other: what is pinned never moves")
        if self.sticky and self.driver == LIBFUSE:
            raise InvalidInputError("--sticky needs the kernel driver", hint="libfuse has one snapshot for all")
        if not SHORTEST_TIMEOUT_S <= self.timeout_s <= LONGEST_TIMEOUT_S:
            raise InvalidInputError(
                f"a timeout of {self.timeout_s:g} s is not between {SHORTEST_TIMEOUT_S:g} s and a day",
                hint=f"unasked it is {DEFAULT_TIMEOUT_S:g} s",
            )
        if self.driver not in DRIVERS:
            raise InvalidInputError(f"there is no driver {self.driver!r}", hint=f"one of: {', '.join(DRIVERS)}")
        if self.metrics and self.driver == LIBFUSE:
            raise InvalidInputError("--metrics needs the kernel driver", hint="libfuse does not count")
        formatter(self.log_format)
