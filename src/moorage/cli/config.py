"""What has this user settled once and for all? `$XDG_CONFIG_HOME/moorage/config.toml`, which need not be there.

    [cache]
    size = "50 GiB"      # of hydrated files; 0 for none

    [mount]
    timeout = 30         # seconds within which every request is answered

An option of a command goes before it. A key that is not known is an error: a misspelt setting should not be without
effect and without a word.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorage.errors import InvalidInputError
from moorage.mount.request import DEFAULT_TIMEOUT_S, LONGEST_TIMEOUT_S, SHORTEST_TIMEOUT_S
from moorage.repository.user_folders import CONFIG, user_folder

_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{letter}{end}": 1 << 10 * power for power, letter in enumerate("KMGT", 1) for end in ("", "i", "iB")}
_UNITS |= {f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?i?B?)", re.IGNORECASE)
_NAMES = {unit.lower(): factor for unit, factor in _UNITS.items()}
_KNOWN = {"cache": {"size"}, "mount": {"timeout"}}


@dataclass(frozen=True, slots=True)
class Config:
    """The settings, where they are made."""

    cache_bytes: int | None = None
    mount_timeout_s: float = DEFAULT_TIMEOUT_S


def config_file() -> Path:
    """Where the settings are; it may not be there."""
    return (user_folder(*CONFIG) or Path(os.devnull)) / "config.toml"  # of a user without a home nowhere


def read_config() -> Config:
    """The settings of this user. Raises `InvalidInputError`."""
    path = config_file()
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return Config()
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"cannot read {path}: {error}", hint="mend or remove it") from error
    for section, values in settings.items():
        _refuse_unknown(path, section, values)
    size = settings.get("cache", {}).get("size")
    timeout = settings.get("mount", {}).get("timeout", DEFAULT_TIMEOUT_S)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise InvalidInputError(
            f"[mount] timeout in {path} is not a number of seconds: {timeout!r}", hint="for example 30"
        )
    if not SHORTEST_TIMEOUT_S <= timeout <= LONGEST_TIMEOUT_S:
        raise InvalidInputError(
            f"[mount] timeout in {path} is not between {SHORTEST_TIMEOUT_S:g} s and a day: {timeout!r}",
            hint="for example 30",
        )
    return Config(None if size is None else parse_size(size, f"[cache] size in {path}"), float(timeout))


def _refuse_unknown(path: Path, section: str, values: Any) -> None:
    known = _KNOWN.get(section)
    if known is None or not isinstance(values, dict):
        raise InvalidInputError(f"{path}: there is no section [{section}]", hint=f"known: {', '.join(_KNOWN)}")
    for key in values:
        if key not in known:
            raise InvalidInputError(f"{path}: [{section}] has no {key!r}", hint=f"known: {', '.join(sorted(known))}")


def parse_size(text: str | int, what: str) -> int:
    """Bytes, of `20 GiB`, `500M` (powers of 1024), `2 TB` (powers of 1000) or a plain number. Raises
    `InvalidInputError` naming `what`."""
    match = _SIZE.fullmatch(str(text).strip())
    if match is None or isinstance(text, bool):
        raise InvalidInputError(f"{what} is not a size: {text!r}", hint="for example 20GiB, 500M, or 0")
    return int(float(match[1]) * _NAMES[match[2].lower()])
