"""Which colours does this terminal want, and which characters are safe to show on it?

Sixteen-colour escapes and no library: a listing of ten thousand lines costs what printing costs. Nothing is coloured
where the stream is no terminal, NO_COLOR is set, or TERM is `dumb`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TextIO

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Style:
    """Colours by what they mean."""

    is_coloured: bool

    @classmethod
    def of(cls, stream: TextIO, *, is_terminal: bool | None = None) -> Style:
        """What suits `stream`; `is_terminal` says it where the stream itself cannot."""
        asked = stream.isatty() if is_terminal is None else is_terminal
        return cls(asked and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb")

    def _painted(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.is_coloured and text else text

    def bold(self, text: str) -> str:
        """What the eye should find first."""
        return self._painted("1", text)

    def faint(self, text: str) -> str:
        """What is there for completeness."""
        return self._painted("2", text)

    def id(self, text: str) -> str:
        """A snapshot."""
        return self._painted("33", text)

    def ref(self, text: str) -> str:
        """A branch or a tag."""
        return self._painted("36", text)

    def directory(self, text: str) -> str:
        """A directory."""
        return self._painted("1;34", text)

    def link(self, text: str) -> str:
        """A symlink."""
        return self._painted("36", text)

    def good(self, text: str) -> str:
        """Added, or as it should be."""
        return self._painted("32", text)

    def changed(self, text: str) -> str:
        """Different, or worth a look."""
        return self._painted("33", text)

    def bad(self, text: str) -> str:
        """Removed, or wrong."""
        return self._painted("1;31", text)


def shown(text: str) -> str:
    """`text` on one line, with every character that could steer a terminal or reorder a line made visible.

    Names and messages come from whoever committed them.
    """
    return _UNSAFE.sub(lambda match: _escaped(match.group()), text)


def _escaped(character: str) -> str:
    code = ord(character)
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character)
    return named or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
