"""`pyrun exec`: a program inside a running container."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrun.cgroups import files
from pyrun.kernel.proc import ProcessIdentity
from tests.e2e.conftest import Cli, eventually
from tests.e2e.observe import box, cgroup_of, init_of, manifest
from tests.e2e.running import END, call, read_line, read_rest, spawn, write

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

BINARY = random.Random(2).randbytes(5_000_000)
RIGHTS = re.compile("Cap...|NoNewPrivs|Seccomp|Uid|Gid|Groups|Umask|SigBlk|SigIgn")
RESTRICTED = {
    "runAsUser": 33,
    "runAsGroup": 44,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
}


@pytest.fixture(scope="module")
def pod(module_cli: Cli) -> Cli:
    """An instance with three Pods: `box` of one container, `bare` of one with few rights, `duo` of two that share
    their processes.
    """
    module_cli.create(
        manifest(
            module_cli,
            box("exec sleep 100000", env=[{"name": "OF_POD", "value": "pod"}], workingDir="/var"),
            name="box",
        )
    )
    module_cli.create(manifest(module_cli, box("exec sleep 100000", securityContext=RESTRICTED), name="bare"))
    module_cli.create(
        manifest(
            module_cli,
            box("exec sleep 100000", "c0"),
            box("exec sleep 100000", "c1"),
            name="duo",
            shareProcessNamespace=True,
        )
    )
    return module_cli


def run(cli: Cli, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run `pyrun exec` with these arguments."""
    return call(cli, "exec", *arguments, stdin=stdin)


def text(cli: Cli, *arguments: str) -> str:
    """Run a program that must succeed and return its stdout."""
    result = run(cli, *arguments)
    assert result.returncode == 0, result
    return result.stdout.decode()


def main_process(cli: Cli, name: str, container: str = "c0") -> ProcessIdentity:
    """Return the main process of a container of a Pod."""
    uid = cli.inspect(name)["metadata"]["uid"]
    return init_of(cli, uid, container)


def leaf_of(process: ProcessIdentity) -> Path:
    """Return the directory of a container's cgroup."""
    return Path(files.unified_mount() + cgroup_of(process))


@contextlib.contextmanager
def inside(cli: Cli, name: str, container: str = "c0", *options: str) -> Iterator[int]:
    """Hold a program in a container; gives its pid as the host sees it."""
    leaf = leaf_of(main_process(cli, name, container))
    with spawn(
        cli, "exec", "-i", *options, name, "-c", container, "--", "sh", "-c", "echo; exec cat"
    ) as process:
        assert read_line(process.stdout) == b"\n"
        [group] = leaf.glob("exec-*")
        [pid] = (group / "cgroup.procs").read_text().split()
        # The shell has written, but may not be cat yet.
        eventually(lambda: Path(f"/proc/{pid}/comm").read_text() == "cat\n")
        yield int(pid)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(END) == 0
    assert not list(leaf.glob("exec-*")), "its cgroup stays"


def namespaces(pid: int) -> dict[str, str]:
    """Return all namespaces of a process."""
    return {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in os.listdir(f"/proc/{pid}/ns")}


def status(pid: int) -> dict[str, str]:
    """Return what /proc/PID/status says of a process's rights."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {name: value for name, value in found.items() if RIGHTS.fullmatch(name)}


@pytest.mark.parametrize(("name", "container"), [("box", "c0"), ("bare", "c0"), ("duo", "c0"), ("duo", "c1")])
def test_it_is_where_the_container_is_and_may_what_it_may(pod: Cli, name: str, container: str) -> None:
    init = main_process(pod, name, container)
    with inside(pod, name, container) as pid:
        assert namespaces(pid) == namespaces(init.pid)
        assert status(pid) == status(init.pid)
        assert Path(f"/proc/{pid}/limits").read_text() == Path(f"/proc/{init.pid}/limits").read_text()
        assert os.readlink(f"/proc/{pid}/cwd") == os.readlink(f"/proc/{init.pid}/cwd")
        assert os.stat(f"/proc/{pid}/root/").st_ino == os.stat(f"/proc/{init.pid}/root/").st_ino
        assert os.path.dirname(cgroup_of(ProcessIdentity(pid, 0, ""))) == cgroup_of(init)


def test_the_namespaces_are_not_the_hosts(pod: Cli) -> None:
    with inside(pod, "box") as pid:
        same = {
            name for name, link in namespaces(pid).items() if link == os.readlink(f"/proc/self/ns/{name}")
        }
        assert same == {"user"}


def test_a_shared_pid_namespace_is_seen_and_a_private_one_is_not(pod: Cli) -> None:
    assert text(pod, "duo", "-c", "c1", "--", "ps", "-o", "comm").split().count("sleep") == 2
    assert text(pod, "box", "cat", "/proc/1/comm") == "sleep\n"
    assert text(pod, "duo", "-c", "c0", "--", "cat", "/proc/1/comm") == "pause\n"


def test_only_stdio_is_open(pod: Cli) -> None:
    assert text(pod, "box", "ls", "/proc/self/fd").split() == [
        "0",
        "1",
        "2",
        "3",
    ]  # 3: the directory it reads


def test_environment_and_working_directory(pod: Cli) -> None:
    pod.environment["FROM_CALLER"] = "$(OF_POD)"
    result = text(pod, "-e", "NEW=$x", "-e", "FROM_CALLER", "box", "sh", "-c", "env; pwd").splitlines()
    assert {"OF_POD=pod", "NEW=$x", "FROM_CALLER=$(OF_POD)", "HOME=/root", "HOSTNAME=box"} <= set(result)
    assert result[-1] == "/var"
    assert not any(line.startswith(("PYRUN_", "TERM=")) for line in result)
    assert (
        text(pod, "-w", "/tmp", "-e", "OF_POD=mine", "box", "sh", "-c", "pwd; echo $OF_POD") == "/tmp\nmine\n"
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "0 0 0 45 /root\n"),
        (("-u", "www"), "33 33 33 44 45 /var/www\n"),
        (("-u", "33"), "33 33 33 44 45 /var/www\n"),
        (("-u", "1000:44"), "1000 44 44 /\n"),
    ],
)
def test_user(pod: Cli, options: tuple[str, ...], expected: str) -> None:
    assert text(pod, *options, "box", "sh", "-c", "echo $(id -u) $(id -g) $(id -G) $HOME") == expected


def test_the_containers_user_is_the_default(pod: Cli) -> None:
    assert text(pod, "bare", "sh", "-c", "echo $(id -u) $(id -g)") == "33 44\n"


@pytest.mark.parametrize(
    ("line", "code"), [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
)
def test_exit_code_is_the_programs(pod: Cli, line: str, code: int) -> None:
    assert run(pod, "box", "sh", "-c", line).returncode == code


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("box", "nosuch"), 127, ['container "c0"', '"nosuch"', "not found"]),
        (("box", "/no/such"), 127, ['container "c0"', "/no/such"]),
        (("box", "/etc/passwd"), 126, ['container "c0"', "/etc/passwd", "0644"]),
        (("box", "/etc"), 126, ["directory"]),
        (("box",), 125, ["no command", "pyrun exec POD"]),
        (("box", "--"), 125, ["no command"]),
        (("-w", "/no/such", "box", "ls"), 125, ["/no/such", "No such file"]),
        (("-u", "stranger", "box", "ls"), 125, ["stranger", "/etc/passwd"]),
        (("-e", "=", "box", "ls"), 125, ["has no name"]),
        (("--wrong", "box", "ls"), 125, ["--wrong"]),
        (("nobody", "ls"), 125, ["nobody", "pyrun pod ls"]),
        (("box", "-c", "c9", "--", "ls"), 125, ['"c9"', "it has c0"]),
        (("duo", "ls"), 125, ["2 containers", "c0, c1", "-c NAME"]),
    ],
)
def test_what_cannot_run_says_why(pod: Cli, arguments: tuple[str, ...], code: int, words: list[str]) -> None:
    result = run(pod, *arguments)
    assert (result.returncode, result.stdout) == (code, b"")
    assert all(word in result.stderr.decode() for word in words), result.stderr
    assert not [g for name in ("box", "duo") for g in leaf_of(main_process(pod, name)).glob("exec-*")]


@pytest.mark.parametrize(
    "arguments",
    [
        ("duo", "-c", "c1", "--", "hostname"),
        ("-c", "c1", "duo", "hostname"),
        ("--container=c1", "duo", "--", "hostname"),
        ("duo", "--container=c1", "hostname"),
    ],
)
def test_the_container_may_be_named_before_and_after_the_pod(pod: Cli, arguments: tuple[str, ...]) -> None:
    assert text(pod, *arguments) == "duo\n"


def test_the_named_container_is_the_one(pod: Cli) -> None:
    for name in ("c0", "c1"):
        text(pod, "duo", "-c", name, "--", "sh", "-c", f"echo {name} > /tmp/name")
    assert text(pod, "duo", "-c", "c0", "--", "cat", "/tmp/name") == "c0\n"


def test_a_container_that_does_not_run(cli: Cli) -> None:
    cli.create(cli.pod("true", "exec sleep 1000", name="half"), "--wait=running")
    eventually(lambda: run(cli, "half", "-c", "c0", "--", "true").returncode == 125)
    ended = cli.run("exec", "half", "-c", "c0", "--", "true")
    assert (ended.returncode, 'container "c0" does not run' in ended.stderr) == (125, True)
    assert "pyrun logs" in ended.stderr
    cli.ok("pod", "pause", "half")
    paused = cli.run("exec", "half", "-c", "c1", "--", "true")
    assert (paused.returncode, "paused" in paused.stderr, "pyrun pod unpause" in paused.stderr) == (
        125,
        True,
        True,
    )
    cli.ok("pod", "unpause", "half")
    assert cli.run("exec", "half", "-c", "c1", "--", "true").returncode == 0


def test_the_streams_stay_apart(pod: Cli) -> None:
    result = run(pod, "box", "sh", "-c", "printf out; printf err >&2")
    assert (result.stdout, result.stderr) == (b"out", b"err")


def test_stdin_is_passed_on_to_its_end(pod: Cli) -> None:
    result = run(pod, "-i", "box", "cat", stdin=BINARY)
    assert (result.returncode, result.stdout == BINARY, result.stderr) == (0, True, b"")
    assert run(pod, "-i", "box", "wc", "-c", stdin=b"").stdout == b"0\n"


def test_without_i_stdin_is_empty(pod: Cli) -> None:
    result = run(pod, "box", "sh", "-c", "readlink /proc/self/fd/0; wc -c", stdin=b"unseen")
    assert result.stdout == b"/dev/null\n0\n"


def test_a_program_that_reads_no_input_ends_all_the_same(pod: Cli) -> None:
    result = run(pod, "-i", "box", "echo", "done", stdin=BINARY)
    assert (result.returncode, result.stdout) == (0, b"done\n")


def test_more_output_than_input_does_not_stop_either(pod: Cli) -> None:
    lines = (b"x" * 4095 + b"\n") * 100
    amplify = "while read -r line; do head -c 100000 /dev/zero; done"
    result = run(pod, "-i", "box", "sh", "-c", amplify, stdin=lines)
    assert (result.returncode, len(result.stdout)) == (0, 100 * 100_000)


def test_what_it_wrote_before_its_end_is_read_by_a_slow_reader(pod: Cli) -> None:
    with spawn(pod, "exec", "box", "head", "-c", "300000", "/dev/zero") as process:
        time.sleep(0.6)
        assert len(read_rest(process.stdout)) == 300_000
        assert process.wait(END) == 0


def test_signals_are_the_programs(pod: Cli) -> None:
    line = (
        "trap 'echo int; exit 7' INT; trap 'echo term; exit 8' TERM; echo ready; while :; do sleep 0.02; done"
    )
    for number, code in ((signal.SIGINT, 7), (signal.SIGTERM, 8)):
        with spawn(pod, "exec", "box", "sh", "-c", line) as process:
            assert read_line(process.stdout) == b"ready\n"
            process.send_signal(number)
            assert process.wait(END) == code
            assert read_rest(process.stderr) == b""


def test_signals_pass_while_nobody_reads_the_output(pod: Cli) -> None:
    line = "trap 'kill $!; exit 9' TERM; yes & echo ready >&2; wait"
    with spawn(pod, "exec", "box", "sh", "-c", line) as process:
        assert read_line(process.stderr) == b"ready\n"
        time.sleep(0.2)  # all the buffers fill
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):  # there is output to write still
            process.wait(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(END) == 9


def test_a_reader_that_leaves_ends_the_command_quietly(pod: Cli) -> None:
    with spawn(pod, "exec", "box", "yes") as process:
        assert read_line(process.stdout) == b"y\n"
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(END) == 128 + signal.SIGPIPE
        assert read_rest(process.stderr) == b""
    leaf = leaf_of(main_process(pod, "box"))
    eventually(lambda: all(not (g / "cgroup.procs").read_text() for g in leaf.glob("exec-*")))
    for group in leaf.glob("exec-*"):  # it was still busy when the command ended
        group.rmdir()


def test_what_it_leaves_running_is_not_waited_for_and_ends_with_the_container(cli: Cli) -> None:
    cli.create(cli.pod("exec sleep 1000", name="host"))
    leaf = leaf_of(main_process(cli, "host"))
    result = run(cli, "host", "sh", "-c", "yes & sleep 1234 >/dev/null 2>&1 & echo started >&2")
    assert (result.returncode, result.stderr) == (0, b"started\n")
    assert "sleep 1234" in text(cli, "host", "ps", "-o", "args")
    [left] = leaf.glob("exec-*")
    pids = (left / "cgroup.procs").read_text().split()
    assert pids
    cli.ok("pod", "rm", "-f", "host")
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))


def test_a_killed_command_does_not_disturb_the_container(cli: Cli) -> None:
    cli.create(cli.pod("exec sleep 1000", name="host"))
    with spawn(cli, "exec", "host", "sh", "-c", "echo; sleep 1000") as process:
        read_line(process.stdout)
        process.kill()
        process.wait(END)
    assert text(cli, "host", "echo", "alive") == "alive\n"


def test_it_ends_with_the_container(cli: Cli) -> None:
    cli.create(cli.pod("exec sleep 1000", name="host"))
    with spawn(cli, "exec", "host", "sh", "-c", "echo; sleep 1000") as process:
        read_line(process.stdout)
        cli.ok("pod", "kill", "-s", "KILL", "host")
        assert process.wait(END) == 128 + signal.SIGKILL


def test_the_container_never_sees_a_program_of_the_host(cli: Cli) -> None:
    look = "for p in /proc/[0-9]*; do readlink $p/exe; done 2>/dev/null"
    cli.create(
        cli.pod(f"while :; do {look}; done", name="watcher", spec="shareProcessNamespace: true"),
    )
    for _ in range(3):
        assert text(cli, "watcher", "echo", "x") == "x\n"
    seen = set(cli.log("watcher").splitlines())
    assert "/bin/busybox" in seen
    assert {path for path in seen if not path.startswith(("/bin/busybox", "/memfd:"))} == set()


def test_input_that_comes_late_is_passed_on(pod: Cli) -> None:
    with spawn(pod, "exec", "-i", "box", "cat") as process:
        for word in (b"one\n", b"two\n"):
            write(process.stdin, word)
            assert read_line(process.stdout) == word
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(END) == 0
