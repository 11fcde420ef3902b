"""The demo shows everything in a minute, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import pickle
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from moorage.cli.demo import exports, weights
from moorage.cli.demo.stage import SceneFailed, own_place
from moorage.errors import MountError
from moorage.mount import serve
from tests.cli.command_line import CommandLine, finished, python
from tests.needs import needs_fuse, needs_module

_WORD = r"\$ moorage ([a-z]+)"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo makes its directory; it must be empty again at the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def _state_files() -> list[str]:
    """Records and logs of mounts, caches: what a run could leave outside its directory."""
    places = (Path(os.environ[f"XDG_{name}_HOME"]) for name in ("CACHE", "STATE"))
    return sorted(str(path) for place in places for path in place.rglob("*"))


@needs_fuse
def test_the_demo(tmp_path: Path, temporary: Path) -> None:
    before = _state_files()
    shown = finished("demo", "--size", "2", cwd=tmp_path)
    assert (shown.code, shown.err) == (0, "")
    assert re.findall(_WORD, shown.out) == (
        ["init", "commit", "branch", "commit", "diff", "mount", "merge", "umount", "stats"]
    )
    first, second = re.findall(r"^credit-risk (v\d) with an accuracy of 0.9\d$", shown.out, flags=re.MULTILINE)
    assert (first, second) == ("v1", "v2")
    assert "\x1b" not in shown.out
    assert list(temporary.iterdir()) == []
    assert _state_files() == before


@needs_fuse
def test_the_demo_as_json(tmp_path: Path, temporary: Path) -> None:
    told = finished("demo", "--size", "1", "--json", cwd=tmp_path).json
    assert told["mounted"] is True
    assert told.keys() == {"mounted", "seconds", "steps"}
    assert [step["what"] for step in told["steps"]][:3] == ["commit v1", "commit v2", "mount"]
    assert all(step.keys() == {"what", "seconds", "size_bytes"} for step in told["steps"])
    assert finished("demo", "--size", "1", "--quiet", cwd=tmp_path).out == ""
    assert list(temporary.iterdir()) == []


def test_the_demo_where_nothing_can_be_mounted(
    cli: CommandLine, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MountError("/dev/fuse is missing", hint="modprobe fuse")

    monkeypatch.setattr(serve, "mount", refuse)
    shown = cli("demo", "--size", "1")
    assert shown.code == 0
    assert shown.err == "moorage: error: /dev/fuse is missing\nhint: modprobe fuse\n"
    assert "This machine does not let us mount" in shown.out
    assert re.findall(r"^credit-risk (v\d) ", shown.out, flags=re.MULTILINE) == ["v1", "v2"]
    assert list(temporary.iterdir()) == []


@needs_fuse
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_interrupted(tmp_path: Path, temporary: Path, number: signal.Signals) -> None:
    """As soon as it has mounted."""
    process = subprocess.Popen(
        python("demo", "--size", "1"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    while b"is mounted at" not in (line := process.stdout.readline()):
        assert line, "it has ended before it mounted"
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert list(temporary.iterdir()) == []
    assert str(temporary) not in Path("/proc/mounts").read_text()


def _fail(_: Path) -> None:
    raise SceneFailed(1)


def _change_directory(folder: Path) -> None:
    (folder / "below").mkdir()
    os.chdir(folder / "below")


@pytest.mark.parametrize("act", [_fail, _change_directory])
def test_the_place_is_gone_and_all_is_as_before(
    temporary: Path, act: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOORAGE_REPO", "mine")
    before = dict(os.environ), os.getcwd(), [signal.getsignal(number) for number in (1, 2, 15)]
    try:
        with own_place() as folder:
            assert list(temporary.iterdir()) == [folder]
            assert "MOORAGE_REPO" not in os.environ
            act(folder)
    except SceneFailed:
        pass
    assert list(temporary.iterdir()) == []
    assert (dict(os.environ), os.getcwd(), [signal.getsignal(number) for number in (1, 2, 15)]) == before


# -- its files are real ----------------------------------------------------------------------------


def _by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyarrow", "safetensors", "sklearn"):
        monkeypatch.setitem(sys.modules, name, None)


def test_version_2_differs_in_what_it_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _by_hand(monkeypatch)
    first = exports.write_release(tmp_path, exports.RELEASES[0], 1)
    assert {file.path for file in first} == {
        "models/model.pkl",
        "models/encoder.safetensors",
        "data/train.csv",
        "README.md",
    }
    assert all(file.size_bytes == (tmp_path / file.path).stat().st_size for file in first)
    model = pickle.loads((tmp_path / "models/model.pkl").read_bytes())
    assert (model["version"], len(model["estimator"])) == ("v1", exports.TREES)
    before = {file.path: (tmp_path / file.path).read_bytes() for file in first}
    exports.write_release(tmp_path, exports.RELEASES[1], 1)
    old, new = before["models/encoder.safetensors"], (tmp_path / "models/encoder.safetensors").read_bytes()
    assert len(old) == len(new)
    changed = sum(a != b for a, b in zip(old, new, strict=True)) / len(new)
    assert 0.01 < changed < 0.02  # 2 % of the tensors; some bytes are equal by chance
    assert (tmp_path / "data/train.csv").read_bytes().startswith(before["data/train.csv"])


@needs_module("safetensors")
@needs_module("numpy")
def test_safetensors_reads_what_is_written_by_hand(tmp_path: Path) -> None:
    from safetensors import safe_open

    tensors = [weights.Tensor(f"layer.{number}", (3, 8), str(number)) for number in range(3)]
    (tmp_path / "hand").write_bytes(b"".join(weights._file_of(tensors, {"version": "v1"})))
    with safe_open(tmp_path / "hand", framework="numpy") as file:
        assert file.metadata() == {"version": "v1"}
        assert sorted(file.keys()) == [tensor.name for tensor in tensors]
        assert file.get_slice("layer.1").get_shape() == [3, 8]
        assert file.get_slice("layer.1").get_dtype() == "BF16"


def test_weights_look_like_weights() -> None:
    """Half of the bytes are noise, the others take few values; the numbers have the deviation that was meant."""
    data = weights.Tensor("w", (64, 1024), "seed").data()
    assert len(set(data[0::2])) == 256
    assert len(set(data[1::2])) < 32
    numbers = [struct.unpack("<f", b"\0\0" + data[at : at + 2])[0] for at in range(0, len(data), 2)]
    mean = sum(numbers) / len(numbers)
    deviation = (sum((number - mean) ** 2 for number in numbers) / len(numbers)) ** 0.5
    assert abs(mean) < 0.001
    assert 0.015 < deviation < 0.03
