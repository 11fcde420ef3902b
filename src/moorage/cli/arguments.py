"""What kinds of words do commands take, and how does the shell complete them?

Completion opens the repository, looks, and says nothing when anything at all is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from moorage.api import Repository
from moorage.cli.options import GIVEN_PATH, Settings
from moorage.cli.session import repository_path
from moorage.errors import MoorageError
from moorage.model.refs import RefRecord
from moorage.model.tree import EntryKind
from moorage.mount import registry
from moorage.read.resolve import parse_location

_MOST_COMPLETIONS = 200

Completer = Callable[[typer.Context, str], list[str]]


def _completer(complete: Callable[[Repository, str], Iterable[str]]) -> Completer:
    """A completer that typer can call: of at most so many words, and silent about errors."""

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


def _complete_mountpoints(incomplete: str) -> list[str]:
    return [record.mountpoint for record in registry.mounts() if record.mountpoint.startswith(incomplete)]


complete_branches = _completer(lambda repo, _: _names(repo.branches()))
complete_tags = _completer(lambda repo, _: _names(repo.tags()))
complete_revisions = _completer(lambda repo, _: _revisions(repo))
complete_locations = _completer(_locations)

REVISION_HELP = "A branch, a tag, a snapshot id or its beginning, prod@{1}, prod@{2026-09-01T12:00}, prod~2."

_REVISION = typer.Argument(metavar="REV", help=REVISION_HELP, autocompletion=complete_revisions, show_default=False)
Revision = Annotated[str, _REVISION]
LocationOrRoot = Annotated[
    str,
    typer.Argument(
        metavar="REV[:PATH]",
        help="A revision, and a path in it if not the root.",
        autocompletion=complete_locations,
        show_default=False,
    ),
]
FileLocation = Annotated[
    str,
    typer.Argument(
        metavar="REV:PATH",
        help="A revision, and a path in it.",
        autocompletion=complete_locations,
        show_default=False,
    ),
]
BranchName = Annotated[
    str,
    typer.Argument(metavar="BRANCH", help="A branch.", autocompletion=complete_branches, show_default=False),
]
TagName = Annotated[
    str, typer.Argument(metavar="NAME", help="A tag.", autocompletion=complete_tags, show_default=False)
]
NewName = Annotated[str, typer.Argument(metavar="NAME", help="The new name; slashes are welcome.", show_default=False)]
Limit = Annotated[int | None, typer.Option("-n", min=0, metavar="N", help="Show at most N.")]
Message = Annotated[str, typer.Option("--message", "-m", metavar="MSG", help="What it is, for the log.")]
_MOUNTED = typer.Argument(
    metavar="DIR",
    help="Where it is mounted.",
    autocompletion=_complete_mountpoints,
    click_type=GIVEN_PATH,
    show_default=False,
)
Mountpoint = Annotated[Path, _MOUNTED]
AnyMountpoint = Annotated[Path | None, _MOUNTED]
