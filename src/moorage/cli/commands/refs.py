"""`moorage branch`, `tag` and `reflog`: the names of snapshots, and where they have stood."""

from __future__ import annotations

from typing import Annotated

import typer

from moorage.api import Repository
from moorage.cli.arguments import BranchName, Limit, NewName, Revision, TagName, completed
from moorage.cli.formatting import Cell, first_line, local, plain, table
from moorage.cli.opening import open_repository
from moorage.cli.options import Command, Group
from moorage.cli.output import Output
from moorage.cli.records import log_record, ref_record
from moorage.cli.session import Session
from moorage.cli.style import Style, shown
from moorage.errors import InvalidInputError
from moorage.model.refs import RefAction, RefKind, RefName, RefRecord

app = typer.Typer()
branch_app = typer.Typer(cls=Group, invoke_without_command=True)
tag_app = typer.Typer(cls=Group, invoke_without_command=True)
app.add_typer(branch_app, name="branch")
app.add_typer(tag_app, name="tag")


# -- branches --------------------------------------------------------------------------------------


@branch_app.callback()
def branch(ctx: typer.Context) -> None:
    """List branches, or create, move, rename and delete one."""
    if ctx.invoked_subcommand is None:
        session = Session(ctx)
        with open_repository(session) as repo:
            _list(session.output, repo, repo.branches())


@branch_app.command("create", cls=Command)
def branch_create(
    ctx: typer.Context,
    name: NewName,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="REV",
            help="Where it starts; the only branch, if there is one alone.",
            autocompletion=completed("revisions"),
        ),
    ] = None,
) -> None:
    """Make a branch."""
    session = Session(ctx)
    with open_repository(session) as repo:
        record = repo.create_branch(name, _only_branch(repo, name) if start is None else start)
    _tell(session.output, record, "is a new branch at")


def _only_branch(repo: Repository, new: str) -> str:
    """Where a branch that is called `new` starts, if that is plain; a name that it cannot have is told first."""
    repo.handle.refs.check_free(RefName(RefKind.BRANCH, new))
    names = [record.ref.name for record in repo.branches()]
    if len(names) != 1:
        known = f"--from REV: one of {', '.join(names)}, or any revision" if names else "commit something first"
        raise InvalidInputError(f"where is {new!r} to start?", hint=known, branches=names)
    return names[0]


@branch_app.command("move", cls=Command)
def branch_move(ctx: typer.Context, name: BranchName, revision: Revision) -> None:
    """Let a branch stand at another revision, wherever that is in history."""
    session = Session(ctx)
    with open_repository(session) as repo:
        record = repo.move_branch(name, revision)
    _tell(session.output, record, "stands at")


@branch_app.command("rename", cls=Command)
def branch_rename(
    ctx: typer.Context,
    old: BranchName,
    new: Annotated[str, typer.Argument(metavar="NEW", help="What it will be called.", show_default=False)],
) -> None:
    """Give a branch another name.

    Its log so far stays under the old name; that of the new name begins with the rename.
    """
    session = Session(ctx)
    with open_repository(session) as repo:
        record = repo.rename_branch(old, new)
    _tell(session.output, record, f"is what {old} was, at")


@branch_app.command("delete", cls=Command)
def branch_delete(ctx: typer.Context, name: BranchName) -> None:
    """End a branch; its log and its snapshots stay."""
    session = Session(ctx)
    with open_repository(session) as repo:
        record = repo.delete_branch(name)
    _tell(session.output, record, "is deleted; it stood at")


# -- tags ------------------------------------------------------------------------------------------


@tag_app.callback()
def tag(ctx: typer.Context) -> None:
    """List tags, or create and delete one. A tag never moves."""
    if ctx.invoked_subcommand is None:
        session = Session(ctx)
        with open_repository(session) as repo:
            _list(session.output, repo, repo.tags())


@tag_app.command("create", cls=Command)
def tag_create(ctx: typer.Context, name: NewName, revision: Revision) -> None:
    """Make a tag."""
    session = Session(ctx)
    with open_repository(session) as repo:
        record = repo.create_tag(name, revision)
    _tell(session.output, record, "is a new tag at")


@tag_app.command("delete", cls=Command)
def tag_delete(ctx: typer.Context, name: TagName) -> None:
    """End a tag; its log stays."""
    session = Session(ctx)
    with open_repository(session) as repo:
        record = repo.delete_tag(name)
    _tell(session.output, record, "is deleted; it stood at")


# -- how they are shown ----------------------------------------------------------------------------


def _tell(output: Output, record: RefRecord, verb: str) -> None:
    style = output.style
    output.done(ref_record(record), f"{style.ref(record.ref.name)} {verb} {style.id(record.snapshot.short)}")


def _list(output: Output, repo: Repository, records: list[RefRecord]) -> None:
    if output.is_json:
        for record in records:
            output.json(ref_record(record))
        return
    output.lines(table([_line(repo, record, output.style) for record in records], "<<<<"))
    if not records:
        output.note("There are none yet.")


def _line(repo: Repository, record: RefRecord, style: Style) -> list[Cell]:
    message = first_line(repo.handle.objects.snapshot(record.snapshot).message)
    return [
        (record.ref.name, style.ref),
        (record.snapshot.short, style.id),
        (local(record.time_ns), style.faint),
        (shown(message), plain),
    ]


@app.command("reflog", cls=Command)
def reflog(ctx: typer.Context, name: BranchName, limit: Limit = None) -> None:
    """List where a branch has stood, newest first; of a deleted branch, too."""
    session = Session(ctx)
    output = session.output
    with open_repository(session) as repo:
        records = repo.reflog(name)
    positions = _positions(records)[:limit]
    records = records[:limit]
    if output.is_json:
        for record, position in zip(records, positions, strict=True):
            output.json(log_record(record, position))
        return
    rows = [_log_line(record, position, output.style) for record, position in zip(records, positions, strict=True)]
    output.lines(table(rows, "<<<<<<"))


def _positions(records: list[RefRecord]) -> list[int | None]:
    """The n of `name@{n}`: it counts the records after which the branch was there. None leads to what is gone."""
    if not records[0].is_alive:
        return [None] * len(records)
    positions: list[int | None] = []
    number = 0
    for record in records:
        positions.append(number if record.is_alive else None)
        number += record.is_alive
    return positions


def _log_line(record: RefRecord, position: int | None, style: Style) -> list[Cell]:
    words = {RefAction.RENAMED_FROM: f"renamed from {record.other}", RefAction.RENAMED_TO: f"renamed to {record.other}"}
    action = words.get(record.action, record.action.value)
    return [
        ("" if position is None else f"{record.ref.name}@{{{position}}}", style.ref),
        (record.snapshot.short, style.id),
        (action, plain if record.is_alive else style.bad),
        (local(record.time_ns), style.faint),
        (shown(record.actor), style.faint),
        (shown(record.reason), plain),
    ]
