"""Paths inside a tree that somebody else filled, resolved so that no link of it leads out.

An image may hold a symbolic link at any place where pyrun mounts something; openat2(2) with RESOLVE_IN_ROOT
follows it as the container would, never into the host. RESOLVE_BENEATH refuses instead of reinterpreting,
which is what subPath wants (CVE-2021-25741).
"""

from __future__ import annotations

import enum
import errno
import os
import stat

from pyrun.kernel import syscalls

MAX_LINKS = 40
"""Links to nothing that are followed in one path; as many as the kernel follows of all."""

_IN_ROOT = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS


class Kind(enum.Enum):
    """What a mount point must be, when it has to be made."""

    DIRECTORY = "directory"
    FILE = "file"


def kind_of(fd: int) -> Kind:
    """Return what kind of mount point an object needs: a directory needs one, everything else a file."""
    return Kind.DIRECTORY if stat.S_ISDIR(os.fstat(fd).st_mode) else Kind.FILE


def open_in_root(root: str, path: str) -> int:
    """Return an O_PATH descriptor of `path` as seen from inside `root`; OSError when it does not exist."""
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return syscalls.openat2(root_fd, path.lstrip("/") or ".", os.O_PATH, resolve=_IN_ROOT)
    finally:
        os.close(root_fd)


def make_in_root(root: str, path: str, kind: Kind, mode: int = 0o755) -> int:
    """Like `open_in_root`, but what is missing is made: directories, and at the end a `kind`.

    A link that points to what does not exist (/etc/resolv.conf of many images) is followed as the container
    would, and what it points to is made. OSError ELOOP after MAX_LINKS of them.
    """
    links = 0
    while (missing := _first_missing(root, path)) is not None:
        parent, name, rest = missing
        target = _link_target(root, parent, name)
        if target is None:
            _make(root, parent, name, Kind.DIRECTORY if rest else kind, mode)
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        base = "" if target.startswith("/") else f"{parent}/"
        path = f"{base}{target}/{rest}".rstrip("/")
    return open_in_root(root, path)


def _first_missing(root: str, path: str) -> tuple[str, str, str] | None:
    """Return the first part of a path that does not exist: what stands before it, its name, what follows."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for index in range(1, len(parts) + 1):
        try:
            os.close(open_in_root(root, "/".join(parts[:index])))
        except FileNotFoundError:
            return "/".join(parts[: index - 1]), parts[index - 1], "/".join(parts[index:])
    return None


def _link_target(root: str, parent: str, name: str) -> str | None:
    """Return what a link points to, or None when the name is not a link."""
    parent_fd = open_in_root(root, parent)
    try:
        return os.readlink(name, dir_fd=parent_fd)
    except OSError:
        return None
    finally:
        os.close(parent_fd)


def _make(root: str, parent: str, name: str, kind: Kind, mode: int) -> None:
    parent_fd = open_in_root(root, parent)
    try:
        if kind is Kind.DIRECTORY:
            os.mkdir(name, mode, dir_fd=parent_fd)
        else:
            # O_EXCL: a link that somebody puts there now is refused, not followed.
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            os.close(os.open(name, flags, mode & 0o666, dir_fd=parent_fd))
    finally:
        os.close(parent_fd)


def open_beneath(base: str, path: str) -> int:
    """Return an O_PATH descriptor of the subPath `path` of a volume; missing directories are made.

    OSError EXDEV when a link in it would lead out of the volume.
    """
    resolve = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_MAGICLINKS
    current = os.open(base, os.O_PATH | os.O_CLOEXEC)
    base_fd = os.dup(current)
    try:
        parts = [part for part in path.split("/") if part not in ("", ".")]
        for index, part in enumerate(parts):
            here = "/".join(parts[: index + 1])
            try:
                following = syscalls.openat2(base_fd, here, os.O_PATH, resolve=resolve)
            except FileNotFoundError:
                os.mkdir(part, 0o755, dir_fd=current)
                following = syscalls.openat2(base_fd, here, os.O_PATH, resolve=resolve)
            os.close(current)
            current = following
    except OSError:
        os.close(current)
        raise
    finally:
        os.close(base_fd)
    return current


def fd_path(fd: int) -> str:
    """Return the path by which a system call that takes only paths reaches an open descriptor."""
    return f"/proc/self/fd/{fd}"
