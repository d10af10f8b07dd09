"""Signals as events of a poll loop, for commands that stand for a container in a terminal."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


@contextmanager
def signal_pipe(numbers: tuple[signal.Signals, ...]) -> Iterator[int]:
    """Give a descriptor from which the numbers of arriving signals are read, a byte each.

    Inside the block the signals have no other effect; afterwards they mean what they meant before.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    previous_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    previous = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield reader
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_fd)
        os.close(reader)
        os.close(writer)


def read_signals(fd: int) -> tuple[int, ...]:
    """Return the signals that have arrived; none when there are none."""
    try:
        return tuple(os.read(fd, 64))
    except BlockingIOError:
        return ()
