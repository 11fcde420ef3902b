"""Does `moorage run` give a program a branch as it stood, leave it alone otherwise, and leave nothing behind?"""

from __future__ import annotations

import errno
import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from moorage.mount import serve
from moorage.mount.host import mountinfo
from moorage.mount.private import run as private
from tests.cli.command_line import python
from tests.mount import build
from tests.mount.build import Content
from tests.mount.conftest import Mount, MountIt, end_of, eventually, kill, kill_later, wait_for_end
from tests.mount.programs import DEADLINE_S, behind, lines, run, supervisor_and_server
from tests.needs import needs_fuse, needs_root

pytestmark = [needs_fuse, needs_root]  # what an ordinary user gets is in test_ordinary_user

V1: dict[str, Content] = {"model": {"weights": b"w1", "config": b"c1"}, "only-one": {"f": b"1"}}
V2: dict[str, Content] = {"model": {"weights": b"w2", "config": b"c2"}}
TELL = """
import json, os, sys
at = os.environ["MOORAGE_MOUNT"]
print(json.dumps({
    "pid": os.getpid(), "parent": os.getppid(), "group": os.getpgrp(), "session": os.getsid(0), "cwd": os.getcwd(),
    "at": at, "snapshot": os.environ["MOORAGE_SNAPSHOT"], "names": sorted(os.listdir(at)), "words": sys.argv[1:],
    "xattr": os.getxattr(at, "user.moorage.snapshot").decode(),
}))
"""


def outcome(mount: Mount, *words: str | Path, **settings: object) -> tuple[int, str, str]:
    """(exit code, output, errors) of a whole run."""
    with run(mount, *words, **settings) as process:  # type: ignore[arg-type]  # options and settings together
        out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


def told(mount: Mount, **settings: object) -> dict[str, object]:
    """What a program finds."""
    code, out, err = outcome(mount, sys.executable, "-c", TELL, "a b", "--x", **settings)
    assert (code, err) == (0, "")
    found: dict[str, object] = json.loads(out)
    return found


@pytest.fixture(scope="module")
def still(mount_it: MountIt) -> Mount:
    """A mount whose branch no test moves."""
    return mount_it(V1)


def test_it_stays_where_it_stood_and_only_there(mount_it: MountIt) -> None:
    mount = mount_it(V1)
    program = """
import os, sys
for _ in range(2):
    print(open(sys.argv[1] + "/model/weights").read(), open(sys.argv[1] + "/model/config").read(), flush=True)
    sys.stdin.readline()
"""
    with run(mount, sys.executable, "-c", program, mount.path) as process:
        assert lines(process.stdout) == "w1 c1"
        mount.move(V2)
        assert (mount.path / "model/weights").read_bytes() == b"w2"
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert lines(process.stdout) == "w1 c1"
        assert len([entry for entry in mountinfo.mounted() if entry.mountpoint == str(mount.path)]) == 1
    assert (mount.path / "model/weights").read_bytes() == b"w2"
    eventually(lambda: not behind(mount))


def test_where_it_is_seen(mount_it: MountIt, tmp_path: Path) -> None:
    mount = mount_it(V1)
    id = build.head(mount.handle, "prod").hex()
    assert told(mount)["at"] == str(mount.path)
    there = told(mount, options=["--at", tmp_path])
    assert (there["at"], there["snapshot"], there["xattr"]) == (str(tmp_path), id, id)
    assert (there["names"], there["words"]) == (["model", "only-one"], ["a b", "--x"])
    mount.again("prod")
    temporary = str(told(mount)["at"])  # two places: which of them is meant?
    assert os.path.basename(temporary).startswith(private.TEMPORARY_PREFIX)
    eventually(lambda: not os.path.exists(temporary))
    assert os.listdir(tmp_path) == []


def test_the_program_is_in_the_place_of_the_command(still: Mount) -> None:
    with run(still, sys.executable, "-c", TELL, process_group=0) as process:
        out, err = process.communicate(timeout=DEADLINE_S)
    found = json.loads(out)
    assert err == ""
    assert (found["pid"], found["parent"], found["group"]) == (process.pid, os.getpid(), process.pid)
    assert found["session"] == os.getsid(0)


def test_the_terminal_is_the_programs(still: Mount) -> None:
    """A terminal on all three: the program gets what is typed, and is in the foreground."""
    program = "import os; print(os.isatty(0), os.tcgetpgrp(0) == os.getpgrp()); print(input()[::-1])"
    child, terminal = pty.fork()
    if child == 0:
        words = python("-r", str(still.handle.root), "run", "--pin", "prod", sys.executable, "-c", program)
        os.execv(sys.executable, list(words))
    watchdog = kill_later(child)
    said = b""
    try:
        while b"True True" not in said:
            said += os.read(terminal, 1000)
        os.write(terminal, b"drawer\n")
        while b"reward" not in said:
            said += os.read(terminal, 1000)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        watchdog.cancel()
        os.close(terminal)


def test_the_exit_code_is_the_programs(still: Mount) -> None:
    assert outcome(still, "sh", "-c", "yes | head -1 >/dev/null; exit 37") == (37, "", "")
    assert outcome(still, "sh", "-c", "kill -TERM $$") == (-signal.SIGTERM, "", "")
    eventually(lambda: not behind(still))


def test_signals_that_python_ignores_are_not_ignored(still: Mount) -> None:
    code, out, _ = outcome(still, "sh", "-c", "grep SigIgn /proc/self/status")
    ignored = int(out.split()[1], 16)
    # Others may be ignored, as they were when these tests were started.
    assert (code, [number for number in (signal.SIGPIPE, signal.SIGXFSZ) if ignored >> number - 1 & 1]) == (0, [])


def test_its_rights_are_what_they_were(still: Mount) -> None:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    code, out, _ = outcome(still, "cat", "/proc/self/status")
    rights = [[line for line in text.splitlines() if line.startswith("Cap")] for text in (status, out)]
    assert (code, rights[0]) == (0, rights[1])


def test_what_cannot_be_run(still: Mount, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no program")
    (tmp_path / "script").write_text("#!/no/such/interpreter\n")
    (tmp_path / "script").chmod(0o755)
    for name, expected in (
        ("no-such-command", 127),
        (tmp_path / "none", 127),
        (tmp_path / "data", 126),
        (tmp_path / "script", 126),
        (tmp_path, 126),
    ):
        code, out, err = outcome(still, name)
        assert (code, out, err.count("moorage: error: ")) == (expected, "", 1), err
    eventually(lambda: not behind(still))


def test_what_cannot_be_mounted(still: Mount, tmp_path: Path) -> None:
    assert still.handle.root is not None
    for at, message in (
        (tmp_path / "none", "there is no directory"),
        (still.handle.root, "is the repository"),
        (still.handle.root.parent, "contains the repository"),
    ):
        code, out, err = outcome(still, "echo", "ran", options=["--at", at])
        assert (code, out) == (2, "")
        assert message in err
    code, out, err = outcome(still, "echo", "ran", options=["--pin", "none"])
    assert (code, out) == (1, "")
    assert "no branch, tag or snapshot is called 'none'" in err
    eventually(lambda: not behind(still))


def test_the_current_directory_is_the_pinned_one(mount_it: MountIt) -> None:
    mount = mount_it(V1)
    with run(mount, "sh", "-c", "cat config; read line; cat config", cwd=mount.path / "model") as process:
        assert process.stdout is not None
        assert process.stdout.read(2) == "c1"
        mount.move(V2)
        assert process.communicate("\n", timeout=DEADLINE_S)[0] == "c1"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_it_leaves_nothing(still: Mount, tmp_path: Path, number: signal.Signals) -> None:
    with run(still, "sh", "-c", "echo $MOORAGE_MOUNT; read line", options=["--at", tmp_path]) as process:
        assert lines(process.stdout) == str(tmp_path)
        both = supervisor_and_server(still)
        os.kill(process.pid, number)
        assert process.wait(DEADLINE_S) == -number
    wait_for_end(*both)
    assert mountinfo.top_at(str(tmp_path)) is None


def test_killed_before_the_program_began_it_leaves_nothing(still: Mount, tmp_path: Path) -> None:
    """Whenever that is: the server finds nobody to report to, or the one for whom it is gone."""
    for _ in range(2):
        with run(still, "sh", "-c", "read line", options=["--at", tmp_path]) as process:
            eventually(lambda: bool(behind(still)))
            kill(process.pid)
            process.wait(DEADLINE_S)
        eventually(lambda: not behind(still))
        assert mountinfo.top_at(str(tmp_path)) is None


def test_the_server_stays_for_as_long_as_the_program(still: Mount) -> None:
    """A service manager signals all processes of a service, and the program may read on while it ends."""
    program = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: print(open(os.environ["MOORAGE_MOUNT"] + "/model/config").read(), flush=True))
print("ready", flush=True)
sys.stdin.readline()
"""
    with run(still, sys.executable, "-c", program) as process:
        assert lines(process.stdout) == "ready"
        both = supervisor_and_server(still)
        for pid in (*both, process.pid):
            os.kill(pid, signal.SIGTERM)
        assert lines(process.stdout) == "c1"
        assert supervisor_and_server(still) == both
        assert process.communicate("\n", timeout=DEADLINE_S) == ("", "")
        assert process.returncode == 0


def test_what_it_started_loses_the_mount_with_it(still: Mount, tmp_path: Path) -> None:
    """The mount is of one program: a child that outlives it has an empty directory, and not the moving branch."""
    late = "read line <&3; ls -a $MOORAGE_MOUNT; cat $MOORAGE_MOUNT/model/config"
    # What a shell puts into the background has no input, whatever it is told about its descriptor 0.
    with run(still, "sh", "-c", f"exec 3<&0; ({late}) & echo started", options=["--at", tmp_path]) as process:
        assert lines(process.stdout) == "started"
        process.wait(DEADLINE_S)
        eventually(lambda: not behind(still))
        out, err = process.communicate("\n", timeout=DEADLINE_S)
    assert out.split() == [".", ".."]
    assert os.strerror(errno.ENOENT) in err


def test_a_dead_mount_is_covered_too(mount_it: MountIt) -> None:
    mount = mount_it(V1)
    end_of(mount.record)
    assert outcome(mount, "cat", mount.path / "model/config", options=["--at", mount.path]) == (0, "c1", "")


def test_a_mount_outside_can_be_unmounted(still: Mount, tmp_path: Path) -> None:
    """What runs in a namespace does not hold what is mounted outside, where mounts are shared, as systemd has them."""
    assert still.handle.root is not None
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path], check=True)
    try:
        subprocess.run(["mount", "--make-shared", tmp_path], check=True)
        (tmp_path / "live").mkdir()
        record = serve.mount(still.handle.root, "prod", tmp_path / "live")
        server = os.pidfd_open(record.pid)
        command = ["sh", "-c", "echo started; read line; cat $MOORAGE_MOUNT/model/config"]
        with run(still, *command, options=["--at", tmp_path / "live"]) as process:
            assert lines(process.stdout) == "started"
            subprocess.run(["umount", tmp_path / "live"], check=True)
            select.select([server], [], [])
            assert process.communicate("\n", timeout=DEADLINE_S)[0] == "c1"
        os.close(server)
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)
