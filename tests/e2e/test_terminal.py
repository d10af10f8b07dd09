"""A person's terminal before run, exec and attach: a real one, whose master the test holds."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator

import pytest

from pyrun.process.terminal import set_window_size
from tests.e2e.conftest import SLOW, Cli, eventually
from tests.e2e.observe import box, pods, run_pod, state_of
from tests.e2e.running import END

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

CTRL_C, CTRL_D, CTRL_Z, DETACH = b"\x03", b"\x04", b"\x1a", b"\x10\x11"


class Terminal:
    """A command with a controlling terminal of 33 rows and 77 columns."""

    def __init__(self, cli: Cli, *arguments: str) -> None:
        self.master, self.slave = os.openpty()
        set_window_size(self.master, (33, 77))
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            [*cli.command, *arguments],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=cli.environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - the test has no threads
        )
        self.seen = b""

    def type(self, data: bytes) -> None:
        """Press keys."""
        os.write(self.master, data)

    def wait_for(self, text: bytes) -> bytes:
        """Wait until a text is on the screen; return what came before it since the last time."""
        deadline = time.monotonic() + END
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], 0.2)
            if ready:
                self.seen += os.read(self.master, 65536)
            assert time.monotonic() < deadline, f"{text!r} never came, only {self.seen!r}"
        before, _, self.seen = self.seen.partition(text)
        return before

    def resize(self, rows: int, columns: int) -> None:
        """Change the size; the kernel sends SIGWINCH to the foreground."""
        set_window_size(self.master, (rows, columns))

    def end(self) -> int:
        """Wait for the end of the command; its terminal must be as it was. What it wrote last is in `seen`."""
        code = self.process.wait(END)
        while select.select([self.master], [], [], 0.05)[0]:
            self.seen += os.read(self.master, 65536)
        assert termios.tcgetattr(self.slave) == self.before
        return code

    def close(self) -> None:
        """End the command and the terminal."""
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@contextlib.contextmanager
def terminal(cli: Cli, *arguments: str) -> Iterator[Terminal]:
    """Run a command on a terminal."""
    screen = Terminal(cli, *arguments)
    try:
        yield screen
    finally:
        screen.close()


@pytest.fixture(params=["run", "exec", "exec-shared"])
def opened(cli: Cli, request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The beginning of a command line that runs a program on a terminal."""
    if request.param == "run":
        return ("run", "--rm", "-it", "--rootfs", str(cli.rootfs))
    shared = request.param == "exec-shared"
    run_pod(cli, box("exec sleep 1000"), name="host", shareProcessNamespace=shared)
    return ("exec", "-it", "host")


def test_the_program_has_a_terminal_of_its_own(cli: Cli, opened: tuple[str, ...]) -> None:
    line = "tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all three; echo TERM=$TERM; ps -o tty,comm"
    with terminal(cli, *opened, "sh", "-c", line) as screen:
        screen.wait_for(b"/dev/pts/0\r\n")
        screen.wait_for(b"33 77\r\n")
        screen.wait_for(b"all three\r\n")
        screen.wait_for(b"TERM=xterm\r\n")
        screen.wait_for(b"136,0")
        assert screen.end() == 0


def test_it_has_its_size_from_the_beginning(cli: Cli) -> None:
    run_pod(cli, box("exec sleep 1000"), name="host")
    for opened in (("run", "--rm", "-it", "--rootfs", str(cli.rootfs)), ("exec", "-it", "host")):
        for _ in range(5):
            with terminal(cli, *opened, "stty", "size") as screen:
                screen.wait_for(b"33 77\r\n")
                assert screen.end() == 0


def test_a_new_size_is_passed_on(cli: Cli, opened: tuple[str, ...]) -> None:
    line = "trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.02; done"
    with terminal(cli, *opened, "sh", "-c", line) as screen:
        screen.wait_for(b"ready\r\n")
        screen.resize(50, 111)
        screen.wait_for(b"50 111\r\n")
        assert screen.end() == 4


def test_keys_reach_the_program_and_are_shown_once(cli: Cli, opened: tuple[str, ...]) -> None:
    with terminal(
        cli, *opened, "sh", "-c", 'echo ready; read -r x; echo "<$x>"; stty -echo; echo mute; read -r y'
    ) as screen:
        screen.wait_for(b"ready\r\n")
        screen.type(b"hello\r")
        assert screen.wait_for(b"<hello>\r\n") == b"hello\r\n"
        screen.wait_for(b"mute\r\n")
        screen.type(b"secret\r")
        assert screen.end() == 0
        assert b"secret" not in screen.seen


def test_ctrl_c_is_the_programs(cli: Cli, opened: tuple[str, ...]) -> None:
    line = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.02; done"
    with terminal(cli, *opened, "sh", "-c", line) as screen:
        screen.wait_for(b"ready\r\n")
        screen.type(CTRL_C)
        screen.wait_for(b"caught\r\n")
        assert screen.end() == 9


def test_ctrl_d_is_the_end_of_input(cli: Cli, opened: tuple[str, ...]) -> None:
    with terminal(cli, *opened, "sh", "-c", "echo ready; cat; echo over") as screen:
        screen.wait_for(b"ready\r\n")
        screen.type(b"text\r" + CTRL_D)
        screen.wait_for(b"over\r\n")
        assert screen.end() == 0


def test_ctrl_z_is_for_the_jobs_inside(cli: Cli, opened: tuple[str, ...]) -> None:
    with terminal(cli, *opened, "sh", "-i") as screen:
        screen.wait_for(b"# ")
        for start in (b"sleep 100", b"fg"):
            screen.type(start + b"\r")
            screen.wait_for(start + b"\r\n")
            eventually(lambda: job_of(cli).startswith("S"))
            screen.type(CTRL_Z if start != b"fg" else CTRL_C)
            screen.wait_for(b"# ")
        screen.type(b"exit 3\r")
        assert screen.end() == 3


def job_of(cli: Cli) -> str:
    """Return the line about `sleep 100` in the first Pod; empty when it has none."""
    listed = cli.run("exec", pods(cli)[0]["metadata"]["name"], "--", "ps", "-o", "stat,args").stdout
    return next((line for line in listed.splitlines() if line.endswith("sleep 100")), "")


def test_much_that_is_typed_at_once_arrives(cli: Cli, opened: tuple[str, ...]) -> None:
    """Pasted text is echoed while it is read: both directions of the terminal are full at times."""
    lines = 2000
    line = f"stty raw -echo; echo ready; head -c {lines * 50} | tee /dev/stderr | md5sum"
    text = b"".join(b"%049d\n" % n for n in range(lines))
    with terminal(cli, *opened, "sh", "-c", line) as screen:
        screen.wait_for(b"ready\n")
        os.set_blocking(screen.master, False)
        rest = text
        deadline = time.monotonic() + END
        while rest and time.monotonic() < deadline:
            readable, writable, _ = select.select([screen.master], [screen.master], [], 1)
            if readable:
                screen.seen += os.read(screen.master, 65536)
            if writable:
                with contextlib.suppress(BlockingIOError):
                    rest = rest[os.write(screen.master, rest[:4096]) :]
        screen.wait_for(hashlib.md5(text).hexdigest().encode())
        assert screen.end() == 0


def test_the_console_is_the_terminal(cli: Cli) -> None:
    line = "echo to the console > /dev/console; ls -l /dev/console"
    with terminal(cli, "run", "--rm", "-it", "--rootfs", str(cli.rootfs), "sh", "-c", line) as screen:
        screen.wait_for(b"to the console\r\n")
        screen.wait_for(b"136,")
        assert screen.end() == 0


@pytest.mark.parametrize("options", [(), ("--rm",)])
def test_detached_the_container_goes_on(cli: Cli, options: tuple[str, ...]) -> None:
    arguments = ("run", *options, "-it", "--name", "left", "--rootfs", str(cli.rootfs), "sh")
    with terminal(cli, *arguments) as screen:
        screen.wait_for(b"# ")
        screen.type(b"cd /tmp\r")
        screen.wait_for(b"# ")
        screen.type(DETACH[:1])
        screen.type(DETACH[1:])
        assert screen.end() == 0
        assert b"detached" in screen.seen
    assert "running" in state_of(cli, "main", "left")
    with terminal(cli, "attach", "left") as screen:
        screen.type(b"pwd; tty; stty size; exit 3\r")
        screen.wait_for(b"\n/tmp\r\n")
        screen.wait_for(b"/dev/pts/0\r\n")
        screen.wait_for(b"33 77\r\n")
        assert screen.end() == 3


def test_attach_to_a_terminal_detach_and_resize(cli: Cli) -> None:
    run_pod(cli, box("exec sh", stdin=True, tty=True))
    for size in (b"33 77\r\n", b"20 40\r\n"):
        with terminal(cli, "attach", "test") as screen:
            if size.startswith(b"20"):
                screen.type(b"echo re''ady\r")
                screen.wait_for(b"ready\r\n")
                screen.resize(20, 40)
                eventually(lambda: b"20 40" in window_of(cli))
            screen.type(b"stty size\r")
            screen.wait_for(size)
            screen.type(DETACH)
            assert screen.end() == 0
    assert "running" in state_of(cli)


def window_of(cli: Cli) -> bytes:
    """Return the size of the terminal of the container, as another process in it sees it."""
    return cli.run("exec", "test", "--", "sh", "-c", "stty size < /dev/pts/0").stdout.encode()


def test_a_terminal_without_i_leaves_the_callers_alone(cli: Cli) -> None:
    line = "trap 'exit 5' INT; echo ready; while :; do sleep 0.02; done"
    with terminal(cli, "run", "--rm", "-t", "--rootfs", str(cli.rootfs), "sh", "-c", line) as screen:
        screen.wait_for(b"ready\r")
        assert termios.tcgetattr(screen.slave) == screen.before
        screen.type(CTRL_C)  # of the caller's terminal: SIGINT, which is forwarded
        assert screen.end() == 5


def test_a_terminal_that_goes_away_is_a_hangup(cli: Cli) -> None:
    line = "trap 'echo hup; exit 6' HUP; echo ready; while :; do sleep 0.02; done"
    screen = Terminal(cli, "run", "-it", "--name", "hung", "--rootfs", str(cli.rootfs), "sh", "-c", line)
    try:
        screen.wait_for(b"ready\r\n")
        os.close(screen.slave)
        os.close(screen.master)
        screen.process.wait(END)
        eventually(lambda: state_of(cli, "main", "hung").get("terminated", {}).get("exitCode") == 6)
    finally:
        screen.process.send_signal(signal.SIGKILL)
        screen.process.wait(5 * SLOW)


def test_it_is_restored_when_the_command_is_told_to_end(cli: Cli) -> None:
    line = "trap 'exit 8' TERM; echo ready; while :; do sleep 0.02; done"
    with terminal(cli, "run", "--rm", "-it", "--rootfs", str(cli.rootfs), "sh", "-c", line) as screen:
        screen.wait_for(b"ready\r\n")
        assert termios.tcgetattr(screen.slave) != screen.before
        screen.process.send_signal(signal.SIGTERM)
        assert screen.end() == 8
