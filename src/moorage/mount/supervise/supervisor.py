"""What stands behind a mount that everybody sees?

A process that keeps it served (`keeper`), until somebody unmounts it, or a signal does (or the end of the program that
it is for), and replaces its server on purpose when it is asked to. It alone writes the mount's record in the registry.

It does nothing else, so that it has no reason to die, and imports next to nothing, so that it is small.

    python -m moorage.mount.supervise.supervisor PIPE REQUEST      see `daemon`

Threads: one.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable

from moorage.errors import MoorageError
from moorage.mount import daemon
from moorage.mount.host import notify
from moorage.mount.kernel.ending import Wakeups, signals_of
from moorage.mount.registry import MountRecord
from moorage.mount.request import MountRequest
from moorage.mount.supervise.keeper import Keeper

_log = logging.getLogger("moorage.mount.supervise.supervisor")  # run as a program it is called __main__

UPGRADE_SIGNAL = signal.SIGUSR1


def run(request: MountRequest, ready: Callable[[MountRecord], None]) -> None:
    """Mount, and see to it that it is served until it is unmounted; `ready` is called when it answers.

    Raises `MoorageError` for whatever keeps it from being mounted.
    """
    supervise(Keeper(request), ready)


def supervise(keeper: Keeper, ready: Callable[[MountRecord], None]) -> None:
    """As `run`."""
    with Wakeups(*signals_of(keeper.program), UPGRADE_SIGNAL) as wakeups:
        keeper.run(ready, {wakeups.fileno(): lambda: _signalled(keeper, wakeups.wait(0))})


def _signalled(keeper: Keeper, number: int | None) -> None:
    if number == UPGRADE_SIGNAL:
        _upgrade(keeper)
    elif number:
        notify.stopping()
        keeper.leave(signal.Signals(number).name)


def _upgrade(keeper: Keeper) -> None:
    try:
        keeper.hand_over()
    except MoorageError as error:
        _log.error("the mount is not upgraded: %s", error)
        keeper.claim.upgraded(f"not upgraded: {error.message}")
    else:
        keeper.claim.upgraded()


if __name__ == "__main__":
    daemon.main(sys.argv[1:], run)
