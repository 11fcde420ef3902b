"""What is wrong is told in one line with a hint, as one object under --json, with its exit code, and never as a
traceback."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from moorage import errors
from moorage.api import Repository
from moorage.cli.errors import EXIT_CODES, ExitCode, exit_code
from moorage.repository.refs import RefStore
from tests.cli.command_line import CommandLine

WRONG: list[tuple[str, int, str]] = [
    # words, exit code, kind
    ("ls nope", 1, "ref_not_found"),
    ("ls deadbeef", 1, "snapshot_not_found"),
    ("log nope", 1, "ref_not_found"),
    ("show prod~7", 1, "snapshot_not_found"),
    ("show prod@{9}", 1, "snapshot_not_found"),
    ("show prod@{2001-01-01}", 1, "snapshot_not_found"),
    ("show prod@{yesterday}", 2, "invalid_input"),
    ("show same", 2, "ambiguous_revision"),
    ("ls prod:nope", 1, "path_not_found"),
    ("ls prod:../etc", 2, "invalid_input"),
    ("stat prod:models/model.pkl/x", 1, "path_not_found"),
    ("cat prod:models", 2, "wrong_kind"),
    ("cat prod:latest", 2, "wrong_kind"),
    ("cat prod", 2, "wrong_kind"),
    ("commit nowhere -b prod", 1, "source_not_found"),
    ("commit export -b nope", 1, "ref_not_found"),
    ("commit export -b bad:name --create", 2, "invalid_input"),
    ("commit export -b prod --at ../x", 2, "invalid_input"),
    ("commit export -b prod --meta novalue", 2, "invalid_input"),
    ("commit export -b prod --meta =1", 2, "invalid_input"),
    ("commit export -b prod --meta a=1 --meta a=2", 2, "invalid_input"),
    ("commit run -b prod", 2, "invalid_input"),
    ("branch create prod --from v1", 1, "already_exists"),
    ("branch create a..b~c --from v1", 2, "invalid_input"),
    ("branch move nope prod", 1, "ref_not_found"),
    ("branch rename nope other", 1, "ref_not_found"),
    ("branch rename prod same", 1, "already_exists"),
    ("branch delete nope", 1, "ref_not_found"),
    ("tag create v1 prod", 1, "already_exists"),
    ("tag create prod prod~1", 1, "snapshot_not_found"),
    ("tag create prod v1", 1, "already_exists"),
    ("branch create v1 --from prod", 1, "already_exists"),
    ("branch rename prod v1", 1, "already_exists"),
    ("commit export -b v1 --create", 1, "already_exists"),
    ("mount prod:models live", 2, "invalid_input"),
    ("tag delete nope", 1, "ref_not_found"),
    ("reflog nope", 1, "ref_not_found"),
    ("diff prod nope", 1, "ref_not_found"),
    ("diff prod experiment/v2 nope", 1, "path_not_found"),
    ("merge nope --into prod", 1, "ref_not_found"),
    ("merge prod --into nope", 1, "ref_not_found"),
    ("merge experiment/v2 --into v1", 1, "ref_not_found"),
    ("checkout prod export", 1, "already_exists"),
    ("checkout nope there", 1, "ref_not_found"),
    ("stats nope", 1, "ref_not_found"),
    ("umount .", 1, "mount_not_found"),
    ("upgrade .", 1, "mount_not_found"),
    ("mount nope live", 1, "ref_not_found"),
    ("mount prod absent", 2, "invalid_input"),
    ("mount prod .moorage", 2, "invalid_input"),
    ("init .", 1, "already_exists"),
    ("-r export ls prod", 10, "repository_not_found"),
    ("ls prod -r absent", 10, "repository_not_found"),
    ("", 2, "usage"),
    ("comit", 2, "usage"),
    ("branch list", 2, "usage"),
    ("ls", 2, "usage"),
    ("ls a b", 2, "usage"),
    ("ls --sideways prod", 2, "usage"),
    ("ls prod -r", 2, "usage"),
    ("commit export", 2, "usage"),
    ("commit -b prod", 2, "usage"),
    ("log -n many", 2, "usage"),
    ("log -n -1", 2, "usage"),
    ("mount prod live --driver smoke", 2, "usage"),
    ("mount prod", 2, "usage"),
    ("mount --all prod live", 2, "usage"),
    ("mount --all live --pin", 2, "usage"),
    ("mount --all absent", 2, "invalid_input"),
    ("who nope", 1, "ref_not_found"),
    ("who prod:nope", 1, "path_not_found"),
    ("who /x --since yesterday", 2, "invalid_input"),
    *((f"{words} ''", 2, "usage") for words in ("mount prod", "mount --all", "umount", "upgrade", "checkout prod")),
    ("mount prod live --log ''", 2, "usage"),
    ("run --pin prod --at '' -- true", 2, "usage"),
    ("init ''", 2, "usage"),
    ("ls prod -r ''", 2, "usage"),
    ("commit '' -b prod", 2, "invalid_input"),
    ("merge prod", 2, "usage"),
    ("branch create", 2, "usage"),
    ("tag create v2", 2, "usage"),
    ("demo --size 0", 2, "usage"),
]


@pytest.fixture
def wrong(store: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A repository with a name that is two things, and a directory to mount on."""
    store.ok("branch", "create", "same", "--from", "v1")
    with monkeypatch.context() as racing:
        racing.setattr(RefStore, "refuse_namesake", lambda *_: None)
        store.ok("tag", "create", "same", "v1")
    (tmp_path / "live").mkdir()
    (tmp_path / "run").write_text("")
    return store


def test_every_wrong_word(wrong: CommandLine) -> None:
    """One repository for all of them: none changes anything."""
    for text, code, kind in WRONG:
        words = shlex.split(text)
        told = wrong("--json", *words)
        assert (told.code, told.error["kind"]) == (code, kind), text
        assert told.error["message"], text
        assert "hint" in told.error, text
        if not words:
            continue  # for people that is a question, and help the answer
        plain = wrong(*words)
        assert (plain.code, plain.out) == (code, ""), text
        first, *rest = plain.err.splitlines()
        assert first == f"moorage: error: {told.error['message']}", text
        assert rest == ([f"hint: {told.error['hint']}"] if told.error["hint"] else []), text


def test_json_is_heard_before_the_command_too(store: CommandLine) -> None:
    for words in (["--json", "ls", "nope"], ["--json", "comit"], ["branch", "--json", "create"]):
        assert store(*words).error["kind"] in {"ref_not_found", "usage"}


def test_errors_have_their_fields(store: CommandLine) -> None:
    assert store("ls", "prod:no/such", "--json").error["path"] == "no"
    assert store("tag", "create", "v1", "prod", "--json").error["ref"] == "v1"


def test_a_typing_error_is_guessed(store: CommandLine) -> None:
    assert store("comit").err == "moorage: error: no such command 'comit'\nhint: did you mean 'commit'?\n"
    assert "hint: did you mean --recursive?" in store("ls", "--recursiv", "prod").err


def test_what_is_wrong_is_what_is_told(store: CommandLine, tmp_path: Path) -> None:
    """Each of these spoke of something else."""

    def told(*words: str) -> str:
        outcome = store(*words)
        assert outcome.code != 0
        return outcome.err.removeprefix("moorage: error: ")

    (tmp_path / "live").mkdir()
    assert told("mount", "--all") == ("missing argument 'DIR'\nhint: `moorage mount --help` shows how it is used\n")
    assert told("mount").startswith("missing argument 'REV'\n")
    assert told("branch", "create", "prod").startswith("branch 'prod' exists already, at ")
    assert told("branch", "create", "a..b~c").startswith("'a..b~c' cannot name a branch")
    assert told("branch", "create", "new") == (
        "where is 'new' to start?\nhint: --from REV: one of experiment/v2, prod, or any revision\n"
    )
    assert told("mount", "prod", "live", "--metrics", "127.0.0.1:99999") == (
        "no metrics at '127.0.0.1:99999': there is no port 99999\nhint: for example 127.0.0.1:9469\n"
    )
    assert told("mount", "prod", "live", "--metrics", ":9999").startswith("no metrics at ':9999': it has no address\n")
    assert told("mount", "prod:models", "live").startswith("'prod:models' is a place in a revision, and a revision is")
    assert told("mount", "prod", "live", "--timeout", "x").startswith(
        "invalid value for '--timeout': 'x' is not a number\n"
    )
    assert told("log", "-n", "x").startswith("invalid value for '-n': 'x' is not a whole number\n")
    assert told("umount", "/proc").startswith("a file system of type proc, not one of moorage, is mounted at /proc\n")
    assert "frob" in told("ls", "--frob", "prod")
    assert "did you mean" not in told("ls", "--frob", "prod")
    assert told("cat", "v1:latest").endswith("hint: it points to v1:models/model.pkl\n")
    assert "4 digits or more" in told("ls", "c9")
    store.ok("branch", "rename", "prod", "main")
    assert told("mount", "prod", "live").endswith("hint: it was renamed to 'main'\n")


def test_a_current_directory_that_is_gone(store: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    told = store("log")
    assert (told.code, told.err.splitlines()[0]) == (10, "moorage: error: the current directory has been removed")
    store.ok("log", "-r", str(tmp_path))


def test_without_a_repository(cli: CommandLine) -> None:
    for words in (["ls", "prod"], ["log"], ["branch"], ["commit", ".", "-b", "x"], ["check"], ["stats"]):
        told = cli(*words, "--json")
        assert (told.code, told.error["kind"]) == (10, "repository_not_found")
        assert "moorage init" in told.error["hint"]


def test_what_nobody_foresaw_is_one_line(store: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(self: Repository) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(Repository, "branches", explode)
    told = store("branch")
    assert (told.code, told.out) == (1, "")
    assert told.err == (
        "moorage: error: ZeroDivisionError: by\\nzero\n"
        "hint: this is a mistake in moorage; MOORAGE_DEBUG=1 shows where it happened\n"
    )
    assert store("branch", "--json").error["kind"] == "internal"
    monkeypatch.setenv("MOORAGE_DEBUG", "1")
    assert "Traceback (most recent call last)" in store("branch").err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.RepositoryNotFoundError("m"), 10),
        (errors.RefNotFoundError("m"), 1),
        (errors.AlreadyExistsError("m"), 1),
        (errors.RefMovedError("m"), 4),
        (errors.SourceChangedError("m"), 4),
        (errors.WrongKindError("m"), 2),
        (errors.LockedError("m"), 11),
        (errors.StorageDeniedError("m"), 12),
        (errors.ReadOnlyError("m"), 12),
        (errors.UnreadableSourceError("m"), 12),
        (errors.StorageFullError("m"), 1),
        (errors.CorruptDataError("m"), 1),
        (errors.NewerFormatError("m"), 1),
        (errors.MountError("m"), 1),
        (errors.MountDeniedError("m"), 12),
        (PermissionError(13, "m"), 12),
        (OSError(5, "m"), 1),
        (KeyboardInterrupt(), 130),
        (RuntimeError(), 1),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


def test_special_errors_stand_before_general_ones() -> None:
    """Otherwise a line of the table could never hold."""
    kinds = [kind for kind, _ in EXIT_CODES]
    for number, kind in enumerate(kinds):
        assert not any(issubclass(kind, earlier) for earlier in kinds[:number])
    assert set(ExitCode) >= {code for _, code in EXIT_CODES}


def test_a_system_error_says_which_file(store: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Repository) -> None:
        raise PermissionError(13, os.strerror(13), "/root/secret")

    monkeypatch.setattr(Repository, "tags", refuse)
    told = store("tag")
    assert (told.code, told.err) == (12, "moorage: error: /root/secret: Permission denied\n")
