"""Bytes to boundaries: where does each chunk of a file end? Pure; no I/O.

`chunker_for` picks the cutter of a file. `docs/design/chunking.md` says why it cuts as it does.
"""

from __future__ import annotations

from moorage.chunking.base import Chunker, chunker_for

__all__ = ["Chunker", "chunker_for"]
