"""Signals as events of a poll loop, for commands that stand for a container in a terminal."""

from __future__ import annotations

import os
import signal
from typing import Self

FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


class SignalPipe:
    """Signals that arrive as bytes on a descriptor, and have no other effect until it is closed.

    Afterwards they mean what they meant before; those that were not read are forgotten.
    """

    def __init__(self, numbers: tuple[signal.Signals, ...]) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._previous_fd = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._previous = {number: signal.signal(number, lambda *_: None) for number in numbers}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._reader

    def read(self) -> tuple[int, ...]:
        """Return the numbers of the signals that have arrived; none when there are none."""
        try:
            return tuple(os.read(self._reader, 64))
        except BlockingIOError:
            return ()

    def close(self) -> None:
        """Give the signals their former meaning."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_fd)
        os.close(self._reader)
        os.close(self._writer)
