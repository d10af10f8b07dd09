"""Running a solution: the commands in one shell, each shown before it runs, until one fails."""

from __future__ import annotations

import os
import select
import shlex
from collections.abc import Callable, Sequence

from pyrun.errors import PyrunError
from pyrun.kernel import syscalls
from pyrun.lab.scene import Scene

_CHUNK = 65536


def program(commands: Sequence[str]) -> str:
    """Return a shell program that reads `env`, shows each command as a terminal would, and stops at a failure."""
    lines = ["set -e", ". ./env"]
    for command in commands:
        shown = "# " + command.replace("\n", "\n> ")
        lines += [f"printf '%s\\n' {shlex.quote(shown)}", command]
    return "\n".join(lines) + "\n"


def run(scene: Scene, commands: Sequence[str], show: Callable[[str], None]) -> None:
    """Run commands in the directory of the scene and show what they print. Raises PyrunError when one fails.

    What they leave running keeps the pipe open, so the end of the shell is the end, not the end of the output.
    """
    import subprocess

    shell = subprocess.Popen(
        ["sh", "-c", program(commands)],
        cwd=scene.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert shell.stdout is not None
    pidfd = syscalls.pidfd_open(shell.pid)
    try:
        _copy(shell.stdout.fileno(), pidfd, show)
    except BaseException:
        shell.terminate()
        raise
    finally:
        os.close(pidfd)
        shell.wait()
        shell.stdout.close()
    if shell.returncode != 0:
        raise PyrunError(
            f"the last command above failed with exit code {shell.returncode}",
            hint=f"undo what it has done: pyrun lab reset {scene.number}",
        )


def _copy(output: int, pidfd: int, show: Callable[[str], None]) -> None:
    """Show what comes out of a pipe until a process has ended and nothing more is there."""
    os.set_blocking(output, False)
    poller = select.poll()
    poller.register(output, select.POLLIN)
    poller.register(pidfd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poller.poll()}
        if output in ready:
            data = os.read(output, _CHUNK)
            if data:
                show(data.decode(errors="replace"))
                continue
            poller.unregister(output)
        if pidfd in ready:
            return
