"""`moorage demo`: everything in a minute, on files made for it, in a place that is gone afterwards."""

from __future__ import annotations

import io
import time
from contextlib import nullcontext, redirect_stdout
from typing import Annotated

import typer

from moorage.cli.demo.scenes import play
from moorage.cli.demo.stage import SceneFailed, Stage, own_place
from moorage.cli.formatting import duration
from moorage.cli.options import Command
from moorage.cli.output import write
from moorage.cli.session import Session

app = typer.Typer()


@app.command("demo", cls=Command)
def demo(
    ctx: typer.Context,
    size_mib: Annotated[
        int,
        typer.Option("--size", min=1, max=100_000, metavar="MIB", help="How much of model weights is made for it."),
    ] = 240,
) -> None:
    """See it all work: commit, branch, mount, merge, and read model files that are made for it.

    Everything happens in a temporary directory, which is removed at the end. Takes less than a minute, and about three
    times the size of the weights there.
    """
    output = Session(ctx).output
    silenced = redirect_stdout(io.StringIO()) if output.is_json or output.is_quiet else nullcontext()
    stage = Stage(output.style)
    begun = time.monotonic()
    try:
        with silenced, own_place() as folder:
            bold, faint = output.style.bold, output.style.faint
            write(f"{bold('moorage demo')}: from a directory of model files to a branch that any program can read.")
            write(faint(f"In {folder}, which is removed at the end."))
            is_mounted = play(stage, size_mib)
    except SceneFailed as failure:
        output.note("The demo has stopped here; everything of it is removed again.")
        raise typer.Exit(failure.code) from failure
    seconds = time.monotonic() - begun
    output.done(
        {
            "mounted": is_mounted,
            "seconds": seconds,
            "steps": [
                {"what": timing.what, "seconds": timing.seconds, "size_bytes": timing.size_bytes}
                for timing in stage.timings
            ],
        },
        "",
        output.style.faint(f"All of it took {duration(seconds)}, and nothing of it is left behind."),
    )
