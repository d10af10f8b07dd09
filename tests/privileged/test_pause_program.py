"""The pause program itself: signals, reaping, what it holds, what it costs."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyrun.process.programs import program_path, sealed_copy
from tests.privileged.static_programs import (
    block_all_signals,
    descriptors,
    is_small_libc,
    is_static,
    pss,
    running,
    start,
    status,
    until,
)

PAUSE = program_path("pause")

# Each intermediate process leaves 100 children behind; they end when its end of the pipe is closed.
STORM = """
import os, sys
for _ in range(int(sys.argv[1]) // 100):
    if os.fork() == 0:
        ours, theirs = os.pipe()
        for _ in range(100):
            if os.fork() == 0:
                os.close(theirs)
                os.read(ours, 1)
                os._exit(0)
        os._exit(0)
    os.wait()
"""


@contextmanager
def first_process(command: list[str]) -> Iterator[int]:
    """Run a program as PID 1 of a new PID namespace; gives its pid outside."""
    wrapped = ["unshare", "--pid", "--fork", "--kill-child", "--", *command]
    with start(wrapped) as unshare:
        try:
            assert until(lambda: len(children(unshare.pid)) == 1)
            pid = children(unshare.pid)[0]
            assert until(lambda: Path(f"/proc/{pid}/comm").read_text() != "unshare\n")
            yield pid
        finally:
            unshare.kill()  # --kill-child kills the namespace's first process, and it the rest


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def storm(pid: int, orphans: int) -> None:
    """Orphan many short-lived processes in the PID namespace of `pid`."""
    command = [
        "nsenter",
        "--target",
        str(pid),
        "--pid",
        "--",
        "python3",
        "-I",
        "-S",
        "-c",
        STORM,
        str(orphans),
    ]
    subprocess.run(command, check=True, timeout=60)


def test_is_a_small_static_program() -> None:
    assert is_static("pause")
    if not is_small_libc("pause"):
        pytest.skip("built with glibc: install musl-tools for a pause of a few kilobytes")
    assert os.path.getsize(PAUSE) < 20_000


def test_prints_its_version() -> None:
    result = subprocess.run([PAUSE, "--version"], capture_output=True, check=True)
    version = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())["project"][
        "version"
    ]
    assert result.stdout == f"pause {version}\n".encode()
    assert not result.stderr


def test_refuses_other_arguments() -> None:
    assert subprocess.run([PAUSE, "--help"], check=False).returncode == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ends_with_0_on(number: signal.Signals) -> None:
    with running([PAUSE]) as process:
        process.send_signal(number)
        assert process.wait(5) == 0


def test_takes_every_other_signal_without_ending() -> None:
    """Though nobody has blocked them before: as its first act it does so itself."""
    fatal = {signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP}
    with subprocess.Popen([PAUSE]) as process:
        try:
            assert until(lambda: status(process.pid, "Name") == "pause")
            assert until(lambda: status(process.pid, "State").startswith("S"))
            for number in set(range(1, 65)) - fatal:
                os.kill(process.pid, number)
            assert until(lambda: int(status(process.pid, "ShdPnd"), 16) == 0)
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 0
        finally:
            process.kill()


def test_goes_on_after_stop_and_continue() -> None:
    with running([PAUSE]) as process:
        process.send_signal(signal.SIGSTOP)
        assert until(lambda: status(process.pid, "State").startswith("T"))
        process.send_signal(signal.SIGCONT)
        assert until(lambda: status(process.pid, "State").startswith("S"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


@pytest.mark.requires("namespaces")
def test_runs_from_a_sealed_memfd_in_an_empty_root_and_holds_nothing(tmp_path: Path) -> None:
    program = sealed_copy("pause")
    pid = os.fork()
    if pid == 0:
        block_all_signals()
        os.chroot(tmp_path)
        os.execve(program, ["pause"], {})
    os.close(program)
    try:
        assert until(lambda: status(pid, "Name") == "pause")
        assert until(lambda: descriptors(pid) == {})
        assert os.readlink(f"/proc/{pid}/cwd") == os.readlink(f"/proc/{pid}/root") == str(tmp_path)
        os.kill(pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        pid = 0
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.mark.requires("namespaces")
def test_leaves_no_zombie_of_10000_orphans() -> None:
    with first_process([PAUSE]) as pid:
        storm(pid, 10_000)
        assert until(lambda: children(pid) == [])
        # and it is still there, for the next storm
        storm(pid, 100)
        assert until(lambda: children(pid) == [])


@pytest.mark.requires("namespaces")
def test_the_storm_leaves_zombies_where_nobody_reaps() -> None:
    """The test above can fail: the same storm under a first process that does not reap."""
    with first_process(["sleep", "1000"]) as pid:
        storm(pid, 300)
        assert not until(lambda: children(pid) == [], seconds=0.3)
        assert len(children(pid)) == 300


@pytest.mark.requires("namespaces")
def test_ends_its_pid_namespace_on_sigterm_from_inside() -> None:
    with first_process([PAUSE]) as pid:
        # The end of its first process kills whatever else is in the namespace: perhaps kill itself.
        subprocess.run(["nsenter", "--target", str(pid), "--pid", "--", "kill", "-TERM", "1"], check=False)
        assert until(lambda: not Path(f"/proc/{pid}").exists() or status(pid, "State").startswith("Z"))


@pytest.mark.parametrize("from_memory", [False, True])
def test_costs_under_20_kb_of_memory(from_memory: bool) -> None:
    """The mean over 20, executed from the file, or as the Pods of 20 commands each from a memfd of its own."""
    if not is_small_libc("pause"):
        pytest.skip("built with glibc: install musl-tools for a pause of a few kilobytes")
    copies = []
    for _ in range(20):
        program = sealed_copy("pause") if from_memory else os.open(PAUSE, os.O_RDONLY)
        copies.append(start(["pause"], executable=f"/proc/self/fd/{program}", pass_fds=(program,)))
        os.close(program)
    try:
        assert until(lambda: all(status(copy.pid, "State").startswith("S") for copy in copies))
        assert statistics.mean(pss(copy.pid) for copy in copies) < 20_000
    finally:
        for copy in copies:
            copy.kill()
            copy.wait()
