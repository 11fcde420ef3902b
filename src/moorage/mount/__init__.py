"""How a branch, a tag or a snapshot becomes a read-only directory of the operating system.

`view` is the file system without any protocol; `kernel` speaks the FUSE protocol on `/dev/fuse` and `libfuse` goes
through libfuse, both thin over the view. `serve` mounts and unmounts, `registry` knows what is mounted, `doctor` says
what a machine lacks.

The package may be called: `moorage.mount(repo, "prod")` is `temporary.mounted`. A function of that name would give
way to the package as soon as anything in here is imported.
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
        """As `temporary.mounted`, which is imported now: what only wants to know where a log lies needs none of it."""
        found: AbstractContextManager[Path] = import_module(f"{__name__}.temporary").mounted(*arguments, **options)
        return found


sys.modules[__name__].__class__ = _Callable
