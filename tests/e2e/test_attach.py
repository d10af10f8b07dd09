"""`pyrun attach`: the stdio of a container that runs already."""

from __future__ import annotations

import contextlib
import hashlib
import random
import select
import signal
import socket
import subprocess

import pytest

from pyrun.process import control
from pyrun.process.container import CONTROL, connect
from pyrun.runtime.pods import PodDirectory
from tests.e2e.conftest import Cli, eventually
from tests.e2e.observe import box, run_pod, wait_for_end, wait_for_output
from tests.e2e.running import END, call, read_line, read_rest, spawn, write

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

ECHO = 'echo before; while read -r line; do echo "got $line"; [ "$line" = end ] && exit 6; done; echo eof'
TICK = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.02; done"
BINARY = random.Random(3).randbytes(1_000_000)


def echo_pod(cli: Cli) -> str:
    """Create a Pod whose container answers each line of its input, and ends with code 6 at `end`."""
    uid = run_pod(cli, box(ECHO, stdin=True))
    wait_for_output(cli, uid, "before\n")
    return uid


def test_it_sees_what_comes_and_not_what_was(cli: Cli) -> None:
    uid = echo_pod(cli)
    with spawn(cli, "attach", "test") as process:
        write(process.stdin, b"one\n")
        assert read_line(process.stdout) == b"got one\n"
        write(process.stdin, b"end\n")
        assert read_rest(process.stdout) == b"got end\n"
        assert process.wait(END) == 6
    wait_for_end(cli, uid)
    assert cli.log("test") == "before\ngot one\ngot end\n"


def test_the_streams_stay_apart(cli: Cli) -> None:
    run_pod(cli, box("read -r line; printf out; printf err >&2", stdin=True))
    result = call(cli, "attach", "test", stdin=b"go\n")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"out", b"err")


def test_several_clients_get_the_same(cli: Cli) -> None:
    echo_pod(cli)
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(3):
            client = stack.enter_context(spawn(cli, "attach", "test"))
            clients.append(client)
            write(client.stdin, b"%d\n" % number)
            assert read_line(client.stdout) == b"got %d\n" % number  # its own line: it is attached
        write(clients[0].stdin, b"end\n")
        assert [client.wait(END) for client in clients] == [6, 6, 6]
        seen = [read_rest(client.stdout) for client in clients]
    assert seen == [b"got 1\ngot 2\ngot end\n", b"got 2\ngot end\n", b"got end\n"]


def test_a_client_that_is_killed_disturbs_nobody(cli: Cli) -> None:
    run_pod(cli, box(TICK))
    with spawn(cli, "attach", "test") as other, spawn(cli, "attach", "test") as killed:
        read_line(killed.stdout)
        killed.kill()
        killed.wait(END)
        first = int(read_line(other.stdout))
        assert [int(read_line(other.stdout)) for _ in range(30)] == list(range(first + 1, first + 31))


def test_the_end_of_a_clients_input_is_not_the_containers(cli: Cli) -> None:
    echo_pod(cli)
    with spawn(cli, "attach", "test") as first, spawn(cli, "attach", "test") as second:
        write(first.stdin, b"one\n")
        assert read_line(first.stdout) == b"got one\n"
        assert first.stdin is not None
        first.stdin.close()
        write(second.stdin, b"two\n")
        assert read_line(first.stdout) == b"got two\n"
        write(second.stdin, b"end\n")
        assert (first.wait(END), second.wait(END)) == (6, 6)


def test_without_stdin_it_only_watches(cli: Cli) -> None:
    echo_pod(cli)
    with spawn(cli, "attach", "--no-stdin", "test") as watcher, spawn(cli, "attach", "test") as talker:
        write(watcher.stdin, b"unseen\n")
        eventually(lambda: ask(talker) and says_something(watcher))
        write(talker.stdin, b"end\n")
        assert (watcher.wait(END), talker.wait(END)) == (6, 6)
    assert "unseen" not in cli.log("test")


def ask(process: subprocess.Popen[bytes]) -> bool:
    """Write a line that the container answers."""
    write(process.stdin, b"x\n")
    return True


def says_something(process: subprocess.Popen[bytes]) -> bool:
    """Return whether output of a command is there to be read."""
    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], 0.05)[0])


def test_a_container_without_stdin_takes_none(cli: Cli) -> None:
    run_pod(cli, box("sleep 4; exit 3"))
    result = call(cli, "attach", "test", stdin=BINARY)
    assert (result.returncode, result.stderr) == (3, b"")


def test_much_input_arrives(cli: Cli) -> None:
    run_pod(cli, box(f"head -c {len(BINARY)} | md5sum; exit 5", stdin=True))
    result = call(cli, "attach", "test", stdin=BINARY)
    assert result.returncode == 5
    assert result.stdout.split()[0].decode() == hashlib.md5(BINARY).hexdigest()


def test_signals_are_the_containers(cli: Cli) -> None:
    run_pod(cli, box("trap 'exit 8' TERM; while :; do echo tick; sleep 0.02; done"))
    with spawn(cli, "attach", "test") as process:
        read_line(process.stdout)
        process.send_signal(signal.SIGTERM)
        assert process.wait(END) == 8


def test_a_reader_that_leaves_ends_the_command_quietly(cli: Cli) -> None:
    run_pod(cli, box(TICK))
    with spawn(cli, "attach", "test") as process:
        read_line(process.stdout)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(END) == 128 + signal.SIGPIPE
        assert read_rest(process.stderr) == b""
    with spawn(cli, "attach", "test") as process:
        assert read_line(process.stdout)


def test_death_by_a_signal_is_128_and_its_number(cli: Cli) -> None:
    run_pod(cli, box(TICK))
    with spawn(cli, "attach", "test") as process:
        read_line(process.stdout)
        cli.ok("pod", "kill", "-s", "KILL", "test")
        assert process.wait(END) == 128 + signal.SIGKILL


def test_one_of_several_containers(cli: Cli) -> None:
    run_pod(cli, box("read -r x; echo zero", stdin=True), box("read -r x; echo one", "c1", stdin=True))
    several = cli.run("attach", "test")
    assert several.returncode == 2
    assert "c0, c1" in several.stderr
    assert call(cli, "attach", "test", "-c", "c1", stdin=b"\n").stdout == b"one\n"
    assert call(cli, "attach", "-c", "c0", "test", stdin=b"\n").stdout == b"zero\n"


def test_what_cannot_be_attached_to_says_why(cli: Cli) -> None:
    uid = run_pod(cli, box("true"))
    wait_for_end(cli, uid)
    ended = cli.run("attach", "test")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert 'container "c0" has ended; see pyrun logs' in ended.stderr
    assert '"c9"' in cli.run("attach", "-c", "c9", "test").stderr
    assert cli.run("attach", "nobody").returncode == 1


def test_more_clients_than_the_monitor_serves_are_refused(cli: Cli) -> None:
    uid = run_pod(cli, box(TICK))
    directory = PodDirectory(cli.layout, uid).container_directory(("c0", 0))
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            client = stack.enter_context(connect(directory, CONTROL))
            client.send(control.attach(control.Stream(0)))
            assert isinstance(client, socket.socket)
            assert isinstance(control.decode(client.recv(control.DATAGRAM_MAX)), control.Done)
        result = cli.run("attach", "test")
        assert result.returncode == 1
        assert "as many clients as its monitor serves" in result.stderr
