"""Are settings read where the user made them, and refused where they mean nothing?"""

from __future__ import annotations

from pathlib import Path

import pytest

from moorage.cli.config import Config, parse_size, read_config
from moorage.errors import InvalidInputError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "moorage").mkdir()
    return tmp_path / "moorage" / "config.toml"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000", 1000),
        ("20GiB", 20 << 30),
        ("20 GiB", 20 << 30),
        ("1.5g", 3 << 29),
        ("500M", 500 << 20),
        ("2 TB", 2 * 1000**4),
        ("3KiB", 3072),
        (4096, 4096),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text, "it") == size


@pytest.mark.parametrize("text", ["", "much", "-1", "1 XB", "1e3", True])
def test_what_is_no_size(text: str | int) -> None:
    with pytest.raises(InvalidInputError, match="it is not a size"):
        parse_size(text, "it")


def test_no_file_sets_nothing(file: Path) -> None:
    assert read_config() == Config()


def test_the_size_of_the_cache(file: Path) -> None:
    file.write_text('[cache]\nsize = "1 GiB"\n')
    assert read_config() == Config(1 << 30)


def test_the_timeout_of_mounts(file: Path) -> None:
    file.write_text("[mount]\ntimeout = 12.5\n")
    assert read_config() == Config(None, 12.5)


@pytest.mark.parametrize("value", ["0", "0.5", "-1", "100_000"])
def test_a_timeout_that_is_no_timeout_names_the_file(file: Path, value: str) -> None:
    file.write_text(f"[mount]\ntimeout = {value}\n")
    with pytest.raises(InvalidInputError, match="not between 1 s and a day") as caught:
        read_config()
    assert str(file) in caught.value.message


@pytest.mark.parametrize("value", ['"soon"', "true", "[1]"])
def test_what_is_no_timeout(file: Path, value: str) -> None:
    file.write_text(f"[mount]\ntimeout = {value}\n")
    with pytest.raises(InvalidInputError, match="not a number of seconds"):
        read_config()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[cache]\nsiez = 1\n", "has no 'siez'"),
        ("[cahce]\nsize = 1\n", r"no section \[cahce\]"),
        ("cache = 1\n", r"no section \[cache\]"),
        ("[cache]\nsize = 'big'\n", "not a size"),
        ("[cache\n", "cannot read"),
    ],
)
def test_what_means_nothing_is_refused(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(InvalidInputError, match=said):
        read_config()
