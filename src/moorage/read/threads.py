"""How do several threads do one piece of work together with the one that wants it done?"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Helpers:
    """Threads that help with something until all of them are done with it.

    Daemons, unlike those of a `ThreadPoolExecutor`: one that waits for a disk that never answers must not keep the
    interpreter from ending.
    """

    def __init__(self, work: Callable[[], None], count: int) -> None:
        """`count` of them, which each call `work` once, from when the block is entered."""
        self._work = work
        self._threads = [
            threading.Thread(target=self._run, name=f"moorage-hydrate-{number}", daemon=True) for number in range(count)
        ]
        self._errors: list[BaseException] = []

    def __enter__(self) -> None:
        """Start them."""
        for thread in self._threads:
            thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for them; raises the first of what they raised, unless the block did."""
        for thread in self._threads:
            thread.join()
        if kind is None and self._errors:
            raise self._errors[0]

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - raised again by who waits for it
            self._errors.append(error)
