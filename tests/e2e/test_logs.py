"""`pyrun logs`: what a container has written comes out byte for byte, whole, from its end, or as it comes."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import SLOW, Cli, eventually

pytestmark = pytest.mark.requires("pods", "busybox")

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"


def ended(cli: Cli, pod: str) -> None:
    """Wait until all containers of a Pod have ended."""
    eventually(
        lambda: all("terminated" in s["state"] for s in cli.inspect(pod)["status"]["containerStatuses"])
    )


def logs(cli: Cli, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run `pyrun logs` and return its result with raw output."""
    return subprocess.run(
        [*cli.command, "logs", *arguments],
        capture_output=True,
        timeout=60 * SLOW,
        env=cli.environment,
        check=False,
    )


class Following:
    """`pyrun logs -f` in the background."""

    def __init__(self, cli: Cli, out: Path, *arguments: str) -> None:
        self.out = out
        with out.open("wb") as file:
            self.process = subprocess.Popen(
                [*cli.command, "logs", "-f", *arguments],
                stdout=file,
                stderr=subprocess.PIPE,
                env=cli.environment,
            )

    def wait(self, timeout: float = 30) -> bytes:
        """Wait for its end and return what it has printed."""
        try:
            _, errors = self.process.communicate(timeout=timeout * SLOW)
        finally:
            self.process.kill()
        assert self.process.returncode == 0, errors.decode()
        return self.out.read_bytes()


def test_streams_come_out_where_they_went_in(cli: Cli) -> None:
    cli.create(cli.pod("echo to stdout; echo to stderr >&2; printf 'no newline'"))
    ended(cli, "test")
    result = logs(cli, "test")
    assert result.stdout == b"to stdout\nno newline"
    assert result.stderr == b"to stderr\n"


def test_bytes_and_long_lines_come_back_as_they_were_written(cli: Cli) -> None:
    blob = os.urandom(300_000)
    (cli.rootfs / "blob").write_bytes(blob)
    cli.create(cli.pod("cat /blob; sleep 0.1; yes x | tr -d '\\n' | head -c 100000"))
    ended(cli, "test")
    assert logs(cli, "test").stdout == blob + b"x" * 100_000


def test_logs_of_a_stopped_pod_are_there_until_it_is_removed(cli: Cli) -> None:
    cli.create(cli.pod("echo hello; sleep 1000"))
    cli.wait_for_log("test", "hello")
    cli.ok("pod", "stop", "-t", "0", "test")
    assert cli.log("test") == "hello\n"
    cli.ok("pod", "rm", "test")
    result = cli.run("logs", "test")
    assert (result.returncode, "no Pod is named" in result.stderr) == (1, True)


def test_tail_since_and_timestamps(cli: Cli) -> None:
    cli.create(cli.pod("for i in 1 2 3; do echo line $i; done; sleep 2; echo line 4"))
    ended(cli, "test")
    assert cli.ok("logs", "--tail", "2", "test") == "line 3\nline 4\n"
    assert cli.ok("logs", "--tail", "0", "test") == ""
    assert cli.ok("logs", "--tail", "-1", "test").count("\n") == 4
    stamped = cli.ok("logs", "--timestamps", "test").splitlines()
    assert [re.sub(f"^{STAMP} ", "", line) for line in stamped] == [f"line {i}" for i in (1, 2, 3, 4)]
    last = stamped[3].split()[0]
    assert cli.ok("logs", "--since", last, "test") == "line 4\n"
    assert cli.ok("logs", "--since", "1h", "test").count("\n") == 4
    assert cli.ok("logs", "--since", "1ns", "test") == ""
    assert cli.ok("logs", "--since", "1h", "--tail", "1", "test") == "line 4\n"


def test_several_containers_must_be_told_apart(cli: Cli) -> None:
    cli.create(cli.pod("echo a; sleep 0.3; printf c", "sleep 0.15; echo b; sleep 0.3; echo d"))
    ended(cli, "test")
    result = cli.run("logs", "test")
    assert result.returncode == 2
    assert "c0, c1" in result.stderr and "-c NAME" in result.stderr
    assert cli.ok("logs", "test", "-c", "c1") == "b\nd\n"
    assert cli.ok("logs", "--all-containers", "test") == (
        "[pod/test/c0] a\n[pod/test/c1] b\n[pod/test/c0] c\n[pod/test/c1] d\n"
    )
    stamped = cli.ok("logs", "--all-containers", "--timestamps", "--tail", "1", "test").splitlines()
    assert [re.sub(STAMP, "TIME", line) for line in stamped] == [
        "[pod/test/c0] TIME c",
        "[pod/test/c1] TIME d",
    ]
    assert cli.run("logs", "--all-containers", "-c", "c0", "test").returncode == 2
    result = cli.run("logs", "test", "-c", "c7")
    assert result.returncode == 1 and 'no container "c7"; it has c0, c1' in result.stderr


def test_there_is_no_previous_attempt_without_a_restart(cli: Cli) -> None:
    cli.create(cli.pod("echo hello"))
    result = cli.run("logs", "-p", "test")
    assert result.returncode == 1
    assert 'container "c0" has no previous attempt' in result.stderr


def test_follow_ends_with_the_container_and_misses_nothing(cli: Cli, tmp_path: Path) -> None:
    cli.create(cli.pod("echo begin; sleep 1; echo end; printf rest"))
    following = Following(cli, tmp_path / "out", "test")
    eventually(lambda: following.out.read_bytes() == b"begin\n")
    assert following.wait() == b"begin\nend\nrest"
    assert logs(cli, "-f", "test").stdout == b"begin\nend\nrest"


def test_follow_shows_lines_as_they_come(cli: Cli, tmp_path: Path) -> None:
    cli.create(cli.pod("while :; do date +%s.%N; sleep 0.1; done"))
    following = Following(cli, tmp_path / "out", "--tail", "0", "test")
    try:
        eventually(lambda: following.out.read_bytes().count(b"\n") >= 3)
    finally:
        following.process.terminate()
        following.process.communicate()


def test_follow_all_containers(cli: Cli, tmp_path: Path) -> None:
    cli.create(cli.pod("sleep 0.5; echo a", "echo b; sleep 1; echo c"))
    assert Following(cli, tmp_path / "out", "--all-containers", "test").wait() == (
        b"[pod/test/c1] b\n[pod/test/c0] a\n[pod/test/c1] c\n"
    )


def test_ctrl_c_ends_it_quietly(cli: Cli, tmp_path: Path) -> None:
    cli.create(cli.pod("echo begin; sleep 1000"))
    following = Following(cli, tmp_path / "out", "test")
    eventually(lambda: following.out.read_bytes() == b"begin\n")
    following.process.send_signal(signal.SIGINT)
    _, errors = following.process.communicate(timeout=10 * SLOW)
    assert (following.process.returncode, errors) == (130, b"")


def test_a_reader_that_leaves_is_no_error(cli: Cli) -> None:
    cli.create(cli.pod("yes | head -n 200000"))
    ended(cli, "test")
    line = f"{sys.executable} -m pyrun logs test | head -n 1"
    result = subprocess.run(
        ["sh", "-c", line], capture_output=True, env=cli.environment, timeout=30, check=False
    )
    assert (result.stdout, result.stderr) == (b"y\n", b"")


def test_rotation_loses_nothing_while_followed(cli: Cli, tmp_path: Path) -> None:
    """35 MB in lines of 1000 bytes: more than three files of the log's 10 MiB, still within the five that are kept."""
    script = "sleep 0.5; i=100000; x=$(head -c 993 /dev/zero | tr '\\0' x); "
    script += "while [ $i -lt 135000 ]; do echo $i$x; i=$((i+1)); done"
    uid = cli.create(cli.pod(script)).strip()
    following = Following(cli, tmp_path / "out", "test")
    followed = following.wait(120)
    wanted = b"".join(b"%d" % i + b"x" * 993 + b"\n" for i in range(100000, 135000))
    assert hashlib.sha256(followed).digest() == hashlib.sha256(wanted).digest()
    assert sorted(path.name for path in (cli.root / "pods" / uid / "logs/c0").iterdir())[:3] == [
        "0.log",
        "0.log.1",
        "0.log.2",
    ]
    assert logs(cli, "test").stdout == wanted
    assert logs(cli, "--tail", "20000", "test").stdout == wanted[-20000 * 1000 :]
