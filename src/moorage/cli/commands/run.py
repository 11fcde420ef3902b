"""`moorage run`: a program that sees a branch where it stood when the program began."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moorage.cli.arguments import REVISION_HELP, completed
from moorage.cli.config import parse_size, read_config
from moorage.cli.options import GIVEN_PATH, Command
from moorage.cli.session import Session
from moorage.mount.private import run as private

app = typer.Typer()


@app.command("run", cls=Command, context_settings={"allow_interspersed_args": False})
def run(
    ctx: typer.Context,
    command: Annotated[
        list[str],
        typer.Argument(metavar="[--] CMD...", help="The command and its arguments.", show_default=False),
    ],
    pin: Annotated[
        str,
        typer.Option(
            "--pin", metavar="REV", help=REVISION_HELP, autocompletion=completed("revisions"), show_default=False
        ),
    ],
    at: Annotated[
        Path | None,
        typer.Option(
            "--at",
            metavar="DIR",
            help="Where it sees it; otherwise where REV is mounted, otherwise a temporary directory.",
            click_type=GIVEN_PATH,
            show_default=False,
        ),
    ] = None,
    cache_size: Annotated[
        str | None,
        typer.Option(
            "--cache-size",
            metavar="SIZE",
            help="How large the cache of hydrated files may be, such as 20GiB; 0 for none.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run a command that sees REV where it stands now, whatever becomes of the branch.

    The command finds the directory in MOORAGE_MOUNT and the id of the snapshot in MOORAGE_SNAPSHOT. Nobody else sees
    the mount, and it ends with the command.
    """
    session = Session(ctx)
    config = read_config()
    private.run(
        session.repository_path(),
        pin,
        command,
        directory=at,
        cache_bytes=config.cache_bytes if cache_size is None else parse_size(cache_size, "--cache-size"),
        timeout_s=config.mount_timeout_s,
    )
