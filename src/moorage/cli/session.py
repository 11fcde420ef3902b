"""What does a running command hold? The options of the run, its output, and where the repository is."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

import typer

from moorage.cli.options import REPOSITORY_VARIABLE, Settings
from moorage.cli.output import Output
from moorage.cli.progress import shown_progress
from moorage.model.progress import Progress
from moorage.repository.find import find_repository


class Session:
    """One run of one command."""

    def __init__(self, context: typer.Context) -> None:
        """Take the options from `context`, in which the parser has left them."""
        self.settings = Settings.of(context)
        self.output = Output(self.settings)

    def repository_path(self) -> Path:
        """The directory of the repository that is meant. Raises `RepositoryNotFoundError`."""
        return repository_path(self.settings)

    def progress(self) -> AbstractContextManager[Progress]:
        """What shows how far long work is, on a terminal; else nothing."""
        return shown_progress(self.settings)


def repository_path(settings: Settings) -> Path:
    """-r, else MOORAGE_REPO, else the nearest `.moorage` upwards. Raises `RepositoryNotFoundError`.

    A directory named so may be the repository, or hold it as `.moorage`, as `moorage init` makes it.
    """
    named = settings.repository or os.environ.get(REPOSITORY_VARIABLE)
    if not named:
        return find_repository()
    path = Path(named)
    inner = path / ".moorage"
    return inner if inner.is_dir() and not (path / "config").is_dir() else path
