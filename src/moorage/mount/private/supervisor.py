"""What stands behind the mount of one program (see `run`)?

The same as behind any other, a keeper and its server, but nobody outside knows of it: it is in no registry, no signal
ends it or replaces its server, and it is over when the program is.

    python -m moorage.mount.private.supervisor PIPE REQUEST      see `daemon`
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from moorage.mount import daemon
from moorage.mount.claim import Unlisted
from moorage.mount.kernel.ending import signals_of
from moorage.mount.registry import MountRecord
from moorage.mount.request import MountRequest
from moorage.mount.supervise.keeper import Keeper


def run(request: MountRequest, ready: Callable[[MountRecord], None]) -> None:
    """Mount, and see to it that it is served until the program ends; `ready` is called when it answers.

    Raises `MoorageError` for whatever keeps it from being mounted.
    """
    signals_of(request.program)  # none, and from now on they are ignored
    Keeper(request, Unlisted).run(ready, {})


if __name__ == "__main__":
    daemon.main(sys.argv[1:], run)
