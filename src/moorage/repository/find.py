"""Which repository is meant where none is named?

Apart from `handle`: who only hands a repository to another program, as `moorage mount` does, looks for it and never
opens it.
"""

from __future__ import annotations

import os
from pathlib import Path

from moorage.errors import RepositoryNotFoundError
from moorage.format.keys import CONFIG_PREFIX


def find_repository(start: Path | None = None) -> Path:
    """The nearest `.moorage` in `start`, by default the current directory, or above. Raises
    `RepositoryNotFoundError`."""
    try:
        folder = Path(os.path.abspath(start or "."))
    except FileNotFoundError as error:
        raise RepositoryNotFoundError(
            "the current directory has been removed", hint="go to another one, or name a repository with -r DIR"
        ) from error
    for candidate in (folder, *folder.parents):
        if (candidate / ".moorage" / CONFIG_PREFIX).is_dir():
            return candidate / ".moorage"
    raise RepositoryNotFoundError(
        f"no .moorage in {folder} or above it",
        hint="make a repository with `moorage init`, or name one with -r DIR or MOORAGE_REPO",
        path=str(folder),
    )
