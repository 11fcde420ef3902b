"""Which files does the source not want stored? What `.moorageignore` names, by the rules of gitignore.

A `.moorageignore` may lie in any directory and speaks for what is below it; where several speak, the deepest one that
says something decides, as in git. What an ignored directory holds cannot be brought back.

Source: gitignore(5); the patterns are matched by the pathspec library.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moorage.errors import InvalidInputError, UnreadableSourceError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".moorageignore"


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """What the ignore files from the source's root down to one directory say."""

    specs: tuple[tuple[str, GitIgnoreSpec], ...] = ()
    """(path of the directory that holds the file, with a final slash unless it is the root; its patterns)."""

    def descend(self, folder: Path, path: str) -> IgnoreRules:
        """The rules inside `folder`, which holds an ignore file and lies at `path` in the source.

        Raises `UnreadableSourceError`, `InvalidInputError` for a pattern that is none.
        """
        from pathspec import GitIgnoreSpec  # slow to import, and most sources have no such file

        file = folder / IGNORE_FILE
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UnreadableSourceError(f"cannot read {file}: {error}", path=str(file)) from error
        try:
            spec = GitIgnoreSpec.from_lines(lines)
        except ValueError as error:
            raise InvalidInputError(f"{file} holds a pattern that is none: {error}", path=str(file)) from error
        return IgnoreRules((*self.specs, (f"{path}/" if path else "", spec)))

    def ignores(self, path: str, *, is_directory: bool) -> bool:
        """Whether what lies at `path` in the source is left out."""
        for prefix, spec in reversed(self.specs):
            inner = path.removeprefix(prefix) + ("/" if is_directory else "")
            verdict = spec.check_file(inner).include
            if verdict is not None:
                return verdict
        return False
