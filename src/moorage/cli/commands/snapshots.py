"""`moorage commit`, `log` and `show`: making snapshots, and looking at them."""

from __future__ import annotations

import heapq
import itertools
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Annotated, cast

import typer

from moorage.api import Repository
from moorage.cli.arguments import Limit, Message, Revision, completed
from moorage.cli.changes import change_lines, change_record, change_summary
from moorage.cli.formatting import count, duration, first_line, local, pairs, percent, rate, size
from moorage.cli.opening import open_repository
from moorage.cli.options import Command
from moorage.cli.records import snapshot_record
from moorage.cli.session import Session
from moorage.cli.style import Style, shown
from moorage.errors import InvalidInputError
from moorage.ingest.commit import CommitResult
from moorage.model.digest import SnapshotId
from moorage.model.refs import RefKind
from moorage.model.snapshot import Json, Snapshot
from moorage.versioning.changes import added
from moorage.versioning.diff import Change

STANDARD_INPUT = "-"

app = typer.Typer()


@app.command("commit", cls=Command)
def commit(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(metavar="SRC", help="A directory, a file, or - for the standard input.", show_default=False),
    ],
    branch: Annotated[
        str, typer.Option("--branch", "-b", metavar="BRANCH", help="It moves.", autocompletion=completed("branches"))
    ],
    message: Message = "",
    at: Annotated[str, typer.Option("--at", metavar="PATH", help="Replace only this path of the tree.")] = "",
    meta: Annotated[
        list[str] | None,
        typer.Option("--meta", metavar="KEY=VALUE", help="Metadata; VALUE is JSON where it is valid JSON."),
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Make the branch if there is none.")] = False,
    if_changed: Annotated[
        bool, typer.Option("--if-changed", help="Make no snapshot if the tree is the same as before.")
    ] = False,
) -> None:
    """Store SRC as a new snapshot, and move BRANCH to it; prints the snapshot's id."""
    session = Session(ctx)
    metadata = _metadata(meta or [])
    with open_repository(session) as repo, session.progress() as progress:
        begun = time.monotonic()
        result = repo.commit(
            sys.stdin.buffer if source == STANDARD_INPUT else source,
            branch=branch,
            at=at,
            message=message,
            metadata=metadata,
            create=create,
            if_changed=if_changed,
            progress=progress,
        )
        seconds = time.monotonic() - begun
    output = session.output
    if output.is_terminal and not output.is_quiet:
        output.record(_commit_record(result, seconds), _summary(result, seconds, message, output.style))
    else:
        output.record(_commit_record(result, seconds), [result.snapshot.hex()])
        if result.unchanged:
            output.explain(_unchanged(result))


def _metadata(given: list[str]) -> dict[str, Json]:
    metadata: dict[str, Json] = {}
    for item in given:
        key, mark, value = item.partition("=")
        if not mark or not key:
            raise InvalidInputError(
                f"{item!r} is no metadata", hint="write --meta KEY=VALUE, for example --meta accuracy=0.93", meta=item
            )
        if key in metadata:
            raise InvalidInputError(f"the metadata {key!r} is given twice", hint="each key has one value", meta=item)
        metadata[key] = _json_or_text(value)
    return metadata


def _json_or_text(value: str) -> Json:
    """VALUE as JSON, where it is; NaN and Infinity are not, though Python reads them."""
    try:
        return cast("Json", json.loads(value, parse_constant=_refuse))
    except ValueError:
        return value


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _commit_record(result: CommitResult, seconds: float) -> dict[str, object]:
    return {
        "snapshot": result.snapshot.hex(),
        "branch": result.branch,
        "blake3": result.digest.hex(),
        "files": result.files,
        "read_files": result.read_files,
        "logical_bytes": result.logical_bytes,
        "new_bytes": result.new_bytes,
        "stored_bytes": result.stored_bytes,
        "unchanged": result.unchanged,
        "committed": result.committed,
        "seconds": seconds,
    }


def _summary(result: CommitResult, seconds: float, message: str, style: Style) -> Iterator[str]:
    heading = f"{style.id(result.snapshot.short)}  {style.ref(result.branch)}"
    yield f"{heading}  {shown(first_line(message)) if result.committed else ''}".rstrip()
    unread = result.files - result.read_files
    known = f", {count(unread)} of them known already and not read" if unread else ""
    speed = rate(result.logical_bytes, seconds)
    yield from pairs(
        [
            ("files", f"{count(result.files)}{known}"),
            ("size", size(result.logical_bytes)),
            ("new", f"{size(result.new_bytes)} ({percent(result.new_bytes, result.logical_bytes)} of it)"),
            ("stored", f"{size(result.stored_bytes)} more on disk"),
            ("time", f"{duration(seconds)}{f', {speed}' if speed else ''}"),
        ],
        style,
        indent="  ",
    )
    if result.unchanged:
        yield f"  {_unchanged(result)}"


def _unchanged(result: CommitResult) -> str:
    made = "" if result.committed else ", and no snapshot is made"
    return f"unchanged: the tree of {shown(result.branch)} is the same as before{made}"


@app.command("log", cls=Command)
def log(
    ctx: typer.Context,
    revision: Annotated[
        str | None,
        typer.Argument(
            metavar="[REV]",
            help="Where to start; without it, at every branch.",
            autocompletion=completed("revisions"),
            show_default=False,
        ),
    ] = None,
    limit: Limit = None,
) -> None:
    """List a snapshot and all before it, newest first."""
    session = Session(ctx)
    output = session.output
    with open_repository(session) as repo:
        snapshots = itertools.islice(repo.log(revision) if revision is not None else _everything(repo), limit)
        if output.is_json:
            for id, snapshot in snapshots:
                output.json(snapshot_record(id, snapshot))
            return
        names = _names(repo)
        number = 0
        for number, (id, snapshot) in enumerate(snapshots, 1):
            output.lines(_log_lines(id, snapshot, names[id], output.style, gap=number > 1))
        if not number and limit is None:
            output.note("Nothing has been committed yet.")


def _everything(repo: Repository) -> Iterator[tuple[SnapshotId, Snapshot]]:
    """The history of all branches together, newest first."""
    histories = [repo.log(f"refs/branches/{record.ref.name}") for record in repo.branches()]
    seen: set[SnapshotId] = set()
    for id, snapshot in heapq.merge(*histories, key=lambda item: -item[1].time_ns):
        if id not in seen:
            seen.add(id)
            yield id, snapshot


def _names(repo: Repository) -> defaultdict[SnapshotId, list[str]]:
    """Which branches and tags stand where, as people say it."""
    names: defaultdict[SnapshotId, list[str]] = defaultdict(list)
    for record in [*repo.branches(), *repo.tags()]:
        word = "tag " if record.ref.kind is RefKind.TAG else ""
        names[record.snapshot].append(word + record.ref.name)
    return names


def _log_lines(id: SnapshotId, snapshot: Snapshot, names: list[str], style: Style, *, gap: bool) -> Iterator[str]:
    if gap:
        yield ""
    refs = f"  {style.ref(', '.join(names))}" if names else ""
    merge = f"  {style.faint('merge of ' + ' and '.join(parent.short for parent in snapshot.parents))}"
    yield style.id(id.short) + refs + (merge if len(snapshot.parents) > 1 else "")
    yield style.faint(f"  {local(snapshot.time_ns)}  {shown(snapshot.author)}  {size(snapshot.size_bytes)}")
    yield from (f"  {shown(line)}" for line in snapshot.message.strip().splitlines())
    yield from (f"  {style.faint(shown(line))}" for line in _metadata_lines(snapshot))


def _metadata_lines(snapshot: Snapshot) -> Iterator[str]:
    for key, value in snapshot.metadata.items():
        yield f"{key} = {json.dumps(value, ensure_ascii=False)}"


@app.command("show", cls=Command)
def show(ctx: typer.Context, revision: Revision) -> None:
    """Show one snapshot, and what it changed against its first parent."""
    session = Session(ctx)
    output = session.output
    with open_repository(session) as repo:
        found = repo.resolve(revision)
        changes = _changes(repo, found.id, found.snapshot)
        names = _names(repo)[found.id]
    record = snapshot_record(found.id, found.snapshot) | {"changes": [change_record(change) for change in changes]}
    output.record(record, _show_lines(found.id, found.snapshot, names, changes, output.style))


def _changes(repo: Repository, id: SnapshotId, snapshot: Snapshot) -> list[Change]:
    """Against the first parent; of a first snapshot everything is new."""
    if snapshot.parents:
        return list(repo.diff(snapshot.parents[0].hex(), id.hex()))
    everything = repo.ls(id.hex(), recursive=True)
    return [added(path, entry) for path, entry in everything if entry.kind.word != "directory"]


def _show_lines(
    id: SnapshotId, snapshot: Snapshot, names: list[str], changes: list[Change], style: Style
) -> Iterator[str]:
    rows = [
        ("snapshot", style.id(id.hex())),
        ("refs", style.ref(", ".join(names))),
        *(("parent", parent.hex()) for parent in snapshot.parents),
        ("author", shown(snapshot.author)),
        ("time", local(snapshot.time_ns)),
        ("size", size(snapshot.size_bytes)),
        ("blake3", snapshot.digest.hex()),
        *(("metadata", shown(line)) for line in _metadata_lines(snapshot)),
    ]
    yield from pairs([row for row in rows if row[1]], style)
    if snapshot.message.strip():
        yield ""
        yield from (f"  {shown(line)}" for line in snapshot.message.strip().splitlines())
    yield ""
    yield style.faint(f"{change_summary(changes)}{' since the first parent' if snapshot.parents else ''}")
    yield from change_lines(changes, style)
