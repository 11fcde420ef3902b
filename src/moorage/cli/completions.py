"""How does the shell complete the words that commands take?

A completion opens the repository, looks, and says nothing when anything at all is wrong. Imported when the shell asks
(`arguments.completed`): no command needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import typer

from moorage.api import Repository
from moorage.cli.options import Settings
from moorage.cli.session import repository_path
from moorage.errors import MoorageError
from moorage.model.refs import RefRecord
from moorage.model.tree import EntryKind
from moorage.mount import registry
from moorage.read.resolve import parse_location

_MOST_COMPLETIONS = 200


def _of_repository(complete: Callable[[Repository, str], Iterable[str]]) -> Callable[[typer.Context, str], list[str]]:
    """A completer of at most so many words, that is silent about errors."""

    def completions(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            with Repository.open(repository_path(Settings.of(ctx))) as repo:
                fitting = (word for word in complete(repo, incomplete) if word.startswith(incomplete))
                return list(islice(fitting, _MOST_COMPLETIONS))
        except (MoorageError, OSError):
            return []

    return completions


def _names(records: Iterable[RefRecord]) -> list[str]:
    return [record.ref.name for record in records]


def _revisions(repo: Repository) -> list[str]:
    return _names(repo.branches()) + _names(repo.tags())


def _locations(repo: Repository, incomplete: str) -> Iterator[str]:
    """Revisions, and after the colon one directory at a time."""
    if ":" not in incomplete:
        yield from (f"{revision}:" for revision in _revisions(repo))
        return
    revision = parse_location(incomplete).revision
    folder = incomplete[len(revision) + 1 :].rpartition("/")[0]
    for path, entry in repo.ls(f"{revision}:{folder}"):
        yield f"{revision}:{path}" + ("/" if entry.kind is EntryKind.DIRECTORY else "")


def mountpoints(_ctx: typer.Context, incomplete: str) -> list[str]:
    """Where something is mounted."""
    return [record.mountpoint for record in registry.mounts() if record.mountpoint.startswith(incomplete)]


branches = _of_repository(lambda repo, _: _names(repo.branches()))
tags = _of_repository(lambda repo, _: _names(repo.tags()))
revisions = _of_repository(lambda repo, _: _revisions(repo))
locations = _of_repository(_locations)
