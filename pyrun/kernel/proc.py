"""Readers of /proc and the identity of processes.

A pid alone names nothing: it is reused. A process is pid, start time and boot id together (proc(5): field 22
of /proc/PID/stat, in clock ticks since boot). Start times are shifted by the time namespace of the *reader*,
so they are compared only by processes of the host's time namespace: the CLI and the supervisor.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from collections.abc import Iterator

import msgspec

from pyrun.kernel import syscalls


def read_text(path: str) -> str:
    """Return the whole text of a small file; undecodable bytes survive as surrogates."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def boot_id() -> str:
    """Return the id of this boot of the kernel."""
    return read_text("/proc/sys/kernel/random/boot_id").strip()


def start_time(pid: int) -> int:
    """Return the start time of a process in clock ticks; ProcessLookupError when there is none."""
    try:
        text = read_text(f"/proc/{pid}/stat")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            raise ProcessLookupError(errno.ESRCH, "no such process", str(pid)) from None
        raise
    # The name stands in parentheses and may itself hold spaces and parentheses.
    return int(text.rpartition(")")[2].split()[19])


class ProcessIdentity(msgspec.Struct, frozen=True):
    """A process as it can be recorded: compared by pid, start time and boot id together."""

    pid: int
    start_time: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Read the identity of a process that is known to exist (its parent has not reaped it)."""
        return cls(pid, start_time(pid), boot_id())

    def open(self) -> int | None:
        """Return a pidfd of this very process, or None when it is gone (or its pid is somebody else's)."""
        if self.boot_id != boot_id():
            return None
        try:
            pidfd = syscalls.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        # Opened first, compared second: the descriptor pins the pid, so the answer cannot change between.
        try:
            if start_time(self.pid) == self.start_time:
                return pidfd
        except ProcessLookupError:
            pass
        os.close(pidfd)
        return None

    def alive(self) -> bool:
        """Whether the process still runs; a zombie does not."""
        pidfd = self.open()
        if pidfd is None:
            return False
        try:
            return not has_ended(pidfd)
        finally:
            os.close(pidfd)


def has_ended(pidfd: int, timeout: float = 0.0) -> bool:
    """Wait up to `timeout` seconds for the process of a pidfd to end; a zombie has ended."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(timeout * 1000))


def mount_points() -> Iterator[tuple[str, str, str]]:
    """Yield (mount point, file system type, super options) of each mount of /proc/self/mountinfo."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            fstype, _, options = after.split(" ", 2)
            point = before.split(" ")[4]
            yield _unescape(point), fstype, options.strip()


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def close_quietly(*fds: int) -> None:
    """Close descriptors that may be closed already."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
