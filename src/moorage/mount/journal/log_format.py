"""What does a line of a server's log look like?

For people (`text`): time, level, message. For programs (`json`): one object a line with `time` (ISO 8601, UTC), `level`
(`info`, `warning`, `error`), `message`, and what the message speaks of as keys of their own, where whoever logs names
them:

    _log.error("READ %s: EIO", path, extra=fields(path=path, errno="EIO"))

An unforeseen error adds `exception`, its traceback. What the interpreter itself has to say when it dies is text in
either case.
"""

from __future__ import annotations

import json
import logging

from moorage.errors import InvalidInputError
from moorage.mount.journal.open_log import iso

TEXT = "text"
JSON = "json"
FORMATS = (TEXT, JSON)
_ATTRIBUTE = "moorage_fields"


def fields(**named: object) -> dict[str, object]:
    """What to give as `extra` to a logger."""
    return {_ATTRIBUTE: named}


def formatter(name: str) -> logging.Formatter:
    """The formatter called `name`. Raises `InvalidInputError`."""
    if name == JSON:
        return JsonFormatter()
    if name == TEXT:
        return logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    raise InvalidInputError(f"there is no log format {name!r}", hint=f"one of: {', '.join(FORMATS)}")


class JsonFormatter(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of `record`, without its end."""
        line: dict[str, object] = {
            "time": iso(int(record.created * 1_000_000) * 1_000),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        for name, value in getattr(record, _ATTRIBUTE, {}).items():
            line.setdefault(name, value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)  # ASCII: names that are not UTF-8 must not end a line
