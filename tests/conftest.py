"""What every test runs under: hypothesis profiles, needs of the machine, and an environment of its own.

Profiles, chosen by MOORAGE_HYPOTHESIS_PROFILE or else by where the tests run:

    dev    a quick look at random examples; failures are remembered in .hypothesis
    ci     the same examples each time, so that a red run is red again
    deep   many more, for `make soak`
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from tests.needs import require

# No deadline anywhere: an assertion about time fails on a busy machine and proves nothing on an idle one.
hypothesis.settings.register_profile("dev", deadline=None, max_examples=50)
hypothesis.settings.register_profile(
    "ci", deadline=None, max_examples=100, derandomize=True, database=None, print_blob=True
)
hypothesis.settings.register_profile("deep", deadline=None, max_examples=5_000, stateful_step_count=100)


def _profile() -> str:
    if chosen := os.environ.get("MOORAGE_HYPOTHESIS_PROFILE"):
        return chosen
    if os.environ.get("MOORAGE_SOAK") == "1":
        return "deep"
    return "ci" if os.environ.get("CI") else "dev"


hypothesis.settings.load_profile(_profile())


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test whose needs the machine does not meet, before any fixture runs."""
    for mark in item.iter_markers("needs"):
        require(mark.args[0])


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's caches, settings and repositories out of the tests, and the tests out of them."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CACHE", "CONFIG", "DATA", "STATE"):
            patch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
        runtime = home / "runtime"
        runtime.mkdir(mode=0o700)
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        patch.setenv("NO_COLOR", "1")
        patch.setenv("TZ", "UTC")
        patch.delenv("MOORAGE_REPO", raising=False)
        yield
