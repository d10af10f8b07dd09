"""The stdio of a container's process: pipes or a terminal, never descriptors of the caller."""

from __future__ import annotations

import os

import msgspec

from pyrun.kernel.operation import Results
from pyrun.process.channel import DEADLINE, pair
from pyrun.process.terminal import receive_master


class StdioEnds(msgspec.Struct, frozen=True, kw_only=True):
    """The ends outside the container: of three pipes, or the master of a terminal; None is "none"."""

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None
    terminal: int | None = None

    def descriptors(self) -> tuple[int, ...]:
        """All descriptors there are."""
        return tuple(fd for fd in (self.stdin, self.stdout, self.stderr, self.terminal) if fd is not None)

    def close(self) -> None:
        """Close them all."""
        for fd in self.descriptors():
            os.close(fd)


class Stdio:
    """Both ends, made before the fork; afterwards each side keeps its own."""

    def __init__(self, *, stdin: bool, terminal: bool) -> None:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._inside = [null, null, null]
        self._outside = StdioEnds()
        self._terminal = pair() if terminal else None
        if terminal:
            return
        stdout, self._inside[1] = os.pipe()
        stderr, self._inside[2] = os.pipe()
        writable = None
        if stdin:
            self._inside[0], writable = os.pipe()
        self._outside = StdioEnds(stdin=writable, stdout=stdout, stderr=stderr)

    def install(self, results: Results) -> None:
        """In the child: make the ends stdio. A terminal is opened later, by a step, and goes out by `terminal`."""
        for number, fd in enumerate(self._inside):
            os.dup2(fd, number)
        if self._terminal is not None:
            results.put_fd("terminal", self._terminal[1].fileno())

    def ends(self) -> StdioEnds:
        """In the parent: let go of the child's ends, and return one's own once the child has opened its terminal.

        A child that ends before it has a terminal leaves none.
        """
        for fd in set(self._inside):
            os.close(fd)
        if self._terminal is None:
            return self._outside
        ours, theirs = self._terminal
        theirs.close()
        with ours:
            ours.settimeout(DEADLINE)
            return StdioEnds(terminal=receive_master(ours))
