"""Are files left out by the rules of gitignore?"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from moorage.errors import InvalidInputError, UnreadableSourceError
from moorage.ingest.ignore import IGNORE_FILE
from moorage.repository.handle import RepositoryHandle
from tests.needs import needs_tool
from tests.unit.ingest.sources import committed, held, lay_out

FILES = [
    "a.txt",
    "a.tmp",
    "keep.tmp",
    "build/x.o",
    "src/build/y.o",
    "src/main.py",
    "src/a.tmp",
    "logs/today.log",
    "logs/keep.log",
    "deep/er/still/z.log",
    "space ",
    "#hash",
    "!bang",
    "d/e/f/g.bin",
    "data/cache/x",
    "data/keep/cache/x",
]
RULES = {
    "nothing": {"": ""},
    "a name": {"": "*.tmp\n"},
    "a name and an exception": {"": "*.tmp\n!keep.tmp\n"},
    "a directory": {"": "build/\n"},
    "a directory at the top": {"": "/build/\n"},
    "inside a directory": {"": "logs/*.log\n"},
    "everywhere": {"": "**/*.log\n"},
    "an exception below an ignored directory": {"": "logs/\n!logs/keep.log\n"},
    "an exception below ignored files": {"": "logs/*\n!logs/keep.log\n"},
    "comments and blanks": {"": "# a comment\n\n   \n*.o\n"},
    "escapes": {"": "\\#hash\n\\!bang\nspace\\ \n"},
    "everything but": {"": "/*\n!/src\n"},
    "a deeper file": {"": "*.tmp\n", "src": "!*.tmp\n"},
    "a deeper file that ignores": {"src": "main.py\n"},
    "a deeper file with a path": {"data": "keep/cache\n"},
    "the middle": {"": "d/**/g.bin\n"},
    "ranges": {"": "[a-b].t?t\n"},
    "itself": {"": ".moorageignore\n.gitignore\n"},
}


def lay(folder: Path, rules: dict[str, str], name: str) -> Path:
    lay_out(folder, dict.fromkeys(FILES, b"x"))
    for where, text in rules.items():
        (folder / where / name).write_text(text)
    return folder


@needs_tool("git")
@pytest.mark.parametrize("name", RULES)
def test_as_git_does_it(handle: RepositoryHandle, tmp_path: Path, name: str) -> None:
    ours = held(handle, committed(handle, lay(tmp_path / "ours", RULES[name], IGNORE_FILE)))
    theirs = lay(tmp_path / "theirs", RULES[name], ".gitignore")
    subprocess.run(["git", "init", "-q", str(theirs)], check=True)
    command = ["git", "-c", "core.excludesFile=/dev/null", "ls-files", "-z", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=theirs, stdout=subprocess.PIPE, check=True).stdout.decode().split("\0")
    assert {path.replace(IGNORE_FILE, ".gitignore") for path, leaf in ours.items() if leaf is not None} == {
        path for path in listed if path
    }


def test_what_an_ignored_directory_holds_is_not_looked_at(handle: RepositoryHandle, tmp_path: Path) -> None:
    source = lay_out(tmp_path / "s", {"a": b"1", "d/b": b"2", IGNORE_FILE: b"d/\n", f"d/{IGNORE_FILE}": b"\xff"})
    assert sorted(held(handle, committed(handle, source))) == [IGNORE_FILE, "a"]


def test_rules_speak_for_the_source_whatever_its_path_in_the_tree(handle: RepositoryHandle, tmp_path: Path) -> None:
    source = lay_out(tmp_path / "s", {"a": b"1", "b": b"2", IGNORE_FILE: b"/a\n"})
    assert sorted(held(handle, committed(handle, source, at="x/y"))) == [f"x/y/{IGNORE_FILE}", "x/y/b"]


def test_an_ignore_file_that_is_not_text(handle: RepositoryHandle, tmp_path: Path) -> None:
    source = lay_out(tmp_path / "s", {"a": b"1", IGNORE_FILE: b"\xff\xfe"})
    with pytest.raises(UnreadableSourceError, match=IGNORE_FILE):
        committed(handle, source)


def test_a_pattern_that_is_none(handle: RepositoryHandle, tmp_path: Path) -> None:
    source = lay_out(tmp_path / "s", {"a": b"1", IGNORE_FILE: b"!\n"})
    with pytest.raises(InvalidInputError, match=IGNORE_FILE):
        committed(handle, source)


def test_a_directory_of_that_name_holds_no_rules(handle: RepositoryHandle, tmp_path: Path) -> None:
    source = lay_out(tmp_path / "s", {"a": b"1", f"{IGNORE_FILE}/b": b"a\n"})
    assert sorted(held(handle, committed(handle, source))) == [f"{IGNORE_FILE}/b", "a"]
