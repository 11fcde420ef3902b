"""Are a user's folders where the XDG specification says?"""

from __future__ import annotations

from pathlib import Path

import pytest

from moorage.errors import StorageError
from moorage.repository.user_folders import CACHE, CONFIG, STATE, cache_home, user_folder

FOLDERS = [(CACHE, ".cache"), (CONFIG, ".config"), (STATE, ".local/state")]


@pytest.mark.parametrize(("folder", "below_home"), FOLDERS)
@pytest.mark.parametrize("value", ["", "relative/path", "/abs"])
def test_where_it_is(monkeypatch: pytest.MonkeyPatch, folder: tuple[str, str], below_home: str, value: str) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv(folder[0], value)
    assert str(user_folder(*folder)) == ("/abs/moorage" if value == "/abs" else f"/home/somebody/{below_home}/moorage")


def test_who_has_no_home_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    for folder, _ in FOLDERS:
        monkeypatch.delenv(folder[0], raising=False)
        assert user_folder(*folder) is None
    with pytest.raises(StorageError, match="no home"):
        cache_home()
