"""Is an option that can never be right refused where it is asked for, and not by each read from the mount?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moorage.errors import InvalidInputError
from moorage.mount import serve
from moorage.mount.request import EVERYTHING, MountRequest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"uid": "nobody"}, "uid is not a number: 'nobody'"),
        ({"gid": 1.5}, "gid is not a number: 1.5"),
        ({"uid": True}, "uid is not a number: True"),
        ({"uid": -1}, "uid is not between 0 and 4294967294: -1"),
        ({"uid": 1 << 32}, "uid is not between 0 and"),
        ({"umask": "027"}, "umask is not a number: '027'"),
        ({"umask": 0o7777}, "umask is not between 0 and 0o777: 0o7777"),
        ({"cache_bytes": "1GiB"}, "cache_bytes is not a number: '1GiB'"),
        ({"cache_bytes": -5}, "cache_bytes is not between 0 and"),
        ({"timeout_s": "5"}, "timeout_s is not a number: '5'"),
        ({"timeout_s": 0}, "a timeout of 0 s"),
        ({"timeout_s": float("nan")}, "a timeout of nan s"),
        ({"pin": "no"}, "pin is neither True nor False: 'no'"),
        ({"metrics": Path("m.prom")}, "metrics is not a string"),
        ({"log_format": None}, "log_format is not a string"),
        ({"log_format": "xml"}, "there is no log format 'xml'"),
        ({"driver": "nonsense"}, "there is no driver 'nonsense'"),
        ({"revision": EVERYTHING, "pin": True}, "a mount of everything cannot be pinned"),
        ({"sticky": True, "pin": True}, "exclude each other"),
        ({"driver": "libfuse", "timeout_s": 5.0}, "--timeout needs the kernel driver"),
        ({"driver": "libfuse", "sticky": True}, "--sticky needs the kernel driver"),
        ({"driver": "libfuse", "metrics": "127.0.0.1:9469"}, "--metrics needs the kernel driver"),
    ],
)
def test_what_can_never_be_right(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    asked: dict[str, Any] = {"revision": "prod", **options}
    with pytest.raises(InvalidInputError, match=message):
        MountRequest("/srv/store", mountpoint="/srv/models", **asked)
    with pytest.raises(InvalidInputError, match=message):
        serve.mount(tmp_path, directory=tmp_path, **asked)


@pytest.mark.parametrize(
    "options",
    [
        {"uid": 0, "gid": (1 << 32) - 2, "umask": 0o777, "cache_bytes": 0, "timeout_s": 1},
        {"uid": None, "umask": 0, "cache_bytes": 1 << 40, "timeout_s": 2.5},
        {"driver": "libfuse", "pin": True},
    ],
)
def test_what_may_be_right(options: dict[str, Any]) -> None:
    request = MountRequest("/srv/store", "prod", "/srv/models", **options)
    assert {name: getattr(request, name) for name in options} == options
