"""The monitor itself: log, exit record, attached clients, terminal, what it holds and what it costs."""

from __future__ import annotations

import datetime
import errno
import hashlib
import json
import os
import random
import re
import resource
import select
import signal
import socket
import statistics
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyrun.process.control import (
    DATAGRAM_MAX,
    STDIN_MAX,
    Done,
    Exited,
    MonitorArguments,
    Output,
    Refused,
    Request,
    StartRecord,
    Stream,
    close_stdin,
    decode,
    decode_start_record,
    reopen_log,
    resize,
    stdin,
)
from pyrun.process.programs import program_path
from tests.privileged.monitored import Monitored
from tests.privileged.static_programs import (
    descriptors,
    is_small_libc,
    is_static,
    pss,
    running,
    status,
    until,
)

NONE = Stream(0)
Make = Callable[..., Monitored]
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) [FP] .*")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Monitored] = []

    def make(*command: str, **options: bool | int | None) -> Monitored:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(Monitored(directory, list(command), **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


def shell(script: str) -> tuple[str, str, str]:
    return "sh", "-c", script


# ---- the log


def test_log_has_the_cri_format(make: Make) -> None:
    before = datetime.datetime.now(datetime.UTC)
    container = make(*shell("echo one; echo; echo two >&2"))
    container.run()
    after = datetime.datetime.now(datetime.UTC)
    for line in container.log.read_text().splitlines():
        assert LINE.fullmatch(line)
        moment = datetime.datetime.fromisoformat(line[:26] + "+00:00")
        assert before - datetime.timedelta(milliseconds=1) <= moment <= after
    assert [line for line in container.log_lines() if line[0] == "stdout"] == [
        ("stdout", "F", "one"),
        ("stdout", "F", ""),
    ]
    assert [line for line in container.log_lines() if line[0] == "stderr"] == [("stderr", "F", "two")]
    assert container.log.stat().st_mode & 0o777 == 0o640


def test_dates_are_right_over_400_years(tmp_path: Path) -> None:
    """The monitor computes the civil date itself; compared with Python's through the same source file."""
    source = Path(__file__).parents[2] / "csrc" / "log.c"
    program = tmp_path / "dates"
    code = (
        f'#include "{source}"\nint main(void) {{ for (unsigned d = 0; d < 146097 * 1; d++) '
        "{ char t[64]; put_date(t, d); puts(t); } }"
    )
    subprocess.run(
        ["cc", f"-I{source.parent}", "-xc", "-", "-o", str(program)],
        input=code.encode(),
        check=True,
        timeout=60,
    )
    epoch = datetime.date(1970, 1, 1).toordinal()
    expected = [datetime.date.fromordinal(epoch + day).isoformat() for day in range(146097)]
    assert subprocess.check_output([str(program)], text=True).split() == expected


def test_a_line_without_newline_is_a_part(make: Make) -> None:
    container = make(*shell("printf 'no newline'"))
    container.run()
    assert container.log_lines() == [("stdout", "P", "no newline")]


def test_a_long_line_is_split_into_parts(make: Make) -> None:
    container = make("python3", "-c", "print('x' * 40000 + '\\n' + 'y' * 16384 + '\\nshort')")
    container.run()
    lines = container.log_lines()
    assert [(tag, len(text)) for _, tag, text in lines if text[:1] in "xy"][:3] == [
        ("P", 16384),
        ("P", 16384),
        ("F", 40000 - 2 * 16384),
    ]
    assert container.text() == "x" * 40000 + "\n" + "y" * 16384 + "\nshort\n"


def test_a_line_is_held_back_until_it_is_whole(make: Make) -> None:
    container = make("sh", "-c", "printf 'first '; echo mark >&2; read line; echo second", stdin=True)
    container.start()
    assert until(lambda: ("stderr", "F", "mark") in container.log_lines())
    assert container.text() == ""
    container.client(NONE).socket.send(stdin(b"\n"))
    container.wait()
    assert container.text() == "first second\n"


@pytest.mark.parametrize("files", [1, 2, 3])
def test_log_is_rotated_and_no_line_is_split(make: Make, files: int) -> None:
    container = make(*shell("seq 1000 1999"), max_size=4000, files=files)
    container.run()
    found = sorted(container.directory.glob("0.log*"))
    assert [path.name for path in found] == ["0.log", "0.log.1", "0.log.2"][:files]
    assert all(path.stat().st_size <= 4000 for path in found)
    assert all(LINE.fullmatch(line) for path in found for line in path.read_text().splitlines())
    numbers = [int(text) for text in container.text().split()]
    assert numbers == list(range(numbers[0], 2000))
    per_file = 4000 // len("2026-11-23T10:51:11.123456789Z stdout F 1000\n")
    assert per_file * (files - 1) < len(numbers) <= per_file * files


def test_log_is_opened_anew_on_request(make: Make) -> None:
    container = make(*shell("while read line; do echo $line; done"), stdin=True)
    container.start()
    client = container.client(Stream.STDOUT)
    assert client.receive() == Done(Request.ATTACH)
    client.socket.send(stdin(b"one\n"))
    client.read(4)
    container.log.rename(container.directory / "renamed")
    assert client.ask(reopen_log()) == Done(Request.REOPEN_LOG)
    client.socket.send(stdin(b"two\n"))
    client.read(4)
    assert "one" in (container.directory / "renamed").read_text()
    assert container.text() == "two\n"


def test_reopening_that_fails_keeps_the_old_file(make: Make) -> None:
    container = make(*shell("read line; echo $line"), stdin=True)
    container.start()
    client = container.client(NONE)
    container.log.rename(container.directory / "renamed")
    container.log.mkdir()
    assert client.ask(reopen_log()) == Refused(Request.REOPEN_LOG, errno.EISDIR)
    client.socket.send(stdin(b"text\n"))
    container.wait()
    assert "text" in (container.directory / "renamed").read_text()


def test_a_log_that_cannot_be_written_does_not_block_and_is_told(make: Make) -> None:
    """A file size limit stands for the full disk: short writes first, errors then, and later room again."""
    container = make(*shell("seq 10000 19999; read line; echo end"), stdin=True)
    resource.prlimit(container.pid, resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
    container.start()
    client = container.client(Stream.STDOUT)
    client.read(60000)
    written = container.log.read_text()
    assert len(written) <= 3000 and all(LINE.fullmatch(line) for line in written.splitlines())
    resource.prlimit(container.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    client.socket.send(stdin(b"\n"))
    record = container.wait()
    kept = container.text()
    assert kept.endswith("end\n")
    assert record.lost_bytes == 60000 + 4 - len(kept) > 50000
    told = re.findall(
        r"pyrun: (\d+) bytes of output lost, the log could not be written\n", container.text("stderr")
    )
    assert sum(map(int, told)) == record.lost_bytes
    assert len(told) <= 3


# ---- the end


@pytest.mark.parametrize(
    ("script", "code", "number"),
    [("exit 0", 0, 0), ("exit 3", 3, 0), ("kill -9 $$", 137, 9), ("kill -15 $$", 143, 15)],
)
def test_exit_record(make: Make, script: str, code: int, number: int) -> None:
    before, clock = time.time(), time.monotonic_ns()
    container = make(*shell(script))
    record = container.run()
    assert clock < record.finished_ns < time.monotonic_ns()
    assert (record.exit_code, record.signal, record.lost_bytes) == (code, number, 0)
    assert re.fullmatch(r"[-\d]{10}T[:\d]{8}\.\d{9}Z", record.finished_at)
    moment = datetime.datetime.fromisoformat(record.finished_at[:26] + "+00:00").timestamp()
    assert before - 0.001 <= moment <= time.time()
    text = container.record_path.read_text()
    assert text.endswith("}\n") and set(json.loads(text)) == {
        "exit_code",
        "signal",
        "finished_at",
        "finished_ns",
        "lost_bytes",
    }
    assert container.exit_code == 0
    assert sorted(os.listdir(container.directory)) == ["0.log", "control", "exit.json"]


def test_every_client_is_told_and_the_record_is_there_before(make: Make) -> None:
    container = make(*shell("echo text; exit 3"))
    clients = [container.client(streams) for streams in (Stream.STDOUT, NONE)]
    container.start()
    got, exited = clients[0].until_exit()
    assert container.record().exit_code == 3
    assert got == {Stream.STDOUT: b"text\n", Stream.STDERR: b""}
    assert exited == clients[1].receive() == Exited(3, 0)
    assert clients[0].socket.recv(1) == b""


def test_a_client_that_writes_to_the_end_is_told_too(make: Make) -> None:
    """Requests that nobody read must not turn its last message into a connection reset."""
    container = make("sleep", "0.3", stdin=True)
    client = container.client()
    container.start()
    client.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            client.socket.send(stdin(b"x" * STDIN_MAX))
    client.socket.settimeout(10)
    assert client.until_exit()[1] == Exited(0, 0)


def test_a_status_is_not_lost_to_an_ignored_sigchld(make: Make) -> None:
    container = make(*shell("exit 3"), ignore_sigchld=True)
    assert container.run().exit_code == 3


def test_the_rest_of_the_cgroup_is_killed_at_the_end(make: Make) -> None:
    kill, written = os.pipe()
    container = make("true", kill=written)
    os.close(written)
    container.run()
    with os.fdopen(kill, "rb") as file:
        assert file.read() == b"1"


def test_streams_that_something_unknown_holds_are_not_waited_for(make: Make) -> None:
    container = make("sh", "-c", "echo begin; (sleep 5; echo late) & echo end; exit 4")
    began = time.monotonic()
    assert container.run().exit_code == 4
    assert time.monotonic() - began > 1.5
    assert container.text() == "begin\nend\n"


def test_an_endless_writer_does_not_keep_the_monitor(make: Make) -> None:
    container = make("sh", "-c", "(trap '' PIPE; timeout 10 yes) & exit 4", max_size=100_000)
    began = time.monotonic()
    assert container.run().exit_code == 4
    assert time.monotonic() - began < 9


def test_orphans_are_adopted_and_reaped(make: Make) -> None:
    """Containers in the host's PID namespace have no first process of their own to do it."""
    container = make("sh", "-c", "for i in 1 2 3; do (sleep 0.2 &) ; done; read line", stdin=True)
    container.start()
    children = Path(f"/proc/{container.pid}/task/{container.pid}/children")
    assert until(lambda: len(children.read_text().split()) == 4)
    assert until(lambda: children.read_text().split() == [str(container.child())])
    container.client(NONE).socket.send(stdin(b"\n"))
    assert container.wait().exit_code == 0


# ---- attached clients


def test_a_client_attached_before_the_start_gets_the_first_byte(make: Make) -> None:
    for _ in range(20):
        container = make("echo", "first")
        client = container.client()
        container.start()
        assert client.until_exit()[0][Stream.STDOUT] == b"first\n"


def test_a_client_gets_only_the_streams_it_asked_for(make: Make) -> None:
    container = make(*shell("echo out; echo err >&2"))
    clients = [container.client(streams) for streams in (Stream.STDERR, Stream.STDOUT | Stream.STDERR)]
    container.start()
    assert clients[0].until_exit()[0] == {Stream.STDOUT: b"", Stream.STDERR: b"err\n"}
    assert clients[1].until_exit()[0] == {Stream.STDOUT: b"out\n", Stream.STDERR: b"err\n"}


SIZE = 4 << 20
NUMBERS = "import sys\nfor n in range(262144): sys.stdout.write(f'{n:15}\\n')"


def test_slow_clients_lose_nothing_and_neither_does_the_log(make: Make) -> None:
    container = make("python3", "-c", NUMBERS, max_size=0)
    clients = [container.client(), container.client()]
    container.start()
    time.sleep(0.5)
    assert status(container.child(), "State").startswith("S"), "the container waits for its clients"
    used = cpu_seconds(container.pid)
    time.sleep(0.3)
    assert cpu_seconds(container.pid) - used <= 0.05, "and so does the monitor"
    assert container.log.stat().st_size < SIZE
    got: dict[socket.socket, list[bytes]] = {client.socket: [] for client in clients}
    open_ones = set(clients)
    while open_ones:
        for client in select.select([client.socket for client in open_ones], [], [], 10)[0]:
            message = decode(client.recv(DATAGRAM_MAX))
            if isinstance(message, Output):
                got[client].append(message.data)
            elif isinstance(message, Exited):
                open_ones = {one for one in open_ones if one.socket is not client}
    expected = "".join(f"{n:15}\n" for n in range(262144))
    assert [b"".join(parts).decode() == expected for parts in got.values()] == [True, True]
    container.wait()
    assert container.text() == expected


def test_a_client_that_vanishes_is_dropped(make: Make) -> None:
    container = make("python3", "-c", NUMBERS)
    client = container.client()
    container.start()
    client.read(100)
    client.close()
    assert container.wait().exit_code == 0
    assert len(container.text()) == SIZE


def test_a_client_that_takes_nothing_does_not_hide_the_end(make: Make) -> None:
    container = make("sh", "-c", "yes & sleep 0.5; kill $!; exit 4", max_size=100_000)
    container.client()
    began = time.monotonic()
    container.start()
    assert until(container.record_path.exists)
    assert container.record().exit_code == 4
    assert time.monotonic() - began < 9
    assert not container.ended()
    assert until(container.ended, 15), "it waits 10 s for a client that takes nothing, not for ever"


def test_the_ninth_client_is_refused(make: Make) -> None:
    container = make("sleep", "10")
    for _ in range(8):
        assert container.client().receive() == Done(Request.ATTACH)
    ninth = container.client(NONE)
    assert ninth.receive() == Refused(Request.ATTACH, errno.EUSERS)
    assert ninth.socket.recv(1) == b""


def test_wrong_requests_are_refused(make: Make) -> None:
    container = make("sleep", "10")
    client = container.client(NONE)
    assert client.ask(struct.pack("=III", 77, 0, 0)) == Refused(77, errno.EINVAL)
    assert client.ask(b"short") == Refused(0, errno.EMSGSIZE)
    assert client.ask(stdin(b"x" * STDIN_MAX) + b"x") == Refused(Request.STDIN, errno.EMSGSIZE)
    assert client.ask(resize(24, 80)) == Refused(Request.RESIZE, errno.ENOTTY)
    client.socket.send(b"")
    assert client.socket.recv(1) == b"", "an empty message is the end of a client"


# ---- standard input


def test_all_standard_input_arrives_though_the_client_leaves(make: Make) -> None:
    container = make("sh", "-c", "sleep 0.3; sha256sum", stdin=True)
    client = container.client(NONE)
    container.start()
    data = random.Random(1).randbytes(1 << 20)
    for start in range(0, len(data), STDIN_MAX):
        client.socket.send(stdin(data[start : start + STDIN_MAX]))
    client.socket.send(close_stdin())
    client.close()
    container.wait()
    assert container.text().split()[0] == hashlib.sha256(data).hexdigest()


def test_input_that_waits_costs_no_cpu(make: Make) -> None:
    """A client that has sent more than the container takes, and left, must not make the monitor spin."""
    container = make("sleep", "1", stdin=True)
    client = container.client(NONE)
    client.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            client.socket.send(stdin(b"x" * STDIN_MAX))
    client.close()
    container.start()
    time.sleep(0.5)
    assert cpu_seconds(container.pid) <= 0.05
    assert container.wait().exit_code == 0


def test_closed_standard_input_is_told_once(make: Make) -> None:
    container = make("sh", "-c", "exec <&-; echo closed; sleep 10", stdin=True)
    client = container.client()
    assert client.receive() == Done(Request.ATTACH)
    container.start()
    client.read(7)
    for _ in range(3):
        client.socket.send(stdin(b"text"))
    assert client.receive() == Refused(Request.STDIN, errno.EPIPE)
    assert client.ask(close_stdin()) == Done(Request.CLOSE_STDIN)


def test_input_of_two_clients_is_not_mixed_within_a_message(make: Make) -> None:
    container = make("cat", stdin=True)
    container.start()
    clients = [container.client(NONE) for _ in range(2)]
    for _ in range(50):
        for client, letter in zip(clients, (b"a", b"b"), strict=True):
            client.socket.send(stdin(letter * 4095 + b"\n"))
    assert until(lambda: len(container.text()) == 100 * 4096)
    assert set(container.text().split()) == {"a" * 4095, "b" * 4095}


# ---- the terminal


def test_terminal(make: Make) -> None:
    container = make("sh", "-c", "read line; stty size; echo got $line >&2", tty=True)
    client = container.client()
    assert client.receive() == Done(Request.ATTACH)
    assert client.ask(resize(33, 101)) == Done(Request.RESIZE)
    assert client.ask(close_stdin()) == Refused(Request.CLOSE_STDIN, errno.ENOTTY)
    container.start()
    client.socket.send(stdin(b"text\r"))
    got, exited = client.until_exit()
    assert got == {Stream.STDOUT: b"text\r\n33 101\r\ngot text\r\n", Stream.STDERR: b""}
    assert exited == Exited(0, 0)
    container.wait()
    assert container.text() == "text\r\n33 101\r\ngot text\r\n"


# ---- the process itself


def test_is_a_small_static_program() -> None:
    assert is_static("monitor")
    if not is_small_libc("monitor"):
        pytest.skip("built with glibc: install musl-tools for a monitor of a few kilobytes")
    assert os.path.getsize(program_path("monitor")) < 24_000


def test_holds_nothing_of_its_caller(make: Make) -> None:
    with open("/dev/zero") as leak:
        os.set_inheritable(leak.fileno(), True)
        container = make("sleep", "10")
        assert container.start_record == StartRecord(0, "ready")
    # It says that it is ready, and then closes what it has said it by.
    until(lambda: sum("socket" in text for text in descriptors(container.pid).values()) == 1)
    held = descriptors(container.pid)
    assert {held.pop(number) for number in range(3)} == {"/dev/null"}
    kinds = sorted(re.sub(r":?\[.*", "", text) for text in held.values())
    assert kinds == sorted(
        ["anon_inode", "pipe", "pipe", "socket", str(container.directory), str(container.log)]
    ), "signalfd, two streams, control socket, the directory, the log"
    assert os.readlink(f"/proc/{container.pid}/cwd") == "/"
    assert os.getsid(container.pid) == os.getpgid(container.pid) == container.pid
    assert status(container.pid, "Name") == "pyrun-monitor"


def test_is_not_ended_by_signals(make: Make) -> None:
    container = make("true")
    for number in set(range(1, 65)) - {signal.SIGKILL, signal.SIGSTOP}:
        os.kill(container.pid, number)
    assert container.run().exit_code == 0
    assert container.exit_code == 0


@pytest.mark.parametrize(
    "argument",
    ["pid=0", "pid=", "pid=1x", "pid", "=1", "unknown=1", "control=2", "log-name=a/b", "exit-name=", "tty=3"],
)
def test_wrong_arguments_end_it_with_2(argument: str) -> None:
    good = ["pid=1", "stdout=3", "control=3", "log-dir=3", "log-name=a", "exit-dir=3", "exit-name=b"]
    key = argument.partition("=")[0]
    command = ["monitor", *(one for one in good if not one.startswith(f"{key}=")), argument]
    with running(command, executable=program_path("monitor")) as process:
        assert process.wait(5) == 2


def test_a_failed_start_is_told(tmp_path: Path) -> None:
    ready, theirs = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        fd = control.fileno()
        arguments = MonitorArguments(
            pid=1, control=fd, log_dir=fd, log_name="a", exit_dir=fd, exit_name="b", ready=theirs
        )
        with running(arguments.argv(), executable=program_path("monitor"), pass_fds=(fd, theirs)) as process:
            os.close(theirs)
            assert process.wait(5) == 3
    with os.fdopen(ready, "rb") as file:
        assert decode_start_record(file.read()) == StartRecord(errno.ENOTDIR, "log")


def test_100_mb_of_output_cost_neither_memory_nor_much_time(make: Make) -> None:
    container = make("sh", "-c", "yes $(printf %099d 0) | head -c 100000000; read line", stdin=True, files=2)
    container.start()
    assert until(lambda: io_written(container.pid) > 140_000_000, 60), (
        "each line has 100 bytes, 140 in the log"
    )
    assert int(status(container.pid, "VmHWM").split()[0]) < 1000
    assert cpu_seconds(container.pid) < 10
    container.client(NONE).socket.send(stdin(b"\n"))
    assert container.wait().lost_bytes == 0
    files = sorted(container.directory.glob("0.log*"))
    assert [path.name for path in files] == ["0.log", "0.log.1"]
    assert all(path.stat().st_size <= 10 << 20 for path in files)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def io_written(pid: int) -> int:
    text = Path(f"/proc/{pid}/io").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("wchar"))


def test_costs_little_memory(make: Make) -> None:
    if not is_small_libc("monitor"):
        pytest.skip("built with glibc: install musl-tools for a monitor of a few kilobytes")
    containers = [make("sleep", "10") for _ in range(20)]
    for container in containers:
        container.start()
    assert until(lambda: all(status(one.pid, "State").startswith("S") for one in containers))
    assert statistics.mean(pss(one.pid) for one in containers) < 32 * 1024
