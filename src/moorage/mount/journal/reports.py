"""How does a process that was started say what came of it? In one line of JSON over a pipe.

An error crosses as its kind, message, hint and fields, and is raised on the other side as what it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from moorage.errors import MoorageError, MountError

UNFORESEEN = "the server failed: "
"""How the message of what is no error of ours begins; the log has its traceback."""


def send(pipe: int, report: Mapping[str, object]) -> None:
    """Say it, and close the pipe. Raises `MountError` when nobody waits for it any more: who gave up waiting, or was
    interrupted, has been told that there is no mount, so there must be none."""
    data = json.dumps(report, default=str).encode() + b"\n"
    try:
        while data:
            data = data[os.write(pipe, data) :]
    except BrokenPipeError as error:
        raise MountError("the command that asked for this mount did not wait for it") from error
    finally:
        os.close(pipe)


def told(error: Exception) -> dict[str, object]:
    """An error, for the other side."""
    if isinstance(error, MoorageError):
        return {"kind": error.kind, "message": error.message, "hint": error.hint, "fields": error.fields}
    return {"kind": MountError.kind, "message": f"{UNFORESEEN}{error!r}", "hint": None, "fields": {}}


def error_of(fields: Mapping[str, Any]) -> MoorageError:
    """The inverse of `told`."""
    return _class_of(fields["kind"])(fields["message"], hint=fields["hint"], **fields["fields"])


def _class_of(kind: str) -> type[MoorageError]:
    """The error class of a kind: each class has its own."""
    return next((cls for cls in _all_classes(MoorageError) if cls.kind == kind), MountError)


def _all_classes(cls: type[MoorageError]) -> Iterator[type[MoorageError]]:
    yield cls
    for below in cls.__subclasses__():
        yield from _all_classes(below)
