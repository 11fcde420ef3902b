"""Serve a mount and tell how many requests of each kind came in; run as a program by `counted`.

    counting.py REPOSITORY REVISION DIRECTORY CACHE_BYTES [FLAG...]

Says `ready`, then answers each line of its input with one line of JSON: what has been asked so far, or, to `held`, what
the server holds. A FLAG is a promise to break, as a negative control: `drop-pages` (no KEEP_CACHE), `forget-names` (no
name outlives its lookup), `mix-modes` (an open that cannot share a mode is not refused), `never-burst` and
`always-burst` (what is taken for a burst of walks), `no-grace` (a process that has nothing open is let go at once),
`lose-releases` (what is closed stays open), `no-deadlines` (nobody answers in a worker's place), `lie-...` (see
`lying`). And, which break nothing, `sticky`, `small-caches` (of what is decoded), `timeout=SECONDS`, and
`retry=SECONDS` (after which what was not hydrated is tried again).
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from collections.abc import Callable
from typing import Any

import lying  # type: ignore[import-not-found]  # beside this script, which no other module is

from moorage.mount.kernel import lifetimes, operations, passthrough, serve, wire
from moorage.mount.kernel.session import Session
from moorage.mount.request import MountRequest
from moorage.mount.server import run
from moorage.mount.shown import hydration, sticky
from moorage.repository import objects

_sessions: list[Session] = []


class _CountedSession(Session):
    def start(self, on_end: Callable[[], None] = lambda: None) -> None:
        _sessions.append(self)
        super().start(on_end)


class _UnwatchedSession(_CountedSession):
    def __init__(self, fd: int, operations: Any, **settings: Any) -> None:
        super().__init__(fd, operations, **{**settings, "patience": None})


def _answer() -> None:
    for line in sys.stdin:
        found = _held() if line.strip() == "held" else _sessions[0].counts()
        print(json.dumps(found), flush=True)


def _held() -> dict[str, int]:
    served = _sessions[0]._operations
    return {
        "backings": len(served._modes),
        "modes": len(served._modes._modes),
        "files": len(served._files),
        "nodeids": len(served._table),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "memory_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "now_kib": _now_kib("VmRSS"),
        "anonymous_kib": _now_kib("RssAnon"),
        "threads": threading.active_count(),
    }


def _now_kib(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name + ":"))


def _mixing(modes: passthrough.OpenModes, nodeid: int, caller: int, file: Any, *, is_direct: bool = False) -> int:
    """Whatever is open, back this one if it can be backed."""
    assert modes._backings is not None
    backing = 0 if file is None else modes._backings.register(file.fd)
    modes._modes.setdefault(nodeid, passthrough.OpenMode(backing, None)).opens += 1
    return backing


def main() -> None:
    """Serve until unmounted."""
    repository, revision, directory, cache_bytes, *broken = sys.argv[1:]
    vars(serve)["Session"] = _CountedSession
    if "drop-pages" in broken:
        vars(operations)["_FILE_FLAGS"] = wire.OpenFlag.NOFLUSH
    if "forget-names" in broken:
        vars(operations)["FOREVER"] = (0, 0)
    for flag, within_ns in (("never-burst", 0), ("always-burst", 1 << 62)):
        if flag in broken:
            vars(lifetimes)["_WITHIN_NS"] = within_ns
    if "no-grace" in broken:
        vars(sticky)["GRACE_NS"] = 0
    if "no-deadlines" in broken:
        vars(serve)["Session"] = _UnwatchedSession
    for flag in broken:
        if flag in lying.LIES:
            lying.LIES[flag]()
    if "small-caches" in broken:
        for name in ("_CHUNK_CACHE_BYTES", "_TREE_CACHE_ENTRIES", "_RECIPE_CACHE_REFERENCES"):
            vars(objects)[name] = 1000
    if "lose-releases" in broken:
        setattr(operations.Operations, "_release", lambda *_: b"")  # noqa: B010 - to break it is the point
    if "mix-modes" in broken:
        setattr(passthrough.OpenModes, "enter", _mixing)  # noqa: B010 - to break it is the point
    threading.Thread(target=_answer, daemon=True).start()
    said = dict(flag.split("=") for flag in broken if "=" in flag)
    hydration.RETRY_S = float(said.get("retry", hydration.RETRY_S))
    request = MountRequest(
        repository,
        revision,
        directory,
        cache_bytes=int(cache_bytes),
        sticky="sticky" in broken,
        timeout_s=float(said.get("timeout", 30)),
    )
    run(request, lambda _: print("ready", flush=True))


if __name__ == "__main__":
    main()
