"""`pyrun run`: one container in the foreground."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Cli, eventually
from tests.e2e.observe import cgroup_of, init_of, monitor_of, namespace, output, pods, state_of, status_field
from tests.e2e.running import END, call, read_line, read_rest, spawn, write

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

UNTIL_SIGNALLED = (
    "trap 'echo int; exit 7' INT; trap 'echo term; exit 8' TERM; echo ready; while :; do sleep 0.02; done"
)
BINARY = random.Random(1).randbytes(5_000_000)


def run(cli: Cli, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a container of the busybox root, and remove it."""
    return call(cli, "run", "--rm", *options, "--rootfs", str(cli.rootfs), *command)


def shell(cli: Cli, line: str, *options: str) -> str:
    """Run a line of shell that must succeed; return its stdout."""
    result = run(cli, "sh", "-c", line, options=options)
    assert result.returncode == 0, result
    return result.stdout.decode()


def test_exit_code_is_the_programs(cli: Cli) -> None:
    assert run(cli, "true").returncode == 0
    assert run(cli, "sh", "-c", "exit 43").returncode == 43


def test_death_by_a_signal_is_128_and_its_number(cli: Cli) -> None:
    arguments = ("run", "--rm", "--name", "mortal", "--rootfs", str(cli.rootfs), "sleep", "1000")
    with spawn(cli, *arguments) as process:
        eventually(lambda: "mortal" in cli.run("ps").stdout)
        eventually(lambda: cli.run("pod", "kill", "-s", "KILL", "mortal").returncode == 0)
        assert process.wait(END) == 128 + signal.SIGKILL


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("@", "nosuch"), 127, ['container "main"', '"nosuch"', "not found", "PATH="]),
        (("@", "/no/such"), 127, ['container "main"', "/no/such"]),
        (("@", "/etc/passwd"), 126, ['container "main"', "/etc/passwd", "0644"]),
        (("@", "/etc"), 126, ["/etc", "directory"]),
        (("/no/such/root", "true"), 125, ["/no/such/root"]),
        (("-v", "relative:/x", "@", "true"), 125, ["relative", "absolute"]),
        (("-v", "/etc:/x:rx", "@", "true"), 125, ["/etc:/x:rx"]),
        (("-e", "=x", "@", "true"), 125, ["-e =x"]),
        (("-u", "stranger", "@", "true"), 125, ["stranger"]),
        (("-d", "--rm", "@", "true"), 125, ["--rm"]),
        (("--no-such-option", "@", "true"), 125, ["--no-such-option"]),
        ((), 125, ["IMAGE"]),
        (("@",), 125, ["main"]),
    ],
)
def test_what_cannot_run_says_why_and_leaves_nothing(
    cli: Cli, arguments: tuple[str, ...], code: int, words: list[str]
) -> None:
    given = [str(cli.rootfs) if argument == "@" else argument for argument in arguments]
    result = cli.run("run", "--rootfs", *given)
    assert (result.returncode, result.stdout) == (code, "")
    assert all(word in result.stderr for word in words), result.stderr
    assert pods(cli) == []


def test_the_streams_stay_apart(cli: Cli) -> None:
    result = run(cli, "sh", "-c", "printf out; printf err >&2")
    assert (result.stdout, result.stderr) == (b"out", b"err")


def test_megabytes_pass_unchanged_to_a_slow_reader(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(BINARY)
    arguments = ("run", "--rm", "-v", f"{tmp_path}:/in:ro", "--rootfs", str(cli.rootfs), "cat", "/in/data")
    digest = hashlib.sha256()
    with spawn(cli, *arguments) as process:
        assert process.stdout is not None
        time.sleep(0.3)
        while data := os.read(process.stdout.fileno(), 50_000):
            digest.update(data)
            time.sleep(0.002)
        assert process.wait(END) == 0
    assert digest.digest() == hashlib.sha256(BINARY).digest()


def test_stdin_is_passed_on_to_its_end(cli: Cli) -> None:
    result = call(cli, "run", "--rm", "-i", "--rootfs", str(cli.rootfs), "cat", stdin=BINARY)
    assert (result.returncode, result.stdout == BINARY, result.stderr) == (0, True, b"")
    result = call(cli, "run", "--rm", "-i", "--rootfs", str(cli.rootfs), "wc", "-c", stdin=b"")
    assert result.stdout == b"0\n"


def test_more_output_than_input_does_not_stop_either(cli: Cli) -> None:
    amplify = "while read -r line; do head -c 100000 /dev/zero; done"
    lines = (b"x" * 4095 + b"\n") * 200
    result = call(cli, "run", "--rm", "-i", "--rootfs", str(cli.rootfs), "sh", "-c", amplify, stdin=lines)
    assert (result.returncode, len(result.stdout)) == (0, 200 * 100_000)


def test_a_program_that_reads_no_input_ends_all_the_same(cli: Cli) -> None:
    result = call(cli, "run", "--rm", "-i", "--rootfs", str(cli.rootfs), "echo", "done", stdin=BINARY)
    assert (result.returncode, result.stdout) == (0, b"done\n")


def test_without_i_stdin_is_empty(cli: Cli) -> None:
    line = "readlink /proc/self/fd/0; wc -c"
    result = call(cli, "run", "--rm", "--rootfs", str(cli.rootfs), "sh", "-c", line, stdin=b"unseen")
    assert result.stdout == b"/dev/null\n0\n"


def test_closed_stdio_of_the_caller_is_no_obstacle(cli: Cli) -> None:
    command = [*cli.command, "run", "--rm", "--rootfs", str(cli.rootfs), "sh", "-c", "cat; echo seen >&2"]
    closing = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&-', "sh", *command],
        stderr=subprocess.PIPE,
        env=cli.environment,
        check=False,
        timeout=END,
    )
    assert (closing.returncode, closing.stderr) == (0, b"seen\n")


def test_output_of_the_first_moment_is_not_lost(cli: Cli) -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda n: run(cli, "echo", str(n)), range(20)))
    assert [r.stdout for r in results] == [b"%d\n" % n for n in range(20)]


def test_a_terminal_alone_needs_none_of_the_callers(cli: Cli) -> None:
    result = run(cli, "sh", "-c", "tty; echo to stderr >&2", options=("-t",))
    assert (result.stdout, result.stderr) == (b"/dev/pts/0\r\nto stderr\r\n", b"")


def test_the_end_of_input_reaches_a_terminal(cli: Cli) -> None:
    line = "stty -echo; echo ready; cat; echo over"
    arguments = ("run", "--rm", "-it", "--rootfs", str(cli.rootfs), "sh", "-c", line)
    with spawn(cli, *arguments) as process:
        assert read_line(process.stdout) == b"ready\r\n"
        assert process.stdin is not None
        process.stdin.write(b"half a line")
        process.stdin.close()
        assert read_rest(process.stdout) == b"half a lineover\r\n"
        assert process.wait(END) == 0


def test_without_rm_the_pod_stays_with_log_and_exit_code(cli: Cli) -> None:
    result = call(cli, "run", "--name", "kept", "--rootfs", str(cli.rootfs), "sh", "-c", "echo words; exit 5")
    assert result.returncode == 5
    assert cli.log("kept", "main") == "words\n"
    assert state_of(cli, "main", "kept")["terminated"]["exitCode"] == 5


def test_rm_removes(cli: Cli) -> None:
    assert run(cli, "sh", "-c", "exit 5").returncode == 5
    assert pods(cli) == []


def test_rm_minds_no_removal_by_another(cli: Cli) -> None:
    arguments = ("run", "--rm", "--name", "shared", "--rootfs", str(cli.rootfs), "sh", "-c", UNTIL_SIGNALLED)
    with spawn(cli, *arguments) as process:
        read_line(process.stdout)
        cli.ok("pod", "rm", "-f", "shared")
        assert process.wait(END) == 128 + signal.SIGKILL
        assert read_rest(process.stderr) == b""


def test_a_taken_name_is_refused(cli: Cli) -> None:
    cli.ok("run", "-d", "--name", "taken", "--rootfs", str(cli.rootfs), "sleep", "1000")
    result = call(cli, "run", "--name", "taken", "--rootfs", str(cli.rootfs), "true")
    assert result.returncode == 125
    assert b"taken" in result.stderr
    assert len(pods(cli)) == 1


def test_detached_prints_the_id_and_returns(cli: Cli) -> None:
    uid = cli.ok("run", "-d", "--rootfs", str(cli.rootfs), "sh", "-c", "echo here; sleep 1000").strip()
    [pod] = pods(cli)
    assert pod["metadata"]["uid"] == uid
    assert pod["metadata"]["name"].startswith("run-")
    eventually(lambda: output(cli, uid, "main") == "here\n")


def test_environment(cli: Cli) -> None:
    cli.environment["INHERITED"] = "of the caller"
    cli.environment.pop("ABSENT", None)
    options = (
        "-e",
        "GIVEN=a b",
        "-e",
        "INHERITED",
        "-e",
        "ABSENT",
        "-e",
        "LITERAL=$(GIVEN) $$ $HOME",
        "-e",
        "EMPTY=",
    )
    lines = shell(cli, "env", *options).splitlines()
    assert {"GIVEN=a b", "INHERITED=of the caller", "LITERAL=$(GIVEN) $$ $HOME", "EMPTY="} <= set(lines)
    assert not any(line.startswith("ABSENT") for line in lines)


def test_dollars_in_arguments_are_literal(cli: Cli) -> None:
    assert run(cli, "echo", "$(HOME) $$ $HOME").stdout == b"$(HOME) $$ $HOME\n"


def test_volumes(cli: Cli, tmp_path: Path) -> None:
    for name in ("rw", "ro"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "old").write_text(name)
    line = "exec 2>&1; cat /r?/old; echo new > /rw/new; (echo x > /ro/x); ls -A /empty; echo y > /empty/y; cat /empty/y"
    text = shell(cli, line, "-v", f"{tmp_path}/rw:/rw", "-v", f"{tmp_path}/ro:/ro:ro", "-v", "/empty")
    assert text == "rorwsh: can't create /ro/x: Read-only file system\ny\n"
    assert (tmp_path / "rw/new").read_text() == "new\n"
    assert not (tmp_path / "ro/x").exists()


def test_working_directory(cli: Cli) -> None:
    assert shell(cli, "pwd", "-w", "/tmp") == "/tmp\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [("www", "33 33 33 44 45\n"), ("1000:44", "1000 44 44\n"), ("www:extra", "33 44 44\n")],
)
def test_user(cli: Cli, user: str, expected: str) -> None:
    assert shell(cli, "echo $(id -u) $(id -g) $(id -G)", "--user", user) == expected


def test_the_root_can_be_read_only(cli: Cli) -> None:
    assert shell(cli, "echo x > /x && cat /x") == "x\n"
    result = run(cli, "sh", "-c", "echo x > /x", options=("--read-only",))
    assert result.returncode == 1
    assert b"Read-only" in result.stderr


def test_privileged_has_what_this_process_has(cli: Cli) -> None:
    def bounding(text: str) -> int:
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith("CapBnd")), 16)

    own = bounding(Path("/proc/self/status").read_text())
    assert bounding(shell(cli, "cat /proc/self/status", "--privileged")) == own
    assert bounding(shell(cli, "cat /proc/self/status")) != own


def test_host_network_is_the_callers(cli: Cli) -> None:
    own = namespace("self", "net")
    assert shell(cli, "readlink /proc/self/ns/net", "--host-network") == f"net:[{own}]\n"
    assert shell(cli, "readlink /proc/self/ns/net") != f"net:[{own}]\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 7), (signal.SIGTERM, 8)])
def test_signals_are_the_programs(cli: Cli, number: signal.Signals, code: int) -> None:
    with spawn(cli, "run", "--rm", "--rootfs", str(cli.rootfs), "sh", "-c", UNTIL_SIGNALLED) as process:
        assert read_line(process.stdout) == b"ready\n"
        process.send_signal(number)
        assert process.wait(END) == code
        assert read_rest(process.stdout) == number.name[3:].lower().encode() + b"\n"
    assert pods(cli) == []


@pytest.mark.parametrize("delay", [0.05, 0.1, 0.15, 0.2, 0.3])
def test_interrupted_at_any_time_it_leaves_nothing(cli: Cli, delay: float) -> None:
    with spawn(cli, "run", "--rm", "--rootfs", str(cli.rootfs), "sh", "-c", UNTIL_SIGNALLED) as process:
        time.sleep(delay)
        for _ in range(200):  # before its trap is set, the first process of a PID namespace ignores it
            process.send_signal(signal.SIGINT)
            try:
                process.wait(0.05)
                break
            except subprocess.TimeoutExpired:
                continue
        # Before main() has begun Python itself may show where it was; nothing had been made then.
        assert process.returncode in (130, 7, -signal.SIGINT, 1)
    assert pods(cli) == []


def test_killed_it_leaves_the_container_running_and_logging(cli: Cli) -> None:
    line = "while :; do echo tick; sleep 0.02; done"
    with spawn(cli, "run", "--name", "orphan", "--rootfs", str(cli.rootfs), "sh", "-c", line) as process:
        read_line(process.stdout)
        process.kill()
        process.wait(END)
    seen = len(cli.log("orphan", "main"))
    eventually(lambda: len(cli.log("orphan", "main")) > seen + 50)
    assert "running" in state_of(cli, "main", "orphan")


@pytest.mark.parametrize("remove", [True, False])
def test_a_reader_that_leaves_ends_the_command_quietly(cli: Cli, remove: bool) -> None:
    options = ("--rm",) if remove else ()
    with spawn(cli, "run", *options, "--name", "spring", "--rootfs", str(cli.rootfs), "yes") as process:
        assert process.stdout is not None
        assert read_line(process.stdout) == b"y\n"
        process.stdout.close()
        assert process.wait(END) == 128 + signal.SIGPIPE
        assert read_rest(process.stderr) == b""
    assert [pod["metadata"]["name"] for pod in pods(cli)] == ([] if remove else ["spring"])
    if not remove:
        assert "running" in state_of(cli, "main", "spring")


def test_signals_pass_while_nobody_reads_the_output(cli: Cli) -> None:
    line = "trap 'exit 9' TERM; yes & echo ready >&2; wait"
    with spawn(cli, "run", "--name", "stuck", "--rootfs", str(cli.rootfs), "sh", "-c", line) as process:
        assert read_line(process.stderr) == b"ready\n"
        time.sleep(0.2)  # all the buffers fill
        process.send_signal(signal.SIGTERM)
        uid = eventually(lambda: pods(cli)[0]["metadata"]["uid"])
        init = init_of(cli, uid, "main")
        eventually(lambda: not init.alive())
        process.send_signal(signal.SIGTERM)
        assert process.wait(END) == 9


def test_what_the_container_runs_is_below_its_own_cgroup(cli: Cli) -> None:
    uid = cli.ok("run", "-d", "--rootfs", str(cli.rootfs), "sleep", "1000").strip()
    assert cgroup_of(init_of(cli, uid, "main")).endswith(f"/{uid}/ctr-main")
    assert cgroup_of(monitor_of(cli, uid, "main")).endswith(f"/{uid}/monitors")
    assert status_field(init_of(cli, uid, "main"), "SigIgn") == "0" * 16


def test_input_that_comes_late_is_passed_on(cli: Cli) -> None:
    with spawn(
        cli, "run", "--rm", "-i", "--rootfs", str(cli.rootfs), "sh", "-c", "echo ready; cat"
    ) as process:
        assert read_line(process.stdout) == b"ready\n"
        for word in (b"one\n", b"two\n"):
            write(process.stdin, word)
            assert read_line(process.stdout) == word
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(END) == 0
