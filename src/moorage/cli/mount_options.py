"""Which options does `moorage mount` take?

Types for the arguments of the command, so that it reads as what it does; and what their words mean.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from moorage.cli.arguments import REVISION_HELP, completed
from moorage.cli.options import GIVEN_PATH

_HOW = "How it is served"
_WHO = "Who may read"
_LOG = "What is written down"


class Driver(enum.StrEnum):
    """How to talk to the kernel."""

    KERNEL = "kernel"
    LIBFUSE = "libfuse"


class LogFormat(enum.StrEnum):
    """What a line of the log looks like."""

    TEXT = "text"
    JSON = "json"


RevisionOrNone = Annotated[
    str | None,
    typer.Argument(
        metavar="REV",
        help=f"{REVISION_HELP} Not with --all.",
        autocompletion=completed("revisions"),
        show_default=False,
    ),
]
Directory = Annotated[
    Path | None,
    typer.Argument(metavar="DIR", help="An empty directory to mount on.", click_type=GIVEN_PATH, show_default=False),
]
Everything = Annotated[bool, typer.Option("--all", help="All branches, tags and snapshots at once: mount --all DIR.")]
Pin = Annotated[bool, typer.Option("--pin", help="Stay where the branch stands now.")]
Sticky = Annotated[bool, typer.Option("--sticky", help="Show each process one snapshot for as long as it reads.")]

Foreground = Annotated[
    bool, typer.Option("--foreground", help="Serve here, for systemd and containers.", rich_help_panel=_HOW)
]
DriverChoice = Annotated[
    Driver,
    typer.Option("--driver", help="How to talk to the kernel; libfuse is the portable way.", rich_help_panel=_HOW),
]
CacheSize = Annotated[
    str | None,
    typer.Option(
        "--cache-size",
        metavar="SIZE",
        help="How large the cache of hydrated files may be, such as 20GiB; 0 for none.",
        show_default=False,
        rich_help_panel=_HOW,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        help="Answer every request within so many seconds; otherwise as the settings say, or 30.",
        show_default=False,
        rich_help_panel=_HOW,
    ),
]

AllowOther = Annotated[bool, typer.Option("--allow-other", help="Let other users in.", rich_help_panel=_WHO)]
Uid = Annotated[
    str | None,
    typer.Option(
        "--uid",
        metavar="USER",
        help="To whom everything seems to belong, by name or number; otherwise to who mounts.",
        show_default=False,
        rich_help_panel=_WHO,
    ),
]
Gid = Annotated[
    str | None,
    typer.Option(
        "--gid", metavar="GROUP", help="The group, in the same way.", show_default=False, rich_help_panel=_WHO
    ),
]
Umask = Annotated[
    str | None,
    typer.Option(
        "--umask",
        metavar="OCTAL",
        help="Take these bits off 0444 and 0555: 027 is for a group alone.",
        show_default=False,
        rich_help_panel=_WHO,
    ),
]

LogOpens = Annotated[
    bool, typer.Option("--log-opens", help="Write down who opens what, for `moorage who`.", rich_help_panel=_LOG)
]
Metrics = Annotated[
    str,
    typer.Option(
        "--metrics",
        metavar="ADDRESS:PORT|FILE",
        help="Put out numbers for Prometheus.",
        show_default=False,
        rich_help_panel=_LOG,
    ),
]
Log = Annotated[
    Path | None,
    typer.Option(
        "--log",
        metavar="FILE",
        help="Where the server logs; otherwise a file that `moorage mounts --json` names.",
        click_type=GIVEN_PATH,
        show_default=False,
        rich_help_panel=_LOG,
    ),
]
LogFormatChoice = Annotated[
    LogFormat, typer.Option("--log-format", help="json is one object a line.", rich_help_panel=_LOG)
]
