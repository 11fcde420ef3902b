"""Which names are legal: of refs, of entries in a tree, of paths.

A value that passed one of these functions can be joined, quoted and written without another thought; that is why they
exist.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from moorage.errors import InvalidInputError

MAX_QUOTED_REF_BYTES = 200
MAX_ENTRY_NAME_BYTES = 255
"""What Linux file systems allow one name."""
MAX_PATH_BYTES = 4095
"""What Linux allows one path (PATH_MAX without the final NUL); a deeper tree could be stored but never be read back by
path."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Those of ASCII and those of Latin-1, which terminals obey as well."""
_HEX_ID = re.compile(r"[0-9a-f]{64}")


def check_text(text: str, what: str) -> str:
    """Return `text`, free text of people, if it can be written down as UTF-8. Raises `InvalidInputError`.

    What the operating system hands over (arguments, user names) may hold bytes that are not text.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"the {what} is not valid Unicode: {text[:80]!r}") from error
    return text


def check_ref_name(name: str) -> str:
    """Return `name` if a branch or tag may be called so. Raises `InvalidInputError` that says why not.

    Slashes are welcome (`experiment/model_v2`). Refused: what a revision uses as punctuation (`:`, `@{`, `~`, and `@`
    alone), controls, a leading `-` (looks like an option), a leading `refs/` (says which kind of ref is meant), empty
    parts, the parts `.` and `..`, 64 hexadecimal digits (looks like a snapshot id), and what is longer than 200 bytes
    when quoted.
    """
    problem = _ref_name_problem(name)
    if problem is not None:
        raise InvalidInputError(f"{name!r} cannot name a branch or tag: {problem}", name=name)
    return name


def _ref_name_problem(name: str) -> str | None:
    if not name:
        return "it is empty"
    if _CONTROL.search(name):
        return "it has a control character"
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    for mark in (":", "@{", "~"):
        if mark in name:
            return f"{mark!r} is punctuation of revisions"
    if name.startswith("-"):
        return "it starts with '-'"
    if name.startswith("refs/"):
        return "'refs/' says which kind of ref is meant"
    if name == "@":
        return "'@' alone is punctuation of revisions"
    if _HEX_ID.fullmatch(name):
        return "it looks like a snapshot id"
    parts = name.split("/")
    if "" in parts:
        return "it has an empty part"
    if "." in parts or ".." in parts:
        return "'.' and '..' are not parts of a name"
    if len(quote_ref_name(name)) > MAX_QUOTED_REF_BYTES:
        return f"it is longer than {MAX_QUOTED_REF_BYTES} bytes when quoted"
    return None


def quote_ref_name(name: str) -> str:
    """`name` as one component of a key: everything but letters, digits, `_`, `.` and `-` becomes %XX.

    A leading dot is quoted too, so that no key looks hidden or like `.`.
    """
    quoted = quote(name, safe="").replace("~", "%7E")
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted


def unquote_ref_name(quoted: str) -> str:
    """The inverse of `quote_ref_name`. Raises `InvalidInputError` when `quoted` is not what `quote_ref_name` makes."""
    try:
        name = unquote(quoted, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"not a quoted name: {quoted!r}") from error
    if quote_ref_name(name) != quoted:
        raise InvalidInputError(f"not a quoted name: {quoted!r}")
    return check_ref_name(name)


def check_entry_name(name: str) -> str:
    """Return `name` if an entry of a tree may be called so. Raises `InvalidInputError`."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise InvalidInputError(f"{name!r} cannot name an entry of a tree", name=name)
    if name.isascii() and len(name) <= MAX_ENTRY_NAME_BYTES:
        return name  # of which there are millions
    try:
        length = len(name.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{name!r} cannot name an entry of a tree: it is not valid UTF-8", name=name) from error
    if length > MAX_ENTRY_NAME_BYTES:
        raise InvalidInputError(f"{name!r} is longer than {MAX_ENTRY_NAME_BYTES} bytes", name=name)
    return name


def split_path(path: str) -> tuple[str, ...]:
    """The names along a path inside a tree; `""` and `"/"` are the root, `()`.

    Leading and trailing slashes and single dots mean nothing, as in a shell; `..` is refused, since a tree has no place
    to go up to. Raises `InvalidInputError`.
    """
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    for part in parts:
        check_entry_name(part)
    if len(path.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
        raise InvalidInputError(f"the path is longer than {MAX_PATH_BYTES} bytes: {path[:60]!r}...", path=path)
    return parts


def join_path(parent: str, name: str) -> str:
    """`parent/name`, where the root is `""`."""
    return f"{parent}/{name}" if parent else name
