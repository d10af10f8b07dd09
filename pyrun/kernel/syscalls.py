"""System calls under their kernel names and argument order, each a few lines, none with a policy.

Every wrapper raises `OSError` with errno and, where there is one, the path; none returns a status. Two
famous refusals (ENOSYS, and EPERM from unshare and clone3) get a hint, because their plain text misleads.
Sources: the man pages of section 2 of the same names.
"""

from __future__ import annotations

import errno
import os

from pyrun.kernel._kernel import ffi, lib

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_PIDFD = 0x00001000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_RELATIME = 1 << 21
MNT_DETACH = 2

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x00000004
MOVE_MOUNT_T_EMPTY_PATH = 0x00000040
MOUNT_ATTR_RDONLY = 0x00000001
MOUNT_ATTR_NOSUID = 0x00000002
MOUNT_ATTR_NODEV = 0x00000004
MOUNT_ATTR_NOEXEC = 0x00000008

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

PR_SET_DUMPABLE = 4
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

CLOSE_RANGE_CLOEXEC = 4

IN_NONBLOCK = os.O_NONBLOCK
IN_MODIFY = 0x00000002
IN_MOVED_FROM = 0x00000040
IN_MOVED_TO = 0x00000080
IN_CREATE = 0x00000100
IN_DELETE = 0x00000200
IN_Q_OVERFLOW = 0x00004000
IN_IGNORED = 0x00008000

O_PATH = os.O_PATH


# The versions of Linux that brought what is not as old as the hills; man pages of the calls.
_SINCE = {
    "clone3": "5.3",
    "pidfd_open": "5.3",
    "pidfd_send_signal": "5.1",
    "open_tree": "5.2",
    "move_mount": "5.2",
    "openat2": "5.6",
    "close_range": "5.9",
    "mount_setattr": "5.12",
}


def _failure(call: str, path: str = "") -> OSError:
    number = ffi.errno
    text = os.strerror(number)
    if number == errno.ENOSYS:
        since = f"Linux {_SINCE[call]} has it" if call in _SINCE else "this kernel does not have it"
        text += f" ({since}; or a seccomp filter around pyrun hides it)"
    elif number == errno.EPERM and call in ("unshare", "clone3", "setns"):
        text += f" (CAP_SYS_ADMIN is needed for {call}, and a container engine around pyrun may withhold it)"
    return OSError(number, f"{call}: {text}", path or None)


def _path(path: str) -> bytes:
    return os.fsencode(path)


def unshare(flags: int) -> None:
    """Leave the namespaces in `flags` (CLONE_NEW*) for new ones; PID and time: for the next child only."""
    if lib.k_unshare(flags) < 0:
        raise _failure("unshare")


def setns(fd: int, nstype: int) -> None:
    """Join the namespaces in `nstype` of a pidfd, or the one a namespace descriptor stands for."""
    if lib.k_setns(fd, nstype) < 0:
        raise _failure("setns")


def clone3(flags: int, cgroup: int = -1) -> tuple[int, int]:
    """Fork into new namespaces and, with a descriptor of a cgroup directory, into that cgroup.

    Returns (pid, pidfd) in the parent and (0, -1) in the child. Only for a process of one thread: Python's
    own bookkeeping after a fork is not run.
    """
    pidfd = ffi.new("int *", -1)
    pid = lib.k_clone3(flags | CLONE_PIDFD, cgroup, pidfd)
    if pid < 0:
        raise _failure("clone3")
    return int(pid), int(pidfd[0]) if pid else -1


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    if lib.k_mount(_path(source), _path(target), _path(fstype), flags, _path(data)) < 0:
        raise _failure("mount", target)


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    if lib.k_umount2(_path(target), flags) < 0:
        raise _failure("umount2", target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    if lib.k_pivot_root(_path(new_root), _path(put_old)) < 0:
        raise _failure("pivot_root", new_root)


def open_tree(dfd: int, path: str, flags: int) -> int:
    """open_tree(2); returns a descriptor, close-on-exec."""
    fd = lib.k_open_tree(dfd, _path(path), flags | OPEN_TREE_CLOEXEC)
    if fd < 0:
        raise _failure("open_tree", path)
    return int(fd)


def move_mount(from_dfd: int, from_path: str, to_dfd: int, to_path: str, flags: int) -> None:
    """move_mount(2)."""
    if lib.k_move_mount(from_dfd, _path(from_path), to_dfd, _path(to_path), flags) < 0:
        raise _failure("move_mount", to_path or from_path)


def mount_setattr(
    dfd: int, path: str, flags: int, *, attr_set: int = 0, attr_clr: int = 0, propagation: int = 0
) -> None:
    """mount_setattr(2): MOUNT_ATTR_* to set and clear; propagation MS_PRIVATE and its kin or 0."""
    if lib.k_mount_setattr(dfd, _path(path), flags, attr_set, attr_clr, propagation) < 0:
        raise _failure("mount_setattr", path)


def openat2(dfd: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2); returns a descriptor, close-on-exec."""
    fd = lib.k_openat2(dfd, _path(path), flags | os.O_CLOEXEC, mode, resolve)
    if fd < 0:
        raise _failure("openat2", path)
    return int(fd)


def pidfd_open(pid: int) -> int:
    """pidfd_open(2); returns a descriptor, close-on-exec."""
    fd = lib.k_pidfd_open(pid, 0)
    if fd < 0:
        raise _failure("pidfd_open", str(pid))
    return int(fd)


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    """pidfd_send_signal(2) without siginfo."""
    if lib.k_pidfd_send_signal(pidfd, signal) < 0:
        raise _failure("pidfd_send_signal")


def prctl(option: int, arg2: int = 0, arg3: int = 0) -> int:
    """prctl(2), for the options python-prctl has no name for."""
    value = lib.k_prctl(option, arg2, arg3, 0, 0)
    if value < 0:
        raise _failure("prctl", str(option))
    return int(value)


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) for the calling thread; the sets are bit masks."""
    if lib.k_capset(effective, permitted, inheritable) < 0:
        raise _failure("capset")


def capget() -> tuple[int, int, int]:
    """capget(2) of the calling thread: effective, permitted and inheritable as bit masks."""
    sets = [ffi.new("uint64_t *") for _ in range(3)]
    if lib.k_capget(*sets) < 0:
        raise _failure("capget")
    return int(sets[0][0]), int(sets[1][0]), int(sets[2][0])


def close_range(first: int, last: int, flags: int = 0) -> None:
    """close_range(2)."""
    if lib.k_close_range(first, last, flags) < 0:
        raise _failure("close_range")


def block_signals() -> None:
    """Block every signal of the calling thread (sigprocmask(2)); the mask survives fork and exec."""
    if lib.k_sigmask_all(1) < 0:
        raise _failure("sigprocmask")


def unblock_signals() -> None:
    """Unblock every signal of the calling thread."""
    if lib.k_sigmask_all(0) < 0:
        raise _failure("sigprocmask")


def inotify_init1(flags: int = 0) -> int:
    """inotify_init1(2); returns a descriptor, close-on-exec."""
    fd = lib.k_inotify_init1(flags | os.O_CLOEXEC)
    if fd < 0:
        raise _failure("inotify_init1")
    return int(fd)


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """inotify_add_watch(2): IN_* events of a path; returns the watch descriptor."""
    watch = lib.k_inotify_add_watch(fd, _path(path), mask)
    if watch < 0:
        raise _failure("inotify_add_watch", path)
    return int(watch)
