"""/dev of a container.

Each standard device is a bind mount of the host's node on an empty file of a nodev tmpfs. All other mounts of
the container are nodev too, so a node that a container makes with CAP_MKNOD cannot be opened, and no device
controller is needed for that. Source: OCI runtime specification, config-linux.md, default devices.
"""

from __future__ import annotations

import os
import stat

from pyrun.kernel import syscalls
from pyrun.kernel.operation import Results, Step
from pyrun.rootfs.resolve import Kind, fd_path, make_in_root, open_in_root

STANDARD_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

LINKS = (
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
)


class BindDevices(Step, frozen=True, tag=True):
    """Bind device nodes of the host into the container's /dev."""

    root: str
    names: tuple[str, ...] = STANDARD_DEVICES

    def describe(self) -> str:
        return f"bind /dev/{{{','.join(self.names)}}}"

    def apply(self, results: Results) -> None:
        for name in self.names:
            point = make_in_root(self.root, f"dev/{name}", Kind.FILE)
            try:
                tree = syscalls.open_tree(syscalls.AT_FDCWD, f"/dev/{name}", syscalls.OPEN_TREE_CLONE)
                flags = syscalls.MOVE_MOUNT_F_EMPTY_PATH | syscalls.MOVE_MOUNT_T_EMPTY_PATH
                try:
                    syscalls.move_mount(tree, "", point, "", flags)
                finally:
                    os.close(tree)
            finally:
                os.close(point)


class LinkDevices(Step, frozen=True, tag=True):
    """Make the usual links of /dev: fd, stdin, stdout, stderr, ptmx, core."""

    root: str

    def describe(self) -> str:
        return "symlink " + " ".join(f"/dev/{name}" for name, _ in LINKS)

    def apply(self, results: Results) -> None:
        directory = open_in_root(self.root, "dev")
        try:
            for name, target in LINKS:
                os.symlink(target, name, dir_fd=directory)
        finally:
            os.close(directory)


class CopyHostDevices(Step, frozen=True, tag=True):
    """Make a node for each device of the host's /dev, for a privileged container; mknod(2)."""

    root: str

    def describe(self) -> str:
        return "mknod each device of the host's /dev"

    def apply(self, results: Results) -> None:
        os.umask(0)
        directory = open_in_root(self.root, "dev")
        try:
            _copy("/dev", fd_path(directory), skip={"pts", "shm", "mqueue", "console", "ptmx"})
        finally:
            os.close(directory)


def _copy(source: str, target: str, skip: set[str]) -> None:
    for entry in os.scandir(source):
        if entry.name in skip or entry.is_symlink():
            continue
        status = entry.stat(follow_symlinks=False)
        path = f"{target}/{entry.name}"
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(path, stat.S_IMODE(status.st_mode))
            _copy(entry.path, path, skip=set())
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            os.mknod(path, status.st_mode, status.st_rdev)
            os.chown(path, status.st_uid, status.st_gid)
