"""`moorage mounts` and `doctor`: what is mounted, and what this machine lacks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from moorage.cli.config import read_config
from moorage.cli.errors import ExitCode
from moorage.cli.formatting import Cell, local, plain, table
from moorage.cli.options import Command
from moorage.cli.records import mount_record
from moorage.cli.session import Session
from moorage.cli.style import Style, shown
from moorage.errors import RepositoryNotFoundError
from moorage.mount import doctor as machine
from moorage.mount import registry
from moorage.mount.doctor import Check, CheckStatus
from moorage.mount.registry import MountRecord, MountState
from moorage.mount.unit import unit

app = typer.Typer()


@app.command("mounts", cls=Command)
def mounts(ctx: typer.Context) -> None:
    """List what is mounted, whichever repository it is of."""
    session = Session(ctx)
    output = session.output
    found = registry.mounts()
    if output.is_json:
        for record in found:
            output.json(mount_record(record))
        return
    output.lines(table([_mount_cells(record, output.style) for record in found], "<<<<<"))
    if not found:
        output.note("Nothing is mounted.")


def _mount_cells(record: MountRecord, style: Style) -> list[Cell]:
    paint = style.good if record.state is MountState.SERVING else style.bad
    return [
        (record.state.value, paint),
        (record.revision + (" (pinned)" if record.pinned else ""), style.ref),
        (shown(record.mountpoint), plain),
        (local(record.started_ns) if record.started_ns else "", style.faint),
        (f"pid {record.pid}, {shown(record.repository)}" if record.pid else shown(record.repository), style.faint),
    ]


@app.command("doctor", cls=Command)
def doctor(
    ctx: typer.Context,
    print_unit: Annotated[
        bool, typer.Option("--unit", help="Print a systemd unit for mounts instead: moorage@.service.")
    ] = False,
) -> None:
    """Check what a mount needs of this machine, and say what to do about each thing it lacks."""
    session = Session(ctx)
    output = session.output
    if print_unit:
        output.lines(unit().splitlines())
        return
    try:
        repository: Path | None = session.repository_path()
    except RepositoryNotFoundError:
        repository = None
    found = machine.checks(repository, read_config().cache_bytes)
    if output.is_json:
        for check in found:
            output.json(_check_record(check))
    else:
        marks: dict[CheckStatus, tuple[str, Callable[[str], str]]] = {
            CheckStatus.OK: ("ok", output.style.good),
            CheckStatus.WARN: ("note", output.style.changed),
            CheckStatus.FAIL: ("FAIL", output.style.bad),
        }
        width = max(len(check.name) for check in found)
        for check in found:
            word, paint = marks[check.status]
            output.lines([f"{paint(word.ljust(4))}  {check.name.ljust(width)}  {shown(check.found)}"])
            if check.advice:
                output.lines([f"{' ' * (width + 8)}{output.style.faint('-> ' + shown(check.advice))}"])
    if any(check.status is CheckStatus.FAIL for check in found):
        raise typer.Exit(ExitCode.FAILED)


def _check_record(check: Check) -> dict[str, object]:
    return {"name": check.name, "status": check.status.value, "found": check.found, "advice": check.advice or None}
