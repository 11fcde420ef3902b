"""`moorage who`: which process opened what, through mounts that write it down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from moorage.api import Repository
from moorage.cli.arguments import completed
from moorage.cli.formatting import Cell, count, local, plain, table
from moorage.cli.opening import open_repository
from moorage.cli.options import Command
from moorage.cli.session import Session
from moorage.cli.style import Style, shown
from moorage.errors import InvalidInputError
from moorage.model.digest import SHORT_HEX_LENGTH
from moorage.model.tree import EntryKind
from moorage.mount.journal import who as opened
from moorage.mount.journal.who import Opening, Question
from moorage.read.resolve import parse_location

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

app = typer.Typer()


@app.command("who", cls=Command)
def who(
    ctx: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="PATH|SNAPSHOT|BLAKE3",
            help="/a/path or ./one; an id or its beginning; or REV, or REV:PATH of the repository.",
            autocompletion=completed("locations"),
            show_default=False,
        ),
    ],
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Such as 2026-09-01T12:00.", show_default=False)
    ] = None,
) -> None:
    """List who has opened a file, a directory or a snapshot through a mount with --log-opens."""
    session = Session(ctx)
    output = session.output
    since_ns = 0 if since is None else _time_ns(since)
    found = opened.answers(_question(session, what), since_ns)
    if output.is_json:
        for opening in found:
            output.json(asdict(opening))
        return
    output.lines(table([_cells(opening, output.style) for opening in found], "<<<<<<"))
    if not opened.is_logged():
        output.explain("No mount of this user has been made with --log-opens, so nothing is written down.")
    elif not found:
        output.note("Nobody, as far as mounts with --log-opens have written it down.")


def _question(session: Session, what: str) -> Question:
    if opened.is_path(what):
        return opened.about_path(what)
    if opened.is_id(what):
        return Question(id_prefix=what)
    location = parse_location(what)
    with open_repository(session) as repo:
        if not location.path:
            return opened.about_snapshot(repo.resolve(location.revision).id)
        return Question(digests=frozenset(_digests(repo, str(location))))


def _digests(repo: Repository, location: str) -> Iterator[str]:
    """Of a file, or of all files below a directory."""
    place = repo.locate(location)
    if place.entry is not None and place.entry.kind is not EntryKind.DIRECTORY:
        yield place.entry.digest.hex()
        return
    for _, entry in repo.ls(location, recursive=True):
        if entry.kind is EntryKind.FILE:
            yield entry.digest.hex()


def _time_ns(text: str) -> int:
    try:
        return (datetime.fromisoformat(text).astimezone() - _EPOCH) // timedelta(microseconds=1) * 1_000
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(
            f"--since: {text!r} is no time", hint="write it as 2026-09-01, 2026-09-01T12:00 or 2026-09-01T12:00+02:00"
        ) from error


def _cells(opening: Opening, style: Style) -> list[Cell]:
    moment = datetime.fromisoformat(opening.time)
    when: Cell = (local(int(moment.timestamp()) * 1_000_000_000), style.faint)
    if opening.dropped:
        lost = count(opening.dropped, "open")
        nothing: Cell = ("", plain)
        return [when, nothing, nothing, nothing, nothing, (f"{lost} before this not written down", style.bad)]
    return [
        when,
        (f"pid {opening.pid}", plain),
        (f"uid {opening.uid}", style.faint),
        (shown(opening.executable or "?"), plain),
        ((opening.snapshot or "?")[:SHORT_HEX_LENGTH], style.id),
        (shown(opening.path or ""), plain),
    ]
