"""Is every deadline before that of the kernel?"""

from __future__ import annotations

from pathlib import Path

import pytest

from moorage.mount.kernel import limit as limit_module
from moorage.mount.kernel.limit import below_kernel_limit


@pytest.mark.parametrize(
    ("limits", "asked", "given"), [(("0", "0"), 30, 30), (("20", "0"), 30, 15), (("60", "40"), 30, 30), (("x",), 9, 9)]
)
def test_deadlines_stay_below_the_kernels(
    limits: tuple[str, ...],
    asked: float,
    given: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for number, limit in enumerate(limits):
        (tmp_path / str(number)).write_text(limit + "\n")
    names = tuple(str(tmp_path / str(number)) for number in range(3))
    monkeypatch.setattr(limit_module, "KERNEL_LIMITS", names)
    assert below_kernel_limit(asked) == given
    assert ("aborts a mount" in caplog.text) == (given < asked)
