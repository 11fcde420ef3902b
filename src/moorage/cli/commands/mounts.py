"""`moorage mounts` and `doctor`: what is mounted, and what this machine lacks for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from moorage.cli.config import read_config
from moorage.cli.errors import ExitCode
from moorage.cli.formatting import Cell, count, duration, plain, size, table
from moorage.cli.options import Command
from moorage.cli.records import mount_record
from moorage.cli.session import Session
from moorage.cli.style import Style, shown
from moorage.errors import MoorageError, RepositoryNotFoundError
from moorage.model.digest import SHORT_HEX_LENGTH
from moorage.mount import doctor as machine
from moorage.mount import registry
from moorage.mount.doctor import Check, CheckStatus
from moorage.mount.host.unit import unit
from moorage.mount.registry import MountRecord, MountState
from moorage.read.cache import FileCache

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
    if not found:
        output.explain("Nothing is mounted.")
        return
    output.lines(table([_mount_cells(record, output.style) for record in found], "<<<<>>><"))
    output.lines([output.style.bad(shown(note)) for note in _notes(found)])
    output.lines([output.style.faint(line) for line in _cache_lines()])


def _mount_cells(record: MountRecord, style: Style) -> list[Cell]:
    paint = style.good if record.state is MountState.SERVING and not record.trouble else style.bad
    opens = registry.opens(record)
    up_s = (time.time_ns() - record.started_ns) / 1e9
    supervisor, server = registry.supervisor_of(record), registry.server_of(record)
    behind = [f"{what} {pid}" for what, pid in (("supervisor", supervisor), ("server", server)) if pid]
    return [
        (record.state.value, paint),
        (record.revision + (" (pinned)" if record.pinned else ""), style.ref),
        (record.snapshot[:SHORT_HEX_LENGTH], style.faint),
        (shown(record.mountpoint), plain),
        (f"up {duration(up_s)}" if record.started_ns else "", plain),
        ("" if opens is None else count(opens, "open"), plain),
        (count(record.restarts, "restart") if record.restarts else "", style.changed),
        (", ".join([*behind, shown(record.repository)]), style.faint),
    ]


def _notes(records: list[MountRecord]) -> list[str]:
    """What those who look should know."""
    return [f"{record.mountpoint}: {note}" for record in records for note in (record.trouble, record.note) if note]


def _cache_lines() -> list[str]:
    """One, where there is a cache that can be read."""
    try:
        cache = FileCache(limit_bytes=read_config().cache_bytes)
        usage = cache.usage()
    except (MoorageError, OSError):
        return []
    used = f"{count(usage.files, 'file')}, {size(usage.size_bytes)} of {size(usage.limit_bytes)}"
    return [f"cache: {used}, in {shown(str(cache.folder))}"]


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
            CheckStatus.WARN: ("warn", output.style.changed),
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
