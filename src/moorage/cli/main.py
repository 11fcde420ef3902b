"""From the words of a command line to an exit code.

The table below names every command with its one-line summary, so that `moorage --help` and completion import none of
them; a command's module is imported when it is called. Whatever goes wrong ends here, as one line and an exit code.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer import _click as click  # see moorage.cli.options
from typer.main import get_command

from moorage.cli import errors
from moorage.cli.bash import use_own_script
from moorage.cli.errors import ExitCode
from moorage.cli.options import Group, LazyCommand, Settings
from moorage.cli.output import flush, let_go, prepare_streams, write

_PACKAGE = "moorage.cli.commands"

COMMANDS: tuple[tuple[str, str, str, str], ...] = (
    # word, module, summary, panel
    ("init", "store", "Make a repository.", "Start"),
    ("demo", "demo", "See it all work, in a minute, on files made for it.", "Start"),
    ("commit", "snapshots", "Store a directory or a file as a new snapshot of a branch.", "Snapshots"),
    ("log", "snapshots", "List a snapshot and all before it.", "Snapshots"),
    ("show", "snapshots", "Show one snapshot and what it changed.", "Snapshots"),
    ("diff", "versions", "List what is different between two revisions.", "Snapshots"),
    ("merge", "versions", "Bring what one revision changed into a branch.", "Snapshots"),
    ("branch", "refs", "List, create, move, rename and delete branches.", "Names"),
    ("tag", "refs", "List, create and delete tags, which never move.", "Names"),
    ("reflog", "refs", "List where a branch has stood.", "Names"),
    ("ls", "files", "List a directory of a revision.", "Files"),
    ("cat", "files", "Write a file to the standard output.", "Files"),
    ("stat", "files", "Say what lies at a path: kind, size, BLAKE3.", "Files"),
    ("checkout", "files", "Write a directory or a file of a revision to disk.", "Files"),
    ("mount", "mount", "Show a revision as a read-only directory, and follow it.", "Mounts"),
    ("run", "run", "Run a command that sees a branch where it stands now.", "Mounts"),
    ("warm", "warm", "Bring files into the cache before somebody reads them.", "Mounts"),
    ("umount", "mount", "Unmount what is mounted at a directory.", "Mounts"),
    ("mounts", "mounts", "List what is mounted.", "Mounts"),
    ("upgrade", "mount", "Serve a mount by the version that is installed now.", "Mounts"),
    ("who", "who", "List who has opened a file, a directory or a snapshot.", "Mounts"),
    ("check", "store", "Verify a repository.", "Upkeep"),
    ("stats", "store", "Say what is stored, and what that saves.", "Upkeep"),
    ("doctor", "mounts", "Check what a mount needs of this machine.", "Upkeep"),
)


class ReaderGone(Exception):
    """Whoever read the standard output has stopped; no `OSError`, since typer has its own idea of those."""


class Root(Group):
    """`moorage` itself."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGone from error


app = typer.Typer(cls=Root, name="moorage", invoke_without_command=True, pretty_exceptions_enable=False)


def _version(asked: bool) -> None:
    if asked:
        from importlib import metadata  # 20 ms that no other command needs

        write(f"moorage {metadata.version('moorage')}")
        raise typer.Exit


@app.callback()
def moorage(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001  # its callback has done the work
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Versions of models and data: store them once, branch them, mount them."""
    if ctx.invoked_subcommand is None:
        if Settings.of(ctx).json:
            ctx.fail("Missing command")
        write(ctx.get_help())


def build() -> Root:
    """The whole command line; the commands themselves are still to be imported."""
    use_own_script()
    root = get_command(app)
    assert isinstance(root, Root)
    for word, module, summary, panel in COMMANDS:
        root.add_command(LazyCommand(word, f"{_PACKAGE}.{module}", summary, panel))
    return root


def run(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> int:
    """Run one command and return its exit code; the words are those of the process unless given."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    settings = settings or Settings()
    prepare_streams()
    if logging.lastResort is not None:  # a warning of the library, where no server keeps a log
        logging.lastResort.setFormatter(logging.Formatter("moorage: %(message)s"))
    try:
        code = _invoke(words, settings)
        flush()
    except (ReaderGone, BrokenPipeError):
        let_go()
        return ExitCode.READER_GONE
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001  # the last line of defence: no traceback for users
        try:
            flush()
        except OSError:
            let_go()
        errors.tell(error, as_json=settings.json or "--json" in words)
        code = errors.exit_code(error)
    return int(code)


def _invoke(words: list[str], settings: Settings) -> int:
    try:
        result = build().main(words, prog_name="moorage", standalone_mode=False, obj=settings)
    except SystemExit as end:  # typer's completion ends so
        result = end.code
    return result if isinstance(result, int) else ExitCode.OK
