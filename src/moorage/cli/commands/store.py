"""`moorage init`, `check` and `stats`: a repository as a whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from moorage.api import Repository
from moorage.cli.arguments import completed
from moorage.cli.errors import ExitCode
from moorage.cli.formatting import Cell, count, duration, percent, plain, rate, size, table
from moorage.cli.opening import open_repository
from moorage.cli.options import GIVEN_PATH, Command
from moorage.cli.session import Session
from moorage.cli.style import Style, shown
from moorage.maintain.check import CheckReport
from moorage.maintain.report import Problem, Severity
from moorage.maintain.stats import BranchStats, StoreStats

app = typer.Typer()


@app.command("init", cls=Command)
def init(
    ctx: typer.Context,
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]", help="Empty, or not there yet.", click_type=GIVEN_PATH, show_default="./.moorage"
        ),
    ] = None,
) -> None:
    """Make a repository."""
    session = Session(ctx)
    given = directory or Path(session.settings.repository or ".moorage")
    with Repository.create(given) as repo:
        record = {"repository": str(repo.root), "id": repo.id}
    is_found = given.name == ".moorage"
    use = "moorage" if is_found else f"moorage -r {given}"
    session.output.done(
        record,
        f"Made a repository in {shown(str(repo.root))}",
        session.output.style.faint(f"  store something: {use} commit DIR -b main --create"),
    )


@app.command("check", cls=Command)
def check(
    ctx: typer.Context,
    data: Annotated[bool, typer.Option("--data", help="Read and verify every stored byte, too.")] = False,
) -> None:
    """Verify a repository; name each damaged thing, and which paths of which branches it touches."""
    session = Session(ctx)
    output = session.output
    with open_repository(session) as repo, session.progress() as progress:
        begun = time.monotonic()
        report = repo.check(data=data, progress=progress)
        seconds = time.monotonic() - begun
    if output.is_json:
        output.json(_check_record(report, seconds))
    else:
        for problem in report.problems:
            output.lines(_problem_lines(problem, output.style))
        if report.problems or not output.is_quiet:
            output.lines(_check_lines(report, seconds, output.style))
    if not report.ok:
        raise typer.Exit(ExitCode.FAILED)


def _check_record(report: CheckReport, seconds: float) -> dict[str, object]:
    return {
        "ok": report.ok,
        "data": report.data,
        "problems": [asdict(problem) for problem in report.problems],
        "verified": asdict(report.verified),
        "garbage": asdict(report.garbage),
        "index_rebuilt": report.index_rebuilt,
        "seconds": seconds,
    }


def _problem_lines(problem: Problem, style: Style) -> Iterator[str]:
    paint = style.bad if problem.severity is Severity.ERROR else style.changed
    yield f"{paint(problem.severity.value)}  {shown(problem.what)}: {shown(problem.message)}"
    for location in problem.affected:
        yield f"       {style.faint('touches')} {shown(location)}"
    more = problem.affected_count - len(problem.affected)
    if more:
        yield f"       {style.faint(f'and {count(more)} more')}"


def _check_lines(report: CheckReport, seconds: float, style: Style) -> Iterator[str]:
    errors = sum(problem.severity is Severity.ERROR for problem in report.problems)
    warnings = len(report.problems) - errors
    if report.ok:
        verdict = style.good("ok") + (f", with {count(warnings, 'warning')}" if warnings else "")
    else:
        verdict = style.bad(count(errors, "error")) + (f", {count(warnings, 'warning')}" if warnings else "")
    seen = report.verified
    amounts = [
        count(seen.refs, "ref"),
        count(seen.snapshots, "snapshot"),
        count(seen.trees, "directory", "directories"),
        count(seen.files, "file"),
        count(seen.chunks, "chunk"),
        count(seen.packs, "pack"),
    ]
    yield f"{verdict}  {style.faint(', '.join(amounts) + '; ' + duration(seconds))}"
    if report.data:
        speed = rate(seen.data_bytes + seen.hashed_bytes, seconds)
        told = f"every byte was read and hashed: {size(seen.data_bytes)}"
        if seen.hashed_bytes:
            told += f"; and every file as a whole: {size(seen.hashed_bytes)}"
        yield style.faint(f"{told}{f'; {speed}' if speed else ''}")
    else:
        yield style.faint("stored bytes were not read: `moorage check --data` does that")
    if report.index_rebuilt:
        yield style.faint("the local index, which is derived, was wrong and is built anew")
    if report.garbage.packs or report.garbage.leftovers:
        bytes_of_it = size(report.garbage.pack_bytes + report.garbage.leftover_bytes)
        yield style.faint(f"{bytes_of_it} lie there that nothing leads to; they do no harm")


@app.command("stats", cls=Command)
def stats(
    ctx: typer.Context,
    revision: Annotated[
        str | None,
        typer.Argument(
            metavar="[REV]",
            help="Only what this revision needs; without it, the whole repository.",
            autocompletion=completed("revisions"),
            show_default=False,
        ),
    ] = None,
    by_branch: Annotated[bool, typer.Option("--by-branch", help="What each branch needs, too.")] = False,
) -> None:
    """Say what is stored, and what deduplication and compression save."""
    session = Session(ctx)
    with open_repository(session) as repo:
        found = repo.stats(revision, by_branch=by_branch)
    session.output.record(_stats_record(found), _stats_lines(found, session.output.style))


def _stats_record(stats: StoreStats) -> dict[str, object]:
    return {
        "revision": stats.revision,
        "logical_bytes": stats.logical_bytes,
        "unique_bytes": stats.unique_bytes,
        "stored_chunk_bytes": stats.stored_chunk_bytes,
        "stored_bytes": stats.stored_bytes,
        "dedup_ratio": stats.dedup_ratio,
        "compression_ratio": stats.compression_ratio,
        "total_ratio": stats.total_ratio,
        "files": stats.files,
        "chunks": stats.chunks,
        "packs": stats.packs,
        "snapshots": stats.snapshots,
        "branches": stats.branches,
        "tags": stats.tags,
        "index_bytes": stats.index_bytes,
        "refs_bytes": stats.refs_bytes,
        "by_branch": [_branch_record(branch) for branch in stats.by_branch],
    }


def _branch_record(branch: BranchStats) -> dict[str, object]:
    return {
        "branch": branch.name,
        "snapshot": branch.snapshot.hex(),
        "snapshots": branch.snapshots,
        "logical_bytes": branch.tree.logical_bytes,
        "unique_bytes": branch.tree.unique_bytes,
        "stored_bytes": branch.tree.stored_bytes,
        "files": branch.tree.files,
        "chunks": branch.tree.chunks,
        "packs": branch.tree.packs,
    }


def _stats_lines(stats: StoreStats, style: Style) -> Iterator[str]:
    if stats.revision is None:
        of = f"all versions as plain folders: {count(stats.snapshots, 'snapshot')}, {count(stats.files, 'file')}"
        told = [count(stats.branches or 0, "branch", "branches"), count(stats.tags or 0, "tag")]
    else:
        of, told = f"{count(stats.files, 'file')} of {shown(stats.revision)}", []
    told += [count(stats.chunks, "chunk"), count(stats.packs, "pack")]
    rows = [
        [("logical", style.faint), (size(stats.logical_bytes), plain), (of, style.faint)],
        [
            ("unique", style.faint),
            (size(stats.unique_bytes), plain),
            (f"each chunk once: {stats.dedup_ratio:.2f} times smaller", style.faint),
        ],
        [
            ("stored", style.faint),
            (size(stats.stored_bytes), style.bold),
            (f"compressed, on disk: {_smaller(stats)}", style.faint),
        ],
    ]
    yield from table(rows, "<><")
    yield style.faint("  ".join(["", ", ".join(told)]).strip())
    if stats.by_branch:
        yield ""
        head = [(word, style.faint) for word in ("branch", "snapshots", "files", "logical", "unique", "stored")]
        yield from table([head, *(_branch_cells(branch, style) for branch in stats.by_branch)], "<>>>>>")


def _smaller(stats: StoreStats) -> str:
    if stats.stored_bytes >= stats.logical_bytes:
        return f"{percent(stats.stored_bytes, stats.logical_bytes)} of logical"
    return f"{stats.total_ratio:.2f} times smaller in all, {percent(stats.stored_bytes, stats.logical_bytes)}"


def _branch_cells(branch: BranchStats, style: Style) -> list[Cell]:
    return [
        (branch.name, style.ref),
        (count(branch.snapshots), plain),
        (count(branch.tree.files), plain),
        (size(branch.tree.logical_bytes), plain),
        (size(branch.tree.unique_bytes), plain),
        (size(branch.tree.stored_bytes), plain),
    ]
