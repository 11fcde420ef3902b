"""`moorage mount`, `umount`, `mounts` and `doctor`: showing a revision to programs that know nothing of it."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from moorage.cli.arguments import Mountpoint, Revision
from moorage.cli.config import parse_size, read_config
from moorage.cli.errors import ExitCode
from moorage.cli.formatting import Cell, duration, local, plain, table, utc
from moorage.cli.options import Command
from moorage.cli.session import Session
from moorage.cli.style import Style, shown
from moorage.errors import RepositoryNotFoundError
from moorage.mount import doctor as machine
from moorage.mount import registry, serve
from moorage.mount.doctor import Check, CheckStatus
from moorage.mount.registry import MountRecord, MountState

app = typer.Typer()


class Driver(enum.StrEnum):
    """How to talk to the kernel."""

    KERNEL = "kernel"
    LIBFUSE = "libfuse"


@app.command("mount", cls=Command)
def mount(
    ctx: typer.Context,
    revision: Revision,
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="An empty directory.", show_default=False)
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All branches, tags and snapshots at once: mount --all DIR.")
    ] = False,
    foreground: Annotated[bool, typer.Option("--foreground", help="Serve here, for systemd and containers.")] = False,
    pin: Annotated[bool, typer.Option("--pin", help="Stay where the branch stands now.")] = False,
    allow_other: Annotated[bool, typer.Option("--allow-other", help="Let other users read it.")] = False,
    driver: Annotated[Driver, typer.Option("--driver", help="libfuse is the portable one.")] = Driver.KERNEL,
    cache_size: Annotated[
        str | None,
        typer.Option("--cache-size", metavar="SIZE", help="Of hydrated files; 0 for none.", show_default=False),
    ] = None,
    log_opens: Annotated[
        bool, typer.Option("--log-opens", help="Write down who opens what, for `moorage who`.")
    ] = False,
    log: Annotated[
        Path | None, typer.Option("--log", metavar="FILE", help="Where the server logs.", show_default=False)
    ] = None,
) -> None:
    """Show a revision at DIR, read-only; a branch is followed when it moves.

    Returns when the mount answers, and serves it in the background.
    """
    session = Session(ctx)
    output = session.output
    begun = time.monotonic()
    if everything:
        revision, directory = serve.EVERYTHING, _only_directory(ctx, revision, directory, pin=pin)
    if directory is None:
        ctx.fail("Missing argument 'DIR'.")
    record = serve.mount(
        session.repository_path(),
        revision,
        directory,
        foreground=foreground,
        pin=pin,
        allow_other=allow_other,
        driver=driver.value,
        log=log,
        cache_bytes=read_config().cache_bytes if cache_size is None else parse_size(cache_size, "--cache-size"),
        log_opens=log_opens,
    )
    took = output.style.faint(duration(time.monotonic() - begun))
    if foreground:
        return
    output.done(
        mount_record(record),
        f"{output.style.ref(_shown_revision(record))} is mounted at {shown(record.mountpoint)}  {took}",
        output.style.faint(f"  unmount it with: moorage umount {shown(str(directory))}"),
    )


def _only_directory(ctx: typer.Context, first: str, second: Path | None, *, pin: bool) -> Path:
    """The one word that `--all` leaves room for."""
    if second is not None:
        ctx.fail(f"--all shows all revisions: {first!r} is one too many.")
    if pin:
        ctx.fail("--all and --pin exclude each other.")
    return Path(first)


def _shown_revision(record: MountRecord) -> str:
    return "everything" if record.revision == serve.EVERYTHING else record.revision


def mount_record(record: MountRecord) -> dict[str, object]:
    """One line of `mounts --json`; what the kernel does not tell of other users' mounts is null."""
    return {
        "mountpoint": record.mountpoint,
        "repository": record.repository,
        "revision": record.revision,
        "snapshot": record.snapshot or None,
        "state": record.state.value,
        "pinned": record.pinned,
        "passthrough": record.passthrough,
        "driver": record.driver or None,
        "server_pid": record.pid or None,
        "log_opens": record.log_opens,
        "started": utc(record.started_ns) if record.started_ns else None,
        "log": record.log or None,
    }


@app.command("umount", cls=Command)
def umount(
    ctx: typer.Context,
    directory: Mountpoint,
    lazy: Annotated[bool, typer.Option("--lazy", help="At once; who uses it is served until he is done.")] = False,
) -> None:
    """Unmount what moorage has mounted at DIR."""
    session = Session(ctx)
    record = serve.umount(directory, lazy=lazy)
    session.output.done(
        mount_record(record),
        f"{session.output.style.ref(_shown_revision(record))} is no longer mounted at {shown(record.mountpoint)}",
    )


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
def doctor(ctx: typer.Context) -> None:
    """Check what a mount needs of this machine, and say what to do about each thing it lacks."""
    session = Session(ctx)
    output = session.output
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
