"""Does `mount -t moorage` mount, by hand and from a line of fstab, and say by its exit code what came of it?

The words are tried in this process. mount(8) itself is run in a mount namespace of its own, with a directory over
/usr/sbin and a file over /etc/fstab there, so that nothing of the machine is touched.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path

import pytest

from moorage.cli import fstab
from moorage.cli.fstab import FAILED, OK, USAGE, parse, run
from moorage.errors import InvalidInputError
from moorage.mount import serve
from tests.cli.command_line import CommandLine
from tests.needs import needs_fuse, needs_namespaces

PROGRAM = Path(sysconfig.get_path("scripts")) / "mount.moorage"
TIMEOUT_S = 120


# -- words -----------------------------------------------------------------------------------------


def test_the_words_of_mount() -> None:
    wanted = parse(
        ["/srv/store#prod", "/srv/models", "-v", "-n", "-o", "rw,pin,uid=0,gid=5,umask=027", "-t", "moorage"]
    )
    assert (wanted.repository, wanted.revision, wanted.directory) == ("/srv/store", "prod", "/srv/models")
    assert wanted.options == {"pin": True, "uid": 0, "gid": 5, "umask": 0o27}
    assert (wanted.is_verbose, wanted.is_writable, wanted.is_fake, wanted.passed_over) == (True, True, False, [])


def test_every_option() -> None:
    options = "pin,sticky,allow_other,log_opens,cache_size=1G,timeout=2.5,log=/l"
    options += ",log_format=json,driver=kernel,metrics=/m.prom"
    assert parse(["a#b", "c", "-o", options]).options == {
        "pin": True,
        "sticky": True,
        "allow_other": True,
        "log_opens": True,
        "cache_bytes": 1 << 30,
        "timeout_s": 2.5,
        "log": Path("/l"),
        "log_format": "json",
        "driver": "kernel",
        "metrics": "/m.prom",
    }


def test_all() -> None:
    wanted = parse(["/srv/store#--all", "/srv/models"])
    assert (wanted.repository, wanted.revision) == ("/srv/store", serve.EVERYTHING)


@pytest.mark.parametrize("spec", ["/srv/store", "/srv/store#"])
def test_without_a_revision(spec: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse([spec, "/srv/models", "-o", "all"])
    assert caught.value.message == f"{spec!r} does not say which revision"
    assert caught.value.hint == "for example /srv/store#prod, or /srv/store#--all for all of them"


def test_a_number_sign_in_the_path() -> None:
    assert (parse(["/srv/a#b#prod", "d"]).repository, parse(["/srv/a#b#prod", "d"]).revision) == ("/srv/a#b", "prod")


def test_options_for_others_are_passed_over_without_a_word_and_unknown_ones_with_one() -> None:
    for_others = (
        "defaults,noauto,user=me,nouser,_netdev,nofail,x-systemd.automount,X-mount.mkdir,comment=a b,ro,noatime"
    )
    assert parse(["a#b", "c", "-o", for_others]).passed_over == []
    wanted = parse(["a#b", "c", "-s", "-o", "umaks=022,pin"])
    assert wanted.passed_over == ["umaks=022"]
    assert wanted.options == {"pin": True}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "what to mount, and where"),
        (["a#b"], "what to mount, and where"),
        (["a#b", "c", "d"], "what to mount, and where"),
        (["a#b", "c", "-z"], "option -z not recognized"),
        (["/srv/store", "c"], "does not say which revision"),
        (["#prod", "c"], "does not say which repository"),
        (["a#b", "c", "-o", "uid=no such one"], "there is no user"),
        (["a#b", "c", "-o", "umask=9"], "is not a umask"),
        (["a#b", "c", "-o", "cache_size="], "is not a size"),
        (["a#b", "c", "-o", "timeout=soon"], "not a number of seconds"),
        (["a#b", "c", "-o", "remount,ro"], "a mount cannot be changed"),
    ],
)
def test_words_that_can_never_be_right(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        parse(words)
    assert run(words) == USAGE
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("mount.moorage: ")


# -- mounting --------------------------------------------------------------------------------------


@needs_fuse
def test_it_returns_when_the_mount_answers(
    store: CommandLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "live").mkdir()
    spec = f"{tmp_path}#prod"  # the directory with the .moorage, as for -r
    try:
        assert run([spec, str(tmp_path / "live"), "-o", "rw,uid=1234,umaks=3"]) == OK
        assert os.stat(tmp_path / "live/run.sh").st_uid == 1234
        assert capsys.readouterr().err == "mount.moorage: there is no option 'umaks=3': passed over\n"
        assert run([spec, str(tmp_path / "live"), "-o", "rw"]) == FAILED
        told = capsys.readouterr().err
        assert f"mount.moorage: {tmp_path}/live already is a mount of" in told
        assert "hint: unmount it first" in told
    finally:
        serve.umount(tmp_path / "live")
    assert run([spec, str(tmp_path / "live"), "-v", "-o", "rw"]) == OK
    serve.umount(tmp_path / "live")
    told = capsys.readouterr().err
    assert "mount.moorage: mounted read-only, as always\n" in told
    assert f"mount.moorage: prod of {tmp_path}/.moorage is mounted at {tmp_path}/live\n" in told


def test_what_cannot_be_mounted(store: CommandLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "live").mkdir()
    for spec in (f"{tmp_path}/nothing#prod", f"{tmp_path}#nothing"):
        assert run([spec, str(tmp_path / "live"), "-v", "-o", "rw"]) == FAILED
    told = capsys.readouterr().err
    assert f"hint: make one: moorage init {tmp_path}/nothing\n" in told
    assert "mounted read-only" not in told
    assert run([f"{tmp_path}#prod", str(tmp_path / "nowhere")]) == FAILED
    assert "there is no directory" in capsys.readouterr().err
    assert run([f"{tmp_path}#prod", str(tmp_path / "nowhere"), "-N", "/nowhere/ns"]) == FAILED
    assert capsys.readouterr().err == "mount.moorage: /nowhere/ns: No such file or directory\n"
    assert run([f"{tmp_path}#prod", str(tmp_path / "nowhere"), "-f"]) == OK


def test_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fstab, "_mount", interrupted)
    assert run(["a#b", "c"]) == fstab.INTERRUPTED


# -- mount(8) --------------------------------------------------------------------------------------

PROLOGUE = """
set -e
mount -t tmpfs none {base}/over
mkdir {base}/over/upper {base}/over/work
mount -t overlay none -o lowerdir=/usr/sbin,upperdir={base}/over/upper,workdir={base}/over/work /usr/sbin
ln -sf {program} /sbin/mount.moorage
"""


def in_a_namespace(base: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script that may mount, with nothing in its environment but what mount(8) has at boot."""
    (base / "over").mkdir(exist_ok=True)
    text = PROLOGUE.format(base=shlex.quote(str(base)), program=shlex.quote(str(PROGRAM))) + script
    kept = {name: os.environ[name] for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME")}
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", text],
        env={**kept, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        cwd="/",
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


@needs_fuse
@needs_namespaces
def test_mount_and_umount_by_hand(store: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    done = in_a_namespace(
        tmp_path,
        f"""
        cd {tmp_path}
        mount -t moorage {tmp_path}#prod live -o umask=027,x-anything=1
        cat live/run.sh
        stat -c %a live/run.sh
        pid=$(grep -o '"pid": [0-9]*' $XDG_STATE_HOME/moorage/mounts/*live*.json | grep -o '[0-9]*$')
        until umount live 2> /dev/null; do :; done
        ls live
        while kill -0 $pid 2>/dev/null; do :; done
        ls $XDG_STATE_HOME/moorage/mounts
        """,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "#!/bin/sh\n550\n", "")


@needs_fuse
@needs_namespaces
def test_a_line_of_fstab(store: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    (tmp_path / "all of it").mkdir()
    options = "defaults,pin,uid=1234,_netdev,nofail,x-systemd.requires=/srv"
    line = f"{tmp_path}/.moorage#prod {tmp_path}/live moorage {options} 0 0\n"
    line += f"{tmp_path}/.moorage#--all {tmp_path}/all\\040of\\040it moorage noauto 0 0\n"
    (tmp_path / "fstab").write_text(line)
    done = in_a_namespace(
        tmp_path,
        f"""
        mount --bind {tmp_path}/fstab /etc/fstab
        mount {tmp_path}/live
        cat {tmp_path}/live/run.sh
        stat -c %u {tmp_path}/live/run.sh
        mount -a                                   # what is mounted is passed over
        mount '{tmp_path}/all of it'
        cat '{tmp_path}/all of it/branches/prod/run.sh'
        sed s/noauto/defaults/ {tmp_path}/fstab > {tmp_path}/new && cat {tmp_path}/new > {tmp_path}/fstab
        mount -a
        until umount '{tmp_path}/all of it' 2> /dev/null; do :; done
        until umount {tmp_path}/live 2> /dev/null; do :; done
        mount -a
        cat {tmp_path}/live/run.sh
        until umount '{tmp_path}/all of it' 2> /dev/null; do :; done
        until umount {tmp_path}/live 2> /dev/null; do :; done
        """,
    )
    script = "#!/bin/sh\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{script}1234\n{script}{script}", "")


@needs_fuse
@needs_namespaces
def test_a_mount_that_fails_is_told_to_mount(store: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    done = in_a_namespace(tmp_path, f"mount -t moorage {tmp_path}#nothing {tmp_path}/live || exit $?")
    assert done.returncode == FAILED
    assert "mount.moorage: no branch, tag or snapshot is called 'nothing'" in done.stderr
    done = in_a_namespace(tmp_path, f"mount -t moorage {tmp_path}#prod {tmp_path}/live -o uid=nix || exit $?")
    assert (done.returncode, "there is no user 'nix'" in done.stderr) == (USAGE, True)
