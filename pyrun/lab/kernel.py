"""What the kernel says of processes and groups: all that a check may ask.

Sources: proc(5), namespaces(7), pid_namespaces(7), time_namespaces(7), Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import msgspec

from pyrun.cgroups import files
from pyrun.kernel import syscalls
from pyrun.kernel.proc import read_text
from pyrun.namespaces.table import Namespace, inode_of

LISTENING = "0A"
"""The state of a listening socket in /proc/net/tcp."""

Inode = tuple[int, int]
"""What names a file: the device and the number on it."""


class Process(msgspec.Struct, frozen=True):
    """A process, read anew at each question. What cannot be read (it has ended) is 0, empty or None."""

    pid: int

    def namespace(self, kind: Namespace) -> int:
        """The inode of one of its namespaces."""
        try:
            return inode_of(self.pid, kind)
        except OSError:
            return 0

    def shares(self, kind: Namespace, other: Process) -> bool:
        """Whether both are in the same namespace of a kind."""
        return self.namespace(kind) != 0 and self.namespace(kind) == other.namespace(kind)

    def number_inside(self) -> int:
        """Its number in its own PID namespace."""
        return int((self._status("NSpid") or ["0"])[-1])

    def parent(self) -> int:
        """The pid of its parent."""
        return int((self._status("PPid") or ["0"])[0])

    def is_zombie(self) -> bool:
        """Whether it has ended and nobody has asked how."""
        return self._status("State")[:1] == ["Z"]

    def group(self) -> str:
        """The directory of its cgroup on the unified hierarchy."""
        paths = (line.removeprefix("0::") for line in self._lines("cgroup") if line.startswith("0::"))
        return files.unified_mount() + next(paths, "/")

    def has_variable(self, name: str) -> bool:
        """Whether a variable was in its environment when it was started."""
        text = "\n".join(self._lines("environ"))
        return f"\0{name}=" in f"\0{text}"

    def hostname(self) -> str:
        """The hostname in its UTS namespace."""
        return visit(self.pid, Namespace.UTS, lambda: os.uname().nodename)

    def root(self) -> Inode | None:
        """The directory that is its root."""
        return inode(f"/proc/{self.pid}/root")

    def root_of_mounts(self) -> Inode | None:
        """The root of its mount namespace, where whoever joins that namespace finds himself."""

        def look() -> str:
            found = os.stat("/")
            return f"{found.st_dev} {found.st_ino}"

        answer = visit(self.pid, Namespace.MOUNT, look)
        device, _, number = answer.partition(" ")
        return (int(device), int(number)) if number else None

    def mounted(self, point: str) -> tuple[str, str] | None:
        """What is mounted at a place as it sees it: (device, directory on it); None when nothing is."""
        for line in self._lines("mountinfo"):
            fields = line.split(" ")
            if fields[4] == point:
                return fields[2], fields[3]
        return None

    def mounts(self, wanted: Inode | None) -> bool:
        """Whether a directory is what one of its mounts shows, wherever that is mounted."""
        points = [line.split(" ")[4] for line in self._lines("mountinfo")]
        return any(inode(f"/proc/{self.pid}/root{point}") == wanted for point in points)

    def boottime_offset(self) -> int:
        """Seconds that its children's clock since boot is ahead of the initial one."""
        rows = (line.split() for line in self._lines("timens_offsets"))
        return next((int(row[1]) for row in rows if row[0] in ("boottime", "7")), 0)

    def has_address(self, address: str) -> bool:
        """Whether an IPv4 address is set in its network namespace."""
        return any(line.split()[-1:] == [address] for line in self._lines("net/fib_trie"))

    def listeners(self, port: int) -> frozenset[str]:
        """The sockets (as links of /proc/PID/fd) that listen at a TCP port of its network namespace."""
        rows = (line.split() for name in ("tcp", "tcp6") for line in self._lines(f"net/{name}")[1:])
        return frozenset(
            f"socket:[{row[9]}]"
            for row in rows
            if row[3] == LISTENING and int(row[1].rpartition(":")[2], 16) == port
        )

    def descriptors(self) -> frozenset[str]:
        """Where its descriptors lead, as the links of /proc/PID/fd say."""
        return frozenset(target for target, _ in self._open())

    def open_files(self) -> frozenset[Inode]:
        """The files it has open."""
        return frozenset(found for _, found in self._open() if found is not None)

    def _open(self) -> Iterator[tuple[str, Inode | None]]:
        base = f"/proc/{self.pid}/fd"
        with contextlib.suppress(OSError):
            for name in os.listdir(base):
                with contextlib.suppress(OSError):
                    yield os.readlink(f"{base}/{name}"), inode(f"{base}/{name}")

    def _status(self, key: str) -> list[str]:
        for line in self._lines("status"):
            name, _, value = line.partition(":")
            if name == key:
                return value.split()
        return []

    def _lines(self, name: str) -> list[str]:
        try:
            return read_text(f"/proc/{self.pid}/{name}").splitlines()
        except OSError:
            return []


def this() -> Process:
    """The process that asks; its namespaces stand for the host's."""
    return Process(os.getpid())


def inode(path: str) -> Inode | None:
    """Return what names the file that a path leads to; None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def processes_in(group: str) -> tuple[Process, ...]:
    """Return the processes in a group and below it; none when it is gone. Zombies are in no list of theirs."""
    return tuple(Process(pid) for path, _, _ in os.walk(group) for pid in files.processes(path))


def children_of(pid: int) -> tuple[Process, ...]:
    """Return the children of a process, zombies too."""
    everyone = (Process(int(name)) for name in os.listdir("/proc") if name.isdecimal())
    return tuple(process for process in everyone if process.parent() == pid)


def visit(pid: int, kind: Namespace, look: Callable[[], str]) -> str:
    """Return what a child of this process sees in a namespace of another one; empty when it cannot get there."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            syscalls.setns(syscalls.pidfd_open(pid), kind.flag)
            os.write(writing, look().encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as answer:
        seen = answer.read()
    os.waitpid(child, 0)
    return seen
