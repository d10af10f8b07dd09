"""A kernel that lacks a system call: the error names the call and the Linux that has it, and nothing is left.

The lack is made by a seccomp filter that answers ENOSYS, as an old kernel does (seccomp(2)).
"""

from __future__ import annotations

import ctypes
import struct
import subprocess
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Cli

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
ALLOW, ENOSYS = 0x7FFF0000, 0x00050000 | 38

# Numbers of calls this young are the same on every architecture.
CALLS = {
    "open_tree": (428, "5.2"),
    "move_mount": (429, "5.2"),
    "pidfd_open": (434, "5.3"),
    "clone3": (435, "5.3"),
    "openat2": (437, "5.6"),
    "mount_setattr": (442, "5.12"),
}


class Program(ctypes.Structure):
    """struct sock_fprog of linux/filter.h."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def without(number: int) -> Callable[[], None]:
    """Return what makes the calling process, and its children, a kernel without this system call."""
    code = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0),  # load the number
            (0x15, 0, 1, number),  # is it this one?
            (0x06, 0, 0, ENOSYS),
            (0x06, 0, 0, ALLOW),
        )
    )
    libc = ctypes.CDLL(None, use_errno=True)

    def install() -> None:
        program = Program(len(code) // 8, code)
        if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")

    return install


@pytest.mark.parametrize("call", [name for name in CALLS if name != "pidfd_open"])
def test_a_creation_names_what_is_missing(cli: Cli, call: str) -> None:
    number, version = CALLS[call]
    result = subprocess.run(
        [*cli.command, "pod", "create", "-f", "-"],
        input=cli.pod("sleep 1000"),
        capture_output=True,
        text=True,
        timeout=60,
        env=cli.environment,
        preexec_fn=without(number),
        check=False,
    )
    assert result.returncode == 1
    assert f"{call}: Function not implemented (Linux {version} has it" in result.stderr
    assert "Traceback" not in result.stderr


def test_check_names_it_too(cli: Cli) -> None:
    result = subprocess.run(
        [*cli.command, "check"],
        capture_output=True,
        text=True,
        timeout=60,
        env=cli.environment,
        preexec_fn=without(CALLS["mount_setattr"][0]),
        check=False,
    )
    assert result.returncode == 1
    assert "5.12" in result.stdout
