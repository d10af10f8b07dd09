"""The messages, records and arguments of the static programs, byte by byte."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from pyrun.errors import PyrunError, StateError
from pyrun.process import control
from pyrun.process.control import Done, Exited, ExitRecord, Output, Refused, Request, StartRecord, Stream


def message(kind: int, first: int, second: int, data: bytes = b"") -> bytes:
    return struct.pack("=III", kind, first, second) + data


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (control.attach(Stream.STDOUT | Stream.STDERR), message(1, 3, 0)),
        (control.attach(Stream(0)), message(1, 0, 0)),
        (control.resize(24, 80), message(2, 24, 80)),
        (control.stdin(b"text"), message(3, 0, 0, b"text")),
        (control.close_stdin(), message(4, 0, 0)),
        (control.reopen_log(), message(5, 0, 0)),
    ],
)
def test_requests(encoded: bytes, expected: bytes) -> None:
    assert encoded == expected


@pytest.mark.parametrize("size", [0, control.STDIN_MAX + 1])
def test_standard_input_of_a_size_the_monitor_refuses(size: int) -> None:
    with pytest.raises(ValueError, match="1 to 4096"):
        control.stdin(b"x" * size)


@pytest.mark.parametrize(
    ("datagram", "expected"),
    [
        (message(16, 1, 0, b"out"), Output(Stream.STDOUT, b"out")),
        (message(16, 2, 0, b"err"), Output(Stream.STDERR, b"err")),
        (message(17, 0, 1), Done(Request.ATTACH)),
        (message(18, errno.ENOTTY, 2), Refused(Request.RESIZE, errno.ENOTTY)),
        (message(18, errno.EINVAL, 77), Refused(77, errno.EINVAL)),
        (message(19, 137, 9), Exited(137, 9)),
    ],
)
def test_messages(datagram: bytes, expected: control.Message) -> None:
    assert control.decode(datagram) == expected


@pytest.mark.parametrize("datagram", [b"", b"short", message(99, 0, 0), message(17, 0, 99), message(1, 0, 0)])
def test_what_is_no_message_is_an_error(datagram: bytes) -> None:
    with pytest.raises(PyrunError, match="not of its protocol"):
        control.decode(datagram)


def test_start_record() -> None:
    assert control.decode_start_record(b"\2\0\0\0exec" + bytes(8)) == StartRecord(errno.ENOENT, "exec")
    assert control.START_RECORD_SIZE == 16
    with pytest.raises(PyrunError, match="16 bytes, not 3"):
        control.decode_start_record(b"abc")


def test_exit_record() -> None:
    text = b'{"exit_code":137,"signal":9,"finished_at":"2026-11-23T10:51:11.123456789Z","lost_bytes":0}\n'
    assert control.parse_exit_record(text) == ExitRecord(137, 9, "2026-11-23T10:51:11.123456789Z", 0)


@pytest.mark.parametrize("text", [b"", b"{}", b'{"exit_code":"1"}', b"[1]"])
def test_what_is_no_exit_record_is_an_error(text: bytes) -> None:
    with pytest.raises(StateError, match="not an exit record"):
        control.parse_exit_record(text)


def test_monitor_arguments_leave_out_what_there_is_not() -> None:
    arguments = control.MonitorArguments(
        pid=7,
        stdout=3,
        stderr=4,
        control=5,
        log_dir=6,
        log_name="0.log",
        exit_dir=8,
        exit_name="exit",
        ready=9,
    )
    assert arguments.argv() == [
        "monitor", "pid=7", "stdout=3", "stderr=4", "control=5", "log-dir=6", "log-name=0.log",
        "log-max-size=10485760", "log-max-files=5", "exit-dir=8", "exit-name=exit", "ready=9",
    ]  # fmt: skip


def test_last_hop_arguments() -> None:
    flags = control.LastHopFlags.DIE_WITH_PARENT | control.LastHopFlags.NO_GATE
    assert control.last_hop_argv(4, flags, "/bin/a", ["a", ""]) == ["lasthop", "4", "3", "/bin/a", "a", ""]
    with pytest.raises(ValueError, match="at least one argument"):
        control.last_hop_argv(4, flags, "/bin/a", [])


def test_mirrors_the_header() -> None:
    """Numbers and limits are those of csrc/protocol.h."""
    header = (Path(__file__).parents[2] / "csrc" / "protocol.h").read_text()
    numbers = {name: int(value) for name, value in re.findall(r"\b([A-Z_]+) = (\d+)", header)}
    ours = {item.name: item.value for item in (*Request, *Stream, *control._Notice)}
    limits = {"STDIN_MAX": control.STDIN_MAX, "STREAM_MAX": control.STREAM_MAX}
    assert numbers == {**ours, **limits, "ATTACH": 1} and len(ours) == 11
