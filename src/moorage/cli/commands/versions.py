"""`moorage diff` and `merge`: comparing versions, and bringing them together."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated

import typer

from moorage.cli.arguments import REVISION_HELP, Message, completed
from moorage.cli.changes import change_lines, change_record, change_summary
from moorage.cli.formatting import duration
from moorage.cli.opening import open_repository
from moorage.cli.options import Command
from moorage.cli.session import Session
from moorage.cli.style import Style
from moorage.versioning.merge import MergeKind, MergeResult

app = typer.Typer()


@app.command("diff", cls=Command)
def diff(
    ctx: typer.Context,
    old: Annotated[
        str,
        typer.Argument(metavar="A", help=REVISION_HELP, autocompletion=completed("revisions"), show_default=False),
    ],
    new: Annotated[
        str, typer.Argument(metavar="B", help="Another one.", autocompletion=completed("revisions"), show_default=False)
    ],
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="Only at or below it.", show_default=False)] = "",
) -> None:
    """List what is different in B: A added, D removed, M modified, R renamed."""
    session = Session(ctx)
    output = session.output
    with open_repository(session) as repo:
        changes = list(repo.diff(old, new, path))
    if output.is_json:
        for change in changes:
            output.json(change_record(change))
        return
    output.lines(change_lines(changes, output.style))
    if not changes:
        output.note("No difference.")


@app.command("merge", cls=Command)
def merge(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(metavar="SRC", help=REVISION_HELP, autocompletion=completed("revisions"), show_default=False),
    ],
    into: Annotated[
        str, typer.Option("--into", metavar="DST", help="The branch that moves.", autocompletion=completed("branches"))
    ],
    message: Message = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would happen, and do nothing.")] = False,
) -> None:
    """Bring what SRC changed into the branch DST. With conflicts nothing is written, and the exit code is 4."""
    session = Session(ctx)
    output = session.output
    with open_repository(session) as repo:
        begun = time.monotonic()
        result = repo.merge(source, into=into, message=message, dry_run=dry_run)
        seconds = time.monotonic() - begun
    record = _merge_record(result, source, dry_run=dry_run)
    if dry_run:
        output.record(record, _merge_lines(result, source, output.style, "would move"))
    else:
        output.done(record, *_merge_lines(result, source, output.style, "moved", duration(seconds)))


def _merge_record(result: MergeResult, source: str, *, dry_run: bool) -> dict[str, object]:
    return {
        "kind": result.kind.value,
        "source": source,
        "into": result.into.name,
        "dry_run": dry_run,
        "before": result.before.hex(),
        "snapshot": result.snapshot.hex() if result.snapshot else None,
        "base": result.base.hex() if result.base else None,
        "changes": [change_record(change) for change in result.changes],
    }


def _merge_lines(result: MergeResult, source: str, style: Style, verb: str, took: str = "") -> Iterator[str]:
    into = style.ref(result.into.name)
    if result.kind is MergeKind.UP_TO_DATE:
        yield f"{into} has everything of {style.ref(source)} already."
        return
    there = style.id(result.snapshot.short) if result.snapshot else "a new snapshot"
    how = {MergeKind.FAST_FORWARD: "fast-forward", MergeKind.THREE_WAY: "merge"}[result.kind]
    told = ", ".join(part for part in (how, change_summary(result.changes), took) if part)
    yield f"{into} {verb} from {style.id(result.before.short)} to {there}  {style.faint(told)}"
    yield from change_lines(result.changes, style)
