"""Serve a mount and tell how many requests of each kind came in; run as a program by `test_caching`.

    counting.py REPOSITORY REVISION DIRECTORY [FLAG...]

Says `ready`, then answers each line of its input with one line of JSON. A FLAG is a promise to break, as a negative
control: `drop-pages` (no KEEP_CACHE), `forget-names` (no name outlives its lookup).
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable

from moorage.mount.kernel import operations, serve, wire
from moorage.mount.kernel.session import Session
from moorage.mount.server import MountRequest, run

_sessions: list[Session] = []


class _CountedSession(Session):
    def start(self, on_end: Callable[[], None] = lambda: None) -> None:
        _sessions.append(self)
        super().start(on_end)


def _answer() -> None:
    for _ in sys.stdin:
        print(json.dumps(_sessions[0].counts()), flush=True)


def main() -> None:
    """Serve until unmounted."""
    repository, revision, directory, *broken = sys.argv[1:]
    vars(serve)["Session"] = _CountedSession
    if "drop-pages" in broken:
        vars(operations)["_FILE_FLAGS"] = wire.OpenFlag.NOFLUSH
    if "forget-names" in broken:
        vars(operations)["FOREVER_S"] = 0
    threading.Thread(target=_answer, daemon=True).start()
    run(MountRequest(repository, revision, directory), lambda _: print("ready", flush=True))


if __name__ == "__main__":
    main()
