"""What kinds of words do commands take?"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from moorage.cli.options import GIVEN_PATH

Completer = Callable[[typer.Context, str], list[str]]


def completed(what: str) -> Completer:
    """The completer of that name in `completions`, imported when the shell asks."""

    def completions(ctx: typer.Context, incomplete: str) -> list[str]:
        complete: Completer = getattr(import_module("moorage.cli.completions"), what)
        return complete(ctx, incomplete)

    return completions


REVISION_HELP = "A branch, a tag, a snapshot id or its beginning, prod@{1}, prod@{2026-09-01T12:00}, prod~2."

_REVISION = typer.Argument(metavar="REV", help=REVISION_HELP, autocompletion=completed("revisions"), show_default=False)
Revision = Annotated[str, _REVISION]
LocationOrRoot = Annotated[
    str,
    typer.Argument(
        metavar="REV[:PATH]",
        help="A revision, and a path in it if not the root.",
        autocompletion=completed("locations"),
        show_default=False,
    ),
]
FileLocation = Annotated[
    str,
    typer.Argument(
        metavar="REV:PATH",
        help="A revision, and a path in it.",
        autocompletion=completed("locations"),
        show_default=False,
    ),
]
BranchName = Annotated[
    str,
    typer.Argument(metavar="BRANCH", help="A branch.", autocompletion=completed("branches"), show_default=False),
]
TagName = Annotated[
    str, typer.Argument(metavar="NAME", help="A tag.", autocompletion=completed("tags"), show_default=False)
]
NewName = Annotated[str, typer.Argument(metavar="NAME", help="The new name; slashes are welcome.", show_default=False)]
Limit = Annotated[int | None, typer.Option("-n", min=0, metavar="N", help="Show at most N.")]
Message = Annotated[str, typer.Option("--message", "-m", metavar="MSG", help="What it is, for the log.")]
_MOUNTED = typer.Argument(
    metavar="DIR",
    help="Where it is mounted.",
    autocompletion=completed("mountpoints"),
    click_type=GIVEN_PATH,
    show_default=False,
)
Mountpoint = Annotated[Path, _MOUNTED]
AnyMountpoint = Annotated[Path | None, _MOUNTED]
