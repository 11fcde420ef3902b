"""How can many threads read a memory map that one of them must now and then move? They pass a gate."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Gate:
    """`with gate:` goes in beside others; `with gate.alone():` waits until nobody is in, and keeps others out.

    Not reentrant. Going in costs a lock taken twice, well below a microsecond.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._wanting_alone = 0

    def __enter__(self) -> None:
        with self._changed:
            while self._wanting_alone:
                self._changed.wait()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            if self._wanting_alone:
                self._changed.notify_all()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Be in alone; who waits to go in lets this one go first."""
        with self._changed:
            self._wanting_alone += 1
            try:
                while self._inside:
                    self._changed.wait()
                yield
            finally:
                self._wanting_alone -= 1
                self._changed.notify_all()
