"""Steps that join, leave and set up namespaces. They run inside the new process."""

from __future__ import annotations

import os
import socket

from pyrun.kernel import syscalls
from pyrun.kernel.operation import Results, Step
from pyrun.namespaces.table import Namespace, flag_words, flags_of


class JoinNamespaces(Step, frozen=True, tag=True):
    """Join namespaces of the process whose pidfd stands in the results under `of`; setns(2).

    One call joins all, so that either all or none is joined. PID and time take effect as setns(2) says:
    the time namespace for the caller too, the PID namespace for its next child.
    """

    of: str
    namespaces: tuple[Namespace, ...]

    def describe(self) -> str:
        return f"setns(<{self.of}>, {flag_words(self.namespaces)})"

    def apply(self, results: Results) -> None:
        syscalls.setns(results.fd(self.of), flags_of(self.namespaces))


class UnshareNamespaces(Step, frozen=True, tag=True):
    """Leave namespaces for new ones; unshare(2).

    The cgroup namespace is left only here, after the process has been born in its leaf: the root of the new
    namespace is the caller's cgroup at this moment.
    """

    namespaces: tuple[Namespace, ...]

    def describe(self) -> str:
        return f"unshare({flag_words(self.namespaces)})"

    def apply(self, results: Results) -> None:
        syscalls.unshare(flags_of(self.namespaces))


class SetHostname(Step, frozen=True, tag=True):
    """Set the hostname of the UTS namespace; sethostname(2), at most 64 bytes."""

    hostname: str

    def describe(self) -> str:
        return f'sethostname("{self.hostname}")'

    def apply(self, results: Results) -> None:
        socket.sethostname(self.hostname)


class WriteTimeOffsets(Step, frozen=True, tag=True):
    """Shift the clocks of the time namespace that the next child will enter; time_namespaces(7).

    Offsets are nanoseconds. They can be written only while no process has entered the namespace, which is
    why a process of its own unshares, writes and then forks.
    """

    monotonic: int
    boottime: int

    def describe(self) -> str:
        return f'write /proc/self/timens_offsets "monotonic {self.monotonic}ns" "boottime {self.boottime}ns"'

    def apply(self, results: Results) -> None:
        lines = ""
        for clock, offset in (("monotonic", self.monotonic), ("boottime", self.boottime)):
            seconds, nanoseconds = divmod(offset, 1_000_000_000)
            lines += f"{clock} {seconds} {nanoseconds}\n"
        fd = os.open("/proc/self/timens_offsets", os.O_WRONLY)
        try:
            os.write(fd, lines.encode())
        finally:
            os.close(fd)
