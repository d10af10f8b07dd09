"""Running a command as nobody: without root, but still able to read the tree, wherever it lies."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from pyrun.kernel.syscalls import CLONE_NEWUSER, unshare


def run_as_nobody(
    command: Sequence[str], environment: Mapping[str, str], stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command without any right over this machine; its uid is 65534 when this process is root.

    In a user namespace without mappings root is nobody and has no capability, but owns its files.
    """

    def leave() -> None:
        if os.geteuid() == 0:
            unshare(CLONE_NEWUSER)

    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(environment),
        preexec_fn=leave,
        check=False,
    )
