"""What the static programs are told and tell: arguments, messages and records. Pure, no I/O.

Mirrors csrc/protocol.h; csrc/README.md explains the programs. A message is one datagram of a SOCK_SEQPACKET
socket, its integers are native: both ends run on one machine, from one build.
"""

from __future__ import annotations

import enum
import struct

import msgspec

from pyrun.errors import PyrunError, StateError

_HEADER = struct.Struct("=III")
_START_RECORD = struct.Struct("=i12s")

STDIN_MAX = 4096
STREAM_MAX = 16384
DATAGRAM_MAX = _HEADER.size + STREAM_MAX
START_RECORD_SIZE = _START_RECORD.size


class Stream(enum.IntFlag):
    """Output streams of a container; with a terminal everything is STDOUT."""

    STDOUT = 1
    STDERR = 2


class Request(enum.IntEnum):
    """What a client asks of the monitor."""

    ATTACH = 1
    RESIZE = 2
    STDIN = 3
    CLOSE_STDIN = 4
    REOPEN_LOG = 5


class _Notice(enum.IntEnum):
    STREAM = 16
    DONE = 17
    ERROR = 18
    EXITED = 19


class Output(msgspec.Struct, frozen=True):
    """Bytes the container has written to a stream the client is attached to."""

    stream: Stream
    data: bytes


class Done(msgspec.Struct, frozen=True):
    """A request has been carried out."""

    request: Request


class Refused(msgspec.Struct, frozen=True):
    """A request could not be carried out, and why. For STDIN: nobody reads it any more (EPIPE).

    `request` is the plain number: a newer client may have sent what this monitor does not know.
    """

    request: int
    errno: int


class Exited(msgspec.Struct, frozen=True):
    """The container has ended and its exit record is written; the last message. `code` is 128+`signal`."""

    code: int
    signal: int


Message = Output | Done | Refused | Exited


def attach(streams: Stream) -> bytes:
    """Encode: send me these streams from now on (none: stop). Answered by Done before the first Output."""
    return _HEADER.pack(Request.ATTACH, streams, 0)


def resize(rows: int, columns: int) -> bytes:
    """Encode: give the terminal this size. Refused with ENOTTY when the container has none."""
    return _HEADER.pack(Request.RESIZE, rows, columns)


def stdin(data: bytes) -> bytes:
    """Encode standard input for the container, 1 to STDIN_MAX bytes (else ValueError). Not answered."""
    if not 1 <= len(data) <= STDIN_MAX:
        raise ValueError(f"standard input travels in pieces of 1 to {STDIN_MAX} bytes, not {len(data)}")
    return _HEADER.pack(Request.STDIN, 0, 0) + data


def close_stdin() -> bytes:
    """Encode: the container shall read end of file. Refused with ENOTTY when it has a terminal."""
    return _HEADER.pack(Request.CLOSE_STDIN, 0, 0)


def reopen_log() -> bytes:
    """Encode: the log file has been renamed, open it anew under its name."""
    return _HEADER.pack(Request.REOPEN_LOG, 0, 0)


def decode(datagram: bytes) -> Message:
    """Return the message of the monitor in `datagram`; PyrunError when it is none of the known ones."""
    try:
        kind, first, second = _HEADER.unpack_from(datagram)
        match _Notice(kind):
            case _Notice.STREAM:
                return Output(Stream(first), datagram[_HEADER.size :])
            case _Notice.DONE:
                return Done(Request(second))
            case _Notice.ERROR:
                return Refused(second, first)
            case _Notice.EXITED:
                return Exited(first, second)
    except (ValueError, struct.error) as error:
        start = datagram[: _HEADER.size].hex()
        raise PyrunError(
            f"the monitor sent a message of {len(datagram)} bytes that is not of its protocol ({start})",
            hint="the Pod may have been made by another version of pyrun",
        ) from error


class StartRecord(msgspec.Struct, frozen=True):
    """How far a program came. `errno` 0: as far as `stage`; else `stage` failed with it.

    The monitor sends it once, `ready` or why not. The last hop sends it only when the container's program
    cannot be executed: stage `exec`, or `interpreter` when the file exists and what shall run it does not.
    """

    errno: int
    stage: str


def decode_start_record(data: bytes) -> StartRecord:
    """Return the record in `data` (START_RECORD_SIZE bytes); PyrunError when it has another size."""
    if len(data) != START_RECORD_SIZE:
        raise PyrunError(f"a start record has {START_RECORD_SIZE} bytes, not {len(data)}")
    number, stage = _START_RECORD.unpack(data)
    return StartRecord(number, stage.rstrip(b"\0").decode("ascii", "replace"))


class ExitRecord(msgspec.Struct, frozen=True):
    """How a container ended, as its monitor has recorded it.

    `exit_code` is 128+`signal` for a container killed by a signal, `signal` else 0; 255 when the status had
    been lost before the monitor started. `finished_at` is RFC 3339 in UTC with nanoseconds, `finished_ns` the same
    moment of CLOCK_MONOTONIC. `lost_bytes` of output are missing in the log, because it could not be written.
    `lost` is set in the record that pyrun writes for a container whose monitor was killed.
    """

    exit_code: int
    signal: int
    finished_at: str
    lost_bytes: int
    finished_ns: int = 0
    lost: bool = False


def parse_exit_record(text: bytes) -> ExitRecord:
    """Return the record in the file's `text`; StateError when it is not one."""
    try:
        return msgspec.json.decode(text, type=ExitRecord)
    except msgspec.MsgspecError as error:
        raise StateError(f"not an exit record: {error}") from error


class MonitorArguments(msgspec.Struct, frozen=True, kw_only=True):
    """The monitor's arguments; descriptors are numbers from 3 on, inherited, and None is "none".

    Either `stdout` and `stderr`, read ends of pipes, and `stdin`, a write end; or `tty`, the master of a
    terminal. `control` is a listening SEQPACKET socket, `kill` the leaf's cgroup.kill opened for writing,
    `events` its cgroup.events; `ready` takes one start record. `log_max_size` is in bytes, 0 for no limit.
    """

    pid: int
    stdout: int | None = None
    stderr: int | None = None
    stdin: int | None = None
    tty: int | None = None
    control: int
    log_dir: int
    log_name: str
    log_max_size: int = 10 << 20
    log_max_files: int = 5
    exit_dir: int
    exit_name: str
    kill: int | None = None
    events: int | None = None
    ready: int | None = None

    def argv(self) -> list[str]:
        """Return the argument vector, the program's name first."""
        pairs: tuple[tuple[str, int | str | None], ...] = (
            ("pid", self.pid),
            ("stdout", self.stdout),
            ("stderr", self.stderr),
            ("stdin", self.stdin),
            ("tty", self.tty),
            ("control", self.control),
            ("log-dir", self.log_dir),
            ("log-name", self.log_name),
            ("log-max-size", self.log_max_size),
            ("log-max-files", self.log_max_files),
            ("exit-dir", self.exit_dir),
            ("exit-name", self.exit_name),
            ("kill", self.kill),
            ("events", self.events),
            ("ready", self.ready),
        )
        return ["monitor", *(f"{key}={value}" for key, value in pairs if value is not None)]


class LastHopFlags(enum.IntFlag):
    """How the last hop behaves: die with its parent; take the descriptor as the connection, not a gate."""

    DIE_WITH_PARENT = 1
    NO_GATE = 2


def last_hop_argv(gate: int, flags: LastHopFlags, path: str, argv: list[str]) -> list[str]:
    """Return the last hop's argument vector for executing `path` with `argv` (at least one argument)."""
    if not argv:
        raise ValueError("a program is executed with at least one argument, its name")
    return ["lasthop", str(gate), str(int(flags)), path, *argv]
