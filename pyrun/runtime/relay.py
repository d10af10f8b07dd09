"""What exec and attach share: waiting for several descriptors, and the caller's stdio, which may be slow or gone."""

from __future__ import annotations

import os
import select
from collections.abc import Mapping

INPUT_SIZE = 4096
"""Bytes that are read from the caller's stdin at a time; what the monitor takes in one message."""


def wait_for(events: Mapping[int, int]) -> dict[int, int]:
    """Wait until something is ready of these descriptors and events of poll(2); a mask of 0 is not waited for.

    A descriptor is ready too when the other side has gone.
    """
    poller = select.poll()
    for fd, mask in events.items():
        if mask:
            poller.register(fd, mask)
    return dict(poller.poll())


class Outlet:
    """The caller's stdout and stderr, written only when they have room: a reader that stops holds up the
    program's output, but neither its input nor signals.

    The descriptors belong to the caller's other processes as well, so they stay in blocking mode; a pipe that
    has room takes PIPE_BUF bytes, pipe(7).
    """

    def __init__(self) -> None:
        self._kept: dict[int, memoryview] = {}
        self._closed = False

    def put(self, fd: int, data: bytes) -> None:
        """Take bytes for a descriptor."""
        if data and not self._closed:
            self._kept[fd] = memoryview(bytes(self._kept.get(fd, b"")) + data)

    def holds(self, fd: int) -> bool:
        """Whether something for this descriptor has not been written yet."""
        return fd in self._kept

    @property
    def empty(self) -> bool:
        """Whether everything has been written."""
        return not self._kept

    def close(self) -> None:
        """Forget what nobody reads, and take no more."""
        self._kept.clear()
        self._closed = True

    def events(self) -> dict[int, int]:
        """Return what to wait for."""
        return dict.fromkeys(self._kept, select.POLLOUT)

    def write(self, ready: Mapping[int, int]) -> None:
        """Write to one descriptor that is ready; BrokenPipeError when nobody reads it any more.

        To one only: stdout and stderr may be the same pipe, which then has room for the first.
        """
        fd = next((fd for fd in self._kept if fd in ready), None)
        if fd is None:
            return
        try:
            rest = self._kept[fd][os.write(fd, self._kept[fd][: select.PIPE_BUF]) :]
        except BlockingIOError:  # the caller's own descriptor does not block
            return
        if rest:
            self._kept[fd] = rest
        else:
            del self._kept[fd]


def read_input() -> bytes | None:
    """Read the caller's stdin, which is ready: empty at its end, None when there is nothing after all."""
    try:
        return os.read(0, INPUT_SIZE)
    except BlockingIOError:
        return None
    except OSError:  # EIO: the terminal has gone
        return b""
