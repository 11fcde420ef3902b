"""Does a missing tool skip a test, and fail it where everything is required?"""

from __future__ import annotations

import pytest

from tests.needs import is_optional, linux_missing, needs_linux, needs_module, needs_tool, require


def _absent() -> str:
    return "the thing is missing"


@pytest.fixture
def not_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOORAGE_REQUIRE_ALL", raising=False)


@pytest.fixture
def required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORAGE_REQUIRE_ALL", "1")


@pytest.mark.usefixtures("not_required")
def test_a_missing_thing_skips_with_its_reason() -> None:
    with pytest.raises(pytest.skip.Exception, match="the thing is missing"):
        require(_absent)


@pytest.mark.usefixtures("required")
def test_a_missing_thing_fails_where_everything_is_required() -> None:
    with pytest.raises(pytest.fail.Exception, match="the thing is missing"):
        require(_absent)


@pytest.mark.usefixtures("required")
def test_what_is_there_passes() -> None:
    require(needs_tool("sh").args[0])
    require(needs_module("pytest").args[0])


@pytest.mark.usefixtures("required")
def test_a_tool_that_does_not_exist_is_missing() -> None:
    with pytest.raises(pytest.fail.Exception, match="no-such-tool is not installed"):
        require(needs_tool("no-such-tool").args[0])


def test_only_the_optional_modules_are_optional() -> None:
    assert is_optional(needs_module("torch").args[0])
    assert not is_optional(needs_module("numpy").args[0])
    assert not is_optional(needs_tool("torch").args[0])


@needs_linux
def test_a_mark_decorates_the_test_and_not_the_probe(request: pytest.FixtureRequest) -> None:
    assert [mark.args for mark in request.node.iter_markers("needs")] == [(linux_missing,)]
