"""The one gate to the cgroup v2 file system; every error names the path and the data.

Source: Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from pyrun.errors import Unsupported
from pyrun.kernel.proc import mount_points


def read(group: str, name: str) -> str:
    """Return the text of the file `name` of a group."""
    with open(f"{group}/{name}", encoding="ascii") as file:
        return file.read()


def write(group: str, name: str, data: str) -> None:
    """Write `data` to the file `name` of a group, in one write(2)."""
    path = f"{group}/{name}"
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data.encode("ascii"))
    except OSError as error:
        raise OSError(error.errno, f'write "{data}": {os.strerror(error.errno or 0)}', path) from None
    finally:
        os.close(fd)


def find(group: str, name: str) -> str | None:
    """Return the text of a file of a group; None when the group is gone, or has no such file, or it says nothing.

    A pressure file says nothing where the kernel was booted with psi=0 (EOPNOTSUPP).
    """
    try:
        return read(group, name)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            return None
        raise


def texts(group: str, names: Iterable[str]) -> dict[str, str]:
    """Return what the files of a group say, without those that are not there."""
    found = ((name, find(group, name)) for name in names)
    return {name: text.strip() for name, text in found if text is not None}


def keyed(text: str) -> dict[str, int]:
    """Return the numbers of a flat keyed file (`KEY VALUE` a line)."""
    return {key: int(value) for key, value in (line.split() for line in text.splitlines())}


def number(group: str, name: str) -> int | None:
    """Return the one number of a file; None when there is none, or when it says `max`."""
    text = (find(group, name) or "max").strip()
    return None if text == "max" else int(text)


def events(group: str) -> dict[str, int]:
    """Return cgroup.events as numbers: `populated` and `frozen`."""
    return keyed(read(group, "cgroup.events"))


def processes(group: str) -> tuple[int, ...]:
    """Return the pids in a group itself, as the reader's PID namespace sees them; empty when it is gone."""
    try:
        return tuple(int(line) for line in read(group, "cgroup.procs").split())
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return ()
        raise


def unified_mount() -> str:
    """Return where the unified hierarchy is mounted, wherever that is; Unsupported when it is nowhere."""
    for point, fstype, _ in mount_points():
        if fstype == "cgroup2":
            return point
    raise Unsupported(
        "no cgroup v2 hierarchy is mounted", hint="mount one: mount -t cgroup2 none /sys/fs/cgroup/unified"
    )


def controllers(group: str) -> tuple[str, ...]:
    """Return the controllers that a group has; of the root, few or none where cgroup v1 holds them."""
    return tuple(read(group, "cgroup.controllers").split())


def enabled(group: str) -> tuple[str, ...]:
    """Return the controllers that the children of a group have."""
    return tuple(read(group, "cgroup.subtree_control").split())
