"""Has every value one encoding, and is everything else refused by an error of ours, in bounded memory?

Bytes are tampered with behind their checksums and ids, as a bug or malice would do it: a flipped bit is no test of a
decoder that is shielded by a hash.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moorage.errors import CorruptDataError, FormatError
from tests.unit.format.values import FORMATS, Format

REFUSALS = (FormatError, CorruptDataError)
MUTATIONS = settings(max_examples=3 * settings().max_examples, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(params=FORMATS)
def kind(request: pytest.FixtureRequest) -> Format:
    return FORMATS[request.param]


def same(kind: Format, first: Any, second: Any) -> bool:
    """Equal, where a recipe's or a segment's parts may come in another order than they were given in."""
    return first == second or kind.encode(first) == kind.encode(second)


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_what_was_written_is_read(name: str, data: st.DataObject) -> None:
    kind = FORMATS[name]
    value = data.draw(kind.values)
    encoded = kind.encode(value)
    decoded = kind.decode(encoded)
    assert same(kind, decoded, value)
    assert kind.encode(decoded) == encoded


@st.composite
def tampered(draw: st.DrawFn, data: bytes) -> bytes:
    """One to three things done to some bytes."""
    for _ in range(draw(st.integers(1, 3))):
        what = draw(st.sampled_from(["flip", "set", "insert", "remove", "repeat", "cut", "append", "number"]))
        at = draw(st.integers(0, max(0, len(data) - 1)))
        few = draw(st.integers(1, 8))
        if what == "flip" and data:
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif what == "set" and data:
            data = (
                data[:at]
                + draw(st.sampled_from([b"\0", b"\xff", b"\x80", b"\xdd", b"\xc6", b"9", b'"']))
                + data[at + 1 :]
            )
        elif what == "insert":
            data = data[:at] + draw(st.binary(min_size=1, max_size=8)) + data[at:]
        elif what == "remove":
            data = data[:at] + data[at + few :]
        elif what == "repeat":
            data = data[: at + few] + data[at:]
        elif what == "cut":
            data = data[:at]
        elif what == "append":
            data += draw(st.binary(min_size=1, max_size=40))
        elif what == "number":
            data = data[:at] + draw(st.integers(0, 2**32 - 1)).to_bytes(4, "little") + data[at + 4 :]
    return data


@pytest.mark.parametrize("name", FORMATS)
@MUTATIONS
@given(data=st.data())
def test_tampered_bytes_are_refused_or_are_another_value(name: str, data: st.DataObject) -> None:
    kind = FORMATS[name]
    changed = kind.sealed(data.draw(tampered(kind.encode(data.draw(kind.values)))))
    try:
        decoded = kind.decode(changed)
    except REFUSALS:
        return
    assert kind.encode(decoded) == changed


@pytest.mark.parametrize("name", FORMATS)
@MUTATIONS
@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused_or_are_a_value(name: str, data: bytes) -> None:
    kind = FORMATS[name]
    changed = kind.sealed(data)
    try:
        decoded = kind.decode(changed)
    except REFUSALS:
        return
    assert kind.encode(decoded) == changed


BOMBS = [
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xff" * 16,
    b"[" * 10_000,
    b"\x91" * 10_000,
]


@pytest.mark.parametrize("name", FORMATS)
def test_no_short_input_takes_much_memory(name: str) -> None:
    kind = FORMATS[name]
    starts = [b"", b"\x92\x00", b"\x92\x01", b"\x99\x01", b"\x01\0\0\0", b"MOORFOOT\1\0\0\0", b"MOORSEGM\1\0\0\0", b"{"]
    inputs = [kind.sealed(start + bomb) for start in starts for bomb in BOMBS]
    tracemalloc.start()
    try:
        for data in inputs:
            with pytest.raises(REFUSALS):
                kind.decode(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1024 * 1024
