"""Does a reader that knows nothing but docs/format/v1.md find the same in golden repositories?"""

from __future__ import annotations

import json

import pytest
from blake3 import blake3

from tests.format.make_golden import GOLDEN
from tests.format.manifest import MOST_FILES
from tests.format.test_golden import REPOSITORIES, expected
from tests.oracle.reader import FILE, SNAPSHOT, Repository

WORDS = {1: "file", 2: "directory", 3: "symlink"}


@pytest.fixture(scope="module", params=REPOSITORIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def repository(name: str) -> Repository:
    return Repository(GOLDEN / name)


def test_the_configuration(repository: Repository, name: str) -> None:
    stated = expected(name)["config"]
    chunking = repository.config["chunking"]
    assert repository.config["repository"] == stated["repository"]
    assert [chunking[f"{size}_bytes"] for size in ("min", "target", "max")] == stated["chunking"]


def test_branches_tags_and_their_logs(repository: Repository, name: str) -> None:
    logs = list(repository.logs())
    assert {f"{kind} {ref}": len(records) for kind, ref, records in logs} == {
        ref: len(log) for ref, log in expected(name)["logs"].items()
    }
    for wanted, folder in (("branch", "branches"), ("tag", "tags")):
        heads = {
            ref: records[-1]["snapshot"]
            for kind, ref, records in logs
            if kind == wanted and records[-1]["action"] in ("set", "renamed-from")
        }
        assert heads == expected(name)[folder]


def test_segments(repository: Repository, name: str) -> None:
    segments = list(repository.segments())
    assert sorted(id for superseded, _, _ in segments for id in superseded) == expected(name)["superseded"]
    assert sorted(id for _, retired, _ in segments for id in retired) == expected(name)["retired"]
    packs = {key.rsplit("/", 1)[1] for key in expected(name)["keys"] if key.startswith("packs/")}
    assert {pack for _, _, listed in segments for pack in listed} <= packs


def test_snapshots(repository: Repository, name: str) -> None:
    assert {id.hex() for kind, id in repository.objects if kind == SNAPSHOT} == set(expected(name)["snapshots"])
    for id, stated in expected(name)["snapshots"].items():
        _, tree, digest, size, parents, author, time_ns, message, metadata = repository.snapshot(id)
        found = {
            "tree": tree.hex(),
            "digest": digest.hex(),
            "size_bytes": size,
            "parents": [parent.hex() for parent in parents],
            "author": author,
            "time_ns": time_ns,
            "message": message,
            "metadata": json.loads(metadata),
        }
        assert found == {key: value for key, value in stated.items() if key != "files"}


def test_every_file(repository: Repository, name: str) -> None:
    for id, stated in expected(name)["snapshots"].items():
        lines = []
        for path, entry in repository.walk(repository.snapshot(id)[1]):
            _, kind, digest, object_id, size, first_stored_ns, executable, target = entry
            content = blake3(repository.content(entry)).hexdigest() if kind == FILE else ""
            shown = [
                path,
                WORDS[kind],
                digest.hex(),
                content,
                object_id.hex(),
                size,
                first_stored_ns,
                executable,
                target,
            ]
            lines.append(shown)
        if len(lines) <= MOST_FILES:
            assert lines == stated["files"]
        else:
            assert len(lines) == stated["files"]["count"]
            assert blake3("".join(map(json.dumps, lines)).encode()).hexdigest() == stated["files"]["blake3"]


def test_digests_follow_from_what_is_there(repository: Repository, name: str) -> None:
    for stated in expected(name)["snapshots"].values():
        assert repository.directory_digest(bytes.fromhex(stated["tree"])).hex() == stated["digest"]
