"""How a branch, a tag or a snapshot becomes a read-only directory of the operating system.

From the bottom: `host` knows the machine, `journal` writes down what happens, `shown` is the file system as values,
without a protocol; `kernel` speaks the FUSE protocol on `/dev/fuse` and `libfuse` goes through libfuse, both thin over
`shown.view`. `ledger` is what the next server must know, and `supervise` starts it. `serve` mounts and unmounts,
`registry` knows what is mounted, `doctor` says what a machine lacks, `private` gives one program a mount of its own.

The package may be called: `moorage.mount(repo, "prod")` is `private.temporary.mounted`. A function of that name would
give way to the package as soon as anything in here is imported.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """What `moorage.mount` is."""

    def __call__(self, *arguments: Any, **options: Any) -> AbstractContextManager[Path]:
        """As `private.temporary.mounted`, imported now: what only wants to know where a log lies needs none of it."""
        temporary = import_module(f"{__name__}.private.temporary")
        found: AbstractContextManager[Path] = temporary.mounted(*arguments, **options)
        return found


sys.modules[__name__].__class__ = _Callable
