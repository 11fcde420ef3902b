"""What do the two ways of mounting have in common?

A driver mounts a view, says when it answers, and serves until it is unmounted: `kernel.serve` by the kernel's own
protocol, `libfuse.serve` through libfuse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from moorage.mount.host.owner import Owner
from moorage.mount.journal.exporter import Exporter
from moorage.mount.journal.open_log import OpenLog
from moorage.mount.shown.patience import Patience
from moorage.mount.shown.view import View


@dataclass(frozen=True, slots=True)
class Place:
    """Where, and as what, to mount."""

    mountpoint: str
    """A real path that `mountpoint.prepare` has seen."""
    source: str
    """What the table of mounts shows as the device: `repository#revision`."""
    allow_other: bool = False
    """Let other users in; the kernel then checks modes for them."""
    owner: Owner = field(default_factory=lambda: Owner.of(None, None, None))
    """Whose everything seems to be."""
    cache: Path | None = None
    """The folder in which hydrated files lie; None where nothing is hydrated."""
    opens: OpenLog | None = None
    """Where opens are written down, if they are."""
    sticky: bool = False
    """Show each process one snapshot for as long as it reads."""
    patience: Patience | None = None
    """How long a request may take, and what is waited for; None for as long as it takes. libfuse knows no such
    thing."""
    exporter: Exporter | None = None
    """What puts out numbers, if somebody wants them; whoever serves starts it."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A mount that answers."""

    device: str
    """major:minor of the mounted file system; empty where the system does not tell."""
    details: str
    """For the log: what was agreed with the kernel."""
    passthrough: bool = False
    """Whether the kernel reads hydrated files itself."""


Ready: TypeAlias = Callable[[Serving], None]
Driver: TypeAlias = Callable[[View, Place, Ready], None]
"""Blocks until the mount is gone; calls `Ready` once, when it answers. Raises `MountError`. SIGTERM, SIGINT and SIGHUP
unmount, when it runs in the main thread."""
