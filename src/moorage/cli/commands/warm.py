"""`moorage warm`: bringing files into the cache before somebody reads them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated

import typer

from moorage.api import Repository
from moorage.cli.arguments import completed
from moorage.cli.config import parse_size, read_config
from moorage.cli.errors import ExitCode
from moorage.cli.formatting import count, duration, rate, size
from moorage.cli.options import Command
from moorage.cli.session import Session
from moorage.cli.style import Style, shown
from moorage.errors import InvalidInputError
from moorage.read.warm import WarmResult

_MOST_NAMED = 10

app = typer.Typer()


@app.command("warm", cls=Command)
def warm(
    ctx: typer.Context,
    locations: Annotated[
        list[str],
        typer.Argument(
            metavar="REV[:PATH]...",
            help="Files, directories, or whole revisions.",
            autocompletion=completed("locations"),
            show_default=False,
        ),
    ],
    cache_size: Annotated[
        str | None,
        typer.Option(
            "--cache-size", metavar="SIZE", help="How large the cache may be, such as 20GiB.", show_default=False
        ),
    ] = None,
) -> None:
    """Bring files into the cache before somebody reads them through a mount.

    The cache is the user's: it serves all his mounts, now and later.
    """
    session = Session(ctx)
    limit = read_config().cache_bytes if cache_size is None else parse_size(cache_size, "--cache-size")
    if limit == 0:
        raise InvalidInputError("the cache is switched off", hint="give it a size: --cache-size 20GiB")
    with Repository.open(session.repository_path(), cache_bytes=limit) as repo, session.progress() as progress:
        begun = time.monotonic()
        result = repo.warm(locations, progress=progress)
        seconds = time.monotonic() - begun
    record = {
        "files": result.files,
        "logical_bytes": result.size_bytes,
        "hydrated_files": result.hydrated_files,
        "hydrated_bytes": result.hydrated_bytes,
        "left_out": list(result.left_out),
        "seconds": seconds,
    }
    speed = rate(result.hydrated_bytes, seconds)
    made = f"{count(result.hydrated_files, 'file')}, {size(result.hydrated_bytes)}"
    lines = [f"Hydrated {made}, in {duration(seconds)}{f' ({speed})' if speed else ''}"]
    there = result.files - result.hydrated_files - len(result.left_out)
    if there:
        lines.append(session.output.style.faint(f"  {count(there, 'file')} already there"))
    lines += _left_out_lines(result, session.output.style)
    session.output.done(record, *lines)
    if result.left_out:
        raise typer.Exit(ExitCode.PARTIAL)


def _left_out_lines(result: WarmResult, style: Style) -> Iterator[str]:
    if not result.left_out:
        return
    yield f"  {style.bad('no room')} for {count(len(result.left_out), 'file')}:"
    yield from (f"    {shown(path)}" for path in result.left_out[:_MOST_NAMED])
    if len(result.left_out) > _MOST_NAMED:
        yield style.faint(f"    and {count(len(result.left_out) - _MOST_NAMED)} more")
