"""Are records that people can read also records that nobody can fake by accident?"""

from __future__ import annotations

import json

import msgspec
import pytest
from blake3 import blake3

from moorage.errors import CorruptDataError, FormatError, InvalidInputError, NewerFormatError
from moorage.format.config import decode_config, encode_config
from moorage.format.keys import config_key, ref_key
from moorage.format.record import MAX_RECORD_BYTES, decode_record, encode_record
from moorage.format.refs import decode_ref_record, encode_ref_record
from moorage.model.config import RepositoryConfig
from moorage.model.digest import SnapshotId
from moorage.model.refs import RefAction, RefKind, RefName, RefRecord

KEY = "config/0000000000000001"
REPOSITORY = "0" * 32
RECORD = RefRecord(
    RefName(RefKind.BRANCH, "exp/\u00e9"), 1, RefAction.SET, SnapshotId.of(b"s"), "a" * 32, "", 5, 'a"b', "c\nd"
)


class Small(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    text: str


def sealed(line: bytes) -> bytes:
    return line + b"\nblake3 " + blake3(line).hexdigest().encode() + b"\n"


def test_a_record_is_two_lines_of_text() -> None:
    data = encode_record(Small(1, "a\n\u00e9"))
    first, second, rest = data.split(b"\n")
    assert json.loads(first) == {"format": 1, "text": "a\n\u00e9"}
    assert second.decode() == f"blake3 {blake3(first).hexdigest()}"
    assert rest == b""
    assert decode_record(data, Small, key=KEY) == Small(1, "a\n\u00e9")


def test_every_flipped_bit_is_found() -> None:
    data = encode_record(Small(1, "text"))
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptDataError, match=KEY):
            decode_record(bytes(changed), Small, key=KEY)


def test_every_other_length_is_found() -> None:
    data = encode_record(Small(1, "text"))
    for changed in [*(data[:length] for length in range(len(data))), data + b"\n", data + data, b"\n" + data]:
        with pytest.raises(CorruptDataError):
            decode_record(changed, Small, key=KEY)


@pytest.mark.parametrize(
    "line",
    [
        b'{"format":1}',
        b'{"format":1,"text":"a","more":1}',
        b'{"text":"a","format":1}',
        b'{"format": 1,"text":"a"}',
        b'{"format":1,"text":"\\u0061"}',
        b'{"format":1.0,"text":"a"}',
        b'{"format":1,"text":"a","text":"a"}',
        b'{"format":true,"text":"a"}',
        b'{"format":1,"text":"\xff"}',
        b"[1]",
        b"",
        b"null",
    ],
)
def test_what_is_whole_but_not_canonical_is_refused(line: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        decode_record(sealed(line), Small, key=KEY)
    assert not isinstance(caught.value, NewerFormatError)


@pytest.mark.parametrize("line", [b'{"format":2,"text":"a","more":1}', b'{"format":9}', b'{"new":[],"format":2}'])
def test_a_newer_record_says_so(line: bytes) -> None:
    with pytest.raises(NewerFormatError) as caught:
        decode_record(sealed(line), Small, key=KEY)
    assert caught.value.hint == "upgrade moorage"


def test_what_would_be_too_long_to_read_is_never_written() -> None:
    longest = MAX_RECORD_BYTES - len(encode_record(Small(1, "")))
    assert decode_record(encode_record(Small(1, "x" * longest)), Small, key=KEY).format == 1
    with pytest.raises(InvalidInputError):
        encode_record(Small(1, "x" * (longest + 1)))
    with pytest.raises(CorruptDataError):
        decode_record(sealed(b'{"format":1,"text":"%s"}' % (b"x" * MAX_RECORD_BYTES)), Small, key=KEY)


# -- configuration -----------------------------------------------------------------------------------


def config_with(**changes: object) -> bytes:
    fields = json.loads(encode_config(RepositoryConfig(REPOSITORY, 7)).split(b"\n")[0])
    chunking = changes.pop("chunking", {})
    fields.update(changes)
    assert isinstance(chunking, dict)
    fields["chunking"].update(chunking)
    return sealed(msgspec.json.encode(fields))


def test_the_configuration_as_people_see_it() -> None:
    line = encode_config(RepositoryConfig(REPOSITORY, 7)).split(b"\n")[0]
    assert line.decode() == (
        '{"format":1,"number":1,"repository":"00000000000000000000000000000000","created_ns":7,'
        '"chunking":{"algorithm":"gear64","min_bytes":16384,"target_bytes":65536,"max_bytes":262144},'
        '"compression_level":1,"pack_target_bytes":67108864,"features":[]}'
    )


@pytest.mark.parametrize(
    "changes", [{"format": 2}, {"features": ["deltas"]}, {"chunking": {"algorithm": "gear128"}}, {"format": 7, "x": 1}]
)
def test_a_newer_configuration(changes: dict[str, object]) -> None:
    with pytest.raises(NewerFormatError):
        decode_config(config_with(**changes), key=KEY)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 0},
        {"format": -1},
        {"repository": "0" * 31},
        {"repository": "G" * 32},
        {"repository": "A" * 32},
        {"created_ns": -1},
        {"created_ns": 2**63},
        {"compression_level": 0},
        {"compression_level": 20},
        {"pack_target_bytes": 1023},
        {"pack_target_bytes": 2**32 + 1},
        {"chunking": {"min_bytes": 63}},
        {"chunking": {"target_bytes": 65_537}},
        {"chunking": {"max_bytes": 2**24 + 1}},
        {"chunking": {"max_bytes": 65_535}},
        {"number": "1"},
    ],
)
def test_an_impossible_configuration(changes: dict[str, object]) -> None:
    with pytest.raises(FormatError) as caught:
        decode_config(config_with(**changes), key=KEY)
    assert not isinstance(caught.value, NewerFormatError)


def test_a_configuration_under_the_wrong_key() -> None:
    with pytest.raises(CorruptDataError):
        decode_config(config_with(), key=config_key(2))


# -- refs --------------------------------------------------------------------------------------------


def ref_with(**changes: object) -> bytes:
    fields = json.loads(encode_ref_record(RECORD, repository_id=REPOSITORY).split(b"\n")[0])
    return sealed(msgspec.json.encode({**fields, **changes}))


def decoded(data: bytes, key: str = ref_key(RECORD.ref, 1)) -> RefRecord:
    return decode_ref_record(data, key=key, repository_id=REPOSITORY)


def test_a_ref_record_as_people_see_it() -> None:
    line = encode_ref_record(RECORD, repository_id=REPOSITORY).split(b"\n")[0]
    assert line.decode() == (
        '{"format":1,"repository":"00000000000000000000000000000000","kind":"branch","name":"exp/\u00e9","number":1,'
        f'"action":"set","snapshot":"{SnapshotId.of(b"s").hex()}","transaction":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",'
        '"previous":"","time_ns":5,"actor":"a\\"b","reason":"c\\nd","other":""}'
    )
    assert decoded(ref_with()) == RECORD


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 0},
        {"kind": "head"},
        {"name": ".."},
        {"name": "a:b"},
        {"number": 0},
        {"number": 10**16},
        {"action": "moved"},
        {"snapshot": "00"},
        {"snapshot": SnapshotId.of(b"s").hex().upper()},
        {"snapshot": SnapshotId.of(b"s").hex()[:-2] + " 0"},
        {"transaction": ""},
        {"transaction": "A" * 32},
        {"previous": "b" * 32},
        {"number": 2},
        {"number": 2, "previous": "b"},
        {"time_ns": -1},
        {"time_ns": 2**63},
        {"other": "b"},
        {"action": "renamed-to"},
        {"action": "renamed-to", "other": "a:b"},
    ],
)
def test_an_impossible_ref_record(changes: dict[str, object]) -> None:
    with pytest.raises((FormatError, CorruptDataError)) as caught:
        decoded(ref_with(**changes))
    assert not isinstance(caught.value, NewerFormatError)


@pytest.mark.parametrize(
    "changes",
    [
        {"repository": "1" * 32},
        {"name": "other"},
        {"kind": "tag"},
        {"number": 2, "previous": "b" * 32},
    ],
)
def test_a_ref_record_that_belongs_elsewhere(changes: dict[str, object]) -> None:
    with pytest.raises(CorruptDataError, match="belongs to"):
        decoded(ref_with(**changes))


def test_a_newer_ref_record() -> None:
    for changes in ({"format": 2}, {"format": 2, "signature": "x"}):
        with pytest.raises(NewerFormatError):
            decoded(ref_with(**changes))
