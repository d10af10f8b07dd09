"""The one table of the kernel's namespaces, in the order in which a process must take them.

Source: namespaces(7) and the man pages it names; the order is explained in ARCHITECTURE.md.
"""

from __future__ import annotations

import enum
import os

from pyrun.kernel import syscalls


class Namespace(enum.Enum):
    """One kind of namespace; the value is its name below /proc/PID/ns."""

    USER = "user"
    CGROUP = "cgroup"
    UTS = "uts"
    IPC = "ipc"
    NETWORK = "net"
    PID = "pid"
    TIME = "time"
    MOUNT = "mnt"

    @property
    def flag(self) -> int:
        """The CLONE_NEW* flag."""
        return _FLAGS[self]

    @property
    def for_children_only(self) -> bool:
        """Whether leaving it takes effect for the next child only (PID and time)."""
        return self in (Namespace.PID, Namespace.TIME)


_FLAGS = {
    Namespace.USER: syscalls.CLONE_NEWUSER,
    Namespace.CGROUP: syscalls.CLONE_NEWCGROUP,
    Namespace.UTS: syscalls.CLONE_NEWUTS,
    Namespace.IPC: syscalls.CLONE_NEWIPC,
    Namespace.NETWORK: syscalls.CLONE_NEWNET,
    Namespace.PID: syscalls.CLONE_NEWPID,
    Namespace.TIME: syscalls.CLONE_NEWTIME,
    Namespace.MOUNT: syscalls.CLONE_NEWNS,
}


def flags_of(namespaces: tuple[Namespace, ...]) -> int:
    """Return the CLONE_NEW* flags of several namespaces."""
    flags = 0
    for namespace in namespaces:
        flags |= namespace.flag
    return flags


def inode_of(pid: int | str, namespace: Namespace) -> int:
    """Return the inode number that identifies a namespace of a process (`self` allowed)."""
    return os.stat(f"/proc/{pid}/ns/{namespace.value}").st_ino


def flag_words(namespaces: tuple[Namespace, ...]) -> str:
    """Return the flags as a person reads them: `CLONE_NEWUTS|CLONE_NEWIPC`."""
    words = {Namespace.MOUNT: "NS", Namespace.NETWORK: "NET"}
    return "|".join("CLONE_NEW" + words.get(n, n.name) for n in namespaces) or "0"
