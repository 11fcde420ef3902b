"""What happens in the demonstration, in order."""

from __future__ import annotations

import sys
from pathlib import Path

from moorage.api import Repository
from moorage.cli.demo.exports import RELEASES, TENSORS, TUNED, Release, Written, write_release
from moorage.cli.demo.stage import Stage
from moorage.cli.formatting import Cell, plain, size, table
from moorage.cli.output import write

EXPORT = "export"
LIVE = "live"
MODEL = "models/model.pkl"
WEIGHTS = "models/encoder.safetensors"

_READER = """\
import pickle
model = pickle.load(open("{path}", "rb"))
print(model["name"], model["version"], "with an accuracy of", model["accuracy"])"""
_FIRST, _SECOND = RELEASES


def play(stage: Stage, size_mib: int) -> bool:
    """Everything, in the current directory; returns whether it could be mounted.

    Raises `SceneFailed`, `KeyboardInterrupt`.
    """
    total_bytes = _store(stage, size_mib)
    _experiment(stage, size_mib, total_bytes)
    is_mounted = _mount(stage)
    if is_mounted:
        _promote_mounted(stage)
    else:
        _promote_unmounted(stage)
    _sum_up(stage)
    return is_mounted


def _store(stage: Stage, size_mib: int) -> int:
    stage.heading("1  A training job has left model files")
    total_bytes = _show(stage, write_release(Path(EXPORT), _FIRST, size_mib))
    stage.heading("2  Store them, and call that prod")
    stage.moorage("init")
    _commit(stage, _FIRST, "prod", total_bytes, "--create")
    return total_bytes


def _experiment(stage: Stage, size_mib: int, total_bytes: int) -> None:
    stage.heading("3  Train on, on a branch")
    stage.moorage("branch", "create", "experiment/v2", "--from", "prod")
    stage.say(f"training goes on: {100 * len(TUNED) // TENSORS} % of the tensors change, and so does the classifier")
    write_release(Path(EXPORT), _SECOND, size_mib)
    _commit(stage, _SECOND, "experiment/v2", total_bytes)
    stage.moorage("diff", "prod", "experiment/v2")


def _commit(stage: Stage, release: Release, branch: str, size_bytes: int, *more: str) -> None:
    name = f"v{release.version}"
    words = ["commit", EXPORT, "-b", branch, "-m", f"model {name}", "--meta", f"accuracy={release.accuracy}", *more]
    stage.moorage(*words, what=f"commit {name}", size_bytes=size_bytes)


def _show(stage: Stage, written: list[Written]) -> int:
    rows: list[list[Cell]] = [
        [(f"{EXPORT}/{file.path}", plain), (size(file.size_bytes), stage.style.bold), (file.by, stage.style.faint)]
        for file in written
    ]
    for line in table(rows, "<><"):
        write(line)
    return sum(file.size_bytes for file in written)


# -- in production ---------------------------------------------------------------------------------


def _mount(stage: Stage) -> bool:
    """Mount prod where the machine lets us; the command itself says why not."""
    stage.heading("4  Put prod into production")
    Path(LIVE).mkdir()
    stage.prompt(f"mkdir {LIVE}")
    return stage.attempt("mount", "prod", LIVE, what="mount") == 0


def _promote_mounted(stage: Stage) -> None:
    stage.say("a program that knows nothing of moorage:")
    _load(stage, f"{LIVE}/{MODEL}", _FIRST, "load the classifier through the mount")
    stage.heading("5  Update production: merge")
    stage.moorage("merge", "experiment/v2", "--into", "prod", what="merge")
    stage.say("the same program; nothing was mounted again, nothing restarted:")
    _load(stage, f"{LIVE}/{MODEL}", _SECOND, "load it again: v2")
    weights_bytes = (Path(LIVE) / WEIGHTS).stat().st_size
    for what in ("read all weights through the mount", "read them once more"):
        stage.program(
            f"cat {LIVE}/{WEIGHTS} >/dev/null",
            ["/bin/sh", "-c", f"cat {LIVE}/{WEIGHTS} >/dev/null"],
            what,
            weights_bytes,
        )
    stage.moorage("umount", LIVE)


def _promote_unmounted(stage: Stage) -> None:
    stage.say(
        "This machine does not let us mount (`moorage doctor` says what is missing), so here is the way",
        "for libraries without a mount: repo.path gives a real path of a verified local copy.",
    )
    _load_copy(stage, _FIRST)
    stage.heading("5  Update production: merge")
    stage.moorage("merge", "experiment/v2", "--into", "prod", what="merge")
    _load_copy(stage, _SECOND)


def _load_copy(stage: Stage, release: Release) -> None:
    stage.prompt(f'path = moorage.Repository.open(".moorage").path("prod:{MODEL}")   # in Python')
    with Repository.open(".moorage") as repo:
        path = repo.path(f"prod:{MODEL}")
    _load(stage, str(path), release, f"load the classifier, v{release.version}")


def _load(stage: Stage, path: str, release: Release, what: str) -> None:
    """In another Python, which imports nothing of moorage."""
    code = _READER.format(path=path)
    printed = stage.program(f"python3 -c '\n{code}'", [sys.executable, "-c", code], what)
    if f"v{release.version} " not in printed:
        raise AssertionError(f"expected version {release.version}, got {printed!r}")


def _sum_up(stage: Stage) -> None:
    stage.heading("6  What it took")
    stage.moorage("stats")
    write("")
    stage.show_timings()
