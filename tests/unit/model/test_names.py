"""Which names are legal, and does a legal one survive every way in which it is written?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import InvalidInputError
from moorage.model.names import (
    MAX_PATH_BYTES,
    MAX_QUOTED_REF_BYTES,
    check_entry_name,
    check_ref_name,
    check_text,
    join_path,
    quote_ref_name,
    split_path,
    unquote_ref_name,
)
from tests.unit.format.values import ENTRY_NAMES, REF_NAMES

# -- refs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "prod",
        "experiment/model_v2_improvements",
        "a/b/c",
        "v1.0",
        ".hidden",
        "a.b..c",
        "a@b",
        "prod@",
        "@a",
        "a{b}",
        "with space",
        "50%",
        "\u00e9\u00e8",
        "\U0001f6a2",
        "HEAD",
        "a-b",
        "refs",
        "myrefs/x",
        "f" * 63,
        "F" * 64,
        "x" * 200,
    ],
)
def test_legal_ref_names(name: str) -> None:
    assert check_ref_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        ".",
        "..",
        "a/./b",
        "a/../b",
        "-a",
        "--force",
        "a:b",
        "a~1",
        "a@{1}",
        "@",
        "refs/branches/a",
        "refs/",
        "a\nb",
        "a\0",
        "a\x7f",
        "a\x85",
        "a\x9b31m",
        "\udc80",
        "f" * 64,
        "0123456789abcdef" * 4,
        "x" * 201,
        "\u00e9" * 34,
    ],
)
def test_illegal_ref_names(name: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_ref_name(name)
    assert caught.value.fields["name"] == name


@given(REF_NAMES)
def test_a_quoted_name_is_one_safe_part_of_a_key(name: str) -> None:
    quoted = quote_ref_name(name)
    assert unquote_ref_name(quoted) == name
    assert set(quoted) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-%")
    assert not quoted.startswith((".", "-"))
    assert len(quoted) <= MAX_QUOTED_REF_BYTES


@given(REF_NAMES, REF_NAMES)
def test_different_names_are_quoted_differently(first: str, second: str) -> None:
    assert (quote_ref_name(first) == quote_ref_name(second)) == (first == second)


@given(st.text(max_size=30) | st.text("%abAB09._-/2EeF", max_size=12))
def test_what_is_not_a_quoted_name_is_refused(quoted: str) -> None:
    try:
        name = unquote_ref_name(quoted)
    except InvalidInputError:
        return
    assert quote_ref_name(name) == quoted


@pytest.mark.parametrize(
    "quoted", ["a/b", "a%2fb", "%61", "%zz", "%", "%E9", "a b", ".a", "%2E", "%2E%2E", "a%2F", "~"]
)
def test_other_spellings_are_refused(quoted: str) -> None:
    with pytest.raises(InvalidInputError):
        unquote_ref_name(quoted)


# -- entries -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "...", ".a", "a b", "a\nb", "\x07", "\\", "x" * 255, "\u00e9" * 127, "-rf", "~"])
def test_legal_entry_names(name: str) -> None:
    assert check_entry_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0b", "x" * 256, "\u00e9" * 128, "\udc80"])
def test_illegal_entry_names(name: str) -> None:
    with pytest.raises(InvalidInputError):
        check_entry_name(name)


# -- paths -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("", ()),
        ("/", ()),
        (".", ()),
        ("./", ()),
        ("a", ("a",)),
        ("/a/b/", ("a", "b")),
        ("a//b/./c", ("a", "b", "c")),
        (".../a", ("...", "a")),
    ],
)
def test_paths(path: str, parts: tuple[str, ...]) -> None:
    assert split_path(path) == parts


@pytest.mark.parametrize("path", ["..", "a/..", "../a", "a\0", "a/" + "x" * 256, "\udc80", "a/" * 2_047 + "ab"])
def test_impossible_paths(path: str) -> None:
    with pytest.raises(InvalidInputError):
        split_path(path)


def test_the_longest_path() -> None:
    assert len(split_path("a/" * 2_047 + "a")) == 2_048
    assert len("a/" * 2_047 + "a") == MAX_PATH_BYTES


@given(st.lists(ENTRY_NAMES, max_size=6))
def test_joining_and_splitting(names: list[str]) -> None:
    path = ""
    for name in names:
        path = join_path(path, name)
    assert split_path(path) == tuple(names)


def test_text() -> None:
    assert check_text("\u00e9\n\0", "message") == "\u00e9\n\0"
    with pytest.raises(InvalidInputError, match="message"):
        check_text("a\udc80", "message")
