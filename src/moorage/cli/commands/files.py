"""`moorage ls`, `cat`, `stat` and `checkout`: what lies in a revision."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from moorage.api import Repository
from moorage.cli.arguments import FileLocation, LocationOrRoot
from moorage.cli.formatting import Cell, count, duration, local, pairs, plain, rate, size, table
from moorage.cli.opening import open_repository
from moorage.cli.options import GIVEN_PATH, Command
from moorage.cli.output import flush, writing
from moorage.cli.records import entry_record, place_record
from moorage.cli.session import Session
from moorage.cli.style import Style, shown
from moorage.model.tree import Entry, EntryKind
from moorage.read.checkout import CheckoutResult

app = typer.Typer()


@app.command("ls", cls=Command)
def ls(
    ctx: typer.Context,
    location: LocationOrRoot,
    long: Annotated[bool, typer.Option("--long", "-l", help="Kinds, sizes and times, too.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-R", help="Everything below.")] = False,
) -> None:
    """List a directory of a revision."""
    session = Session(ctx)
    output = session.output
    with open_repository(session) as repo:
        if output.is_json:
            for path, entry in repo.ls(location, recursive=recursive):
                output.json(entry_record(path, entry))
            return
        base = _base(repo, location)
        found = ((path[base:], entry) for path, entry in repo.ls(location, recursive=recursive))
        if long:
            output.lines(table([_long(name, entry, output.style) for name, entry in found], "<><<"))
        elif output.is_terminal:
            output.lines(_marked(name, entry, output.style) for name, entry in found)
        else:
            output.lines(shown(name) for name, _ in found)


def _base(repo: Repository, location: str) -> int:
    """How much of each path to leave out: what the user has named."""
    place = repo.locate(location)
    if place.entry is None or place.entry.kind is not EntryKind.DIRECTORY:
        return 0
    return len(place.path) + 1


def _marked(name: str, entry: Entry, style: Style) -> str:
    """As a terminal shows it: a directory ends in a slash, also where there are no colours."""
    return _paint(entry, style)(shown(name) + ("/" if entry.kind is EntryKind.DIRECTORY else ""))


def _paint(entry: Entry, style: Style) -> Callable[[str], str]:
    if entry.kind is EntryKind.DIRECTORY:
        return style.directory
    if entry.kind is EntryKind.SYMLINK:
        return style.link
    return style.good if entry.executable else plain


def _long(name: str, entry: Entry, style: Style) -> list[Cell]:
    kinds = {EntryKind.DIRECTORY: "dir", EntryKind.SYMLINK: "link"}
    target = style.faint(f" -> {shown(entry.target)}") if entry.target else ""
    paint = _paint(entry, style)
    return [
        (kinds.get(entry.kind, "exec" if entry.executable else "file"), style.faint),
        (size(entry.size_bytes), plain),
        (local(entry.first_stored_ns), style.faint),
        (shown(name), lambda text: paint(text) + target),
    ]


@app.command("cat", cls=Command)
def cat(ctx: typer.Context, location: FileLocation) -> None:
    """Write a file to the standard output, every byte verified."""
    with open_repository(Session(ctx)) as repo:
        flush()
        for piece in repo.read_pieces(location):
            with writing():
                sys.stdout.buffer.write(piece)


@app.command("stat", cls=Command)
def stat(ctx: typer.Context, location: FileLocation) -> None:
    """Say what lies at a path: its kind, its size, and the BLAKE3 that `b3sum` prints of it."""
    session = Session(ctx)
    with open_repository(session) as repo:
        place = repo.locate(location)
        record = place_record(place)
    entry = place.entry
    rows = [
        ("path", shown(place.path) or "/"),
        ("type", f"{record['type']}, executable" if record["executable"] else str(record["type"])),
        ("target", shown(entry.target) if entry else ""),
        ("size", _exact_size(int(str(record["size_bytes"])))),
        ("blake3", str(record["blake3"])),
        ("object", str(record["object"] or "")),
        ("first stored", local(entry.first_stored_ns) if entry else ""),
        ("snapshot", session.output.style.id(place.resolved.id.hex())),
    ]
    session.output.record(record, pairs([row for row in rows if row[1]], session.output.style))


def _exact_size(size_bytes: int) -> str:
    return size(size_bytes) if size_bytes < 1000 else f"{size(size_bytes)} ({size_bytes:,} bytes)"


@app.command("checkout", cls=Command)
def checkout(
    ctx: typer.Context,
    location: LocationOrRoot,
    target: Annotated[
        Path, typer.Argument(metavar="DEST", help="Where to write it.", click_type=GIVEN_PATH, show_default=False)
    ],
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace files that are there.")] = False,
) -> None:
    """Write a directory or a file of a revision to disk."""
    session = Session(ctx)
    with open_repository(session) as repo, session.progress() as progress:
        begun = time.monotonic()
        result = repo.checkout(location, target, force=force, progress=progress)
        seconds = time.monotonic() - begun
    record = {
        "target": os.path.abspath(result.target),
        "files": result.files,
        "directories": result.directories,
        "symlinks": result.symlinks,
        "logical_bytes": result.size_bytes,
        "seconds": seconds,
    }
    speed = rate(result.size_bytes, seconds)
    session.output.done(
        record,
        f"Wrote {', '.join(_written(result))}, to {shown(str(result.target))}"
        f" in {duration(seconds)}{f' ({speed})' if speed else ''}",
    )


def _written(result: CheckoutResult) -> Iterator[str]:
    if result.files or not result.symlinks:
        yield count(result.files, "file")
        yield size(result.size_bytes)
    if result.symlinks:
        yield count(result.symlinks, "symlink")
