"""Steps that mount. They run in the new process, in its own mount namespace, before and after pivot_root.

Targets are paths of the container; before pivot_root they are found below `root` with openat2, so that a link
in the image cannot lead a mount onto the host. Read-only is a property of the mount, set by mount_setattr, and
never of the superblock: proc, sysfs and mqueue superblocks are shared by the containers of a Pod.
"""

from __future__ import annotations

import os
import stat

from pyrun.kernel import syscalls
from pyrun.kernel.operation import Results, Step
from pyrun.rootfs.resolve import Kind, fd_path, kind_of, make_in_root, open_beneath

_FLAGS = {
    "nosuid": syscalls.MS_NOSUID,
    "nodev": syscalls.MS_NODEV,
    "noexec": syscalls.MS_NOEXEC,
    "relatime": syscalls.MS_RELATIME,
}
_ATTRIBUTES = {
    "ro": syscalls.MOUNT_ATTR_RDONLY,
    "nosuid": syscalls.MOUNT_ATTR_NOSUID,
    "nodev": syscalls.MOUNT_ATTR_NODEV,
    "noexec": syscalls.MOUNT_ATTR_NOEXEC,
}


def _attach(tree: int, root: str, target: str, options: tuple[str, ...]) -> None:
    """Attach a detached mount at a path of the container and set its attributes; closes `tree`."""
    try:
        set_attributes(tree, options)
        point = make_in_root(root, target, kind_of(tree))
        try:
            flags = syscalls.MOVE_MOUNT_F_EMPTY_PATH | syscalls.MOVE_MOUNT_T_EMPTY_PATH
            syscalls.move_mount(tree, "", point, "", flags)
        finally:
            os.close(point)
    finally:
        os.close(tree)


def set_attributes(mount_fd: int, options: tuple[str, ...]) -> None:
    """Set ro, nosuid, nodev, noexec on the mount a descriptor stands for; other words are ignored."""
    attributes = 0
    for option in options:
        attributes |= _ATTRIBUTES.get(option, 0)
    if attributes:
        syscalls.mount_setattr(mount_fd, "", syscalls.AT_EMPTY_PATH, attr_set=attributes)


class MakeMountsPrivate(Step, frozen=True, tag=True):
    """Cut the mount namespace off from the host's: no mount of either side shows on the other."""

    def describe(self) -> str:
        return 'mount_setattr("/", AT_RECURSIVE, MS_PRIVATE)'

    def apply(self, results: Results) -> None:
        syscalls.mount_setattr(syscalls.AT_FDCWD, "/", syscalls.AT_RECURSIVE, propagation=syscalls.MS_PRIVATE)


class MountOverlay(Step, frozen=True, tag=True):
    """Mount the root file system: read-only layers, lowest first, under one writable directory.

    The layers are named relative to their directory, because mount(2) takes one page of options. The root is
    nodev: devices are reached only through the mounts that /dev holds, so CAP_MKNOD gives no access to one.
    """

    layers_dir: str
    layers: tuple[str, ...]
    upper: str
    work: str
    target: str

    def describe(self) -> str:
        lower = ":".join(reversed(self.layers))
        return f"mount -t overlay -o nodev,lowerdir={lower},upperdir={self.upper} {self.target}"

    def apply(self, results: Results) -> None:
        os.chdir(self.layers_dir)
        # The root directory's own owner and mode are those of the uppermost layer: the writable one.
        root = os.stat(self.layers[-1])
        os.chown(self.upper, root.st_uid, root.st_gid)
        os.chmod(self.upper, stat.S_IMODE(root.st_mode))
        lower = ":".join(_escaped(layer) for layer in reversed(self.layers))
        data = f"lowerdir={lower},upperdir={_escaped(self.upper)},workdir={_escaped(self.work)}"
        syscalls.mount("overlay", self.target, "overlay", syscalls.MS_NODEV, data)


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


class MountFilesystem(Step, frozen=True, tag=True):
    """Mount a new file system (proc, sysfs, tmpfs, devpts, mqueue, cgroup2) at a path of the container."""

    fstype: str
    root: str
    target: str
    options: tuple[str, ...] = ()
    data: str = ""

    def describe(self) -> str:
        options = ",".join((*self.options, *(self.data.split(",") if self.data else ())))
        return f"mount -t {self.fstype}{' -o ' + options if options else ''} {self.fstype} {self.target}"

    def apply(self, results: Results) -> None:
        flags = 0
        for option in self.options:
            flags |= _FLAGS.get(option, 0)
        point = make_in_root(self.root, self.target, Kind.DIRECTORY)
        try:
            syscalls.mount(self.fstype, fd_path(point), self.fstype, flags, self.data)
        finally:
            os.close(point)
        if "ro" in self.options:
            fd = make_in_root(self.root, self.target, Kind.DIRECTORY)
            try:
                set_attributes(fd, ("ro",))
            finally:
                os.close(fd)


class BindMount(Step, frozen=True, tag=True):
    """Show a file or directory of the host at a path of the container, with what is mounted below it.

    With `sub_path` the object below `source` that it names, which no link may lead out of.
    """

    source: str
    root: str
    target: str
    options: tuple[str, ...] = ()
    sub_path: str = ""

    def describe(self) -> str:
        source = f"{self.source}/{self.sub_path}" if self.sub_path else self.source
        return (
            f"mount --rbind{' -o ' + ','.join(self.options) if self.options else ''} {source} {self.target}"
        )

    def apply(self, results: Results) -> None:
        flags = syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE
        if self.sub_path:
            source = open_beneath(self.source, self.sub_path)
            try:
                tree = syscalls.open_tree(source, "", flags | syscalls.AT_EMPTY_PATH)
            finally:
                os.close(source)
        else:
            tree = syscalls.open_tree(syscalls.AT_FDCWD, self.source, flags)
        _attach(tree, self.root, self.target, self.options)


class SandboxTree(Step, frozen=True, tag=True):
    """Where a tmpfs of the Pod, mounted only in the sandbox's own mount namespace, goes in a container."""

    path: str
    target: str
    options: tuple[str, ...] = ()
    sub_path: str = ""

    def describe(self) -> str:
        source = f"{self.path}/{self.sub_path}" if self.sub_path else self.path
        return f"open_tree(<sandbox>{source}) -> {self.target}"


class CloneSandboxTrees(Step, frozen=True, tag=True):
    """Enter the sandbox's mount namespace, clone its tmpfs mounts as detached trees and come back.

    open_tree(2) clones only mounts of the caller's own namespace, hence the visit. Nothing of this is ever
    mounted in the host's namespace, so the host's mount table stays as it was.
    """

    of: str
    trees: tuple[SandboxTree, ...]

    def describe(self) -> str:
        return f"setns(<{self.of}>, CLONE_NEWNS); " + "; ".join(tree.describe() for tree in self.trees)

    def apply(self, results: Results) -> None:
        home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(results.fd(self.of), syscalls.CLONE_NEWNS)
            try:
                for tree in self.trees:
                    results.put_fd(f"tree:{tree.target}", _clone(tree))
            finally:
                syscalls.setns(home, syscalls.CLONE_NEWNS)
        finally:
            os.close(home)


def _clone(tree: SandboxTree) -> int:
    flags = syscalls.OPEN_TREE_CLONE
    if not tree.sub_path:
        return syscalls.open_tree(syscalls.AT_FDCWD, tree.path, flags)
    source = open_beneath(tree.path, tree.sub_path)
    try:
        return syscalls.open_tree(source, "", flags | syscalls.AT_EMPTY_PATH)
    finally:
        os.close(source)


class AttachSandboxTree(Step, frozen=True, tag=True):
    """Attach one of the trees that `CloneSandboxTrees` has cloned; move_mount(2)."""

    root: str
    tree: SandboxTree

    def describe(self) -> str:
        options = f" ({','.join(self.tree.options)})" if self.tree.options else ""
        return f"move_mount(<sandbox>{self.tree.path}, {self.tree.target}){options}"

    def apply(self, results: Results) -> None:
        # Duplicated: `_attach` closes what it attaches, and the results own the other one.
        tree = os.dup(results.fd(f"tree:{self.tree.target}"))
        _attach(tree, self.root, self.tree.target, self.tree.options)


class PivotRoot(Step, frozen=True, tag=True):
    """Make a mount the root of the mount namespace and detach everything else; pivot_root(2).

    With `.` for both arguments the old root lies on top of the new one and one umount takes it away; no
    directory for it is needed.
    """

    root: str

    def describe(self) -> str:
        return f'chdir("{self.root}"), pivot_root(".", "."), umount2(".", MNT_DETACH)'

    def apply(self, results: Results) -> None:
        os.chdir(self.root)
        syscalls.pivot_root(".", ".")
        syscalls.umount2(".", syscalls.MNT_DETACH)
        os.chdir("/")


class SetRootReadonly(Step, frozen=True, tag=True):
    """Make the root mount read-only; what is mounted below it stays as it is."""

    def describe(self) -> str:
        return 'mount_setattr("/", MOUNT_ATTR_RDONLY)'

    def apply(self, results: Results) -> None:
        syscalls.mount_setattr(syscalls.AT_FDCWD, "/", 0, attr_set=syscalls.MOUNT_ATTR_RDONLY)


class MaskPaths(Step, frozen=True, tag=True):
    """Hide files under /dev/null and directories under an empty read-only tmpfs; what is absent is skipped."""

    paths: tuple[str, ...]

    def describe(self) -> str:
        return f"mask {' '.join(self.paths)}"

    def apply(self, results: Results) -> None:
        for path in self.paths:
            if os.path.isdir(path):
                # One tmpfs each: a shared one could be written through a path left open.
                syscalls.mount("tmpfs", path, "tmpfs", syscalls.MS_RDONLY, "size=0k")
            elif os.path.lexists(path):
                syscalls.mount("/dev/null", path, "", syscalls.MS_BIND)


class MakePathsReadonly(Step, frozen=True, tag=True):
    """Make paths read-only by a bind of each on itself; what is absent is skipped."""

    paths: tuple[str, ...]

    def describe(self) -> str:
        return f"read-only {' '.join(self.paths)}"

    def apply(self, results: Results) -> None:
        for path in self.paths:
            if os.path.lexists(path):
                syscalls.mount(path, path, "", syscalls.MS_BIND | syscalls.MS_REC)
                syscalls.mount_setattr(syscalls.AT_FDCWD, path, 0, attr_set=syscalls.MOUNT_ATTR_RDONLY)


class ChangeDirectory(Step, frozen=True, tag=True):
    """Enter the working directory as the container's user; a missing one was made by `MakeDirectory`."""

    path: str

    def describe(self) -> str:
        return f'chdir("{self.path}")'

    def apply(self, results: Results) -> None:
        os.chdir(self.path)


class MakeWorkingDirectory(Step, frozen=True, tag=True):
    """Make the working directory when the image lacks it, as the container engines do."""

    root: str
    path: str

    def describe(self) -> str:
        return f"mkdir -p {self.path}"

    def apply(self, results: Results) -> None:
        os.close(make_in_root(self.root, self.path, Kind.DIRECTORY))
