"""What `pyrun check` tries: each a few lines that do what a Pod's creation does, in a child that ends with it.

A trial returns what it found in a few words, or raises the error that a Pod would meet.
"""

from __future__ import annotations

import os
import signal
import time

from pyrun.cgroups import files, group
from pyrun.errors import PyrunError
from pyrun.kernel import syscalls
from pyrun.kernel.operation import Results
from pyrun.kernel.proc import has_ended, mount_points, read_text
from pyrun.namespaces.steps import WriteTimeOffsets
from pyrun.namespaces.table import Namespace
from pyrun.process.programs import PROGRAMS, program_path, sealed_copy
from pyrun.rootfs.mounts import MakeMountsPrivate, MountOverlay

_SCRATCH = "/sys"
"""A directory that exists everywhere; a tmpfs goes on it, in a mount namespace of the trial's own."""

_PR_SET_PDEATHSIG = 1
_PATIENCE = 2.0


def namespace(kind: Namespace) -> str:
    """Leave a namespace for a new one, and for time set the clocks of the new one."""
    syscalls.unshare(kind.flag)
    if kind is Namespace.TIME:
        WriteTimeOffsets(0, 0).apply(Results())
    return "works"


def _private_scratch() -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    MakeMountsPrivate().apply(Results())
    syscalls.mount("tmpfs", _SCRATCH, "tmpfs")


def mount_api() -> str:
    """Clone a mount, set its attributes, attach it elsewhere."""
    _private_scratch()
    for name in ("a", "b"):
        os.mkdir(f"{_SCRATCH}/{name}")
    tree = syscalls.open_tree(syscalls.AT_FDCWD, f"{_SCRATCH}/a", syscalls.OPEN_TREE_CLONE)
    syscalls.mount_setattr(tree, "", syscalls.AT_EMPTY_PATH, attr_set=syscalls.MOUNT_ATTR_RDONLY)
    flags = syscalls.MOVE_MOUNT_F_EMPTY_PATH
    syscalls.move_mount(tree, "", syscalls.AT_FDCWD, f"{_SCRATCH}/b", flags)
    return "open_tree, move_mount, mount_setattr work"


def file_systems() -> str:
    """Mount the file systems of the kernel as a container has them, in new namespaces of all kinds."""
    _private_scratch()
    syscalls.unshare(
        syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWNET
    )
    syscalls.unshare(syscalls.CLONE_NEWCGROUP)
    wanted = ("proc", "sysfs", "cgroup2", "tmpfs", "devpts", "mqueue")
    for fstype in wanted:
        os.mkdir(f"{_SCRATCH}/{fstype}")
    pid = os.fork()  # proc shows the PID namespace of the process that mounts it: the next child's
    if pid == 0:
        failed = 0
        try:
            syscalls.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            for number, fstype in enumerate(wanted):
                data = "newinstance,ptmxmode=0666" if fstype == "devpts" else ""
                try:
                    syscalls.mount(fstype, f"{_SCRATCH}/{fstype}", fstype, 0, data)
                except OSError:
                    failed |= 1 << number
        finally:
            os._exit(failed)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    failed_words = [fstype for number, fstype in enumerate(wanted) if status & (1 << number)]
    if failed_words:
        raise PyrunError(f"cannot mount {', '.join(failed_words)}")
    return f"{', '.join(wanted)} can be mounted"


def openat2() -> str:
    """Resolve a path below a directory."""
    root = os.open("/", os.O_PATH)
    syscalls.openat2(root, "proc", syscalls.O_PATH, resolve=syscalls.RESOLVE_IN_ROOT)
    return "works"


def pidfd() -> str:
    """Hold, signal and join a process by its pidfd."""
    own = syscalls.pidfd_open(os.getpid())
    syscalls.pidfd_send_signal(own, 0)
    syscalls.setns(own, syscalls.CLONE_NEWUTS)
    return "pidfd_open, pidfd_send_signal, setns work"


def overlay(directory: str) -> str:
    """Mount an overlay whose layers are in `directory`; remove and replace what is in its lower layer."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    MakeMountsPrivate().apply(Results())
    upper, work, merged = (f"{directory}/{name}" for name in ("upper", "work", "merged"))
    for path in (f"{directory}/lower/dir", upper, work, merged):
        os.makedirs(path)
    with open(f"{directory}/lower/file", "wb"):
        pass
    MountOverlay(directory, ("lower",), upper, work, merged).apply(Results())
    os.unlink(f"{merged}/file")
    os.rmdir(f"{merged}/dir")
    os.mkdir(f"{merged}/dir")
    if os.lstat(f"{upper}/file").st_rdev != 0:
        raise PyrunError("a removed file leaves no whiteout")
    os.getxattr(f"{upper}/dir", "trusted.overlay.opaque")
    return f"works on {file_system_of(directory)}"


def file_system_of(path: str) -> str:
    """Return the type of the file system that holds a path."""
    found, length = "an unknown file system", -1
    for point, fstype, _ in mount_points():
        if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= length:
            found, length = fstype, len(point)
    return found


def clone_into_cgroup(path: str) -> str:
    """Be born in the group at `path`, which exists."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    pid, _ = syscalls.clone3(0, directory)
    if pid == 0:
        try:
            inside = os.path.basename(path) in read_text("/proc/self/cgroup")
        finally:
            os._exit(0 if inside else 1)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
        raise PyrunError("the new process is not in its group")
    return "works"


def kill_cgroup(path: str) -> str:
    """Freeze, thaw and kill a process in the group at `path`."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    pid, pidfd_of_it = syscalls.clone3(0, directory)
    if pid == 0:
        try:
            syscalls.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            time.sleep(60)
        finally:
            os._exit(0)
    try:
        group.freeze(path)
        group.thaw(path)
        files.write(path, "cgroup.kill", "1")
        if not has_ended(pidfd_of_it, _PATIENCE):
            raise PyrunError("a process outlives cgroup.kill")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return "cgroup.freeze and cgroup.kill work"


def programs() -> str:
    """Find the compiled programs, and execute one from a sealed memfd as every Pod does."""
    for name in PROGRAMS:
        if not os.access(program_path(name), os.X_OK):
            raise PyrunError(f"{program_path(name)} is not executable")
    memfd = sealed_copy("pause")
    pid = os.fork()
    if pid == 0:
        try:
            null = os.open("/dev/null", os.O_RDWR)
            os.dup2(null, 1)
            os.execve(memfd, ["pause", "--version"], {})
        finally:
            os._exit(127)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != 0:
        raise PyrunError(f"pause cannot be executed from a memfd (exit code {code})")
    return f"{', '.join(PROGRAMS)}: there, and executable from a sealed memfd"


class Orphan:
    """A process whose parent has ended: whoever got it must reap it. Made by a double fork."""

    def __init__(self) -> None:
        ours, theirs = os.pipe()
        gate, self._hold = os.pipe()
        parent = os.fork()
        if parent == 0:
            try:
                pid = os.fork()
                if pid == 0:
                    os.close(self._hold)
                    os.read(gate, 1)  # until this end is closed by `release`
                else:
                    os.write(theirs, str(pid).encode())
            finally:
                os._exit(0)
        os.close(theirs)
        os.close(gate)
        os.waitpid(parent, 0)
        self.pid = int(os.read(ours, 32))
        os.close(ours)

    def reaper(self) -> int:
        """Return the pid of its new parent."""
        return int(read_text(f"/proc/{self.pid}/stat").rpartition(")")[2].split()[1])

    def release(self) -> bool:
        """Let it end; whether it was reaped within two seconds."""
        os.close(self._hold)
        deadline = time.monotonic() + _PATIENCE
        while os.path.exists(f"/proc/{self.pid}"):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True
