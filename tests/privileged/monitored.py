"""A process under the real monitor, made as pyrun's launcher makes a container, for the monitor's tests."""

from __future__ import annotations

import os
import pty
import signal
import socket
from pathlib import Path

from pyrun.kernel import syscalls
from pyrun.process.control import (
    DATAGRAM_MAX,
    START_RECORD_SIZE,
    Exited,
    ExitRecord,
    Message,
    MonitorArguments,
    Output,
    StartRecord,
    Stream,
    attach,
    decode,
    decode_start_record,
    parse_exit_record,
)
from pyrun.process.programs import program_path
from tests.privileged.static_programs import until

_PR_SET_PDEATHSIG = 1
BOTH = Stream.STDOUT | Stream.STDERR


class Client:
    """A connection to a monitor's control socket."""

    def __init__(self, path: Path, streams: Stream = BOTH) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        if streams:
            self.socket.send(attach(streams))

    def ask(self, request: bytes) -> Message:
        """Send a request and return the next message."""
        self.socket.send(request)
        return self.receive()

    def receive(self) -> Message:
        return decode(self.socket.recv(DATAGRAM_MAX))

    def until_exit(self) -> tuple[dict[Stream, bytes], Exited]:
        """Return what the streams have given until the container's end."""
        got: dict[Stream, list[bytes]] = {Stream.STDOUT: [], Stream.STDERR: []}
        while not isinstance(message := self.receive(), Exited):
            if isinstance(message, Output):
                got[message.stream].append(message.data)
        return {stream: b"".join(parts) for stream, parts in got.items()}, message

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes or a few more, whatever stream they came from."""
        got = b""
        while len(got) < size:
            message = self.receive()
            if isinstance(message, Output):
                got += message.data
        return got

    def close(self) -> None:
        self.socket.close()


class Monitored:
    """A command waiting to be started, and its monitor. `directory` gets log, control socket and record."""

    def __init__(
        self,
        directory: Path,
        command: list[str],
        *,
        tty: bool = False,
        stdin: bool = False,
        max_size: int = 10 << 20,
        files: int = 5,
        kill: int | None = None,
        ignore_sigchld: bool = False,
    ) -> None:
        self.directory = directory
        self.log = directory / "0.log"
        self.record_path = directory / "exit.json"
        self._clients: list[Client] = []
        self._ends: list[int] = []
        self._go, go = self._open(*reversed(os.pipe()))
        self._ready, ready = self._open(*os.pipe())
        folder = os.open(directory, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
            control.bind(str(directory / "control"))
            control.listen(16)
            arguments = MonitorArguments(
                pid=1, control=control.fileno(), log_dir=folder, log_name="0.log", log_max_size=max_size,
                log_max_files=files, exit_dir=folder, exit_name="exit.json", kill=kill, ready=ready,
            )  # fmt: skip
            self.pid = os.fork()
            if self.pid == 0:
                try:
                    if ignore_sigchld:
                        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
                    _launch(arguments, command, go, tty, stdin)
                finally:
                    os._exit(99)
        for fd in (go, ready, folder):
            os.close(fd)
        self.exit_code: int | None = None
        data = os.read(self._ready, START_RECORD_SIZE)
        self.start_record: StartRecord | None = decode_start_record(data) if data else None

    def _open(self, ours: int, theirs: int) -> tuple[int, int]:
        self._ends.append(ours)
        return ours, theirs

    def client(self, streams: Stream = BOTH) -> Client:
        """Connect, and attach to some streams."""
        client = Client(self.directory / "control", streams)
        self._clients.append(client)
        return client

    def start(self) -> None:
        """Let the command run."""
        os.write(self._go, b"1")

    def child(self) -> int:
        """The pid of the command."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])

    def wait(self, seconds: float = 20) -> ExitRecord:
        """Wait until the monitor has ended, and return its record."""
        assert until(self.ended, seconds), "the monitor did not end"
        return self.record()

    def ended(self) -> bool:
        if self.exit_code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
        return self.exit_code is not None

    def record(self) -> ExitRecord:
        return parse_exit_record(self.record_path.read_bytes())

    def run(self) -> ExitRecord:
        """Start the command and wait until all is over."""
        self.start()
        return self.wait()

    def log_lines(self) -> list[tuple[str, str, str]]:
        """Stream, tag and text of each line of all log files, the eldest first."""
        files = sorted(self.directory.glob("0.log*"), key=lambda path: path.suffix, reverse=True)
        numbered = [path for path in files if path.suffix != ".log"]
        text = b"".join(path.read_bytes() for path in [*numbered, self.log]).decode()
        lines = (line.split(" ", 3) for line in text.split("\n")[:-1])
        return [(stream, tag, content) for _, stream, tag, content in lines]

    def text(self, stream: str = "stdout") -> str:
        """What a stream has given, put together from the log."""
        lines = self.log_lines()
        return "".join(text + ("\n" if tag == "F" else "") for name, tag, text in lines if name == stream)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        if not self.ended():
            os.kill(self.pid, signal.SIGKILL)  # the command has asked to die with it
            os.waitpid(self.pid, 0)
        for fd in self._ends:
            os.close(fd)


def _launch(arguments: MonitorArguments, command: list[str], go: int, tty: bool, stdin: bool) -> None:
    """In the launcher: make the command's process and become its monitor."""
    ends: dict[str, int] = {}
    if tty:
        ends["tty"], slave = pty.openpty()
        theirs = [slave, slave, slave]
    else:
        ends["stdout"], out = os.pipe()
        ends["stderr"], err = os.pipe()
        source = os.open("/dev/null", os.O_RDONLY)
        if stdin:
            source, ends["stdin"] = os.pipe()
        theirs = [source, out, err]
    for fd in ends.values():
        os.set_inheritable(fd, False)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        syscalls.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent or not os.read(go, 1):
            os._exit(98)
        os.setsid()
        for number, fd in enumerate(theirs):
            os.dup2(fd, number)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvp(command[0], command)
    for fd in set(theirs):
        os.close(fd)
    fields = {name: getattr(arguments, name) for name in arguments.__struct_fields__}
    argv = MonitorArguments(**{**fields, **ends, "pid": pid}).argv()
    for number in (*ends.values(), arguments.control, arguments.log_dir):
        os.set_inheritable(number, True)
    for optional in (arguments.kill, arguments.ready):
        if optional is not None:
            os.set_inheritable(optional, True)
    os.execv(program_path("monitor"), argv)
