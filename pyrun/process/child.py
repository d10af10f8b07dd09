"""What every child does: apply its steps in order, say how far it is, and end in another program.

A child imports nothing after the fork (all it needs is loaded with its steps), keeps no descriptor of the host
but those it was given, prints nothing, and turns any failure into one record.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from pyrun.errors import PyrunError
from pyrun.kernel import syscalls
from pyrun.kernel.operation import Results, Step
from pyrun.kernel.proc import has_ended
from pyrun.process.channel import (
    Executing,
    Failed,
    Launched,
    Message,
    Progress,
    Receiver,
    error_of,
    record_of,
    send,
)


def born_in(group: str, flags: int = 0) -> tuple[int, int]:
    """Fork into a cgroup: (pid, pidfd) in the parent, (0, -1) in the child. Raises OSError."""
    directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return syscalls.clone3(flags, directory)
    finally:
        os.close(directory)


def run_child(channel: socket.socket, stage: str, body: Callable[[], object]) -> NoReturn:
    """Run the body of a forked child; whatever it raises becomes a record, and the child ends.

    Never returns into the code of the parent that called fork.
    """
    try:
        syscalls.block_signals()
        body()
        os._exit(0)
    except BaseException as error:
        _tell(channel, record_of(error, stage, None))
        os._exit(1)


def apply_steps(channel: socket.socket, stage: str, steps: Sequence[Step], results: Results) -> NoReturn:
    """Apply the steps; the last one executes another program and does not come back."""
    step: Step | None = None
    try:
        for index, step in enumerate(steps):
            if index == len(steps) - 1:
                send(channel, Executing())
            results.observer.inside(step)
            began = time.monotonic_ns()
            step.apply(results)
            send(channel, Progress(index, time.monotonic_ns() - began))
        raise AssertionError("the last step of a child must execute a program")
    except BaseException as error:
        _tell(channel, record_of(error, stage, step))
        os._exit(1)


def _tell(channel: socket.socket, record: Failed) -> None:
    try:
        send(channel, record)
    except OSError:  # the parent is gone: nobody is left to tell
        os._exit(1)


class ChildReport:
    """The parent's view of a child: waits for its birth, then for the end of its steps."""

    def __init__(self, channel: socket.socket, who: str, results: Results) -> None:
        self._receiver = Receiver(channel, who)
        self._who = who
        self._results = results
        self._early: list[Message] = []

    def launched(self) -> tuple[int, int]:
        """Return pid and pidfd of the new process; raises the child's failure."""
        while True:
            message, fds = self._receiver.next()
            if isinstance(message, Launched) and len(fds) == 1:
                return message.pid, fds[0]
            if isinstance(message, Failed):
                raise error_of(message, self._who)
            if not isinstance(message, Progress | Executing):
                raise self._receiver.unexpected(message, "Launched")
            # The new process may speak before the one that made it.
            self._early.append(message)

    def executed(self, steps: Sequence[Step]) -> None:
        """Wait until the child has become its program; narrates each step; raises the child's failure.

        The end of the channel says so, by close-on-exec; a process that was killed at this moment ends it too.
        """
        executing = False
        while True:
            message = self._early.pop(0) if self._early else self._receiver.next()[0]
            if isinstance(message, Progress):
                self._results.observer.reported(steps[message.index], message.nanoseconds / 1e9)
            elif isinstance(message, Failed):
                raise error_of(message, self._who)
            elif isinstance(message, Executing):
                executing = True
            elif message is None and executing:
                return
            else:
                raise self._receiver.unexpected(message, "Progress")

    def stays(self, pidfd: int) -> None:
        """Raise PyrunError when a process that has nothing to end for has ended: it was killed."""
        if has_ended(pidfd):
            raise PyrunError(f"{self._who} was killed while it was being made", hint="try again")
