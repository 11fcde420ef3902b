"""Where are the bytes of a file while they are cut, hashed and encoded? In a few buffers that are used again and again.

Fresh memory costs a page fault every 4 KiB, which at this rate is a tenth of the work; and a fixed number of buffers is
what bounds memory, whatever the size of a file.
"""

from __future__ import annotations

import queue


class BufferPool:
    """A fixed number of buffers; taking one waits until one is free."""

    def __init__(self, count: int, size_bytes: int) -> None:
        """Buffers are made when first needed."""
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self._left = count
        self._size_bytes = size_bytes

    def take(self) -> bytearray:
        """A buffer for this caller alone; called by one thread only."""
        try:
            return self._free.get_nowait()
        except queue.Empty:
            if self._left:
                self._left -= 1
                return bytearray(self._size_bytes)
        return self._free.get()

    def give_back(self, buffer: bytearray) -> None:
        """Nobody uses the buffer any more; from any thread."""
        self._free.put(buffer)
