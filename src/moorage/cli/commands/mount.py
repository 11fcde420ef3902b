"""`moorage mount`, `umount` and `upgrade`: showing a revision to programs that know nothing of it."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from moorage.cli import errors
from moorage.cli import mount_options as options
from moorage.cli.arguments import AnyMountpoint, Mountpoint
from moorage.cli.config import parse_size, read_config
from moorage.cli.errors import ExitCode
from moorage.cli.formatting import duration
from moorage.cli.options import Command, command_of
from moorage.cli.output import Output
from moorage.cli.records import mount_record
from moorage.cli.session import Session
from moorage.cli.style import shown
from moorage.mount import given, registry, serve
from moorage.mount.host.owner import group_id, umask_of, user_id
from moorage.mount.registry import MountRecord

app = typer.Typer()


@app.command("mount", cls=command_of("REV DIR | --all DIR"))
def mount(
    ctx: typer.Context,
    revision: options.RevisionOrNone = None,
    directory: options.Directory = None,
    everything: options.Everything = False,
    pin: options.Pin = False,
    sticky: options.Sticky = False,
    foreground: options.Foreground = False,
    driver: options.DriverChoice = options.Driver.KERNEL,
    cache_size: options.CacheSize = None,
    allow_other: options.AllowOther = False,
    uid: options.Uid = None,
    gid: options.Gid = None,
    umask: options.Umask = None,
    log_opens: options.LogOpens = False,
    timeout: options.Timeout = None,
    metrics: options.Metrics = "",
    log: options.Log = None,
    log_format: options.LogFormatChoice = options.LogFormat.TEXT,
) -> None:
    """Show a revision at DIR, read-only; a branch is followed when it moves.

    Returns when the mount answers, and serves it in the background.
    """
    session = Session(ctx)
    begun = time.monotonic()
    if everything:
        revision, directory = serve.EVERYTHING, _only_directory(ctx, revision, directory, pin=pin)
    if revision is None or directory is None:
        ctx.fail(f"Missing argument '{'REV' if revision is None else 'DIR'}'.")
    config = read_config()
    if timeout is None and driver is options.Driver.KERNEL:
        timeout = config.mount_timeout_s
    record = serve.mount(
        session.repository_path(),
        revision,
        directory,
        foreground=foreground,
        pin=pin,
        allow_other=allow_other,
        uid=None if uid is None else user_id(uid),
        gid=None if gid is None else group_id(gid),
        umask=None if umask is None else umask_of(umask),
        driver=driver.value,
        log=log,
        log_format=log_format.value,
        cache_bytes=config.cache_bytes if cache_size is None else parse_size(cache_size, "--cache-size"),
        log_opens=log_opens,
        sticky=sticky,
        timeout_s=timeout,
        metrics=metrics,
    )
    if not foreground:
        _tell_mounted(session.output, record, time.monotonic() - begun)


def _tell_mounted(output: Output, record: MountRecord, seconds: float) -> None:
    took = output.style.faint(duration(seconds))
    unmount = f"moorage umount {shown(shlex.quote(record.mountpoint))}"
    if given.descriptor(record.mountpoint) is not None:
        unmount = "umount(8), by whoever has mounted it"
    output.done(
        mount_record(record),
        f"{output.style.ref(_shown_revision(record))} is mounted at {shown(record.mountpoint)}  {took}",
        output.style.faint(f"  unmount it with: {unmount}"),
    )


def _only_directory(ctx: typer.Context, first: str | None, second: Path | None, *, pin: bool) -> Path:
    """The one word that `--all` leaves room for."""
    if not first:
        ctx.fail("Missing argument 'DIR'.")
    if second is not None:
        ctx.fail(f"--all shows all revisions: {first!r} is one too many.")
    if pin:
        ctx.fail("--all and --pin exclude each other.")
    return Path(first)


def _shown_revision(record: MountRecord) -> str:
    return "everything" if record.revision == serve.EVERYTHING else record.revision


@app.command("umount", cls=command_of("DIR | --all"))
def umount(
    ctx: typer.Context,
    directory: AnyMountpoint = None,
    everything: Annotated[bool, typer.Option("--all", help="All mounts of this user.")] = False,
    lazy: Annotated[bool, typer.Option("--lazy", help="At once; who uses it is served until he is done.")] = False,
) -> None:
    """Unmount what moorage has mounted at DIR. Takes 5 seconds at most."""
    session = Session(ctx)
    if everything:
        if directory is not None:
            ctx.fail(f"--all unmounts everything: {str(directory)!r} is one too many.")
        _umount_all(session, lazy=lazy)
        return
    if directory is None:
        ctx.fail("Missing argument 'DIR'.")
    _tell_gone(session.output, serve.umount(directory, lazy=lazy))


def _umount_all(session: Session, *, lazy: bool) -> None:
    """Each that goes is told, each that stays is told with the reason, and the first reason is the exit code."""
    code = ExitCode.OK
    done = serve.umount_all(lazy=lazy)
    for record, error in done:
        if error is None:
            _tell_gone(session.output, record)
        else:
            errors.tell(error, as_json=session.output.is_json)
            code = code or errors.exit_code(error)
    if not done:
        session.output.note("Nothing is mounted.")
    if code:
        raise typer.Exit(code)


def _tell_gone(output: Output, record: MountRecord) -> None:
    server = registry.server_of(record)
    left = "" if server is None else output.style.faint(f"  its server ({server}) is still ending")
    output.done(
        mount_record(record),
        f"{output.style.ref(_shown_revision(record))} is no longer mounted at {shown(record.mountpoint)}{left}",
    )


@app.command("upgrade", cls=Command)
def upgrade(ctx: typer.Context, directory: Mountpoint) -> None:
    """Serve the mount at DIR by the version of moorage that is installed now.

    Whoever reads there waits for a moment; no read fails, and what is open stays open.
    """
    session = Session(ctx)
    begun = time.monotonic()
    record = serve.upgrade(directory)
    took = session.output.style.faint(duration(time.monotonic() - begun))
    session.output.done(
        mount_record(record), f"{shown(record.mountpoint)} is served by process {record.server_pid}  {took}"
    )
