"""What a child process says to the pyrun process that made it, while it is being made.

    child                                   parent
    Launched(pid) + pidfd        ->         holds the new process by its pidfd
    Progress(index, nanoseconds) ->         narrates one step that has been applied
    Failed(record)               ->         raises it as one error
    Executing()                  ->         the next thing is the end of file, by close-on-exec

The channel is a SOCK_SEQPACKET pair: one message is one packet. A message out of place, an end of file before
`Executing`, and silence until the deadline are errors that say so; nothing waits for ever.
"""

from __future__ import annotations

import os
import socket
import time

import msgspec

from pyrun.errors import ChildFailed, ProgramError, ProgramNotFound, PyrunError
from pyrun.kernel.operation import Step

DEADLINE = 30.0
"""Seconds a child may take for all of its steps."""

_LIMIT = 65536


class Launched(msgspec.Struct, frozen=True, tag=True):
    """A process has been born; its pidfd travels with this message."""

    pid: int


class Progress(msgspec.Struct, frozen=True, tag=True):
    """Step number `index` of the child's plan has been applied and took `nanoseconds`."""

    index: int
    nanoseconds: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The record of a failure in a child; `error` is the name of the exception class."""

    stage: str
    description: str
    reason: str
    error: str
    errno: int = 0
    hint: str | None = None


class Executing(msgspec.Struct, frozen=True, tag=True):
    """All steps are applied; the child now executes another program."""


Message = Launched | Progress | Failed | Executing

_ENCODER = msgspec.json.Encoder()
_DECODER: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the parent's and the child's end, both close-on-exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(channel: socket.socket, message: Message, fds: tuple[int, ...] = ()) -> None:
    """Send one message, with descriptors if there are any."""
    data = _ENCODER.encode(message)
    if len(data) > _LIMIT:
        assert isinstance(message, Failed)
        data = _ENCODER.encode(msgspec.structs.replace(message, reason=message.reason[:1000]))
    socket.send_fds(channel, [data], list(fds))


def record_of(error: BaseException, stage: str, step: Step | None) -> Failed:
    """Turn an exception into the record that crosses the process border."""
    description = step.describe() if step is not None else stage
    name = type(error).__name__
    if isinstance(error, PyrunError):
        return Failed(stage, description, str(error), name, hint=error.hint)
    if isinstance(error, OSError) and error.errno:
        reason = error.strerror or os.strerror(error.errno)
        if error.filename:
            reason = f"{error.filename}: {reason}"
        return Failed(stage, description, reason, name, errno=error.errno)
    return Failed(stage, description, f"{name}: {error}", name)


def error_of(record: Failed, who: str) -> PyrunError:
    """Rebuild the one error a record stands for; `who` names the process it happened in."""
    for kind in (ProgramNotFound, ProgramError):
        if record.error == kind.__name__:
            return kind(record.reason, hint=record.hint)
    return ChildFailed(
        f"{who}: {record.description}",
        record.reason,
        stage=record.stage,
        exception=record.error,
        errno=record.errno,
        hint=record.hint,
    )


class Receiver:
    """The parent's end: receives messages in their order, until a deadline."""

    def __init__(self, channel: socket.socket, who: str) -> None:
        self._channel = channel
        self._who = who
        self._deadline = time.monotonic() + DEADLINE

    def next(self) -> tuple[Message | None, tuple[int, ...]]:
        """Return the next message and its descriptors, or (None, ()) at the end of file."""
        left = self._deadline - time.monotonic()
        self._channel.settimeout(max(left, 0.001))
        try:
            data, fds, _, _ = socket.recv_fds(self._channel, _LIMIT, 4)
        except TimeoutError:
            raise PyrunError(
                f"{self._who} did not answer within {DEADLINE:g} s",
                hint="a mount in it may wait for a file server or a device",
            ) from None
        except ConnectionResetError:
            return None, ()
        for fd in fds:
            os.set_inheritable(fd, False)
        return (_DECODER.decode(data) if data else None), tuple(fds)

    def unexpected(self, message: Message | None, expected: str) -> PyrunError:
        """Return the error for a message that is out of place."""
        got = "the end of its channel" if message is None else type(message).__name__
        return PyrunError(
            f"{self._who}: expected {expected}, received {got}",
            hint="the process was killed while it was being made, or pyrun has a bug",
        )
