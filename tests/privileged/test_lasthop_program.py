"""The last hop itself: the gate, what it passes on, and how a failed exec is told."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrun.process.control import (
    START_RECORD_SIZE,
    LastHopFlags,
    StartRecord,
    decode_start_record,
    last_hop_argv,
)
from pyrun.process.programs import program_path, sealed_copy
from tests.privileged.static_programs import (
    block_all_signals,
    is_small_libc,
    is_static,
    running,
    start,
    status,
    until,
)

NONE = LastHopFlags(0)


class Gate:
    """A listening socket in a directory, and a last hop waiting at it."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "gate")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(self.path)
        self.listener.listen(4)
        self.processes: list[subprocess.Popen[bytes]] = []

    def wait_with(
        self, *argv: str, path: str = "/bin/sh", env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a last hop that will execute `path` with `argv`."""
        program = sealed_copy("lasthop")
        gate = self.listener.fileno()
        process = start(
            last_hop_argv(gate, NONE, path, list(argv)),
            executable=f"/proc/self/fd/{program}",
            pass_fds=(program, gate),
            env=env,
            stdout=subprocess.PIPE,
        )
        os.close(program)
        self.listener.close()
        self.processes.append(process)
        return process

    def connect(self) -> socket.socket:
        starter = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        starter.settimeout(5)
        starter.connect(self.path)
        return starter

    def open(self) -> StartRecord | None:
        """Start the program; None when it runs."""
        with self.connect() as starter:
            data = starter.recv(2 * START_RECORD_SIZE)
        return decode_start_record(data) if data else None

    def close(self) -> None:
        self.listener.close()
        for process in self.processes:
            process.kill()
            process.wait()
            assert process.stdout
            process.stdout.close()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path)
    yield gate
    gate.close()


def output(process: subprocess.Popen[bytes]) -> str:
    return process.communicate(timeout=5)[0].decode()


def test_is_a_small_static_program() -> None:
    assert is_static("lasthop")
    if not is_small_libc("lasthop"):
        pytest.skip("built with glibc: install musl-tools for a last hop of a few kilobytes")
    assert os.path.getsize(program_path("lasthop")) < 20_000


def test_waits_until_somebody_connects(gate: Gate) -> None:
    process = gate.wait_with("sh", "-c", "echo started")
    assert until(lambda: status(process.pid, "Name") == "lasthop")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    assert gate.open() is None
    assert output(process) == "started\n"


def test_passes_arguments_and_environment_untouched(gate: Gate) -> None:
    process = gate.wait_with(
        "my name", "-c", 'echo "$0|$1|$2|$#"; env', "zero", "", "a b", env={"A": "1 2", "B": ""}
    )
    assert gate.open() is None
    first, *environment = output(process).splitlines()
    assert first == "zero||a b|2"
    assert {line for line in environment if line[0] in "AB"} == {"A=1 2", "B="}
    assert {line.split("=")[0] for line in environment} <= {"A", "B", "PWD", "_", "SHLVL", "OLDPWD"}


def test_the_second_starter_is_refused(gate: Gate) -> None:
    gate.wait_with("sleep", "100", path="/bin/sleep")
    assert gate.open() is None
    with pytest.raises(ConnectionRefusedError):
        gate.connect()


def test_refuses_the_second_starter_even_if_the_gate_was_duplicated(gate: Gate) -> None:
    duplicate = gate.listener.dup()
    gate.wait_with("sleep", "100", path="/bin/sleep")
    assert gate.open() is None
    with pytest.raises(ConnectionRefusedError):
        gate.connect()
    duplicate.close()


def test_program_has_no_blocked_or_ignored_signals_and_no_other_descriptor(gate: Gate) -> None:
    # Python ignores SIGPIPE and SIGXFSZ; subprocess restores only those. The shell may block signals while it
    # forks, so it becomes what reads its status.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGRTMIN)}
    with open("/dev/null") as leak:
        os.set_inheritable(leak.fileno(), True)
        process = gate.wait_with("sh", "-c", "ls /proc/$$/fd; exec cat /proc/self/status")
    for number, handler in before.items():
        signal.signal(number, handler)
    assert gate.open() is None
    lines = output(process).splitlines()
    assert lines[:3] == ["0", "1", "2"] and lines[3].startswith("Name:")
    assert "SigBlk:\t" + 16 * "0" in lines
    assert "SigIgn:\t" + 16 * "0" in lines


@pytest.mark.parametrize(
    ("content", "mode", "expected", "code"),
    [
        (None, 0, StartRecord(errno.ENOENT, "exec"), 127),
        (b"#!/no/such/interpreter\n", 0o755, StartRecord(errno.ENOENT, "interpreter"), 127),
        (b"#!/bin/sh\n", 0o644, StartRecord(errno.EACCES, "exec"), 126),
        (b"neither a script nor ELF", 0o755, StartRecord(errno.ENOEXEC, "exec"), 126),
    ],
)
def test_tells_why_the_program_cannot_be_executed(
    gate: Gate, tmp_path: Path, content: bytes | None, mode: int, expected: StartRecord, code: int
) -> None:
    program = tmp_path / "program"
    if content is not None:
        program.write_bytes(content)
        program.chmod(mode)
    process = gate.wait_with("program", path=str(program))
    assert gate.open() == expected
    assert process.wait(5) == code


@pytest.mark.parametrize(("path", "code"), [("/bin/true", 0), ("/no/such/program", 127)])
def test_once_accepted_goes_on_though_the_starter_dies(gate: Gate, path: str, code: int) -> None:
    process = gate.wait_with("program", path=path)
    gate.connect().close()
    assert process.wait(5) == code


def test_without_a_gate_uses_the_descriptor_as_the_connection() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for path, expected in (("/bin/true", None), ("/no/such", StartRecord(errno.ENOENT, "exec"))):
            argv = last_hop_argv(theirs.fileno(), LastHopFlags.NO_GATE, path, ["program"])
            with running(argv, executable=program_path("lasthop"), pass_fds=(theirs.fileno(),)) as process:
                code = process.wait(5)
            assert code == (127 if expected else 0)
            ours.setblocking(False)
            if expected:
                assert decode_start_record(ours.recv(100)) == expected
            with pytest.raises(BlockingIOError):
                ours.recv(100)


@pytest.mark.parametrize("argv", [["lasthop", "0", "0"], ["lasthop", "77", "0", "/bin/true", "true"]])
def test_ends_with_125_when_it_is_called_wrongly(argv: list[str]) -> None:
    with running(argv, executable=program_path("lasthop")) as process:
        assert process.wait(5) == 125


@pytest.mark.parametrize("flags", [LastHopFlags.DIE_WITH_PARENT, NONE])
@pytest.mark.parametrize("started", [False, True])
def test_dies_with_its_parent_if_told_to(tmp_path: Path, flags: LastHopFlags, started: bool) -> None:
    gate = Gate(tmp_path)
    number = gate.listener.fileno()
    argv = last_hop_argv(number, flags, "/bin/sleep", ["sleep", "100"])
    program = program_path("lasthop")
    parent = os.fork()
    if parent == 0:
        block_all_signals()
        child = os.posix_spawn(
            program, argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, number, number)]
        )
        (tmp_path / "pid").write_text(str(child))
        (tmp_path / "pid").rename(tmp_path / "child")
        signal.sigwait({signal.SIGUSR1})
        os._exit(0)
    assert until((tmp_path / "child").exists)
    child = int((tmp_path / "child").read_text())
    pidfd = os.pidfd_open(child)
    try:
        assert until(lambda: status(child, "Name") == "lasthop")
        assert until(lambda: status(child, "State").startswith("S"))
        if started:
            assert gate.open() is None
            assert until(lambda: status(child, "Name") == "sleep")
        os.kill(parent, signal.SIGUSR1)
        os.waitpid(parent, 0)
        dies = bool(flags & LastHopFlags.DIE_WITH_PARENT)
        assert until(lambda: gone(child), seconds=5 if dies else 0.2) == dies
    finally:
        if not gone(child):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        gate.close()


def gone(pid: int) -> bool:
    try:
        return status(pid, "State").startswith("Z")
    except FileNotFoundError:
        return True
