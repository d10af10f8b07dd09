"""The static C programs of the package, and memfds to execute them from.

A container's process must never reach a file of pyrun through /proc/PID/exe (CVE-2019-5736): what runs inside
a container or a sandbox is executed from a sealed copy in memory. Source: memfd_create(2), fcntl(2).
"""

from __future__ import annotations

import errno
import fcntl
import os

from pyrun.errors import Unsupported

_MFD_EXEC = 0x0010  # Linux 6.3; before it every memfd is executable
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

PROGRAMS = ("pause", "monitor", "lasthop")


def location(name: str) -> str:
    """Return where a compiled program belongs, whether it is there or not."""
    return os.path.join(os.path.dirname(os.path.dirname(__file__)), "libexec", name)


def program_path(name: str) -> str:
    """Return the path of a compiled program, one of `PROGRAMS`; Unsupported when it is missing."""
    path = location(name)
    if not os.path.exists(path):
        raise Unsupported(f"{path} is missing", hint="install pyrun with pip, which compiles it")
    return path


def sealed_copy(name: str) -> int:
    """Return a close-on-exec descriptor of a sealed, executable copy of a program in memory."""
    with open(program_path(name), "rb") as file:
        content = file.read()
    fd = _memfd(name)
    os.write(fd, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def _memfd(name: str) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, flags)
