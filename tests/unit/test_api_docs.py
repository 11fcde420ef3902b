"""Do the examples in docs/api.md run as they stand, and does the page name what there is?"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from moorage import errors
from moorage.api import Repository
from tests.needs import needs_fuse

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
TEXT = PAGE.read_text("utf-8")


def examples(text: str = TEXT, mark: str = "") -> list[tuple[int, str]]:
    """(line, code) of each block of Python; with a pattern, of those with such a mark, too."""
    return [
        (text.count("\n", 0, match.start(1)) + 1, match[1])
        for match in re.finditer(rf"^```python{mark}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


def run(blocks: list[tuple[int, str]]) -> None:
    """One after the other, with nothing but what they have themselves."""
    names: dict[str, object] = {}
    for line, code in blocks:
        exec(compile("\n" * (line - 1) + code, str(PAGE), "exec"), names)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run(examples())
    assert len(examples()) >= 10
    assert (tmp_path / "restored" / "data" / "labels.txt").read_text() == "cat\ndog\n"


@needs_fuse
def test_the_examples_that_mount_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert len(examples(mark="(?: mount)?")) > len(examples())
    run(examples(mark="(?: mount)?"))


def test_an_example_that_fails_would_be_noticed() -> None:
    """Negative control."""
    (example,) = examples("text\n```python\nassert False\n```\n")
    assert example == (3, "assert False\n")
    with pytest.raises(AssertionError):
        exec(example[1])


def test_every_method_is_on_the_page() -> None:
    public = [name for name, _ in inspect.getmembers(Repository) if not name.startswith("_")]
    assert [name for name in public if not re.search(rf"\b{name}\b", TEXT)] == []


def test_every_error_on_the_page_exists() -> None:
    named = set(re.findall(r"`([A-Z]\w+Error)`", TEXT))
    assert named
    assert [name for name in named if not hasattr(errors, name)] == []
